#include "load/soak.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

/// A load of `seconds` whose memory fills its caches, then grows by `mib_per_hour` under noise that lingers.
LoadResult load_of(double seconds, double point_seconds, double mib_per_hour, uint64_t seed = 3) {
  Random random(seed);
  LoadResult load;
  load.point_seconds = point_seconds;
  double lingering = 0;
  for (double t = point_seconds; t <= seconds; t += point_seconds) {
    lingering = 0.7 * lingering + 0.3 * random.normal();
    load.series.push_back(
        {.t_s = t,
         .throughput = 1000 + 10 * random.normal(),
         .p50_ms = 2 + 0.05 * random.normal(),
         .p99_ms = 5 + 0.5 * random.normal(),
         .server_rss_mb = 90 - 40 * std::exp(-20 * t / seconds) + 0.5 * lingering + mib_per_hour * t / 3600});
  }
  return load;
}

TEST(Soak, APlantedLeakIsFlagged) {
  for (const double leak : {60.0, 600.0}) {
    const SoakResult r = judge_soak(load_of(600, 1, leak));
    EXPECT_EQ(r.verdict, Verdict::kFail) << r.reason;
    EXPECT_NEAR(r.memory_mib.slope, leak, 0.2 * leak);
    EXPECT_DOUBLE_EQ(r.memory_mib_per_day, 24 * r.memory_mib.slope);
    EXPECT_LT(r.memory_mib.p, 0.01);
    EXPECT_LE(r.memory_mib.n, 240);
  }
  const SoakResult day = judge_soak(load_of(86'400, 24, 2));
  EXPECT_EQ(day.verdict, Verdict::kFail) << day.reason;
  EXPECT_NEAR(day.memory_mib.slope, 2, 0.2);
  EXPECT_EQ(day.settled_s, 1800);
}

TEST(Soak, NoLeakIsNotFlagged) {
  int failed = 0, passed = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    failed += judge_soak(load_of(600, 1, 0, seed), {.max_memory_slope_mib_per_hour = 4}).verdict == Verdict::kFail;
    passed += judge_soak(load_of(86'400, 24, 0, seed)).verdict == Verdict::kPass;
  }
  EXPECT_LE(failed, 1);
  EXPECT_GE(passed, 18);
  LoadResult flat = load_of(60, 1, 0);
  for (auto& point : flat.series) point.server_rss_mb = 80;
  EXPECT_EQ(judge_soak(flat).verdict, Verdict::kPass);
}

TEST(Soak, TooLittleIsInconclusive) {
  EXPECT_EQ(judge_soak(load_of(600, 1, 0), {.max_memory_slope_mib_per_hour = 0}).verdict, Verdict::kInconclusive);
  EXPECT_EQ(judge_soak(load_of(6, 1, 1000)).verdict, Verdict::kInconclusive);
  LoadResult blind = load_of(600, 1, 600);
  for (auto& point : blind.series) point.server_rss_mb = 0;
  const SoakResult r = judge_soak(blind);
  EXPECT_EQ(r.verdict, Verdict::kInconclusive);
  EXPECT_NE(r.reason.find("--admin"), std::string::npos);
  EXPECT_EQ(judge_soak({}).verdict, Verdict::kInconclusive);
  LoadResult breathing = load_of(30, 1, 0);  // some pages in half a minute are no leak, however steadily they come
  for (auto& point : breathing.series) point.server_rss_mb = 80 + 0.02 * point.t_s;
  EXPECT_EQ(judge_soak(breathing).verdict, Verdict::kInconclusive);
  EXPECT_THROW(judge_soak(blind, {.max_memory_slope_mib_per_hour = -1}), Error);
}

TEST(Soak, LatencyDriftIsTold) {
  LoadResult load = load_of(600, 1, 0);
  for (auto& point : load.series) point.p99_ms += point.t_s / 600;
  const SoakResult r = judge_soak(load);
  EXPECT_LT(r.p99_ms.p, 0.01);
  EXPECT_NEAR(r.p99_ms.slope, 6, 1.5);
  EXPECT_GT(r.p50_ms.p, 0.01);
  EXPECT_GT(r.throughput.p, 0.01);
}

}  // namespace
}  // namespace slipway
