#include "rollout/controller.h"

#include <gtest/gtest.h>

#include "rollout/rollout_testing.h"

namespace slipway {
namespace {

/// A rollout on a simulated clock.
struct Simulation {
  explicit Simulation(RolloutPlan p = {}, int64_t live_version = 1, uint64_t seed = 1)
      : plan(std::move(p)), random(seed) {
    answer(live, {}, random, 1000);
    state = begin_rollout(live_version, 2, plan, {.now_ns = now, .live = live, .candidate = candidate}).state;
  }
  RolloutInputs inputs() {
    return {.now_ns = now, .live = live, .candidate = candidate, .candidate_waiting = waiting, .memory_ratio = memory};
  }
  void take(RolloutDecision d) {
    state = std::move(d.state);
    for (RolloutEvent& e : d.events) events += e.event + " ", last = e.sentence;
  }
  /// Seconds with so many requests a second, judged four times in each.
  void run(int64_t seconds, double rate, const Behaviour& of_live = {}, const Behaviour& of_candidate = {}) {
    for (int64_t i = 0; i < 4 * seconds && is_active(state.phase); ++i) {
      now += kSecond / 4;
      for (double due = rate / 4; due > 0; --due) {
        if (due < 1 && random.uniform() > due) break;
        const bool to_candidate = random.below(10'000) < static_cast<uint64_t>(rollout_share(state, plan));
        answer(to_candidate ? candidate : live, to_candidate ? of_candidate : of_live, random);
      }
      take(advance_rollout(state, plan, inputs()));
    }
  }
  std::string command(RolloutCommand c) {
    RolloutInputs in = inputs();
    in.command = c;
    RolloutDecision d = advance_rollout(state, plan, in);
    const std::string refusal = d.refusal;
    take(std::move(d));
    return refusal;
  }

  RolloutPlan plan;
  Random random;
  RolloutState state;
  Observation live, candidate;
  int64_t now = 5 * kSecond, waiting = 0;
  double memory = 0.3;
  std::string events, last;
};

/// Short steps: the tests' minutes are simulated, their requests are not.
RolloutPlan quick_plan() {
  RolloutPlan plan;
  for (RolloutStep& step : plan.steps) step.min_seconds = 5, step.max_seconds = 120;
  plan.steps[3].min_requests = plan.steps[2].min_requests = 500;
  return plan;
}

TEST(Controller, AGoodCandidateClimbsEveryStep) {
  Simulation s(quick_plan());
  EXPECT_EQ(rollout_share(s.state, s.plan), 100);
  s.run(600, 500);
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << s.last;
  EXPECT_EQ(s.events, "raised raised raised promoted ");
  EXPECT_EQ(rollout_share(s.state, s.plan), 0);
}

TEST(Controller, ABadCandidateGoesBackAndStaysBack) {
  Simulation s(quick_plan());
  s.run(600, 500, {}, {.error_rate = 0.3});
  EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack);
  EXPECT_EQ(s.events, "rolled_back ");
  EXPECT_NE(s.last.find("errors:"), std::string::npos) << s.last;
  const RolloutState before = s.state;
  s.now += 100 * kSecond;
  s.take(advance_rollout(s.state, s.plan, s.inputs()));
  EXPECT_EQ(s.state.phase, before.phase);
  EXPECT_EQ(s.state.step, before.step);
}

TEST(Controller, PanicNeedsNoTest) {
  Simulation s(quick_plan());
  answer(s.candidate, {.error_rate = 1}, s.random, 19);
  s.run(1, 0);
  EXPECT_NE(s.state.phase, RolloutPhase::kPromoted);
  s.plan.alpha = 1e-300;  // no test could
  answer(s.candidate, {.error_rate = 1}, s.random, 1);
  s.run(1, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack);
  EXPECT_NE(s.last.find("20 requests failed"), std::string::npos) << s.last;
}

// The same version loaded again counts from zero: neither a negative rate, nor a window of one against another's.
TEST(Controller, NothingIsSubtractedAcrossAReload) {
  for (const bool live_too : {false, true}) {
    Simulation s(quick_plan());
    s.run(20, 500, {.error_rate = 0.1}, {.error_rate = 0.1});
    ASSERT_EQ(s.state.phase, RolloutPhase::kRunning) << s.last;
    const size_t step = s.state.step;
    (live_too ? s.live : s.candidate) = {.generation = 7};
    // The first answers after the reload fail less often than all before: what grew since the step began is negative.
    for (int i = 0; i < 400 && is_active(s.state.phase); ++i) {
      s.run(1, 500, {.error_rate = 0.1}, {.error_rate = 0.1});
      for (const GateVerdict& v : s.state.verdicts) EXPECT_TRUE(v.n >= 0 && v.baseline_n >= 0) << v.sentence;
    }
    EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << s.last;
    EXPECT_NE(s.events.find("recounted "), std::string::npos);
    EXPECT_GE(s.state.step, step);
  }
}

TEST(Controller, ALookThatWasTakenStaysTakenAfterAReload) {
  Simulation s(quick_plan());
  while (s.state.look == 0) s.run(1, 100);
  const int looks = s.state.look;
  s.candidate = {.generation = 7};
  s.run(1, 0);
  EXPECT_EQ(s.events, "recounted ");
  EXPECT_EQ(s.state.look, looks);
  EXPECT_EQ(s.state.looked_n, 0);
  EXPECT_EQ(s.state.candidate_start->generation, 7u);
}

TEST(Controller, CallersInAHurryForceNothing) {
  Simulation s(quick_plan());
  for (int i = 0; i < 400 && is_active(s.state.phase); ++i) {
    s.candidate.traffic.requests += 1000;
    s.candidate.traffic.errors[static_cast<size_t>(ErrorCode::kDeadline)] += 900;
    s.candidate.traffic.errors[static_cast<size_t>(ErrorCode::kOverloaded)] += 100;
    s.candidate.traffic.missed_us.add(50, 1000);
    s.run(1, 500);
  }
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << s.last;
}

TEST(Controller, ACandidateThatAnswersNaNGoesBack) {
  Simulation s(quick_plan());
  for (int i = 0; i < 100 && is_active(s.state.phase); ++i) {
    s.run(1, 500);
    s.candidate.traffic.with_nan = s.candidate.traffic.total_us.count() / 2;
  }
  EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack);
  EXPECT_NE(s.last.find("errors:"), std::string::npos) << s.last;
}

TEST(Controller, AStalledCandidateGoesBack) {
  Simulation s(quick_plan());
  s.waiting = 3;
  s.run(9, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kRunning);
  s.run(2, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack) << s.last;
  EXPECT_NE(s.last.find("answered nothing"), std::string::npos);
}

TEST(Controller, GrownMemoryOrALostCandidateGoBack) {
  Simulation s(quick_plan());
  s.memory = 0.97;
  s.run(1, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack);
  Simulation t(quick_plan());
  RolloutInputs in = t.inputs();
  in.candidate_loaded = false;
  EXPECT_EQ(advance_rollout(t.state, t.plan, in).state.phase, RolloutPhase::kRolledBack);
}

TEST(Controller, WithoutTrafficItIsHeldThenResumed) {
  Simulation s(quick_plan());
  s.run(119, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kRunning);
  s.run(2, 0);
  EXPECT_EQ(s.state.phase, RolloutPhase::kHeld);
  EXPECT_NE(s.last.find("0 of 100 requests"), std::string::npos) << s.last;
  EXPECT_EQ(rollout_share(s.state, s.plan), 100) << "held is not sent back";
  s.run(600, 500);
  EXPECT_EQ(s.state.phase, RolloutPhase::kHeld) << "held is not raised either";
  EXPECT_EQ(s.command(RolloutCommand::kResume), "");
  s.run(600, 500);
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << s.last;
}

TEST(Controller, HeldAndPausedStillGoBack) {
  for (const bool paused : {true, false}) {
    Simulation s(quick_plan());
    paused ? (void)s.command(RolloutCommand::kPause) : s.run(130, 0);
    ASSERT_EQ(s.state.phase, paused ? RolloutPhase::kPaused : RolloutPhase::kHeld);
    s.run(600, 500, {}, {.median_us = 40'000});
    EXPECT_EQ(s.state.phase, RolloutPhase::kRolledBack);
  }
}

TEST(Controller, CommandsAreFollowedOrRefused) {
  Simulation s(quick_plan());
  EXPECT_NE(s.command(RolloutCommand::kResume), "");
  EXPECT_EQ(s.command(RolloutCommand::kPause), "");
  EXPECT_NE(s.command(RolloutCommand::kPause), "");
  s.run(300, 500);
  EXPECT_EQ(s.state.phase, RolloutPhase::kPaused);
  EXPECT_EQ(s.state.step, 0u);
  EXPECT_EQ(s.command(RolloutCommand::kResume), "");
  s.run(7, 500);
  EXPECT_GE(s.state.step, 1u) << "what was seen in the pause counts";
  EXPECT_EQ(s.command(RolloutCommand::kPromote), "");
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted);
  for (const auto c :
       {RolloutCommand::kPause, RolloutCommand::kResume, RolloutCommand::kPromote, RolloutCommand::kAbort})
    EXPECT_NE(s.command(c), "");
  Simulation t(quick_plan());
  EXPECT_EQ(t.command(RolloutCommand::kAbort), "");
  EXPECT_EQ(t.state.phase, RolloutPhase::kAborted);
  EXPECT_EQ(rollout_share(t.state, t.plan), 0);
}

TEST(Controller, AFirstVersionIsJudgedAlone) {
  Simulation s(quick_plan(), 0);
  EXPECT_EQ(rollout_share(s.state, s.plan), 10'000);
  s.run(60, 200);
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << s.last;
  Simulation t(quick_plan(), 0);
  t.run(60, 200, {}, {.error_rate = 0.1});
  EXPECT_EQ(t.state.phase, RolloutPhase::kRolledBack) << t.last;
}

TEST(Controller, WithAllTrafficSlownessHoldsAndErrorsSendBack) {
  for (const bool slow : {true, false}) {
    Simulation s(quick_plan());
    while (s.state.step < 3 && is_active(s.state.phase)) s.run(1, 500);
    ASSERT_EQ(s.state.step, 3u);
    s.run(130, 500, {}, slow ? Behaviour{.median_us = 80'000} : Behaviour{.error_rate = 0.05});
    EXPECT_EQ(s.state.phase, slow ? RolloutPhase::kHeld : RolloutPhase::kRolledBack) << s.last;
    if (slow) {
      EXPECT_NE(s.last.find("the load may be the cause"), std::string::npos) << s.last;
    }
  }
}

TEST(Controller, AReloadedVersionStartsItsCountersAgain) {
  Simulation s(quick_plan());
  s.run(8, 500);
  const auto step = s.state.step;
  s.live = s.candidate = {};
  s.run(600, 500);
  EXPECT_EQ(s.state.phase, RolloutPhase::kPromoted) << step << s.last;
}

TEST(Controller, AlphaIsNeverOverspent) {
  const RolloutPlan plan;
  double spent = 0;
  for (int look = 1; look < 100'000; ++look) spent += look_alpha(plan, look);
  spent *= static_cast<double>(plan.steps.size()) * kGateCount;
  EXPECT_LE(spent, plan.alpha);
  EXPECT_GT(spent, 0.99 * plan.alpha);
}

TEST(Controller, WhateverHappensTheShareRisesOnAPassAlone) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    RolloutPlan plan = quick_plan();
    for (RolloutStep& step : plan.steps) {
      step.min_seconds = static_cast<int64_t>(random.below(4));
      step.min_requests = 1 + static_cast<int64_t>(random.below(200));
      step.max_seconds = 4 + static_cast<int64_t>(random.below(30));
    }
    Simulation s(plan, random.below(8) == 0 ? 0 : 1, seed);
    bool ended = false;
    for (int i = 0; i < 120; ++i) {
      const RolloutState before = s.state;
      s.now += static_cast<int64_t>(random.below(3 * kSecond));
      answer(s.live, {}, s.random, static_cast<int64_t>(random.below(200)));
      answer(s.candidate, {.error_rate = seed % 3 == 0 ? 0.2 : 0.002}, s.random,
             static_cast<int64_t>(random.below(100)));
      s.waiting = static_cast<int64_t>(random.below(3));
      s.memory = random.uniform() * (random.below(30) == 0 ? 1 : 0.6);
      RolloutInputs in = s.inputs();
      in.candidate_loaded = random.below(200) != 0;
      if (random.below(10) == 0) in.command = static_cast<RolloutCommand>(random.below(4));
      const RolloutDecision d = advance_rollout(s.state, s.plan, in), again = advance_rollout(s.state, s.plan, in);
      ASSERT_EQ(d.state.phase, again.state.phase) << "not a function of its arguments";
      ASSERT_EQ(d.state.reason, again.state.reason);
      const int share = rollout_share(d.state, s.plan), share_before = rollout_share(before, s.plan);
      if (share > share_before) {
        ASSERT_EQ(before.phase == RolloutPhase::kRunning || in.command == RolloutCommand::kResume, true);
        ASSERT_EQ(d.state.step, before.step + 1);
        ASSERT_EQ(overall(d.state.verdicts), Verdict::kPass);
      }
      if (d.state.phase == RolloutPhase::kPromoted && before.phase != RolloutPhase::kPromoted) {
        ASSERT_TRUE(in.command == RolloutCommand::kPromote ||
                    (before.step + 1 == s.plan.steps.size() && overall(d.state.verdicts) == Verdict::kPass));
      }
      if (ended) {
        ASSERT_EQ(share, 0);
        ASSERT_EQ(d.state.phase, before.phase);
      }
      ASSERT_EQ(d.events.empty(), d.state.reason == before.reason) << "a change without a word";
      ended = !is_active(d.state.phase);
      s.take(d);
    }
  }
}

/// Of seeded rollouts, how many went back or were promoted; printed, for the figures are quoted.
struct Outcome {
  int back = 0, promoted = 0, held = 0;
  double seconds_to_back = 0;
};
Outcome outcome(const char* name, const Behaviour& candidate, int rounds) {
  Outcome o;
  for (int i = 0; i < rounds; ++i) {
    Simulation s(quick_plan(), 1, 1000 + static_cast<uint64_t>(i));
    const int64_t begin = s.now;
    s.run(300, 200, {}, candidate);
    o.back += s.state.phase == RolloutPhase::kRolledBack;
    o.promoted += s.state.phase == RolloutPhase::kPromoted;
    o.held += s.state.phase == RolloutPhase::kHeld;
    if (s.state.phase == RolloutPhase::kRolledBack) o.seconds_to_back += static_cast<double>(s.now - begin) / kSecond;
  }
  std::printf("%-22s %4d rollouts: %4d sent back (after %.0f s), %4d promoted, %4d held\n", name, rounds, o.back,
              o.back == 0 ? 0 : o.seconds_to_back / o.back, o.promoted, o.held);
  return o;
}

TEST(Controller, GoodCandidatesPassAndPlantedRegressionsDoNot) {
  const Outcome same = outcome("identical", {}, 200);
  EXPECT_LE(same.back, 200 * 5 / 100);
  EXPECT_GE(same.promoted, 190);
  const Outcome faster = outcome("20 % faster", {.median_us = 8000}, 40);
  EXPECT_GE(faster.promoted, 38);
  const Outcome slow = outcome("latency +30 %", {.median_us = 13'000}, 60);
  EXPECT_GE(slow.back, 54);
  EXPECT_EQ(slow.promoted, 0);
  const Outcome errors = outcome("errors +5 points", {.error_rate = 0.052}, 60);
  EXPECT_GE(errors.back, 48);
  EXPECT_EQ(errors.promoted, 0);
  const Outcome unsure = outcome("confidence shifted", {.sureness = 2.2}, 60);
  EXPECT_GE(unsure.back, 42);
  EXPECT_EQ(unsure.promoted, 0);
  const Outcome stalls = outcome("11 % beyond the p99", {.sigma = 0.75}, 40);
  EXPECT_EQ(stalls.promoted, 0);
}

}  // namespace
}  // namespace slipway
