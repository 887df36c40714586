// Scale and zero point of a uniform quantiser. The range always contains 0, so that zero padding and ReLU's zeros are
// exact; symmetric grids stretch the larger magnitude over half the grid.
#include "quantize/calibrate/grid.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace slipway {

QuantParams params_for_range(double low, double high, const QuantGrid& grid, double min_real_range) {
  low = std::min(low, 0.0);
  high = std::max(high, 0.0);
  if (min_real_range > 0) high = std::max(high, low + min_real_range);
  if (grid.symmetric) {
    high = std::max(high, -low);
    low = -high;
  }
  const double scale = (high - low) / (static_cast<double>(grid.qmax) - grid.qmin);
  if (!(scale >= FLT_MIN)) return {1.0f, 0};
  const double zero = grid.symmetric ? round_half_even((static_cast<double>(grid.qmin) + grid.qmax) / 2)
                                     : round_half_even(grid.qmin - low / scale);
  return {static_cast<float>(std::min<double>(scale, FLT_MAX)), static_cast<int32_t>(zero)};
}

int32_t quantize_value(float x, const QuantParams& params, const QuantGrid& grid) {
  const double scaled = round_half_even(std::clamp<double>(x / params.scale, -1e9, 1e9)) + params.zero_point;
  return static_cast<int32_t>(std::clamp<double>(scaled, grid.saturate_min, grid.saturate_max));
}

}  // namespace slipway
