// The elementwise loops with AVX2 and FMA, 8 elements at a time; a tail is masked.
#include <immintrin.h>
#include <math.h>

#include "engine/kernels/elementwise_rows.h"
#include "engine/kernels/masked_softmax_rows.h"
#include "engine/kernels/normalization_rows.h"

namespace slipway {
namespace {

constexpr int64_t kLanes = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(32)));

inline __m256i first(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Floats load(const float* x) { return _mm256_loadu_ps(x); }
inline Floats load(const float* x, int64_t n, float rest) {
  const __m256i mask = first(n);
  return _mm256_blendv_ps(_mm256_set1_ps(rest), _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
}
inline void store(float* y, Floats v) { _mm256_storeu_ps(y, v); }
inline void store(float* y, Floats v, int64_t n) { _mm256_maskstore_ps(y, first(n), v); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats above(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats below(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats root(Floats x) { return _mm256_sqrt_ps(x); }
inline Floats nearest(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats scale(Floats x, Floats n) {  // in two steps, of which only the second can round
  const Ints whole = (Ints)_mm256_cvtps_epi32(n), half = whole >> 1;
  return x * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
}
inline float largest(Floats x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline Doubles lower(Floats x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline Doubles upper(Floats x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
inline Floats joined(Doubles a, Doubles b) { return _mm256_set_m128(_mm256_cvtpd_ps(b), _mm256_cvtpd_ps(a)); }
inline double total(Doubles x) { return (x[0] + x[1]) + (x[2] + x[3]); }

}  // namespace
}  // namespace slipway

#include "engine/kernels/elementwise_functions.h"
#include "engine/kernels/masked_softmax_functions.h"
#include "engine/kernels/normalization_functions.h"

namespace slipway {

const ElementwiseRows kElementwiseAvx2 = kRows;
const MaskedSoftmaxRun kMaskedSoftmaxAvx2 = masked_softmax;
const NormalizationRun kNormalizationAvx2 = normalize;

}  // namespace slipway
