// Weights per channel and INT32 biases in units of input scale times weight scale, so that an integer kernel adds
// them to its sums as they are.
// Least squares: for fixed codes q the error Σ(w − s·q)² is least at s = Σwq / Σq², where it is Σw² − (Σwq)² / Σq². As
// s falls, one code after the other grows by 1, that of w from m at |w| / s = m + ½; walking through these places in
// order keeps both sums up to date, and the best of all stretches is the optimum.
#include "quantize/ptq/weights.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"

namespace slipway {
namespace {

constexpr double kBiasLimit = 0x1p30;     // the other half of INT32 is for the sum of products
constexpr double kDeadBiasCode = 0x1p16;  // a channel without weights keeps its bias with this code

/// Smallest scale at which the bias fits and its unit is a normal float.
double least_scale(double bias, double input_scale) {
  return std::max(std::fabs(bias) / (kBiasLimit * input_scale), FLT_MIN / std::min(1.0, input_scale));
}

void require_finite(std::span<const float> values, const std::string& where) {
  if (std::any_of(values.begin(), values.end(), [](float x) { return !std::isfinite(x); }))
    fail(ErrorCode::kInvalidModel, "Weights hold NaN or infinite values; train or export the model again: {}", where);
}

/// The channel along `axis` of element i.
struct ChannelOf {
  size_t channels, inner = 1;
  ChannelOf(const Tensor& weight, int64_t axis)
      : channels(static_cast<size_t>(weight.dims()[static_cast<size_t>(axis)])) {
    for (size_t d = static_cast<size_t>(axis) + 1; d < weight.dims().size(); ++d)
      inner *= static_cast<size_t>(weight.dims()[d]);
  }
  size_t operator()(size_t i) const { return i / inner % channels; }
};

/// Fewer bits lose so much at the largest weight that clipping it pays.
bool is_narrow(const QuantGrid& grid) { return grid.saturate_max < 127; }

}  // namespace

int64_t weight_axis(const Node& node) {
  const bool rows = node.op_type == "Conv" || (node.op_type == "Gemm" && node.integer("transB", 0) != 0);
  return rows ? 0 : 1;
}

WeightScales choose_weight_scales(const Tensor& weight, int64_t axis, std::span<const float> bias, float input_scale,
                                  const QuantGrid& grid, RangeMethod method, const std::string& where) {
  const auto values = weight.values<float>();
  require_finite(values, where);
  require_finite(bias, where);
  const ChannelOf channel_of(weight, axis);
  const size_t channels = channel_of.channels;
  std::vector<double> absmax(channels), bias_max(channels);
  for (size_t i = 0; i < values.size(); ++i)
    absmax[channel_of(i)] = std::max(absmax[channel_of(i)], std::fabs(double{values[i]}));
  for (size_t i = 0; i < bias.size(); ++i)
    bias_max[i % channels] = std::max(bias_max[i % channels], std::fabs(double{bias[i]}));

  const bool least_squares = is_narrow(grid) && method != RangeMethod::kMinMax;
  std::vector<std::vector<float>> rows(channels);
  for (size_t i = 0; least_squares && i < values.size(); ++i) rows[channel_of(i)].push_back(values[i]);
  WeightScales result{std::vector<float>(channels)};
  for (size_t c = 0; c < channels; ++c) {
    double scale = least_squares ? least_squares_scale(rows[c], grid) : absmax[c] / grid.qmax;
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
  return result;
}

float least_squares_scale(std::span<const float> values, const QuantGrid& grid) {
  constexpr double kLeastThreshold = 1.0 / 64;
  struct Step {
    float inverse;  ///< of the scale at which the code grows from m to m + 1
    float magnitude;
    int m;
  };
  double largest = 0;
  for (const float w : values) largest = std::max(largest, std::fabs(double{w}));
  if (largest < FLT_MIN) return 0;
  const double last = grid.qmax / (largest * kLeastThreshold);
  std::vector<Step> steps;
  for (const float w : values) {
    const double magnitude = std::fabs(double{w});
    const int codes = w < 0 ? -grid.saturate_min : grid.saturate_max;
    for (int m = 0; m < codes && m + 0.5 <= magnitude * last; ++m)
      steps.push_back({static_cast<float>((m + 0.5) / magnitude), std::fabs(w), m});
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.inverse < b.inverse; });
  double products = 0, squares = 0, best_gain = 0, best_scale = largest;
  for (const Step& step : steps) {
    products += step.magnitude;
    squares += 2 * step.m + 1;
    const double gain = products * products / squares;
    if (gain <= best_gain * (1 + 1e-12)) continue;  // of equals the largest scale
    best_gain = gain;
    best_scale = products / squares;
  }
  return static_cast<float>(best_scale);
}

WeightCodes quantize_weight(const Tensor& weight, int64_t axis, std::span<const float> scales, const QuantGrid& grid,
                            const std::string& where) {
  const auto values = weight.values<float>();
  require_finite(values, where);
  const ChannelOf channel_of(weight, axis);
  // Symmetric 8-bit weights keep to ±127, as TensorRT asks; narrower grids need their last code.
  const double lowest = grid.dtype == DType::kInt8 ? grid.qmin : grid.saturate_min;
  std::vector<double> codes(values.size());
  double signal = 0, noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double scale = scales[channel_of(i)];
    codes[i] = std::clamp(round_half_even(std::clamp(values[i] / scale, -1e3, 1e3)), lowest,
                          static_cast<double>(grid.saturate_max));
    const double error = values[i] - codes[i] * scale;
    signal += double{values[i]} * values[i];
    noise += error * error;
  }
  return {from_doubles(grid.dtype, weight.dims(), codes),
          noise > 0 ? std::min(200.0, 10 * std::log10(std::max(signal, 1e-300) / noise)) : 200};
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
