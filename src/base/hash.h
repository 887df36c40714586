#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// SHA-256 in steps; hex() ends it and gives 64 lower-case digits.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256& add(const void* data, size_t bytes);
  Sha256& add(std::string_view text) { return add(text.data(), text.size()); }
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
std::string sha256_of_file(const std::string& path);

/// FNV-1a, 64 bits: for hash tables and cheap layout digests, not for identity.
uint64_t fnv1a(const void* data, size_t bytes, uint64_t seed = 14695981039346656037ull);

}  // namespace slipway
