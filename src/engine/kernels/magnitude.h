#pragma once
#include <cstdint>

namespace slipway {

/// Whether every |x| ≤ limit, a finite one: then there is no NaN and no infinity among them. Any alignment.
bool all_within(const float* x, int64_t count, float limit, int threads) noexcept;

/// The largest bits of |x|, which order as the magnitudes do, infinity above all numbers and NaN above infinity.
uint32_t largest_magnitude_avx2(const float* x, int64_t count) noexcept;

}  // namespace slipway
