// The elementwise loops with AVX-512 (F, BW, VL, DQ), 16 elements at a time; a tail is masked.
#include <immintrin.h>
#include <math.h>

#include "engine/kernels/elementwise_rows.h"
#include "engine/kernels/masked_softmax_rows.h"
#include "engine/kernels/normalization_rows.h"

namespace slipway {
namespace {

constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(64)));

inline __mmask16 first(int64_t n) { return (__mmask16)((1u << n) - 1); }
inline Floats load(const float* x) { return _mm512_loadu_ps(x); }
inline Floats load(const float* x, int64_t n, float rest) {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(rest), first(n), x);
}
inline void store(float* y, Floats v) { _mm512_storeu_ps(y, v); }
inline void store(float* y, Floats v, int64_t n) { _mm512_mask_storeu_ps(y, first(n), v); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats above(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats below(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats root(Floats x) { return _mm512_sqrt_ps(x); }
inline Floats nearest(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats scale(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
inline float largest(Floats x) { return _mm512_reduce_max_ps(x); }
inline Doubles lower(Floats x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline Doubles upper(Floats x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
inline Floats joined(Doubles a, Doubles b) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a)), _mm512_cvtpd_ps(b), 1);
}
inline double total(Doubles x) { return _mm512_reduce_add_pd(x); }

}  // namespace
}  // namespace slipway

#include "engine/kernels/elementwise_functions.h"
#include "engine/kernels/masked_softmax_functions.h"
#include "engine/kernels/normalization_functions.h"

namespace slipway {

const ElementwiseRows kElementwiseAvx512 = kRows;
const MaskedSoftmaxRun kMaskedSoftmaxAvx512 = masked_softmax;
const NormalizationRun kNormalizationAvx512 = normalize;

}  // namespace slipway
