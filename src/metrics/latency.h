#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slipway {

/// The q-quantile by linear interpolation (Hyndman & Fan, 1996, type 7: NumPy's default); NaN without samples.
double quantile(std::span<const double> samples, double q);

/// In the unit of the samples.
struct SampleSummary {
  int64_t count = 0;
  double mean = 0, std = 0, cv = 0;  ///< std over n − 1; cv = std / mean
  double min = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};
SampleSummary summarize(std::span<const double> samples);

struct Interval {
  double value = 0, low = 0, high = 0;
};

/// median(candidate) / median(baseline) with a percentile bootstrap interval (Efron, 1979) over pairs: candidate[i] and
/// baseline[i] were taken one after the other, so a round draws pairs and slow moments of the machine strike both.
Interval median_ratio_interval(std::span<const double> baseline, std::span<const double> candidate,
                               double confidence = 0.95, int rounds = 2000, uint64_t seed = 1);

/// How many times as fast a candidate is, where its rounds allow to say so in one number.
struct SpeedUp {
  double value = 0;  ///< baseline / candidate; 0: not to be stated, for the reason in `note`
  std::string note;
};
/// `ratio` is median_ratio_interval's, the medians are those of all runs, which a reader sees beside it. Nothing is
/// stated where the interval is wider than a quarter, contains 1, or where the medians do not lie within 10 % of it.
SpeedUp speed_up(double baseline_median, double candidate_median, const Interval& ratio);

/// The q-quantile of all the candidate's samples over that of all the baseline's, where samples come in rounds:
/// candidate[i] and baseline[i] were taken one after the other, and the samples of a round resemble each other, as a
/// stall strikes several. Percentile bootstrap that draws whole pairs of rounds (Davison & Hinkley, 1997, 3.8). All 0
/// unless both have a sample.
Interval quantile_ratio_interval(const std::vector<std::vector<double>>& baseline,
                                 const std::vector<std::vector<double>>& candidate, double q, double confidence = 0.95,
                                 int rounds = 1000, uint64_t seed = 1);

/// Below this many samples a quantile rests on fewer than ten of them beyond it: 20 for the median, 1000 for p99.
int64_t min_samples_for_quantile(double q);
/// Samples after which the share below the quantile is known to ± `margin` with `confidence` (MLPerf's rule).
int64_t samples_for_quantile(double q, double confidence, double margin);
/// A distribution-free interval of a quantile from order statistics (normal approximation of the binomial).
Interval quantile_interval(std::span<const double> samples, double q, double confidence = 0.95);

}  // namespace slipway
