// INT8 convolution for AVX2: the inner kernels over a strip of pixels and a block of 8 or 16 output channels.
//
// maddubs: vpmaddubsw multiplies 4 bytes a channel into two 16-bit sums; the steps of a group are added in 16 bits and
// widened once by vpmaddwd with ones. The packer has proved that no sum of a group leaves int16 (wrapping on the way
// is harmless), and no single product pair saturates. maddwd: both operands widened to 16 bits, exact for any range.
// A tile of 3 pixels × 2 vectors keeps 6 sums of 32 and 6 of 16 bits in registers, with 5 loads for 6 multiplications.
#include <immintrin.h>
#include <string.h>

#include "engine/kernels/qconv_strip.h"

namespace slipway {
namespace {

template <int P, int B>
using Sums = __m256i[P][B];

inline __m256i broadcast4(const uint8_t* x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

/// Keeps the compiler from reassociating a chain of additions, which would spill every partial sum to the stack.
inline __attribute__((always_inline)) void keep_order(__m256i& sum) { __asm__("" : "+x"(sum)); }

alignas(32) const int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/// acc += pairs of 16-bit sums; the ones stay in memory, since all 16 registers are taken.
inline __attribute__((always_inline)) void widen_into(__m256i& acc, __m256i sum) {
  __asm__("vpmaddwd %1, %0, %0" : "+x"(sum) : "m"(kOnes));
  acc = _mm256_add_epi32(acc, sum);
}

template <int B>
inline __attribute__((always_inline)) void load_weights(const __m256i* from, __m256i (&w)[B]) {
#pragma GCC unroll 2
  for (int b = 0; b < B; ++b) {
    w[b] = from[b];
    keep_order(w[b]);
  }
}

struct Cursor {
  const int32_t* step;
  const __m256i* w;
};

/// `count` groups of G steps each.
template <int G, int P, int B>
inline __attribute__((always_inline)) void maddubs_groups(Sums<P, B>& acc, const uint8_t* const (&x)[P], Cursor& at,
                                                          int32_t count) {
  for (; count > 0; --count) {
    Sums<P, B> sum;
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) {
      const int64_t offset = at.step[g];
      __m256i w[B];
      load_weights<B>(at.w + g * B, w);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i bytes = broadcast4(x[p] + offset);
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) {
          const __m256i product = _mm256_maddubs_epi16(bytes, w[b]);
          sum[p][b] = g == 0 ? product : _mm256_add_epi16(sum[p][b], product);
          keep_order(sum[p][b]);
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) widen_into(acc[p][b], sum[p][b]);
    at.step += G;
    at.w += G * B;
  }
}

struct Maddubs {
  template <int P, int B>
  static inline __attribute__((always_inline)) void multiply(Sums<P, B>& acc, const uint8_t* const (&x)[P],
                                                             const QStrip& s) {
    Cursor at{s.steps, reinterpret_cast<const __m256i*>(s.weights)};
    maddubs_groups<8, P, B>(acc, x, at, s.groups[8]);
    maddubs_groups<7, P, B>(acc, x, at, s.groups[7]);
    maddubs_groups<6, P, B>(acc, x, at, s.groups[6]);
    maddubs_groups<5, P, B>(acc, x, at, s.groups[5]);
    maddubs_groups<4, P, B>(acc, x, at, s.groups[4]);
    maddubs_groups<3, P, B>(acc, x, at, s.groups[3]);
    maddubs_groups<2, P, B>(acc, x, at, s.groups[2]);
    maddubs_groups<1, P, B>(acc, x, at, s.groups[1]);
  }
};

struct Maddwd {
  template <int P, int B>
  static inline __attribute__((always_inline)) void multiply(Sums<P, B>& acc, const uint8_t* const (&x)[P],
                                                             const QStrip& s) {
    const __m256i* at = reinterpret_cast<const __m256i*>(s.weights);
    for (int32_t step = 0; step < s.step_count; ++step) {
      const int64_t offset = s.steps[step];
      __m256i w[B];
      load_weights<B>(at, w);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i pair = broadcast4(x[p] + offset);
#pragma GCC unroll 2
        for (int b = 0; b < B; ++b) {
          acc[p][b] = _mm256_add_epi32(acc[p][b], _mm256_madd_epi16(pair, w[b]));
          keep_order(acc[p][b]);
        }
      }
      at += B;
    }
  }
};

inline __m256i load(const uint8_t* x) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)); }

/// Two taps of 16 channels side by side, then vpmaddwd: sums of channels 0-3 and 8-11, and of 4-7 and 12-15.
struct Depthwise {
  template <int P, int B>
  static inline __attribute__((always_inline)) void multiply(Sums<P, B>& acc, const uint8_t* const (&x)[P],
                                                             const QStrip& s) {
    const __m256i* at = reinterpret_cast<const __m256i*>(s.weights);
    Sums<P, B> sum;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[p][0] = sum[p][1] = _mm256_setzero_si256();
    for (int64_t tap = 0; tap < s.step_count; tap += 2, at += 2) {
      const int64_t one = s.steps[tap], two = s.steps[tap + 1];
      __m256i w[2];
      load_weights<2>(at, w);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i first = load(x[p] + one), second = load(x[p] + two);
        sum[p][0] = _mm256_add_epi32(sum[p][0], _mm256_madd_epi16(_mm256_unpacklo_epi16(first, second), w[0]));
        sum[p][1] = _mm256_add_epi32(sum[p][1], _mm256_madd_epi16(_mm256_unpackhi_epi16(first, second), w[1]));
        keep_order(sum[p][0]);
        keep_order(sum[p][1]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      acc[p][0] = _mm256_add_epi32(acc[p][0], _mm256_permute2x128_si256(sum[p][0], sum[p][1], 0x20));
      acc[p][1] = _mm256_add_epi32(acc[p][1], _mm256_permute2x128_si256(sum[p][0], sum[p][1], 0x31));
    }
  }
};

inline __m256 widen8(const uint8_t* q, int32_t is_signed) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(q));
  return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

/// The epilogue of `count` pixels: sums [count][8·B] to y, `residual` beside it; both rows `pitch` channels apart.
/// `addends` may be null.
template <int B, bool kHasMid, bool kHasResidual, int kOutput>
inline __attribute__((always_inline)) void finish(const QStripEpilogue e, const float* multipliers,
                                                  const float* addends, const __m256i* sums, int64_t count,
                                                  const uint8_t* residual, uint8_t* y, int64_t pitch) {
  __m256 multiplier[B];
  for (int b = 0; b < B; ++b) multiplier[b] = _mm256_loadu_ps(multipliers + 8 * b);
  const __m256 hi = _mm256_set1_ps(e.hi), mid_lo = _mm256_set1_ps(e.mid_lo), mid_hi = _mm256_set1_ps(e.mid_hi);
  const __m256 mid_multiplier = _mm256_set1_ps(e.mid_multiplier);
  const __m256 residual_zero_point = _mm256_set1_ps(static_cast<float>(e.residual_zero_point));
  const __m256 residual_multiplier = _mm256_set1_ps(e.residual_multiplier);
  const __m256i zero_point = _mm256_set1_epi16(static_cast<int16_t>(e.zero_point));
  const __m128i lo = _mm_set1_epi8(static_cast<int8_t>(e.lo));
  for (int64_t i = 0; i < count; ++i, sums += B) {
    __m256 f[B];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) {
      f[b] = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[b]), multiplier[b]);
      if (addends) f[b] = _mm256_add_ps(f[b], _mm256_loadu_ps(addends + 8 * b));
      if (kHasMid) {
        const __m256 clamped = _mm256_min_ps(_mm256_max_ps(f[b], mid_lo), mid_hi);
        f[b] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtps_epi32(clamped)), mid_multiplier);
      }
      if (kHasResidual) {
        const __m256 r = _mm256_sub_ps(widen8(residual + i * pitch + 8 * b, e.residual_signed), residual_zero_point);
        f[b] = _mm256_add_ps(f[b], _mm256_mul_ps(r, residual_multiplier));
      }
    }
    if (kOutput == kStripFloat) {
#pragma GCC unroll 2
      for (int b = 0; b < B; ++b) _mm256_storeu_ps(reinterpret_cast<float*>(y) + i * pitch + 8 * b, f[b]);
      continue;
    }
    __m256i q[B];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) q[b] = _mm256_cvtps_epi32(_mm256_min_ps(f[b], hi));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[B - 1]), 0xd8);
    const __m256i moved = _mm256_adds_epi16(words, zero_point);
    const __m128i first = _mm256_castsi256_si128(moved), second = _mm256_extracti128_si256(moved, 1);
    const __m128i bytes = kOutput == kStripS8 ? _mm_max_epi8(_mm_packs_epi16(first, second), lo)
                                              : _mm_max_epu8(_mm_packus_epi16(first, second), lo);
    if (B == 2)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i * pitch), bytes);
    else
      _mm_storel_epi64(reinterpret_cast<__m128i*>(y + i * pitch), bytes);
  }
}

template <int B, bool kHasMid, bool kHasResidual>
void finish_to(const QStripEpilogue& e, const float* multipliers, const float* addends, const __m256i* sums,
               int64_t count, const uint8_t* residual, uint8_t* y, int64_t pitch) {
  switch (e.output) {
    case kStripU8:
      return finish<B, kHasMid, kHasResidual, kStripU8>(e, multipliers, addends, sums, count, residual, y, pitch);
    case kStripS8:
      return finish<B, kHasMid, kHasResidual, kStripS8>(e, multipliers, addends, sums, count, residual, y, pitch);
    default:
      return finish<B, kHasMid, kHasResidual, kStripFloat>(e, multipliers, addends, sums, count, residual, y, pitch);
  }
}

constexpr int64_t kChunk = 48;  // pixels whose sums wait in the L1 cache for their epilogue

/// Pixels first .. first + count − 1 of the strip, count <= kChunk; absent channels go through a padded copy.
template <int B>
void finish_chunk(const QStrip& s, int64_t first, int64_t count, const __m256i* sums) {
  const QStripEpilogue& e = *s.epilogue;
  const int64_t size = e.output == kStripFloat ? 4 : 1, width = 8 * B;
  uint8_t* y = s.y + first * s.pitch * size;
  const uint8_t* residual = e.has_residual ? s.residual + first * s.pitch : nullptr;
  const auto run = e.has_mid ? (e.has_residual ? finish_to<B, true, true> : finish_to<B, true, false>)
                             : (e.has_residual ? finish_to<B, false, true> : finish_to<B, false, false>);
  if (s.channels == width) return run(e, s.multiplier, s.addend, sums, count, residual, y, s.pitch);
  uint8_t padded[kChunk * width] = {}, out[kChunk * width * 4];
  const auto exist = static_cast<size_t>(s.channels);
  for (int64_t i = 0; i < count && residual; ++i) memcpy(padded + i * width, residual + i * s.pitch, exist);
  run(e, s.multiplier, s.addend, sums, count, padded, out, width);
  for (int64_t i = 0; i < count; ++i)
    memcpy(y + i * s.pitch * size, out + i * width * size, exist * static_cast<size_t>(size));
}

template <class Step, int P, int B>
inline __attribute__((always_inline)) void tile(const QStrip& s, int64_t first, __m256i* sums) {
  const uint8_t* x[P];
  Sums<P, B> acc;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    x[p] = s.x + s.pixels[first + p];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) acc[p][b] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.init) + b);
  }
  Step::template multiply<P, B>(acc, x, s);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) _mm256_store_si256(sums + p * B + b, acc[p][b]);
}

template <class Step, int P, int B>
inline void strip(const QStrip& s) {
  __m256i sums[kChunk * B];
  for (int64_t first = 0; first < s.count; first += kChunk) {
    const int64_t count = s.count - first < kChunk ? s.count - first : kChunk;
    int64_t i = 0;
    for (; i + P <= count; i += P) tile<Step, P, B>(s, first + i, sums + i * B);
    for (; i < count; ++i) tile<Step, 1, B>(s, first + i, sums + i * B);
    finish_chunk<B>(s, first, count, sums);
  }
}

}  // namespace

void qconv_strip_maddubs_avx2(const QStrip* s) noexcept {
  if (s->vectors == 2)
    strip<Maddubs, 3, 2>(*s);
  else
    strip<Maddubs, 6, 1>(*s);
}

void qconv_strip_maddwd_avx2(const QStrip* s) noexcept {
  if (s->vectors == 2)
    strip<Maddwd, 6, 2>(*s);
  else
    strip<Maddwd, 8, 1>(*s);
}

void qconv_strip_depthwise_avx2(const QStrip* s) noexcept { strip<Depthwise, 4, 2>(*s); }

void qconv_flip_avx2(const uint8_t* src, uint8_t* dst, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) dst[i] = src[i] ^ 0x80;
}

void qconv_widen_avx2(const uint8_t* src, int16_t* dst, int64_t count, int32_t is_signed, int32_t zero_point) noexcept {
  if (is_signed) {
    for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<int16_t>(static_cast<int8_t>(src[i]) - zero_point);
  } else {
    for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<int16_t>(src[i] - zero_point);
  }
}

}  // namespace slipway
