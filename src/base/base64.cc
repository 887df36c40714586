// Base64 (RFC 4648, section 4) by OpenSSL, whose decoder takes more than that: white space around, and '=' anywhere.
#include "base/base64.h"

#include <openssl/evp.h>

#include <limits>

#include "base/error.h"

namespace slipway {
namespace {

constexpr size_t kMaxBytes = std::numeric_limits<int>::max() / 4 * 3 - 3;

bool is_digit(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
  SLIPWAY_CHECK(bytes.size() <= kMaxBytes);
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length =
      ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

std::string base64_encode(std::span<const std::byte> bytes) {
  return base64_encode(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::optional<std::vector<std::byte>> base64_decode(std::string_view text) {
  if (text.empty()) return std::vector<std::byte>();
  if (text.size() % 4 != 0 || text.size() / 4 * 3 > kMaxBytes) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  const std::string_view digits = text.substr(0, text.size() - padding);
  if (!is_digit(digits.front()) || !is_digit(digits.back()) || digits.find('=') != std::string_view::npos)
    return std::nullopt;
  std::vector<std::byte> bytes(text.size() / 4 * 3);
  if (::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size())) < 0)
    return std::nullopt;
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace slipway
