// The AVX2 loop behind all_within: four running maxima, so that the loads and not their latency set the speed.
#include <immintrin.h>
#include <string.h>

#include "engine/kernels/magnitude.h"

namespace slipway {
namespace {

constexpr int64_t kStep = 32;

inline __m256i bits_of(const float* x) {
  return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), _mm256_set1_epi32(0x7fffffff));
}

}  // namespace

uint32_t largest_magnitude_avx2(const float* x, int64_t count) noexcept {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    a = _mm256_max_epu32(a, bits_of(x + i));
    b = _mm256_max_epu32(b, bits_of(x + i + 8));
    c = _mm256_max_epu32(c, bits_of(x + i + 16));
    d = _mm256_max_epu32(d, bits_of(x + i + 24));
  }
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                     _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d)));
  uint32_t largest = 0;
  for (uint32_t lane : lanes) largest = lane > largest ? lane : largest;
  for (; i < count; ++i) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

}  // namespace slipway
