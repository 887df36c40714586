#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "metrics/latency.h"
#include "metrics/verdict.h"
#include "monitor/observation.h"
#include "rollout/rollout_plan.h"

namespace slipway {

/// One gate's judgement of a window of traffic, with its numbers.
struct GateVerdict {
  std::string name;  ///< "errors", "latency", "slow requests", "confidence"
  Verdict verdict = Verdict::kInconclusive;
  double statistic = 0;           ///< what is held against the bound
  double low = 0, high = 0;       ///< its interval at the plan's pass_confidence, one-sided each way
  double p = 1;                   ///< one-sided: of so bad a difference without a cause
  double alpha = 0;               ///< the p below which this look fails
  double bound = 0;               ///< limit of the statistic
  int64_t n = 0, baseline_n = 0;  ///< candidate's and live version's requests
  std::string sentence;
};

/// Answers that went wrong by the version's doing: faults, timeouts, rejections, and answers with NaN. What callers do
/// wrong is left out, above and below the fraction, and so is what was late by a deadline of at most `fair_us`, which
/// its caller chose.
struct ErrorCount {
  int64_t failed = 0, requests = 0;
  double rate() const { return requests == 0 ? 0 : static_cast<double>(failed) / static_cast<double>(requests); }
};
ErrorCount errors_of(const Observation& observation, int64_t fair_us);
/// The least time that a caller must allow: within it the live version answers 99 % of what it answers. Without any
/// answer nobody knows, and no deadline of a caller counts.
int64_t fair_time_us(const Observation& live);

/// How a look at the data may err: `alpha` is this look's own, already corrected for the others.
struct GateLevel {
  double alpha = 0.05;
  double pass_confidence = 0.95;
};

// Each gate fails only when the candidate is worse significantly (p < alpha) and beyond the limit, passes when the
// interval's bad end is within the limit, and is inconclusive between.

/// Fisher's exact test; the limit is a difference of rates, its interval Newcombe's.
GateVerdict error_gate(const Observation& live, const Observation& candidate, double max_increase, GateLevel level);
/// Mann–Whitney over the histograms' buckets; the limit is a ratio of medians.
GateVerdict latency_gate(const Observation& live, const Observation& candidate, double max_ratio, GateLevel level);
/// The share of requests slower than the live version's p99, by Fisher's exact test: stalls that leave the median be.
GateVerdict slow_gate(const Observation& live, const Observation& candidate, double max_share, GateLevel level);
/// Kolmogorov–Smirnov over the bins of confidence. Passes with a word where outputs are no scores.
GateVerdict confidence_gate(const Observation& live, const Observation& candidate, double max_shift, GateLevel level);

/// All of them, against the live version. Not `beside` it in time, the load may have changed between the two: then
/// being slower is no failure but inconclusive, so that it is held and not sent back; errors fail as ever.
std::vector<GateVerdict> judge(const Observation& live, const Observation& candidate, const RolloutStep& limits,
                               GateLevel level, bool beside = true);
inline constexpr int kGateCount = 4;
/// Without a live version: error rate, mean latency and mean confidence against fixed limits.
std::vector<GateVerdict> judge_absolute(const Observation& candidate, const RolloutPlan::Absolute& limits,
                                        GateLevel level);

/// Fail when one fails, pass when all pass.
Verdict overall(const std::vector<GateVerdict>& verdicts);

}  // namespace slipway
