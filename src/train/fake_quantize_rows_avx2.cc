// The AVX2 loops, eight elements at a time; the tail goes through the same operations on a padded copy. Bit for bit
// equal to fake_quantize_rows.cc: true divisions, no fused multiply-add, and max_ps(lo, v), min_ps(hi, v) give v for a
// NaN.
#include <immintrin.h>
#include <string.h>

#include "train/fake_quantize_rows.h"

namespace slipway {
namespace {

constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

struct Step {
  __m256 scale, lo, hi;
};

inline Step load(const FakeQuantizeStep* step) {
  return {_mm256_set1_ps(step->scale), _mm256_set1_ps(step->lo), _mm256_set1_ps(step->hi)};
}

inline __m256 clamp(const Step& s, __m256 v) { return _mm256_min_ps(s.hi, _mm256_max_ps(s.lo, v)); }

inline __m256 forward8(const Step& s, __m256 x) {
  return _mm256_mul_ps(clamp(s, _mm256_round_ps(_mm256_div_ps(x, s.scale), kNearest)), s.scale);
}

inline __m256 backward8(const Step& s, __m256 x, __m256 g, __m256* sum) {
  const __m256 v = _mm256_div_ps(x, s.scale), end = clamp(s, v);
  const __m256 inside = _mm256_cmp_ps(v, end, _CMP_EQ_OQ);
  const __m256 slope = _mm256_blendv_ps(end, _mm256_sub_ps(_mm256_round_ps(v, kNearest), v), inside);
  *sum = _mm256_add_ps(*sum, _mm256_mul_ps(g, slope));
  return _mm256_and_ps(inside, g);
}

void forward(const float* x, float* y, int64_t count, const FakeQuantizeStep* step) noexcept {
  const Step s = load(step);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(y + i, forward8(s, _mm256_loadu_ps(x + i)));
  if (i == count) return;
  float padded[8] = {};
  memcpy(padded, x + i, static_cast<size_t>(count - i) * sizeof(float));
  _mm256_storeu_ps(padded, forward8(s, _mm256_loadu_ps(padded)));
  memcpy(y + i, padded, static_cast<size_t>(count - i) * sizeof(float));
}

float backward(const float* x, const float* g, float* gx, int64_t count, const FakeQuantizeStep* step) noexcept {
  const Step s = load(step);
  __m256 sum = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(gx + i, backward8(s, _mm256_loadu_ps(x + i), _mm256_loadu_ps(g + i), &sum));
  if (i < count) {
    const auto bytes = static_cast<size_t>(count - i) * sizeof(float);
    float padded_x[8] = {}, padded_g[8] = {};
    memcpy(padded_x, x + i, bytes);
    memcpy(padded_g, g + i, bytes);
    _mm256_storeu_ps(padded_g, backward8(s, _mm256_loadu_ps(padded_x), _mm256_loadu_ps(padded_g), &sum));
    memcpy(gx + i, padded_g, bytes);
  }
  float parts[8], total = 0;
  _mm256_storeu_ps(parts, sum);
  for (const float part : parts) total += part;
  return total;
}

}  // namespace

extern const FakeQuantizeRows kFakeQuantizeRowsAvx2;
const FakeQuantizeRows kFakeQuantizeRowsAvx2{"avx2", forward, backward};

}  // namespace slipway
