// Base64 (RFC 4648, section 4).
#include "base/base64.h"

#include <array>
#include <cstdint>

namespace slipway {
namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNoDigit = 64;

constexpr std::array<uint8_t, 256> value_table() {
  std::array<uint8_t, 256> values{};
  values.fill(kNoDigit);
  for (size_t i = 0; i < kDigits.size(); ++i) values[static_cast<uint8_t>(kDigits[i])] = static_cast<uint8_t>(i);
  return values;
}
constexpr auto kValues = value_table();

}  // namespace

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t triple = 0;
    for (size_t k = 0; k < 3; ++k)
      triple = triple << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[triple >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string base64_encode(std::span<const std::byte> bytes) {
  return base64_encode(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::optional<std::vector<std::byte>> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::vector<std::byte> bytes(text.size() / 4 * 3);
  size_t at = 0;
  uint32_t seen = 0;
  for (size_t i = 0; i < text.size(); i += 4) {
    uint32_t triple = 0;
    for (size_t k = 0; k < 4; ++k) {
      const bool padded = i + k >= text.size() - padding;
      const uint8_t value = padded ? uint8_t{0} : kValues[static_cast<uint8_t>(text[i + k])];
      seen |= value;
      triple = triple << 6 | value;
    }
    bytes[at++] = static_cast<std::byte>(triple >> 16);
    bytes[at++] = static_cast<std::byte>(triple >> 8 & 255);
    bytes[at++] = static_cast<std::byte>(triple & 255);
  }
  if ((seen & kNoDigit) != 0) return std::nullopt;
  for (; padding > 0; --padding) bytes.pop_back();
  return bytes;
}

}  // namespace slipway
