// INT8 convolution for AVX-512 VNNI: the inner kernels over a strip of pixels and a block of 16 or 32 output channels.
//
// vpdpbusd adds four u8·s8 products to a 32-bit sum without saturation, so steps need no groups. The epilogue is the
// AVX2 one at twice the width.
#include <immintrin.h>
#include <string.h>

#include "engine/kernels/qconv_strip.h"

namespace slipway {
namespace {

inline __m512i broadcast4(const uint8_t* x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}

/// One vector of one pixel: 16 sums to bytes or floats at `out`; `mask` has a bit per channel that exists.
inline void finish(__m512i acc, const QStripEpilogue& e, __m512 multiplier, const float* addend, __mmask16 mask,
                   const uint8_t* residual, uint8_t* out) {
  __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
  if (addend) f = _mm512_add_ps(f, _mm512_loadu_ps(addend));
  if (e.has_mid) {
    const __m512 low = _mm512_max_ps(f, _mm512_set1_ps(e.mid_lo));
    const __m512i q = _mm512_cvtps_epi32(_mm512_min_ps(low, _mm512_set1_ps(e.mid_hi)));
    f = _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(e.mid_multiplier));
  }
  if (e.has_residual) {
    const __m128i bytes = _mm_maskz_loadu_epi8(mask, residual);
    const __m512i wide = e.residual_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
    const __m512 r = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(e.residual_zero_point)));
    f = _mm512_add_ps(f, _mm512_mul_ps(r, _mm512_set1_ps(e.residual_multiplier)));
  }
  if (e.output == kStripFloat) {
    _mm512_mask_storeu_ps(out, mask, f);
    return;
  }
  const __m512 low = _mm512_max_ps(f, _mm512_set1_ps(static_cast<float>(e.lo - e.zero_point)));
  const __m512i q = _mm512_cvtps_epi32(_mm512_min_ps(low, _mm512_set1_ps(e.hi)));
  const __m512i moved = _mm512_add_epi32(q, _mm512_set1_epi32(e.zero_point));
  _mm_mask_storeu_epi8(out, mask, _mm512_cvtepi32_epi8(moved));
}

template <int P, int B>
inline __attribute__((always_inline)) void tile(const QStrip& s, int64_t first) {
  const uint8_t* x[P];
  __m512i acc[P][B];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    x[p] = s.x + s.pixels[first + p];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) acc[p][b] = _mm512_loadu_si512(s.init + 16 * b);
  }
  for (int64_t step = 0; step < s.step_count; ++step) {
    const int64_t offset = s.steps[step];
    __m512i w[B];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) w[b] = _mm512_loadu_si512(s.weights + (step * B + b) * 64);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const __m512i bytes = broadcast4(x[p] + offset);
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) acc[p][b] = _mm512_dpbusd_epi32(acc[p][b], bytes, w[b]);
    }
  }
  const int64_t size = s.epilogue->output == kStripFloat ? 4 : 1;
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) {
      const int32_t left = s.channels - 16 * b;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
      const int64_t at = (first + p) * s.pitch + 16 * b;
      finish(acc[p][b], *s.epilogue, _mm512_loadu_ps(s.multiplier + 16 * b), s.addend ? s.addend + 16 * b : nullptr,
             mask, s.epilogue->has_residual ? s.residual + at : s.residual, s.y + at * size);
    }
  }
}

template <int P, int B>
inline void strip(const QStrip& s) {
  int64_t i = 0;
  for (; i + P <= s.count; i += P) tile<P, B>(s, i);
  for (; i < s.count; ++i) tile<1, B>(s, i);
}

}  // namespace

void qconv_strip_vnni_avx512(const QStrip* s) noexcept {
  if (s->vectors == 2)
    strip<8, 2>(*s);
  else
    strip<8, 1>(*s);
}

}  // namespace slipway
