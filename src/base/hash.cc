#include "base/hash.h"

#include <openssl/evp.h>

#include "base/error.h"
#include "base/file_reader.h"

namespace slipway {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  SLIPWAY_CHECK(EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;

Sha256& Sha256::add(const void* data, size_t bytes) {
  SLIPWAY_CHECK(EVP_DigestUpdate(context_->md, data, bytes) == 1);
  return *this;
}

std::string Sha256::hex() {
  unsigned char digest[32];
  unsigned size = 0;
  SLIPWAY_CHECK(EVP_DigestFinal_ex(context_->md, digest, &size) == 1 && size == sizeof digest);
  std::string text;
  for (unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) { return Sha256().add(bytes.data(), bytes.size()).hex(); }
std::string sha256_hex(std::string_view text) { return Sha256().add(text).hex(); }

std::string sha256_of_file(const std::string& path) {
  Sha256 hash;
  FileReader(path).read_blocks([&](const std::byte* data, size_t bytes) { hash.add(data, bytes); });
  return hash.hex();
}

uint64_t fnv1a(const void* data, size_t bytes, uint64_t seed) {
  const auto* at = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) seed = (seed ^ at[i]) * 1099511628211ull;
  return seed;
}

}  // namespace slipway
