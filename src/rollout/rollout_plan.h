#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

/// One share of the traffic, and what the candidate must keep of the live version while it has it.
struct RolloutStep {
  double share = 1;                 ///< of the requests, in (0, 1]
  int64_t min_seconds = 30;         ///< before the next step
  int64_t min_requests = 100;       ///< answered by the candidate before a verdict
  int64_t max_seconds = 1800;       ///< an inconclusive step is extended so far, then held
  double max_error_increase = 0;    ///< candidate's error rate − live version's
  double max_latency_ratio = 1;     ///< candidate / live version, medians
  double max_slow_share = 1;        ///< of the candidate's requests, slower than the live version's p99
  double max_confidence_shift = 1;  ///< largest difference of the two distribution functions of confidence
  bool operator==(const RolloutStep&) const = default;
};

/// How a candidate is brought to all of the traffic; a YAML file, all keys optional.
struct RolloutPlan {
  std::vector<RolloutStep> steps;  ///< shares ascending, the last is 1
  double alpha = 0.05;             ///< chance that the tests of a whole rollout send an equally good candidate back
  double pass_confidence = 0.95;   ///< one-sided, of the bounds that a pass needs
  double panic_error_rate = 0.5;   ///< above, with panic_requests answered, it goes back at once
  int64_t panic_requests = 20;
  int64_t stall_seconds = 10;      ///< requests wait and none was answered for so long: back at once
  double max_memory_ratio = 0.95;  ///< resident / limit; above, when it grew since the start: back at once
  struct Absolute {
    double max_error_rate = 0.02;
    double max_mean_latency_ms = 0;  ///< 0: off
    double min_mean_confidence = 0;  ///< 0: off
    bool operator==(const Absolute&) const = default;
  } absolute;  ///< what a model's first version is judged by
  RolloutPlan();
  bool operator==(const RolloutPlan&) const = default;
};

/// Fails with kNotFound, or kInvalidArgument naming file, line and key.
RolloutPlan load_rollout_plan(const std::string& path);
RolloutPlan parse_rollout_plan(const std::string& text, const std::string& path);
/// The defaults as a commented file.
std::string rollout_plan_template();
inline constexpr uint64_t kMaxRolloutPlanBytes = 64 << 10;

}  // namespace slipway
