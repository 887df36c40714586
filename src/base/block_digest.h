#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace slipway {

/// A digest at the speed of memory, to find damage; whoever wants to can make another text with the same one, so it is
/// none to tell identity by. Any change within one aligned word of 8 bytes alters it for certain, every other with
/// odds of about 2^-64.
class BlockDigest {
 public:
  BlockDigest& add(const void* data, size_t bytes);
  /// Ends it: 64 lower-case digits.
  std::string hex();

 private:
  static constexpr size_t kLanes = 8, kStripeBytes = 8 * kLanes;
  void mix(const std::byte* data, size_t stripes);

  std::array<uint64_t, kLanes> lanes_{};
  std::array<std::byte, kStripeBytes> pending_{};
  size_t pending_bytes_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace slipway
