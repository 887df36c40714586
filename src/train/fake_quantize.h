#pragma once
#include "quantize/calibrate/grid.h"
#include "train/libtorch.h"

namespace slipway {

/// The codes that a fake quantiser may use, less the zero point.
struct FakeGrid {
  float lo, hi;
};

/// Quantise and dequantise, as QuantizeLinear and DequantizeLinear do it, with one learned scale: y has x's shape.
/// Gradients by the straight-through estimator with clipping for x and by LSQ (Esser et al., "Learned step size
/// quantization", ICLR 2020, eq. 3 and 5) for the scale, that one multiplied by `scale_gradient` (section 2.2:
/// 1 / √(N·hi) for N weights or N features).
/// x: float32, any shape; scale: float32 of one element, > 0.
at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, FakeGrid grid, double scale_gradient);

/// The same with a scale for each index along `axis`: scale has x.size(axis) elements.
at::Tensor fake_quantize_channels(const at::Tensor& x, const at::Tensor& scale, int64_t axis, FakeGrid grid,
                                  double scale_gradient);

}  // namespace slipway
