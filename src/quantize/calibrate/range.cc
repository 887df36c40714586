// Choosing a tensor's range from its histogram.
// SQNR: with q(x) the clamped nearest grid index, F(x) = q·s³/12 + (x − q·s)³/3 is a continuous antiderivative of the
// squared error (x − q·s)², inside the grid (a whole step holds s³/12) as well as in the clipped tails. So a bin whose
// values are spread evenly over [a, b] has the mean squared error (F(b) − F(a)) / (b − a), for any step s.
#include "quantize/calibrate/range.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace slipway {
namespace {

constexpr double kNoNoiseDb = 200;
constexpr std::array<std::string_view, 4> kMethodNames = {"minmax", "percentile", "entropy", "mse"};

struct Bin {
  double low, high, count;
};

/// The non-empty bins, cut to [min, max].
std::vector<Bin> used_bins(const TensorStats& stats) {
  std::vector<Bin> bins;
  const double width = stats.bin_width();
  for (int i = -TensorStats::kHalfBins; i < TensorStats::kHalfBins; ++i)
    if (stats.bin(i) != 0)
      bins.push_back({std::max<double>(i * width, stats.min()), std::min<double>((i + 1) * width, stats.max()),
                      static_cast<double>(stats.bin(i))});
  return bins;
}

double signal_power(const std::vector<Bin>& bins) {
  double sum = 0;
  for (const Bin& b : bins) sum += b.count * (b.low * b.low + b.low * b.high + b.high * b.high) / 3;
  return sum;
}

double noise_power(const std::vector<Bin>& bins, const QuantParams& params, const QuantGrid& grid) {
  const double step = params.scale;
  const double lowest = grid.saturate_min - params.zero_point, highest = grid.saturate_max - params.zero_point;
  const auto index = [&](double x) { return round_half_even(std::clamp(x / step, lowest, highest)); };
  const auto integral = [&](double x) {
    const double q = index(x), r = x - q * step;
    return q * step * step * step / 12 + r * r * r / 3;
  };
  double sum = 0;
  for (const Bin& b : bins) {
    if (b.high > b.low) {
      sum += b.count * std::max(0.0, (integral(b.high) - integral(b.low)) / (b.high - b.low));
    } else {
      const double r = b.low - index(b.low) * step;
      sum += b.count * r * r;
    }
  }
  return sum;
}

double to_db(double signal, double noise) {
  if (noise <= 0) return kNoNoiseDb;
  return std::min(kNoNoiseDb, 10 * std::log10(std::max(signal, 1e-300) / noise));
}

/// The value below which `fraction` of all finite values lie, linear inside a bin.
double quantile(const TensorStats& stats, const std::vector<Bin>& bins, double fraction) {
  double left = fraction * static_cast<double>(stats.count());
  bool zeros_passed = false;
  for (const Bin& b : bins) {
    if (!zeros_passed && b.low >= 0) {
      zeros_passed = true;
      left -= static_cast<double>(stats.zeros());
      if (left <= 0) return 0;
    }
    if (left <= b.count) return b.low + (b.high - b.low) * left / b.count;
    left -= b.count;
  }
  return stats.max();
}

struct Sweep {
  const std::vector<Bin>& bins;
  const QuantGrid& grid;
  double best_noise = INFINITY;
  double low, high;  ///< best so far

  void try_range(double new_low, double new_high) {
    const double noise = noise_power(bins, params_for_range(new_low, new_high, grid), grid);
    if (noise >= best_noise) return;
    best_noise = noise;
    low = new_low;
    high = new_high;
  }
};

/// Thresholds fall by 2^(−1/64) down to 1/64 of the extreme; an asymmetric grid sweeps its two ends in turns.
std::pair<double, double> mse_range(const TensorStats& stats, const std::vector<Bin>& bins, const QuantGrid& grid) {
  constexpr int kSteps = 6 * 64;
  const double low = std::min(stats.min(), 0.0f), high = std::max(stats.max(), 0.0f);
  Sweep sweep{bins, grid, INFINITY, low, high};
  sweep.try_range(low, high);
  const auto shrink = [](int i) { return std::exp2(-i / 64.0); };
  if (grid.symmetric) {
    for (int i = 1; i <= kSteps; ++i) {
      const double threshold = stats.absmax() * shrink(i);
      sweep.try_range(std::max(low, -threshold), std::min(high, threshold));
    }
    return {sweep.low, sweep.high};
  }
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i <= kSteps && high > 0; ++i) sweep.try_range(sweep.low, high * shrink(i));
    for (int i = 0; i <= kSteps && low < 0; ++i) sweep.try_range(low * shrink(i), sweep.high);
  }
  return {sweep.low, sweep.high};
}

}  // namespace

std::string_view to_string(RangeMethod method) { return kMethodNames[static_cast<size_t>(method)]; }

RangeMethod parse_range_method(std::string_view name) {
  for (size_t i = 0; i < kMethodNames.size(); ++i)
    if (kMethodNames[i] == name) return static_cast<RangeMethod>(i);
  fail(ErrorCode::kInvalidArgument,
       "There is no such calibration method; choose minmax, percentile, entropy or mse: '{}'", name);
}

double estimate_sqnr_db(const TensorStats& stats, const QuantParams& params, const QuantGrid& grid) {
  const auto bins = used_bins(stats);
  return to_db(signal_power(bins), noise_power(bins, params, grid));
}

RangeChoice choose_range(const TensorStats& stats, const QuantGrid& grid, const RangeOptions& options) {
  if (!(options.percentile > 50 && options.percentile <= 100))
    fail(ErrorCode::kInvalidArgument, "A percentile lies above 50 and up to 100; 99.999 is usual: {}",
         options.percentile);
  const auto bins = used_bins(stats);
  const double signal = signal_power(bins);
  const double low = std::min(stats.min(), 0.0f), high = std::max(stats.max(), 0.0f);
  const auto candidate = [&](RangeMethod method, double from, double to) {
    const QuantParams params = params_for_range(from, to, grid);
    return RangeCandidate{method, static_cast<float>(from), static_cast<float>(to), params,
                          to_db(signal, noise_power(bins, params, grid))};
  };
  const auto clipped = [&](RangeMethod method, double threshold) {
    return candidate(method, std::max(low, -threshold), std::min(high, threshold));
  };

  RangeChoice choice;
  choice.candidates.push_back(candidate(RangeMethod::kMinMax, low, high));
  const double cut = (100 - options.percentile) / 100;
  const bool two_sided = low < 0 && high > 0;
  const double upper = std::max(0.0, quantile(stats, bins, 1 - (two_sided ? cut / 2 : cut)));
  const double lower = std::min(0.0, quantile(stats, bins, two_sided ? cut / 2 : cut));
  choice.candidates.push_back(candidate(RangeMethod::kPercentile, low < 0 ? lower : 0.0, high > 0 ? upper : 0.0));
  const bool is_wide = grid.qmax - grid.qmin > 255;
  const int levels = two_sided || grid.symmetric ? 128 : 256;
  choice.candidates.push_back(is_wide ? candidate(RangeMethod::kEntropy, low, high)
                                      : clipped(RangeMethod::kEntropy, entropy_threshold(stats, levels)));
  const auto [mse_low, mse_high] = mse_range(stats, bins, grid);
  choice.candidates.push_back(candidate(RangeMethod::kMse, mse_low, mse_high));

  choice.chosen = choice.candidates[static_cast<size_t>(options.method)];
  const RangeCandidate& minmax = choice.candidates.front();
  if (options.method == RangeMethod::kEntropy && choice.chosen.sqnr_db < minmax.sqnr_db - options.entropy_guard_db) {
    choice.note = fmt::format("entropy would give {:.1f} dB, minmax {:.1f} dB: mse's range taken",
                              choice.chosen.sqnr_db, minmax.sqnr_db);
    choice.chosen = choice.candidates.back();
  }
  return choice;
}

}  // namespace slipway
