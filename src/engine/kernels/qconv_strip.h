#pragma once
#include <stdint.h>

/// The border between the driver and the per-ISA inner kernels: plain data, no inline code (see ISA files in DESIGN).
namespace slipway {

enum { kStripU8 = 0, kStripS8 = 1, kStripFloat = 2 };

/// QConvEpilogue, its zero points taken off the bounds.
struct QStripEpilogue {
  int32_t output;
  int32_t zero_point, lo;  ///< lo is the byte's, hi the float's before the zero point is added
  float hi;
  int32_t has_mid;
  float mid_lo, mid_hi, mid_multiplier;
  int32_t has_residual, residual_signed, residual_zero_point;
  float residual_multiplier;
};

constexpr int kStripMaxGroup = 8;

/// Some pixels × one block of output channels. A step multiplies 4 input bytes of a pixel (4 × u8 or 2 × s16), found at
/// x + pixels[i] + steps[s], with weights [channel of the block][4 bytes]. Steps come in groups; the length of a
/// group falls from kStripMaxGroup to 1, groups[length] of each.
struct QStrip {
  const uint8_t* x;
  const int32_t* pixels;
  int64_t count;
  const int32_t* steps;
  const int32_t* groups;
  int64_t step_count;  ///< in all groups
  const int8_t* weights;
  const int32_t* init;      ///< [block] what the sums start from
  const float* multiplier;  ///< [block]
  const float* addend;      ///< [block], or null
  const QStripEpilogue* epilogue;
  uint8_t* y;               ///< of the first pixel and channel
  const uint8_t* residual;  ///< likewise
  int64_t pitch;            ///< channels from one pixel of y to the next
  int32_t vectors;          ///< vectors in the block, 1 or 2
  int32_t channels;         ///< of them, how many exist
};

void qconv_strip_maddubs_avx2(const QStrip* strip) noexcept;
void qconv_strip_maddwd_avx2(const QStrip* strip) noexcept;
/// Steps are taps, in pairs; 16 channels of a pixel, each its own filter: see fill_depthwise.
void qconv_strip_depthwise_avx2(const QStrip* strip) noexcept;
void qconv_strip_vnni_avx512(const QStrip* strip) noexcept;

/// dst[i] = src[i] ^ 0x80: s8 to u8 with its zero point moved by 128.
void qconv_flip_avx2(const uint8_t* src, uint8_t* dst, int64_t count) noexcept;
/// dst[i] = src[i] − zero_point as int16.
void qconv_widen_avx2(const uint8_t* src, int16_t* dst, int64_t count, int32_t is_signed, int32_t zero_point) noexcept;

}  // namespace slipway
