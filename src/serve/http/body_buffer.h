#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace slipway {

/// The bytes of a request's body: aligned to 64, followed by kBodyPadding readable zeros. Who takes `bytes` keeps them;
/// the buffer is used again once nobody else holds them.
struct BodyBuffer {
  std::shared_ptr<std::byte[]> bytes;
  size_t size = 0, capacity = 0;

  /// Empties it and makes room for `wanted` bytes.
  void start(size_t wanted);
  /// Appends, at least doubling what it grows by.
  void append(std::span<const std::byte> more);
  std::span<const std::byte> view() const { return {bytes.get(), size}; }
};

}  // namespace slipway
