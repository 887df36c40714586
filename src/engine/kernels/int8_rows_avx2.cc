// The AVX2 loops behind int8_ops, 32 elements at a time; a tail goes through a copy padded to 32. Bit for bit equal to
// int8_rows.cc: the same operations on each element, true divisions, no fused multiply-add, and max_ps(x, lo) gives lo
// for a NaN.
#include <immintrin.h>
#include <string.h>

#include "engine/kernels/int8_rows.h"

namespace slipway {
namespace {

constexpr int64_t kStep = 32;

struct Floats {
  __m256 v[4];
};

inline void store_bytes(uint8_t* y, const Floats& f, const RowRange& range) {
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_max_ps(f.v[i], _mm256_set1_ps(range.lo));
    const __m256 clamped = _mm256_min_ps(low, _mm256_set1_ps(range.hi));
    q[i] = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), _mm256_set1_epi32(range.zero_point));
    q[i] = _mm256_and_si256(q[i], _mm256_set1_epi32(0xff));
  }
  const __m256i words = _mm256_packus_epi16(_mm256_packus_epi32(q[0], q[1]), _mm256_packus_epi32(q[2], q[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_permutevar8x32_epi32(words, order));
}

inline __m256i widen8(const uint8_t* q, int32_t is_signed) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(q));
  return is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
}

inline Floats load_term(const RowTerm& t, const uint8_t* q) {
  Floats f;
  for (int i = 0; i < 4; ++i) {
    const __m256i moved = _mm256_sub_epi32(widen8(q + 8 * i, t.is_signed), _mm256_set1_epi32(t.zero_point));
    f.v[i] = _mm256_mul_ps(_mm256_cvtepi32_ps(moved), _mm256_set1_ps(t.multiplier));
  }
  return f;
}

inline void quantize_step(const float* x, uint8_t* y, float scale, const RowRange& range) {
  Floats f;
  for (int i = 0; i < 4; ++i) f.v[i] = _mm256_div_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(scale));
  store_bytes(y, f, range);
}

void quantize(const float* x, uint8_t* y, int64_t count, float scale, const RowRange* range) noexcept {
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) quantize_step(x + i, y + i, scale, *range);
  if (i == count) return;
  float padded[kStep] = {0};
  uint8_t out[kStep];
  memcpy(padded, x + i, static_cast<size_t>(count - i) * sizeof(float));
  quantize_step(padded, out, scale, *range);
  memcpy(y + i, out, static_cast<size_t>(count - i));
}

inline void dequantize_step(const RowTerm& x, const uint8_t* q, float* y) {
  const Floats f = load_term(x, q);
  for (int i = 0; i < 4; ++i) _mm256_storeu_ps(y + 8 * i, f.v[i]);
}

void dequantize(const RowTerm* x, float* y, int64_t count) noexcept {
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) dequantize_step(*x, x->q + i, y + i);
  if (i == count) return;
  uint8_t padded[kStep] = {0};
  float out[kStep];
  memcpy(padded, x->q + i, static_cast<size_t>(count - i));
  dequantize_step(*x, padded, out);
  memcpy(y + i, out, static_cast<size_t>(count - i) * sizeof(float));
}

inline void add_step(const RowTerm& a, const uint8_t* qa, const RowTerm* b, const uint8_t* qb, uint8_t* y,
                     const RowRange& range) {
  Floats f = load_term(a, qa);
  if (b) {
    const Floats g = load_term(*b, qb);
    for (int i = 0; i < 4; ++i) f.v[i] = _mm256_add_ps(f.v[i], g.v[i]);
  }
  store_bytes(y, f, range);
}

void add(const RowTerm* a, const RowTerm* b, uint8_t* y, int64_t count, const RowRange* range) noexcept {
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) add_step(*a, a->q + i, b, b ? b->q + i : a->q, y + i, *range);
  if (i == count) return;
  const auto left = static_cast<size_t>(count - i);
  uint8_t padded_a[kStep] = {0}, padded_b[kStep] = {0}, out[kStep];
  memcpy(padded_a, a->q + i, left);
  if (b) memcpy(padded_b, b->q + i, left);
  add_step(*a, padded_a, b, padded_b, out, *range);
  memcpy(y + i, out, left);
}

void max(const RowGrid* cells, int32_t is_signed, uint8_t* y, int64_t count) noexcept {
  const __m256i flip = _mm256_set1_epi8(static_cast<int8_t>(is_signed ? 0x80 : 0));
  for (int64_t i = 0; i < count; i += kStep) {
    const int64_t left = count - i;
    uint8_t padded[kStep] = {0};
    __m256i most = _mm256_setzero_si256();
    for (int64_t r = 0; r < cells->rows; ++r) {
      for (int64_t c = 0; c < cells->columns; ++c) {
        const uint8_t* cell = cells->x + r * cells->row_pitch + c * cells->column_pitch + i;
        if (left < kStep) memcpy(padded, cell, static_cast<size_t>(left));
        const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(left < kStep ? padded : cell));
        most = _mm256_max_epu8(most, _mm256_xor_si256(q, flip));
      }
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(left < kStep ? padded : y + i), _mm256_xor_si256(most, flip));
    if (left < kStep) memcpy(y + i, padded, static_cast<size_t>(left));
  }
}

void mean(const RowGrid* cells, int32_t is_signed, int32_t offset, float multiplier, uint8_t* y, int64_t count,
          const RowRange* range) noexcept {
  for (int64_t i = 0; i < count; i += kStep) {
    const int64_t left = count - i;
    uint8_t padded[kStep] = {0};
    __m256i sum[4];
    for (__m256i& s : sum) s = _mm256_set1_epi32(-offset);
    for (int64_t r = 0; r < cells->rows; ++r) {
      for (int64_t c = 0; c < cells->columns; ++c) {
        const uint8_t* cell = cells->x + r * cells->row_pitch + c * cells->column_pitch + i;
        if (left < kStep) memcpy(padded, cell, static_cast<size_t>(left));
        for (int j = 0; j < 4; ++j)
          sum[j] = _mm256_add_epi32(sum[j], widen8((left < kStep ? padded : cell) + 8 * j, is_signed));
      }
    }
    Floats f;
    for (int j = 0; j < 4; ++j) f.v[j] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[j]), _mm256_set1_ps(multiplier));
    store_bytes(left < kStep ? padded : y + i, f, *range);
    if (left < kStep) memcpy(y + i, padded, static_cast<size_t>(left));
  }
}

}  // namespace

const Int8Rows kInt8RowsAvx2 = {"int8_rows_avx2", quantize, dequantize, add, max, mean};

}  // namespace slipway
