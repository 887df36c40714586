#include "monitor/series.h"

#include <gtest/gtest.h>

#include <cmath>

namespace slipway {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

Tally answers(int64_t count, int64_t us, int64_t faults = 0) {
  Tally t;
  t.sums = {.requests = count + faults, .faults = faults, .answered = count, .latency_us = count * us};
  if (count > 0) t.total_us.add(us, count);
  t.sums.scored = count;
  t.sums.confidence = 0.9 * static_cast<double>(count);
  t.confidence.counts[45] = count;
  t.confidence.sum = 0.9 * static_cast<double>(count);
  return t;
}

TEST(Series, APointIsWhatCameSinceTheLast) {
  Track track(900, 60);
  track.add(answers(100, 1000), 3, 10 * kSecondNs, 10'000);
  track.add(answers(50, 200, 50), 0, 12 * kSecondNs, 12'000);
  ASSERT_EQ(track.points().size(), 2u);
  EXPECT_EQ(track.points()[0].requests_per_s, 100);
  EXPECT_EQ(track.points()[0].queue_depth, 3);
  EXPECT_NEAR(track.points()[0].p99_ms, 1.0, 0.01);
  EXPECT_EQ(track.points()[1].requests_per_s, 50) << "100 in two seconds";
  EXPECT_EQ(track.points()[1].faults_per_s, 25);
  EXPECT_NEAR(track.points()[1].p50_ms, 0.2, 1e-9);
  EXPECT_NEAR(track.points()[1].mean_ms, 0.2, 1e-9);
  EXPECT_NEAR(track.points()[1].confidence, 0.9, 1e-9);
}

TEST(Series, WithoutTrafficThereAreNoMeans) {
  Track track(900, 60);
  track.add({}, 0, kSecondNs, 1000);
  EXPECT_EQ(track.points()[0].requests_per_s, 0);
  EXPECT_TRUE(std::isnan(track.points()[0].p50_ms));
  EXPECT_TRUE(std::isnan(track.recent().mean_ms));
  EXPECT_TRUE(std::isnan(track.recent().confidence));
  EXPECT_EQ(track.idle_s(5 * kSecondNs), 5);
}

TEST(Series, WindowsForgetAndHistoryIsBounded) {
  Track track(100, 30);
  for (int64_t s = 1; s <= 1000; ++s)
    track.add(answers(s <= 500   ? 10
                      : s <= 900 ? 1
                                 : 0,
                      s <= 500 ? 4000 : 1000, s == 880 ? 7 : 0),
              0, s * kSecondNs, s * 1000);
  EXPECT_LE(track.points().size(), 101u);
  EXPECT_EQ(track.points().front().t_ms, 900'000);
  EXPECT_EQ(track.total().sums.requests, 500 * 10 + 400 + 7);
  EXPECT_EQ(track.window().requests, 0);
  EXPECT_EQ(track.last_minute().count(), 0);
  EXPECT_EQ(track.recent().requests_per_s, 0);
  EXPECT_EQ(track.idle_s(1000 * kSecondNs), 100);

  Track steady(100, 30);
  for (int64_t s = 1; s <= 200; ++s)
    steady.add(answers(s <= 100 ? 100 : 2, s <= 100 ? 9000 : 1000), 0, s * kSecondNs, s);
  EXPECT_EQ(steady.window().requests, 60);
  EXPECT_NEAR(steady.recent().requests_per_s, 2, 0.01);
  EXPECT_NEAR(steady.recent().p99_ms, 1, 0.01);
  EXPECT_GE(steady.last_minute().count(), 120);
  EXPECT_LE(steady.last_minute().count(), 130);
}

}  // namespace
}  // namespace slipway
