// The round of XXH64 (Collet, "xxHash fast digest algorithm", section "Process stripes") in eight lanes instead of
// four, independent of each other, so that their multiplications overlap; SHA-256 over the lanes and the length ends
// it. Invariant: a round is one-to-one in the lane for a given word and in the word for a given lane, so that lanes
// that differ stay different until another word makes up for it.
#include "base/block_digest.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/hash.h"

namespace slipway {
namespace {
constexpr uint64_t kPrime1 = 0x9e3779b185ebca87, kPrime2 = 0xc2b2ae3d27d4eb4f;
constexpr int kRotation = 31;
}  // namespace

void BlockDigest::mix(const std::byte* data, size_t stripes) {
  std::array<uint64_t, kLanes> lanes = lanes_;
  for (size_t i = 0; i < stripes; ++i, data += kStripeBytes) {
    std::array<uint64_t, kLanes> words;
    std::memcpy(words.data(), data, kStripeBytes);
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = std::rotl(lanes[lane] + words[lane] * kPrime2, kRotation) * kPrime1;
  }
  lanes_ = lanes;
}

BlockDigest& BlockDigest::add(const void* data, size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  total_bytes_ += bytes;
  if (pending_bytes_ > 0) {
    const size_t taken = std::min(bytes, kStripeBytes - pending_bytes_);
    std::memcpy(pending_.data() + pending_bytes_, at, taken);
    pending_bytes_ += taken, at += taken, bytes -= taken;
    if (pending_bytes_ < kStripeBytes) return *this;
    mix(pending_.data(), 1);
    pending_bytes_ = 0;
  }
  mix(at, bytes / kStripeBytes);
  pending_bytes_ = bytes % kStripeBytes;
  if (pending_bytes_ > 0) std::memcpy(pending_.data(), at + bytes - pending_bytes_, pending_bytes_);
  return *this;
}

std::string BlockDigest::hex() {
  std::memset(pending_.data() + pending_bytes_, 0, kStripeBytes - pending_bytes_);
  mix(pending_.data(), 1);
  return Sha256().add(lanes_.data(), sizeof lanes_).add(&total_bytes_, sizeof total_bytes_).hex();
}

}  // namespace slipway
