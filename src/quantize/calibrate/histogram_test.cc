#include "quantize/calibrate/histogram.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

/// Values over many magnitudes, zeros and powers of two among them.
std::vector<float> wild_values(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& x : values) {
    const uint64_t kind = random.below(8);
    x = kind == 0   ? 0.0f
        : kind == 1 ? std::ldexp(random.below(2) ? 1.0f : -1.0f, static_cast<int>(random.below(20)) - 10)
                    : static_cast<float>(random.normal() * std::exp2(static_cast<double>(random.below(12))));
  }
  return values;
}

TensorStats observe_in_batches(std::span<const float> values, size_t batch) {
  TensorStats stats;
  for (size_t i = 0; i < values.size(); i += batch)
    stats.observe(values.subspan(i, std::min(batch, values.size() - i)));
  return stats;
}

TEST(TensorStats, CountsAndRangeAreExact) {
  TensorStats stats;
  stats.observe(std::vector<float>{-3.0f, 0.0f, 0.5f, 7.25f, -0.0f});
  EXPECT_EQ(stats.count(), 5u);
  EXPECT_EQ(stats.zeros(), 2u);
  EXPECT_EQ(stats.min(), -3.0f);
  EXPECT_EQ(stats.max(), 7.25f);
  EXPECT_EQ(stats.bin_width(), 8.0 / 2048);
  EXPECT_EQ(stats.bin(static_cast<int>(7.25 / stats.bin_width())), 1u);
  EXPECT_EQ(stats.bin(static_cast<int>(-3.0 / stats.bin_width())), 1u);
  EXPECT_EQ(stats.bin(0), 0u);
}

TEST(TensorStats, OrderAndBatchesDoNotMatter) {
  std::vector<float> values = wild_values(20000, 1);
  const TensorStats whole = observe_in_batches(values, values.size());
  EXPECT_EQ(observe_in_batches(values, 1), whole);
  EXPECT_EQ(observe_in_batches(values, 37), whole);
  std::sort(values.begin(), values.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  EXPECT_EQ(observe_in_batches(values, 64), whole);  // the range grows as often as it can
  std::reverse(values.begin(), values.end());
  EXPECT_EQ(observe_in_batches(values, 64), whole);
}

TEST(TensorStats, ShardsMergeExactly) {
  const std::vector<float> values = wild_values(10000, 2);
  const TensorStats whole = observe_in_batches(values, 100);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{4321}, values.size()}) {
    TensorStats a = observe_in_batches(std::span(values).first(cut), 33);
    const TensorStats b = observe_in_batches(std::span(values).subspan(cut), 77);
    TensorStats reversed = b;
    reversed.merge(a);
    a.merge(b);
    EXPECT_EQ(a, whole);
    EXPECT_EQ(reversed, whole);
  }
}

TEST(TensorStats, MemoryDoesNotGrow) {
  TensorStats stats;
  const size_t before = stats.bytes();
  for (int i = 0; i < 200; ++i) stats.observe(wild_values(1000, static_cast<uint64_t>(i)));
  EXPECT_EQ(stats.count(), 200000u);
  EXPECT_EQ(stats.bytes(), before);
}

TEST(TensorStats, ExtremesStayInsideTheBins) {
  const std::vector<float> values = {FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN, 1e-45f, -1e-45f, 0.0f};
  const TensorStats whole = observe_in_batches(values, values.size());
  EXPECT_EQ(observe_in_batches(values, 1), whole);
  EXPECT_EQ(whole.bin(TensorStats::kHalfBins - 1), 1u);
  EXPECT_EQ(whole.bin(-TensorStats::kHalfBins), 1u);
  EXPECT_EQ(whole.bin(0), 2u);
  EXPECT_EQ(whole.bin(-1), 2u);
  std::vector<float> ascending = {-1e-45f, 1e-45f, -FLT_MIN, FLT_MIN, 0.0f, -FLT_MAX, FLT_MAX};
  EXPECT_EQ(observe_in_batches(ascending, 1), whole);
}

TEST(TensorStats, NotFiniteValuesAreCountedAndLeftOut) {
  TensorStats stats;
  stats.observe(std::vector<float>{NAN, 1.0f, INFINITY, -INFINITY, 2.0f});
  EXPECT_FALSE(stats.is_finite());
  EXPECT_EQ(stats.nans(), 1u);
  EXPECT_EQ(stats.infinities(), 2u);
  EXPECT_EQ(stats.count(), 5u);
  EXPECT_EQ(stats.max(), 2.0f);
  TensorStats only;
  only.observe(std::vector<float>{NAN, NAN});
  EXPECT_TRUE(only.is_empty());
  only.observe(std::vector<float>{4.0f});
  EXPECT_EQ(only.min(), 4.0f);
}

TEST(TensorStats, JsonRoundTripsAndRefusesContradictions) {
  const TensorStats stats = observe_in_batches(wild_values(5000, 3), 100);
  const nlohmann::json json = stats.to_json();
  EXPECT_EQ(TensorStats::from_json(json), stats);
  EXPECT_EQ(TensorStats::from_json(TensorStats().to_json()), TensorStats());
  const auto refuses = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json damaged = json;
    damaged[key] = value;
    EXPECT_THROW(TensorStats::from_json(damaged), Error) << key;
  };
  refuses("count", 3);
  refuses("first_bin", 4000);
  refuses("first_bin", INT64_MAX);
  refuses("first_bin", INT64_MIN);
  refuses("bin_width_log2", 200);
  refuses("max", 1e30);
  refuses("zeros", UINT64_MAX);
}

}  // namespace
}  // namespace slipway
