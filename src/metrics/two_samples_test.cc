#include "metrics/two_samples.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"

namespace slipway {
namespace {

TEST(TwoSamples, FisherCountsTheTail) {
  // Fisher's tea: 3 of 4 right, margins 4 and 4: P(≥ 3) = 17/70.
  EXPECT_NEAR(fisher_exact_greater(1, 4, 3, 4), 17.0 / 70, 1e-12);
  EXPECT_NEAR(fisher_exact_greater(0, 4, 4, 4), 1.0 / 70, 1e-12);
  EXPECT_NEAR(fisher_exact_greater(4, 4, 0, 4), 1, 1e-12);
  EXPECT_EQ(fisher_exact_greater(0, 0, 3, 4), 1);
  EXPECT_EQ(fisher_exact_greater(0, 100, 0, 100), 1);
  EXPECT_NEAR(fisher_exact_greater(4, 4, 4, 4), 1, 1e-12);
  // Both tails together hold everything but the point that both count.
  const double upper = fisher_exact_greater(30, 1000, 8, 100), lower = fisher_exact_greater(8, 100, 30, 1000);
  EXPECT_GT(upper + lower, 1);
  EXPECT_LT(upper, 0.02);
  EXPECT_LT(fisher_exact_greater(1000, 1'000'000, 200, 10'000), 1e-100);
}

TEST(TwoSamples, RateDifferenceFollowsNewcombe) {
  // Newcombe (1998), table II, (a): 56/70 − 48/80, method 10: 0.0524 … 0.3339.
  const Interval a = rate_difference(48, 80, 56, 70);
  EXPECT_NEAR(a.value, 0.2, 1e-12);
  EXPECT_NEAR(a.low, 0.0524, 5e-5);
  EXPECT_NEAR(a.high, 0.3339, 5e-5);
  // (d): 5/56 − 0/29: −0.0381 … 0.1926.
  const Interval d = rate_difference(0, 29, 5, 56);
  EXPECT_NEAR(d.low, -0.0381, 5e-5);
  EXPECT_NEAR(d.high, 0.1926, 5e-5);
}

TEST(TwoSamples, MannWhitneyOfCountsIsThatOfTheSamples) {
  Random random(3);
  std::vector<double> a, b;
  std::vector<int64_t> counts_a(12), counts_b(12);
  for (int i = 0; i < 60; ++i) a.push_back(static_cast<double>(random.below(10)));
  for (int i = 0; i < 45; ++i) b.push_back(static_cast<double>(random.below(10) + random.below(3)));
  for (const double v : a) ++counts_a[static_cast<size_t>(v)];
  for (const double v : b) ++counts_b[static_cast<size_t>(v)];
  const TestResult of_samples = mann_whitney_u(b, a), of_counts = mann_whitney_counts(counts_a, counts_b);
  EXPECT_NEAR(of_counts.statistic, of_samples.statistic, 1e-9);
  EXPECT_NEAR(of_counts.z, of_samples.z, 1e-9);
  EXPECT_NEAR(of_counts.p, of_samples.p, 1e-12);
  EXPECT_GT(of_counts.z, 0);
  EXPECT_EQ(mann_whitney_counts(std::vector<int64_t>{5}, std::vector<int64_t>{9}).p, 1);
}

TEST(TwoSamples, KolmogorovFindsTheGapAndItsProbability) {
  const std::vector<int64_t> a = {50, 50, 0, 0}, b = {25, 25, 25, 25};
  const KolmogorovResult r = kolmogorov_smirnov_counts(a, b);
  EXPECT_DOUBLE_EQ(r.distance, 0.5);
  EXPECT_EQ(r.category, 1u);
  EXPECT_LT(r.p, 1e-9);
  // λ = 1.3581 is the distribution's 5 % point (Smirnov, 1948).
  const std::vector<int64_t> c = {500'000, 500'000}, d = {498'080, 501'920};
  EXPECT_NEAR(kolmogorov_smirnov_counts(c, d).p, 0.05, 0.001);
  EXPECT_EQ(kolmogorov_smirnov_counts(a, a).p, 1);
}

TEST(TwoSamples, IntervalsCoverAsPromised) {
  Random random(11);
  int quantile_hits = 0, ratio_hits = 0;
  constexpr int kRounds = 400;
  for (int round = 0; round < kRounds; ++round) {
    Histogram a, b;
    for (int i = 0; i < 200; ++i) a.add(static_cast<int64_t>(10'000 * std::exp(0.5 * random.normal())));
    for (int i = 0; i < 120; ++i) b.add(static_cast<int64_t>(13'000 * std::exp(0.5 * random.normal())));
    const Interval median_a = quantile_interval(a, 0.5), median_b = quantile_interval(b, 0.5);
    const Interval ratio = ratio_interval(median_b, median_a);
    quantile_hits += median_a.low <= 10'000 && 10'000 <= median_a.high;
    ratio_hits += ratio.low <= 1.3 && 1.3 <= ratio.high;
  }
  EXPECT_GE(quantile_hits, kRounds * 92 / 100);
  EXPECT_GE(ratio_hits, kRounds * 92 / 100);
  EXPECT_LE(ratio_hits, kRounds * 99 / 100);
}

}  // namespace
}  // namespace slipway
