// Proving a tensor free of NaN and infinity at the speed of memory: without their sign, floats order as integers do.
#include "engine/kernels/magnitude.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "base/cpu.h"
#include "base/parallel.h"

namespace slipway {
namespace {

constexpr uint32_t kNoSign = 0x7fffffff;
constexpr int64_t kGrain = 1 << 16;

uint32_t largest_magnitude(const float* x, int64_t count) noexcept {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    largest = std::max(largest, bits & kNoSign);
  }
  return largest;
}

}  // namespace

bool all_within(const float* x, int64_t count, float limit, int threads) noexcept {
  static const auto largest = cpu_features().avx2 ? largest_magnitude_avx2 : largest_magnitude;
  const auto limit_bits = std::bit_cast<uint32_t>(limit);
  std::atomic<bool> within = true;
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        if (largest(x + begin, end - begin) > limit_bits) within.store(false, std::memory_order_relaxed);
      },
      kGrain);
  return within.load(std::memory_order_relaxed);
}

}  // namespace slipway
