// INT8 weights per channel and INT32 biases in units of input scale times weight scale, so that an integer kernel adds
// them to its sums as they are.
#include "quantize/ptq/weights.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "quantize/calibrate/grid.h"

namespace slipway {
namespace {

constexpr double kBiasLimit = 0x1p30;     // the other half of INT32 is for the sum of products
constexpr double kDeadBiasCode = 0x1p16;  // a channel without weights keeps its bias with this code

/// Smallest scale at which the bias fits and its unit is a normal float.
double least_scale(double bias, double input_scale) {
  return std::max(std::fabs(bias) / (kBiasLimit * input_scale), FLT_MIN / std::min(1.0, input_scale));
}

}  // namespace

int64_t weight_axis(const Node& node) {
  const bool rows = node.op_type == "Conv" || (node.op_type == "Gemm" && node.integer("transB", 0) != 0);
  return rows ? 0 : 1;
}

WeightCodes quantize_weight(const Tensor& weight, int64_t axis, std::span<const float> bias, float input_scale,
                            const std::string& where) {
  const auto values = weight.values<float>();
  const auto channels = static_cast<size_t>(weight.dims()[static_cast<size_t>(axis)]);
  size_t inner = 1;
  for (size_t d = static_cast<size_t>(axis) + 1; d < weight.dims().size(); ++d)
    inner *= static_cast<size_t>(weight.dims()[d]);
  const auto channel_of = [&](size_t i) { return i / inner % channels; };
  const auto not_finite = [](float x) { return !std::isfinite(x); };
  if (std::any_of(values.begin(), values.end(), not_finite) || std::any_of(bias.begin(), bias.end(), not_finite))
    fail(ErrorCode::kInvalidModel, "Weights hold NaN or infinite values; train or export the model again: {}", where);

  std::vector<double> absmax(channels), bias_max(channels);
  for (size_t i = 0; i < values.size(); ++i)
    absmax[channel_of(i)] = std::max(absmax[channel_of(i)], std::fabs(double{values[i]}));
  for (size_t i = 0; i < bias.size(); ++i)
    bias_max[i % channels] = std::max(bias_max[i % channels], std::fabs(double{bias[i]}));

  WeightCodes result{Tensor(DType::kInt8, weight.dims()), std::vector<float>(channels)};
  for (size_t c = 0; c < channels; ++c) {
    double scale = absmax[c] / 127;
    const double least = bias.empty() ? FLT_MIN : least_scale(bias_max[c], input_scale);
    if (scale < FLT_MIN) {
      ++result.dead_channels;
      scale = bias_max[c] > 0 ? std::max(least, bias_max[c] / (kDeadBiasCode * input_scale)) : 1.0;
    } else if (scale < least) {
      ++result.widened_channels;
      scale = least;
    }
    result.scales[c] = static_cast<float>(std::min<double>(scale, FLT_MAX));
  }

  auto codes = result.codes.mutable_values<int8_t>();
  double signal = 0, noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double scale = result.scales[channel_of(i)];
    const double code = std::clamp(round_half_even(std::clamp(values[i] / scale, -1e3, 1e3)), -127.0, 127.0);
    codes[i] = static_cast<int8_t>(code);
    const double error = values[i] - code * scale;
    signal += double{values[i]} * values[i];
    noise += error * error;
  }
  result.sqnr_db = noise > 0 ? std::min(200.0, 10 * std::log10(std::max(signal, 1e-300) / noise)) : 200;
  return result;
}

BiasCodes quantize_bias(const Tensor& bias, std::span<const float> weight_scales, float input_scale) {
  const auto values = bias.values<float>();
  BiasCodes result{Tensor(DType::kInt32, bias.dims()), std::vector<float>(values.size())};
  auto codes = result.codes.mutable_values<int32_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    const float unit = input_scale * weight_scales[i % weight_scales.size()];
    result.scales[i] = unit;
    codes[i] = static_cast<int32_t>(std::clamp(round_half_even(double{values[i]} / unit), -kBiasLimit, kBiasLimit));
  }
  return result;
}

}  // namespace slipway
