// The elementwise loops for any x86-64, 4 elements at a time; a tail goes through a copy.
#include <emmintrin.h>
#include <math.h>
#include <string.h>

#include "engine/kernels/elementwise_rows.h"
#include "engine/kernels/masked_softmax_rows.h"
#include "engine/kernels/normalization_rows.h"

namespace slipway {
namespace {

constexpr int64_t kLanes = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(16)));
typedef double Wide __attribute__((vector_size(32)));

inline Floats load(const float* x) { return _mm_loadu_ps(x); }
inline Floats load(const float* x, int64_t n, float rest) {
  float padded[kLanes] = {rest, rest, rest, rest};
  memcpy(padded, x, (size_t)n * sizeof(float));
  return _mm_loadu_ps(padded);
}
inline void store(float* y, Floats v) { _mm_storeu_ps(y, v); }
inline void store(float* y, Floats v, int64_t n) { memcpy(y, &v, (size_t)n * sizeof(float)); }
// The product is exact in double; the sum is rounded twice, which costs 2^-29 of a unit in the last place.
inline Floats fma(Floats a, Floats b, Floats c) {
  return __builtin_convertvector(
      __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide) + __builtin_convertvector(c, Wide), Floats);
}
inline Floats above(Floats a, Floats b) { return _mm_max_ps(a, b); }
inline Floats below(Floats a, Floats b) { return _mm_min_ps(a, b); }
inline Floats root(Floats x) { return _mm_sqrt_ps(x); }
// Floats from 2^23 on are integers; below, adding that rounds to one.
inline Floats nearest(Floats x) {
  const Ints sign = (Ints)x & (int32_t)0x80000000;
  const Floats size = (Floats)((Ints)x ^ sign);
  const Floats rounded = (Floats)((Ints)((size + 8388608.0f) - 8388608.0f) | sign);
  return size < 8388608.0f ? rounded : x;
}
inline Floats scale(Floats x, Floats n) {  // in two steps, of which only the second can round
  const Ints whole = (Ints)_mm_cvtps_epi32(n), half = whole >> 1;
  return x * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
}
inline float largest(Floats x) {
  const __m128 two = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return two[0] > two[1] ? two[0] : two[1];
}
inline Doubles lower(Floats x) { return _mm_cvtps_pd(x); }
inline Doubles upper(Floats x) { return _mm_cvtps_pd(_mm_movehl_ps(x, x)); }
inline Floats joined(Doubles a, Doubles b) { return _mm_movelh_ps(_mm_cvtpd_ps(a), _mm_cvtpd_ps(b)); }
inline double total(Doubles x) { return x[0] + x[1]; }

}  // namespace
}  // namespace slipway

#include "engine/kernels/elementwise_functions.h"
#include "engine/kernels/masked_softmax_functions.h"
#include "engine/kernels/normalization_functions.h"

namespace slipway {

const ElementwiseRows kElementwiseBaseline = kRows;
const MaskedSoftmaxRun kMaskedSoftmaxBaseline = masked_softmax;
const NormalizationRun kNormalizationBaseline = normalize;

}  // namespace slipway
