// KL-entropy threshold: for every candidate i, the first i bins of |x| with the clipped tail added to the last one are
// the reference P; Q is the same bins, without the tail, merged into `levels` levels and spread back over the non-zero
// bins. The threshold with the least KL(P‖Q) wins (Migacz, "8-bit inference with TensorRT", GTC 2017).
// Known defects of published recipes, avoided: Q stays real-valued; bin 0 takes bin 1's count (a spike at zero would
// pull the threshold down by more than 14 dB of SQNR); there are many more bins than levels; exact zeros count nowhere.
#include <algorithm>
#include <cmath>
#include <vector>

#include "quantize/calibrate/range.h"

namespace slipway {
namespace {

constexpr double kEpsilon = 1e-4;  // stands for an empty level under a non-empty bin, in counts

/// KL(P‖Q) for the first `i` bins at `levels` levels.
double divergence(const std::vector<double>& bins, size_t i, size_t levels, double inside, double tail) {
  const double total_p = inside + tail;
  double total_q = 0, sum = 0;  // Σ p·ln(p / q) over unnormalised p and q
  for (size_t level = 0, begin = 0; level < levels; ++level) {
    const size_t end = (level + 1) * i / levels;
    double mass = 0, filled = 0;
    for (size_t b = begin; b < end; ++b) {
      mass += bins[b];
      filled += bins[b] > 0;
    }
    const double spread = filled > 0 ? mass / filled : 0;
    for (size_t b = begin; b < end; ++b) {
      const double p = b + 1 == i ? bins[b] + tail : bins[b];
      if (p <= 0) continue;
      const double q = bins[b] > 0 ? spread : kEpsilon;
      total_q += q;
      sum += p * std::log(p / q);
    }
    begin = end;
  }
  return sum / total_p + std::log(total_q / total_p);
}

}  // namespace

double entropy_threshold(const TensorStats& stats, int levels, bool fix_zero_bin) {
  const double width = stats.bin_width(), absmax = stats.absmax();
  std::vector<double> bins;
  for (int i = 0; i < TensorStats::kHalfBins && i * width <= absmax; ++i)
    bins.push_back(static_cast<double>(stats.bin(i)) + static_cast<double>(stats.bin(-1 - i)));
  const auto first = static_cast<size_t>(levels);
  if (bins.size() <= first) return absmax;
  if (fix_zero_bin) bins[0] = bins[1];

  double inside = 0, total = 0;
  for (const double n : bins) total += n;
  for (size_t b = 0; b < first; ++b) inside += bins[b];
  double best = INFINITY;
  size_t best_bins = bins.size();
  for (size_t i = first; i <= bins.size(); ++i) {
    const double kl = divergence(bins, i, first, inside, total - inside);
    if (kl <= best) {
      best = kl;
      best_bins = i;
    }
    if (i < bins.size()) inside += bins[i];
  }
  return std::min(absmax, static_cast<double>(best_bins) * width);
}

}  // namespace slipway
