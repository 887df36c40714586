#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kernels/int8.h"

/// INT8 operators other than convolution, exact and the same on every instruction set. Integer tensors are dense NHWC
/// bytes; rne rounds half to even; NaN quantises to enc.lo. Each kernel splits its work over `threads`.
namespace slipway {

struct ImageShape {
  int64_t n = 1, h = 1, w = 1, c = 1;
};

/// y = clamp(rne(x / scale) + zero_point, lo, hi).
void quantize(const float* x, void* y, int64_t count, float scale, const Int8Encoding& enc, int threads) noexcept;
/// The same from NCHW floats to NHWC integers.
void quantize_nchw_to_nhwc(const float* x, void* y, const ImageShape& image, float scale, const Int8Encoding& enc,
                           int threads) noexcept;
/// y = float(x − zero_point)·scale.
void dequantize(const void* x, float* y, int64_t count, float scale, const Int8Encoding& enc, int threads) noexcept;
/// The same from NHWC integers to NCHW floats.
void dequantize_nhwc_to_nchw(const void* x, float* y, const ImageShape& image, float scale, const Int8Encoding& enc,
                             int threads) noexcept;

/// y = clamp(rne(float(a − za)·a_multiplier + float(b − zb)·b_multiplier) + zy, lo, hi); b null: the a term alone.
/// The multipliers are a.scale / y.scale and b.scale / y.scale. y may be a or b.
struct QAdd {
  Int8Encoding a, b, y;
  float a_multiplier = 1, b_multiplier = 1;
};
void qadd(const QAdd& op, const void* a, const void* b, void* y, int64_t count, int threads) noexcept;

/// y = table[x], bytes as unsigned indices. Any unary operator on one tensor. y may be x.
void lookup(const uint8_t table[256], const void* x, void* y, int64_t count, int threads) noexcept;

/// Copies [rows][columns] bytes between rows of different pitch: concat and slice of channels.
void copy_columns(const void* x, int64_t x_pitch, void* y, int64_t y_pitch, int64_t rows, int64_t columns,
                  int threads) noexcept;
/// copy_columns with qadd's a term: a concat whose inputs have scales of their own.
void requantize_columns(const QAdd& op, const void* x, int64_t x_pitch, void* y, int64_t y_pitch, int64_t rows,
                        int64_t columns, int threads) noexcept;

struct QPool {
  ImageShape x;
  int64_t oh = 1, ow = 1, kh = 1, kw = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0;
  int64_t dilation_h = 1, dilation_w = 1;  ///< max pooling only
  bool count_include_pad = false;
  Int8Encoding in, out;
  float multiplier = 1;  ///< in.scale / out.scale, average pooling only
};
/// Padding never wins; a window all in the padding gives the type's least value. The encoding is unchanged.
void qmaxpool(const QPool& op, const void* x, void* y, int threads) noexcept;
/// y = clamp(rne(float(Σ(x − zx))·(multiplier / float(cells))) + zy, lo, hi): an exact integer sum, one quotient per
/// count of cells. At most 2^23 cells to a window. Global pooling is a kernel as large as the image.
void qavgpool(const QPool& op, const void* x, void* y, int threads) noexcept;

}  // namespace slipway
