#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "quantize/calibrate/grid.h"
#include "quantize/calibrate/histogram.h"

namespace slipway {

enum class RangeMethod { kMinMax, kPercentile, kEntropy, kMse };
/// "minmax", "percentile", "entropy", "mse".
std::string_view to_string(RangeMethod method);
/// Fails with kInvalidArgument, listing the methods.
RangeMethod parse_range_method(std::string_view name);

struct RangeOptions {
  RangeMethod method = RangeMethod::kMse;
  double percentile = 99.999;     ///< percent of the values kept
  double entropy_guard_db = 1.0;  ///< entropy may lose this much SQNR to minmax before MSE's range is taken instead
  bool operator==(const RangeOptions&) const = default;
};

struct RangeCandidate {
  RangeMethod method;
  float low, high;  ///< contains 0
  QuantParams params;
  double sqnr_db;  ///< estimated from the histogram
};

/// A range for one tensor, and what each method would have given.
struct RangeChoice {
  RangeCandidate chosen;
  std::string note;                        ///< why another method than asked for, when so
  std::vector<RangeCandidate> candidates;  ///< minmax, percentile, entropy, mse
};

/// Signal to quantisation noise in dB when the observed values go through the grid, taking each bin's values as spread
/// evenly over it; exact for zeros. At most 200 (no noise at all).
double estimate_sqnr_db(const TensorStats& stats, const QuantParams& params, const QuantGrid& grid);

/// The four methods: minmax; percentile (both tails share what is cut); entropy (Kullback-Leibler: Migacz, "8-bit
/// inference with TensorRT", GTC 2017, with as many levels as the grid has on the side in use and the bin at zero
/// corrected); mse (the range with the best estimated SQNR of a sweep over clipping thresholds, minmax included).
/// Grids of 16 bits take no entropy range: minmax stands in.
RangeChoice choose_range(const TensorStats& stats, const QuantGrid& grid, const RangeOptions& options = {});

/// The clipping threshold of |x| with the least KL divergence when `levels` levels hold [0, threshold]; ties take the
/// largest. absmax when the histogram has no more bins than levels. `fix_zero_bin` gives bin 0 its neighbour's count.
double entropy_threshold(const TensorStats& stats, int levels, bool fix_zero_bin = true);

}  // namespace slipway
