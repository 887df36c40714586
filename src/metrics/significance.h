#pragma once
#include <cstdint>
#include <span>

#include "metrics/latency.h"

namespace slipway {

/// The standard normal's distribution function and its inverse (p in (0, 1)).
double normal_cdf(double z);
double normal_quantile(double p);

/// Wilson's score interval of a proportion (Wilson, 1927); [0, 1] without trials.
Interval wilson_interval(int64_t successes, int64_t trials, double confidence = 0.95);

/// McNemar's exact test of two classifiers on the same samples: `only_a` were right for the one alone, `only_b` for the
/// other alone. Two-sided p-value; 1 when there are none.
double mcnemar_exact(int64_t only_a, int64_t only_b);

/// P(X >= successes) for X binomial over `trials` with probability `p` in [0, 1]: the one-sided exact test.
double binomial_upper_tail(int64_t successes, int64_t trials, double p);

struct TestResult {
  double statistic = 0, z = 0, p = 1;  ///< p is two-sided
};
/// Two proportions from different samples, pooled variance; the statistic is their difference, a − b.
TestResult two_proportion_z(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b);

/// Whether values of `a` tend to differ from those of `b` (Mann & Whitney, 1947): normal approximation with tie and
/// continuity correction; the statistic is U of `a`. Meant for eight and more samples on each side.
TestResult mann_whitney_u(std::span<const double> a, std::span<const double> b);

}  // namespace slipway
