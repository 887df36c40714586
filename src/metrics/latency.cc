// Statistics of latencies: quantiles, summaries, and intervals that need no assumption about the distribution.
#include "metrics/latency.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "metrics/significance.h"

namespace slipway {
namespace {

double quantile_of_sorted(std::span<const double> sorted, double q) {
  if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double at = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// Reorders `values`.
double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return values.size() % 2 == 1 ? *middle : (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

double quantile(std::span<const double> samples, double q) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return quantile_of_sorted(sorted, q);
}

SampleSummary summarize(std::span<const double> samples) {
  SampleSummary s;
  s.count = static_cast<int64_t>(samples.size());
  if (samples.empty()) return s;
  const auto n = static_cast<double>(samples.size());
  s.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  double squares = 0;
  for (const double v : samples) squares += (v - s.mean) * (v - s.mean);
  s.std = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
  s.cv = s.mean == 0 ? 0 : s.std / s.mean;
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  s.min = sorted.front();
  s.p50 = quantile_of_sorted(sorted, 0.50);
  s.p90 = quantile_of_sorted(sorted, 0.90);
  s.p95 = quantile_of_sorted(sorted, 0.95);
  s.p99 = quantile_of_sorted(sorted, 0.99);
  s.max = sorted.back();
  return s;
}

Interval median_ratio_interval(std::span<const double> baseline, std::span<const double> candidate, double confidence,
                               int rounds, uint64_t seed) {
  SLIPWAY_CHECK(baseline.size() == candidate.size() && !baseline.empty() && rounds > 0);
  std::vector<double> base(baseline.begin(), baseline.end()), other(candidate.begin(), candidate.end());
  const double value = median(other) / median(base);
  Random random(seed);
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < base.size(); ++i) {
      const size_t pick = random.below(baseline.size());
      base[i] = baseline[pick];
      other[i] = candidate[pick];
    }
    ratios.push_back(median(other) / median(base));
  }
  std::sort(ratios.begin(), ratios.end());
  const double tail = (1 - confidence) / 2;
  return {value, quantile_of_sorted(ratios, tail), quantile_of_sorted(ratios, 1 - tail)};
}

SpeedUp speed_up(double baseline_median, double candidate_median, const Interval& ratio) {
  constexpr double kSteady = 1.25, kAgree = 1.1;
  const double shown = candidate_median / baseline_median;
  if (!(ratio.low > 0 && ratio.high <= kSteady * ratio.low))
    return {0, fmt::format("the rounds are too unsteady to state a speed-up: {:.2f} to {:.2f} of the time", ratio.low,
                           ratio.high)};
  if (!(shown >= ratio.low / kAgree && shown <= kAgree * ratio.high))
    return {0,
            fmt::format("the medians of all runs ({:.2f} of the time) contradict the rounds ({:.2f} to {:.2f}), so no "
                        "speed-up is stated",
                        shown, ratio.low, ratio.high)};
  if (ratio.low <= 1 && ratio.high >= 1) return {0, "no difference in speed that the rounds could tell"};
  return {1 / ratio.value, ""};
}

Interval quantile_ratio_interval(const std::vector<std::vector<double>>& baseline,
                                 const std::vector<std::vector<double>>& candidate, double q, double confidence,
                                 int rounds, uint64_t seed) {
  SLIPWAY_CHECK(baseline.size() == candidate.size() && rounds > 0);
  const size_t n = baseline.size();
  std::vector<size_t> picks(n);
  std::iota(picks.begin(), picks.end(), size_t{0});
  std::vector<double> all;
  const auto pooled = [&](const std::vector<std::vector<double>>& samples) {
    all.clear();
    for (const size_t pick : picks) all.insert(all.end(), samples[pick].begin(), samples[pick].end());
    if (all.empty()) return 0.0;
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(all.size() - 1));
    std::nth_element(all.begin(), at, all.end());
    return *at;
  };
  const auto ratio = [&] {
    const double below = pooled(baseline), above = pooled(candidate);
    return below > 0 ? above / below : 0.0;
  };
  const double value = ratio();
  if (value == 0) return {};
  Random random(seed);
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    for (size_t& pick : picks) pick = random.below(n);
    ratios.push_back(ratio());
  }
  std::sort(ratios.begin(), ratios.end());
  const double tail = (1 - confidence) / 2;
  return {value, quantile_of_sorted(ratios, tail), quantile_of_sorted(ratios, 1 - tail)};
}

int64_t min_samples_for_quantile(double q) { return static_cast<int64_t>(std::ceil(10 / std::min(q, 1 - q) - 1e-9)); }

int64_t samples_for_quantile(double q, double confidence, double margin) {
  const double z = normal_quantile(0.5 + confidence / 2);
  return static_cast<int64_t>(std::ceil(z * z * q * (1 - q) / (margin * margin)));
}

Interval quantile_interval(std::span<const double> samples, double q, double confidence) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  const double value = quantile_of_sorted(sorted, q);
  if (sorted.empty()) return {value, value, value};
  const auto n = static_cast<double>(sorted.size());
  const double spread = normal_quantile(0.5 + confidence / 2) * std::sqrt(n * q * (1 - q));
  const auto at = [&](double rank) { return sorted[static_cast<size_t>(std::clamp(rank, 1.0, n)) - 1]; };
  return {value, at(std::floor(n * q - spread)), at(std::ceil(n * q + spread) + 1)};
}

}  // namespace slipway
