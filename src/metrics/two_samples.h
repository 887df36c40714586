#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "metrics/histogram.h"
#include "metrics/significance.h"

namespace slipway {

// Two samples that are known by their counts only.

/// Fisher's exact test (Fisher, 1935), one-sided: the probability of as many or more successes in b as were seen, if
/// both had the same rate. 1 without trials on either side.
double fisher_exact_greater(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b);

/// The difference of two rates, b − a, with Newcombe's hybrid score interval (Newcombe, 1998, method 10).
Interval rate_difference(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b,
                         double confidence = 0.95);

/// mann_whitney_u of counts over ordered categories, all of one category being ties. Both of one length; the statistic
/// is U of `b`, so that z > 0 says that b's values tend to be larger.
TestResult mann_whitney_counts(std::span<const int64_t> a, std::span<const int64_t> b);

/// The quantile with an interval from order statistics (normal approximation of the binomial; Conover, 1999, 3.2).
Interval quantile_interval(const Histogram& histogram, double q, double confidence = 0.95);

/// numerator / denominator of two independent positive estimates: MOVER on the logarithms (Zou & Donner, 2008).
Interval ratio_interval(const Interval& numerator, const Interval& denominator);

struct KolmogorovResult {
  double distance = 0;  ///< largest difference of the distribution functions
  size_t category = 0;  ///< after which it is reached
  double p = 1;         ///< two-sided; with categories instead of values it errs to the safe side
};
/// Two-sample Kolmogorov–Smirnov test of counts over ordered categories, both of one length; asymptotic distribution
/// with Stephens' correction (Stephens, 1970).
KolmogorovResult kolmogorov_smirnov_counts(std::span<const int64_t> a, std::span<const int64_t> b);

}  // namespace slipway
