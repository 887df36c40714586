#include "metrics/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace slipway {
namespace {

TEST(LogBuckets, CoverTheIntegersWithoutGapOrOverlap) {
  for (size_t i = 0; i + 1 < LogBuckets::kCount; ++i) {
    ASSERT_EQ(LogBuckets::highest(i) + 1, LogBuckets::lowest(i + 1));
    ASSERT_EQ(LogBuckets::index_of(LogBuckets::lowest(i)), i);
    ASSERT_EQ(LogBuckets::index_of(LogBuckets::highest(i)), i);
    ASSERT_LE(static_cast<double>(LogBuckets::highest(i) - LogBuckets::lowest(i)),
              0.008 * static_cast<double>(LogBuckets::lowest(i)));
  }
  EXPECT_EQ(LogBuckets::index_of(-5), 0u);
  EXPECT_EQ(LogBuckets::index_of(int64_t{1} << 50), LogBuckets::kCount - 1);
}

TEST(Histogram, QuantilesLieWithinABucketOfTheSortedSamples) {
  Random random(3);
  std::vector<int64_t> values;
  Histogram h;
  for (int i = 0; i < 10000; ++i) {
    values.push_back(static_cast<int64_t>(random.below(uint64_t{1} << (1 + random.below(30)))));
    h.add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double q : {0.01, 0.5, 0.95, 0.99, 0.999, 1.0}) {
    const auto exact = static_cast<double>(values[static_cast<size_t>(q * 10000) - 1]);
    EXPECT_GE(h.quantile(q), exact);
    EXPECT_LE(h.quantile(q), exact * 1.008 + 1e-9);
  }
}

TEST(Histogram, MergeAndSinceAreExact) {
  AtomicHistogram live;
  for (int64_t v : {5, 700, 90000}) live.add(v);
  const Histogram earlier = live.snapshot();
  for (int64_t v : {6, 700}) live.add(v);
  Histogram window = live.snapshot().since(earlier);
  EXPECT_EQ(window.count(), 2);
  EXPECT_EQ(window.sum(), 706);
  EXPECT_EQ(window.count_at_most(6), 1);
  window.merge(earlier);
  EXPECT_EQ(window.counts(), live.snapshot().counts());
  EXPECT_EQ(window.sum(), live.snapshot().sum());
}

TEST(Histogram, EmptyIsZero) {
  const Histogram h;
  EXPECT_EQ(h.quantile(0.5), 0);
  EXPECT_EQ(h.mean(), 0);
  EXPECT_EQ(h.max(), 0);
  EXPECT_EQ(h.since(h).count(), 0);
}

}  // namespace
}  // namespace slipway
