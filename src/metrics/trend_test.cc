#include "metrics/trend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"

namespace slipway {
namespace {

using Doubles = std::vector<double>;

Doubles seconds(int n) {
  Doubles x;
  for (int i = 0; i < n; ++i) x.push_back(i);
  return x;
}

TEST(Trend, ByHand) {
  // Pairs rise or fall: (1,3) 2, (1,2) .5, (1,5) 4/3, (3,2) −1, (3,5) 1, (2,5) 3; S = 5 − 1, var = 4·3·13/18.
  const Trend t = theil_sen_trend(seconds(4), Doubles{1, 3, 2, 5});
  EXPECT_DOUBLE_EQ(t.slope, (1 + 4.0 / 3) / 2);
  EXPECT_NEAR(t.p, std::erfc(3 / std::sqrt(4 * 3 * 13 / 18.0) / std::sqrt(2)), 1e-12);
  EXPECT_EQ(t.inflation, 1);
}

TEST(Trend, ConstantAndTooFew) {
  const Trend flat = theil_sen_trend(seconds(20), Doubles(20, 7.0));
  EXPECT_EQ(flat.slope, 0);
  EXPECT_EQ(flat.low, 0);
  EXPECT_EQ(flat.high, 0);
  EXPECT_EQ(flat.p, 1);
  EXPECT_EQ(flat.intercept, 7);
  const Trend few = theil_sen_trend(Doubles{0, 1}, Doubles{0, 1});
  EXPECT_TRUE(std::isinf(few.low) && std::isinf(few.high));
  EXPECT_EQ(few.p, 1);
}

TEST(Trend, FindsAPlantedTrendAmongOutliers) {
  Random random(5);
  const Doubles x = seconds(200);
  Doubles y;
  for (const double t : x) y.push_back(100 + 0.5 * t + 10 * random.normal());
  for (size_t i = 0; i < y.size(); i += 20) y[i] += 1000;
  const Trend trend = theil_sen_trend(x, y);
  EXPECT_LT(trend.p, 1e-6);
  EXPECT_GT(trend.low, 0.4);
  EXPECT_LT(trend.high, 0.6);
  EXPECT_LE(trend.low, trend.slope);
  EXPECT_LE(trend.slope, trend.high);
  EXPECT_NEAR(trend.intercept, 100, 6);
}

TEST(Trend, FalseAlarmsAreAsRareAsPromised) {
  Random random(9);
  const Doubles x = seconds(60);
  int alarms = 0, resembling = 0, covered = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    Doubles independent, dependent, rising;
    double state = 0;
    for (const double t : x) {
      independent.push_back(random.normal());
      dependent.push_back(state = 0.6 * state + random.normal());
      rising.push_back(0.1 * t + random.normal());
    }
    alarms += theil_sen_trend(x, independent).p < 0.05;
    resembling += theil_sen_trend(x, dependent).p < 0.05;
    const Trend trend = theil_sen_trend(x, rising);
    covered += trend.low <= 0.1 && 0.1 <= trend.high;
  }
  EXPECT_LE(alarms, kTrials * 0.09);
  EXPECT_GE(alarms, kTrials * 0.01);
  EXPECT_LE(resembling, kTrials * 0.20);  // over 0.30 without the correction
  EXPECT_GE(covered, kTrials * 0.90);
}

}  // namespace
}  // namespace slipway
