#pragma once
#include <span>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"
#include "quantize/calibrate/grid.h"
#include "quantize/calibrate/range.h"

namespace slipway {

/// The axis of a weighted node's second input along which its output channels lie.
int64_t weight_axis(const Node& node);

struct WeightScales {
  std::vector<float> scales;  ///< one a channel
  int64_t dead_channels = 0, widened_channels = 0;
};

/// Symmetric scales per channel along `axis`: absmax / grid.qmax with 8 bits or kMinMax; on narrower grids otherwise
/// the scale with the least squared error of the channel's weights. With a bias (empty: none; `channels` or a multiple
/// of it long, for grouped transposed convolutions), a channel whose bias would leave ±2^30 in units of
/// input_scale·scale, or whose unit would be denormal, gets a larger scale; a channel without weights gets the scale
/// that holds its bias exactly, or 1. Fails with kInvalidModel, naming `where`, at NaN or infinity in either.
WeightScales choose_weight_scales(const Tensor& weight, int64_t axis, std::span<const float> bias, float input_scale,
                                  const QuantGrid& grid, RangeMethod method, const std::string& where);

/// The scale at which the nearest codes of a symmetric grid, saturated where its type ends, have the least squared
/// error: exact, over clipping thresholds from the largest magnitude down to 1/64 of it. 0 without weights.
float least_squares_scale(std::span<const float> values, const QuantGrid& grid);

struct WeightCodes {
  Tensor codes;  ///< of the grid's type, the weight's shape
  double sqnr_db = 0;
};
/// Each weight as the nearest code, ties to even. Fails with kInvalidModel, naming `where`, at NaN or infinity.
WeightCodes quantize_weight(const Tensor& weight, int64_t axis, std::span<const float> scales, const QuantGrid& grid,
                            const std::string& where);

struct BiasCodes {
  Tensor codes;               ///< INT32, the bias's shape
  std::vector<float> scales;  ///< input_scale · weight scale
};
BiasCodes quantize_bias(const Tensor& bias, std::span<const float> weight_scales, float input_scale);

}  // namespace slipway
