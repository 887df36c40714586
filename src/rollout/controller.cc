// The controller of a rollout: a pure function from state and inputs to the next state.
// A step is judged at looks, whose times depend on the number of the candidate's answers alone: from a quarter of
// min_requests on, each 1.3 times the last, one when the step's minima are met, and one at its deadline. Looks before
// the minima can send the candidate back but not raise it. Repeated looks are corrected by spending alpha / (k (k + 1))
// at the k-th (a union bound, valid for any dependence and without a last look known beforehand; the idea of spending:
// Lan & DeMets, 1983). Three rules need no statistics and act at once: panic (most of its answers are failures), stall
// (requests wait and none is answered), and memory (near the limit and grown).
#include "rollout/controller.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"

namespace slipway {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr double kLookGrowth = 1.3;
constexpr int64_t kEnoughAnswers = 100;  ///< for a 99th percentile
constexpr double kMemoryGrowth = 0.05;
constexpr std::array<const char*, 7> kPhaseNames = {"idle",     "running",     "paused", "held",
                                                    "promoted", "rolled_back", "aborted"};

double percent_of(const RolloutStep& step) { return 100 * step.share; }

/// The windows of a step begin here, of both versions at the same time.
void begin_windows(RolloutState& s, const RolloutPlan& plan, const RolloutInputs& in) {
  const RolloutStep& limits = plan.steps[s.step];
  s.step_ns = s.moved_ns = in.now_ns;
  s.deadline_ns = in.now_ns + limits.max_seconds * kSecond;
  s.looked_n = 0, s.moved_n = 0, s.ready_look = false;
  s.next_look_n = std::max<int64_t>(limits.min_requests / 4, 10);
  s.live_start = std::make_shared<const Observation>(in.live);
  s.candidate_start = std::make_shared<const Observation>(in.candidate);
}

void enter_step(RolloutState& s, size_t step, const RolloutPlan& plan, const RolloutInputs& in) {
  s.step = step;
  s.look = 0;
  begin_windows(s, plan, in);
}

/// A version that was loaded anew counts from zero: what was seen before can't be compared with it. The looks that were
/// taken stay taken, and the alpha that they spent stays spent.
bool counts_anew(const RolloutState& s, const RolloutInputs& in) {
  return in.live.generation != s.live_start->generation || in.candidate.generation != s.candidate_start->generation;
}

/// Which of the live version's windows tells how long its answers take: the step's own once it holds some.
const Observation& knows_times(const Observation& live, const Observation& baseline) {
  const int64_t here = live.traffic.total_us.count(), before = baseline.traffic.total_us.count();
  return here >= kEnoughAnswers || here >= before ? live : baseline;
}

std::string failures(const std::vector<GateVerdict>& verdicts) {
  std::string text;
  for (const GateVerdict& v : verdicts)
    if (v.verdict == Verdict::kFail) text += (text.empty() ? "" : "; ") + v.name + ": " + v.sentence;
  return text;
}

std::string doubts(const std::vector<GateVerdict>& verdicts) {
  std::string text;
  for (const GateVerdict& v : verdicts)
    if (v.verdict == Verdict::kInconclusive) text += (text.empty() ? "" : "; ") + v.name + ": " + v.sentence;
  return text;
}

void end(RolloutDecision& d, RolloutPhase phase, std::string reason) {
  d.state.phase = phase;
  d.state.reason = std::move(reason);
  d.events.push_back({to_string(phase), d.state.reason});
}

/// What sends the candidate back without a test; empty: nothing.
std::string emergency(RolloutState& s, const RolloutPlan& plan, const RolloutInputs& in, const ErrorCount& errors,
                      int64_t with_nan) {
  if (!in.candidate_loaded) return "The candidate is no longer loaded, or its bytes changed.";
  // The live version may answer with NaN as well, which takes a comparison.
  const ErrorCount broken{errors.failed - std::min(with_nan, errors.failed), errors.requests};
  if (broken.requests >= plan.panic_requests && broken.rate() > plan.panic_error_rate)
    return fmt::format("{} of the candidate's {} requests failed: above {:.0f} % it goes back at once.", broken.failed,
                       broken.requests, 100 * plan.panic_error_rate);
  if (errors.requests != s.moved_n || in.candidate_waiting == 0) s.moved_n = errors.requests, s.moved_ns = in.now_ns;
  if (in.now_ns - s.moved_ns >= plan.stall_seconds * kSecond)
    return fmt::format("The candidate answered nothing for {} s while {} requests wait.", plan.stall_seconds,
                       in.candidate_waiting);
  if (in.memory_ratio > plan.max_memory_ratio && in.memory_ratio > s.memory_ratio_at_start + kMemoryGrowth)
    return fmt::format("Memory reached {:.0f} % of its limit, {:.0f} % when the rollout began; {:.0f} % is allowed.",
                       100 * in.memory_ratio, 100 * s.memory_ratio_at_start, 100 * plan.max_memory_ratio);
  return {};
}

void raise(RolloutDecision& d, const RolloutPlan& plan, const RolloutInputs& in, const Observation& live) {
  RolloutState& s = d.state;
  const size_t next = s.step + 1;
  if (next == plan.steps.size()) {
    end(d, RolloutPhase::kPromoted,
        fmt::format("All gates passed with all of the traffic over {} s.", (in.now_ns - s.step_ns) / kSecond));
    return;
  }
  if (s.step == 0) s.baseline = std::make_shared<const Observation>(live);
  const std::string passed = fmt::format("All gates passed at {:g} %", percent_of(plan.steps[s.step]));
  enter_step(s, next, plan, in);
  s.reason = fmt::format("{}: raised to {:g} %.", passed, percent_of(plan.steps[next]));
  d.events.push_back({"raised", s.reason});
}

bool follow(RolloutDecision& d, RolloutCommand command, const RolloutPlan& plan, const RolloutInputs& in) {
  RolloutState& s = d.state;
  const auto refuse = [&](const char* what) {
    d.refusal = fmt::format("{}: the rollout is {}.", what, to_string(s.phase));
    return true;
  };
  if (!is_active(s.phase)) return refuse("There is no rollout to change");
  switch (command) {
    case RolloutCommand::kPause:
      if (s.phase == RolloutPhase::kPaused) return refuse("It can't be paused");
      s.phase = RolloutPhase::kPaused;
      s.paused_ns = in.now_ns;
      s.reason = fmt::format("Paused at {:g} %.", percent_of(plan.steps[s.step]));
      d.events.push_back({"paused", s.reason});
      return true;
    case RolloutCommand::kResume:
      if (s.phase == RolloutPhase::kRunning) return refuse("There is nothing to resume");
      if (s.phase == RolloutPhase::kPaused) s.step_ns += in.now_ns - s.paused_ns;
      s.phase = RolloutPhase::kRunning;
      s.deadline_ns = in.now_ns + plan.steps[s.step].max_seconds * kSecond;
      s.reason = fmt::format("Resumed at {:g} %.", percent_of(plan.steps[s.step]));
      d.events.push_back({"resumed", s.reason});
      return true;
    case RolloutCommand::kPromote:
      end(d, RolloutPhase::kPromoted,
          fmt::format("Promoted by a person at {:g} %, without waiting for the gates.",
                      percent_of(plan.steps[s.step])));
      return true;
    case RolloutCommand::kAbort:
      end(d, RolloutPhase::kAborted, fmt::format("Aborted by a person at {:g} %.", percent_of(plan.steps[s.step])));
      return true;
  }
  return true;
}

}  // namespace

const char* to_string(RolloutPhase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

std::optional<RolloutPhase> parse_rollout_phase(std::string_view name) {
  for (size_t i = 0; i < kPhaseNames.size(); ++i)
    if (name == kPhaseNames[i]) return static_cast<RolloutPhase>(i);
  return std::nullopt;
}

double look_alpha(const RolloutPlan& plan, int look) {
  return plan.alpha / (static_cast<double>(plan.steps.size()) * kGateCount * look * (look + 1.0));
}

int rollout_share(const RolloutState& state, const RolloutPlan& plan) {
  if (!is_active(state.phase)) return 0;
  return std::clamp(static_cast<int>(std::lround(10'000 * plan.steps[state.step].share)), 1, 10'000);
}

RolloutDecision begin_rollout(int64_t live, int64_t candidate, const RolloutPlan& plan, const RolloutInputs& in) {
  RolloutDecision d;
  d.state.phase = RolloutPhase::kRunning;
  d.state.live = live, d.state.candidate = candidate;
  d.state.memory_ratio_at_start = in.memory_ratio;
  d.state.baseline = std::make_shared<const Observation>(in.live);
  enter_step(d.state, live == 0 ? plan.steps.size() - 1 : 0, plan, in);
  d.state.reason = live == 0 ? fmt::format(
                                   "Version {} started with all of the traffic; there is no live version to "
                                   "compare it with, so absolute limits judge it.",
                                   candidate)
                             : fmt::format("Version {} started at {:g} % beside version {}.", candidate,
                                           percent_of(plan.steps[0]), live);
  d.events.push_back({"started", d.state.reason});
  return d;
}

RolloutDecision advance_rollout(const RolloutState& state, const RolloutPlan& plan, const RolloutInputs& in) {
  RolloutDecision d{.state = state};
  RolloutState& s = d.state;
  if (in.command && follow(d, *in.command, plan, in) && (!d.refusal.empty() || !is_active(s.phase))) return d;
  if (!is_active(s.phase)) return d;

  const RolloutStep& limits = plan.steps[s.step];
  if (in.candidate_loaded && counts_anew(s, in)) {
    begin_windows(s, plan, in);
    d.events.push_back(
        {"recounted", fmt::format("A version was loaded anew, its counters began again: the step at {:g} % does, too.",
                                  percent_of(limits))});
    if (s.phase == RolloutPhase::kRunning) s.reason = d.events.back().sentence;
  }
  const Observation candidate = in.candidate.since(*s.candidate_start);
  Observation live = in.live.since(*s.live_start);
  const int64_t fair_us = fair_time_us(s.live == 0 ? candidate : knows_times(live, *s.baseline));
  const ErrorCount errors = errors_of(candidate, fair_us);
  const int64_t seen = errors.requests;
  if (std::string why = emergency(s, plan, in, errors, candidate.traffic.with_nan); !why.empty()) {
    end(d, RolloutPhase::kRolledBack, std::move(why));
    return d;
  }

  const bool running = s.phase == RolloutPhase::kRunning;
  const bool minima = running && in.now_ns - s.step_ns >= limits.min_seconds * kSecond && seen >= limits.min_requests;
  const bool overdue = running && in.now_ns >= s.deadline_ns;
  const bool due = seen >= s.next_look_n || (minima && !s.ready_look) || (overdue && seen > s.looked_n);
  if (due) {
    const bool beside = limits.share <= 0.5 || errors_of(live, fair_us).requests >= std::min(limits.min_requests, seen);
    if (s.live != 0 && !beside) live = *s.baseline;
    ++s.look;
    s.looked_n = seen;
    s.next_look_n = std::max(seen + 1, static_cast<int64_t>(std::ceil(kLookGrowth * static_cast<double>(seen))));
    s.ready_look = s.ready_look || minima;
    const GateLevel level{look_alpha(plan, s.look), plan.pass_confidence};
    s.verdicts =
        s.live == 0 ? judge_absolute(candidate, plan.absolute, level) : judge(live, candidate, limits, level, beside);
    const Verdict verdict = overall(s.verdicts);
    if (verdict == Verdict::kFail) {
      end(d, RolloutPhase::kRolledBack, failures(s.verdicts) + ".");
      return d;
    }
    if (verdict == Verdict::kPass && minima) {
      raise(d, plan, in, live);
      return d;
    }
  }
  if (overdue) {
    const std::string few = fmt::format("{} of {} requests answered", seen, limits.min_requests);
    const std::string why = seen < limits.min_requests || s.verdicts.empty() ? few : doubts(s.verdicts);
    s.phase = RolloutPhase::kHeld;
    s.reason = fmt::format("Held at {:g} %: no verdict in time ({}); resume, promote or abort it.", percent_of(limits),
                           why.empty() ? few : why);
    d.events.push_back({"held", s.reason});
  }
  return d;
}

}  // namespace slipway
