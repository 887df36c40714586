#include "rollout/gates.h"

#include <gtest/gtest.h>

#include "rollout/rollout_testing.h"

namespace slipway {
namespace {

constexpr GateLevel kLevel{0.001, 0.95};

Observation traffic(const Behaviour& b, int64_t n, uint64_t seed) {
  Random random(seed);
  Observation o;
  answer(o, b, random, n);
  return o;
}

TEST(Gates, EqualVersionsPassWithEnoughTraffic) {
  const Observation live = traffic({}, 5000, 1), candidate = traffic({}, 1000, 4);
  const auto verdicts = judge(live, candidate, RolloutPlan().steps[2], kLevel);
  ASSERT_EQ(verdicts.size(), static_cast<size_t>(kGateCount));
  for (const GateVerdict& v : verdicts) {
    EXPECT_EQ(v.verdict, Verdict::kPass) << v.name << ": " << v.sentence;
    EXPECT_LE(v.low, v.statistic) << v.name;
    EXPECT_GE(v.high, v.statistic) << v.name;
    EXPECT_GT(v.n, 900);
    EXPECT_GT(v.baseline_n, 4900);
  }
  EXPECT_EQ(overall(verdicts), Verdict::kPass);
}

TEST(Gates, FewRequestsAreInconclusiveNotPassed) {
  const Observation live = traffic({}, 5000, 1), candidate = traffic({}, 12, 2);
  const auto verdicts = judge(live, candidate, RolloutPlan().steps[2], kLevel);
  EXPECT_EQ(verdicts[0].verdict, Verdict::kInconclusive) << verdicts[0].sentence;
  EXPECT_EQ(overall(verdicts), Verdict::kInconclusive);
  for (const GateVerdict& v : judge(live, {}, RolloutPlan().steps[2], kLevel))
    EXPECT_EQ(v.verdict, Verdict::kInconclusive) << v.name;
  EXPECT_EQ(overall({}), Verdict::kInconclusive);
}

TEST(Gates, EachRegressionFailsItsGate) {
  const Observation live = traffic({}, 5000, 1);
  const RolloutStep limits = RolloutPlan().steps[2];
  const auto failing = [&](const Behaviour& b) {
    std::string names;
    for (const GateVerdict& v : judge(live, traffic(b, 1000, 2), limits, kLevel))
      if (v.verdict == Verdict::kFail) names += v.name + ".";
    return names;
  };
  EXPECT_EQ(failing({}), "");
  EXPECT_EQ(failing({.error_rate = 0.05}), "errors.");
  EXPECT_EQ(failing({.median_us = 13'000}).substr(0, 8), "latency.");
  EXPECT_EQ(failing({.sigma = 0.9}), "slow requests.");
  EXPECT_EQ(failing({.sureness = 2}), "confidence.");
}

TEST(Gates, AnswersWithNaNCountAgainstTheCandidate) {
  const RolloutStep limits = RolloutPlan().steps[2];
  Observation live = traffic({}, 5000, 1), candidate = traffic({}, 1000, 2);
  candidate.traffic.with_nan = 60;
  const GateVerdict bad = error_gate(live, candidate, limits.max_error_increase, kLevel);
  EXPECT_EQ(bad.verdict, Verdict::kFail) << bad.sentence;
  live.traffic.with_nan = 300;
  const GateVerdict alike = error_gate(live, candidate, limits.max_error_increase, kLevel);
  EXPECT_NE(alike.verdict, Verdict::kFail) << "the live version has as many: " << alike.sentence;
  const auto absolute = judge_absolute(candidate, RolloutPlan().absolute, kLevel);
  EXPECT_EQ(absolute[0].verdict, Verdict::kFail) << absolute[0].sentence;
}

/// Requests that were not answered within the time that their callers allowed.
void miss(Observation& seen, int64_t allowed_us, int64_t requests) {
  seen.traffic.requests += requests;
  seen.traffic.errors[static_cast<size_t>(ErrorCode::kDeadline)] += requests;
  seen.traffic.missed_us.add(allowed_us, requests);
}

TEST(Gates, OnlyDeadlinesThatTheLiveVersionKeepsCount) {
  const RolloutStep limits = RolloutPlan().steps[2];
  const Observation live = traffic({}, 5000, 1);  // 10 ms, p99 about 25
  Observation hurried = traffic({}, 1000, 2);
  miss(hurried, 200, 3000);
  const GateVerdict left_out = error_gate(live, hurried, limits.max_error_increase, kLevel);
  EXPECT_EQ(left_out.verdict, Verdict::kPass) << left_out.sentence;
  EXPECT_EQ(left_out.n, 1000);
  Observation slow = traffic({}, 1000, 2);
  miss(slow, 100'000, 100);
  EXPECT_EQ(error_gate(live, slow, limits.max_error_increase, kLevel).verdict, Verdict::kFail);
  Observation server_limit = traffic({}, 1000, 2);  // the configuration's deadlines are in no histogram
  server_limit.traffic.errors[static_cast<size_t>(ErrorCode::kDeadline)] += 100;
  EXPECT_EQ(error_gate(live, server_limit, limits.max_error_increase, kLevel).verdict, Verdict::kFail);
  EXPECT_EQ(errors_of(hurried, fair_time_us({})).failed, errors_of(traffic({}, 1000, 2), 0).failed)
      << "nobody knows yet how long an answer takes";
}

TEST(Gates, SignificantButSmallIsNoFailure) {
  // 4 % slower over a million answers: beyond doubt, and within the limit.
  const Observation live = traffic({}, 500'000, 1), candidate = traffic({.median_us = 10'400}, 500'000, 2);
  const GateVerdict v = latency_gate(live, candidate, 1.2, kLevel);
  EXPECT_LT(v.p, 1e-12);
  EXPECT_EQ(v.verdict, Verdict::kPass) << v.sentence;
}

TEST(Gates, CallersMistakesAreNotTheCandidates) {
  Observation live = traffic({}, 5000, 1), candidate = traffic({}, 1000, 2);
  candidate.traffic.requests += 900;
  candidate.traffic.errors[static_cast<size_t>(ErrorCode::kInvalidArgument)] += 900;
  EXPECT_NE(error_gate(live, candidate, 0.01, kLevel).verdict, Verdict::kFail);
  candidate.traffic.requests += 100;
  candidate.traffic.errors[static_cast<size_t>(ErrorCode::kDeadline)] += 50;
  candidate.traffic.errors[static_cast<size_t>(ErrorCode::kOverloaded)] += 50;
  EXPECT_EQ(error_gate(live, candidate, 0.01, kLevel).verdict, Verdict::kFail);
}

TEST(Gates, ConfidenceNeedsScores) {
  Observation live = traffic({}, 500, 1), candidate = traffic({.sureness = 1}, 500, 2);
  candidate.scored = false;
  EXPECT_EQ(confidence_gate(live, candidate, 0.1, kLevel).verdict, Verdict::kInconclusive);
  live.scored = false;
  EXPECT_EQ(confidence_gate(live, candidate, 0.1, kLevel).verdict, Verdict::kPass);
}

TEST(Gates, AFirstVersionIsHeldAgainstFixedLimits) {
  const RolloutPlan::Absolute limits{.max_error_rate = 0.02, .max_mean_latency_ms = 15, .min_mean_confidence = 0.7};
  const auto verdict = [&](const Behaviour& b, int64_t n) {
    return overall(judge_absolute(traffic(b, n, 3), limits, kLevel));
  };
  EXPECT_EQ(verdict({}, 2000), Verdict::kPass);
  EXPECT_EQ(verdict({}, 30), Verdict::kInconclusive);
  EXPECT_EQ(verdict({.error_rate = 0.06}, 2000), Verdict::kFail);
  EXPECT_EQ(verdict({.median_us = 20'000}, 2000), Verdict::kFail);
  EXPECT_EQ(verdict({.sureness = 1}, 2000), Verdict::kFail);
  EXPECT_EQ(overall(judge_absolute({}, limits, kLevel)), Verdict::kInconclusive);
}

}  // namespace
}  // namespace slipway
