// The rollout plan's YAML. One table a mapping lists every key with its place and bounds: the reader and the commented
// file both come from it. The default limits tighten as the share grows: few requests can only show a gross regression,
// and a candidate that has its caches to itself for one request in a hundred is slower for no fault of its own. With
// all of the traffic nothing runs beside it: what it is held against was measured before, under another load perhaps,
// so the limits on time are wide again.
#include "rollout/rollout_plan.h"

#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "data/strict_yaml.h"

namespace slipway {
namespace {

constexpr size_t kMaxSteps = 20;

struct PlanKey {
  const char* name;
  double* number;
  int64_t* count;
  double lowest, highest;
  const char* meaning;
};

PlanKey number(const char* name, double& at, double low, double high, const char* meaning) {
  return {name, &at, nullptr, low, high, meaning};
}
PlanKey count(const char* name, int64_t& at, double low, double high, const char* meaning) {
  return {name, nullptr, &at, low, high, meaning};
}

std::vector<PlanKey> keys_of(RolloutStep& s) {
  return {
      number("share", s.share, 0.0001, 1, "of the requests that go to the candidate; the last step's must be 1"),
      count("min_seconds", s.min_seconds, 0, 1e7, "the step lasts at least so long"),
      count("min_requests", s.min_requests, 1, 1e9, "the candidate has answered at least so many"),
      count("max_seconds", s.max_seconds, 1, 1e7, "inconclusive verdicts extend the step so far; then it is held"),
      number("max_error_increase", s.max_error_increase, 0, 1, "error rate above the live version's"),
      number("max_latency_ratio", s.max_latency_ratio, 1, 1e6, "median latency, candidate / live version"),
      number("max_slow_share", s.max_slow_share, 0.01, 1,
             "of its requests that are slower than the live version's p99"),
      number("max_confidence_shift", s.max_confidence_shift, 0, 1,
             "largest difference of the distribution functions of confidence"),
  };
}

std::vector<PlanKey> keys_of(RolloutPlan& p) {
  return {
      number("alpha", p.alpha, 1e-6, 0.5, "chance that an equally good candidate is sent back, in a whole rollout"),
      number("pass_confidence", p.pass_confidence, 0.5, 0.9999, "of the bounds that must hold for a step to pass"),
      number("panic_error_rate", p.panic_error_rate, 0.01, 1, "error rate above which it goes back at once …"),
      count("panic_requests", p.panic_requests, 1, 1e6, "… once so many were answered"),
      count("stall_seconds", p.stall_seconds, 1, 1e6, "requests wait and none is answered for so long: back at once"),
      number("max_memory_ratio", p.max_memory_ratio, 0.05, 1, "resident / limit; above and grown: back at once"),
  };
}

std::vector<PlanKey> keys_of(RolloutPlan::Absolute& a) {
  return {
      number("max_error_rate", a.max_error_rate, 0, 1, "share of requests that fail"),
      number("max_mean_latency_ms", a.max_mean_latency_ms, 0, 1e9, "0: not judged"),
      number("min_mean_confidence", a.min_mean_confidence, 0, 1, "0: not judged"),
  };
}

std::vector<std::string_view> names_of(const std::vector<PlanKey>& keys, std::vector<std::string_view> more = {}) {
  for (const PlanKey& k : keys) more.push_back(k.name);
  return more;
}

void read(const StrictMap& map, const std::vector<PlanKey>& keys) {
  for (const PlanKey& k : keys) {
    if (!map.has(k.name)) continue;
    if (k.count != nullptr) {
      *k.count = map.integer(k.name, 0, static_cast<int64_t>(k.lowest), static_cast<int64_t>(k.highest));
      continue;
    }
    *k.number = map.real(k.name, 0);
    if (*k.number < k.lowest || *k.number > k.highest)
      fail(ErrorCode::kInvalidArgument, "A number from {} to {} is expected here: {} at {}", k.lowest, k.highest,
           *k.number, map.place(k.name));
  }
}

/// The default limits of a share: those of the largest default step that is not above it.
RolloutStep defaults_at(double share) {
  const RolloutPlan plan;
  RolloutStep step = plan.steps.front();
  for (const RolloutStep& s : plan.steps)
    if (s.share <= share) step = s;
  step.share = share;
  return step;
}

std::string lines_of(const std::vector<PlanKey>& keys, std::string_view first, std::string_view rest, bool explain) {
  std::string text;
  for (size_t i = 0; i < keys.size(); ++i) {
    const PlanKey& k = keys[i];
    const std::string value = k.count != nullptr ? fmt::format("{}", *k.count) : fmt::format("{}", *k.number);
    const std::string line = fmt::format("{}{}: {}", i == 0 ? first : rest, k.name, value);
    text += explain ? fmt::format("{:<34} # {}\n", line, k.meaning) : line + "\n";
  }
  return text;
}

}  // namespace

RolloutPlan::RolloutPlan()
    : steps{{0.01, 30, 100, 1800, 0.05, 2.0, 0.10, 0.25},
            {0.1, 60, 300, 1800, 0.02, 1.5, 0.06, 0.15},
            {0.5, 60, 1000, 1800, 0.01, 1.2, 0.04, 0.10},
            {1, 60, 1000, 1800, 0.01, 3.0, 0.25, 0.10}} {}

RolloutPlan parse_rollout_plan(const std::string& text, const std::string& path) {
  RolloutPlan plan;
  if (text.size() > kMaxRolloutPlanBytes)
    fail(ErrorCode::kInvalidArgument, "A rollout plan has at most {} KiB: {}", kMaxRolloutPlanBytes >> 10, path);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return plan;
  const std::vector<PlanKey> keys = keys_of(plan);
  const StrictMap top(parse_yaml(text, path), path, names_of(keys, {"steps", "absolute"}));
  read(top, keys);
  const std::vector<PlanKey> absolute = keys_of(plan.absolute);
  read(top.map("absolute", names_of(absolute)), absolute);
  if (!top.has("steps")) return plan;
  const YAML::Node list = top.node("steps");
  if (!list.IsSequence() || list.size() == 0 || list.size() > kMaxSteps)
    fail(ErrorCode::kInvalidArgument, "A list of one to {} steps is expected here: {}", kMaxSteps, top.place("steps"));
  plan.steps.clear();
  double last = 0;
  for (const YAML::Node& node : list) {
    RolloutStep step;
    const StrictMap map(node, path, names_of(keys_of(step)));
    read(map, {keys_of(step)[0]});
    step = defaults_at(step.share);
    read(map, keys_of(step));
    if (!map.has("share") || step.share <= last)
      fail(ErrorCode::kInvalidArgument, "Every step needs a share above the one before: {}", map.place("share"));
    if (step.max_seconds < step.min_seconds)
      fail(ErrorCode::kInvalidArgument, "A step's max_seconds can't be below its min_seconds: {}",
           map.place("max_seconds"));
    last = step.share;
    plan.steps.push_back(step);
  }
  if (last != 1)
    fail(ErrorCode::kInvalidArgument, "The last step's share must be 1, all of the traffic: {}", top.place("steps"));
  return plan;
}

RolloutPlan load_rollout_plan(const std::string& path) {
  return parse_rollout_plan(read_text_file(path, kMaxRolloutPlanBytes), path);
}

std::string rollout_plan_template() {
  RolloutPlan plan;
  std::string text =
      "# How a candidate is brought to all of the traffic. The values are the defaults; every key may be left out.\n"
      "# Each step is judged against the version that is live, by tests whose error is shared out over all looks.\n\n";
  text += lines_of(keys_of(plan), "", "", true);
  text += "\nsteps:\n";
  for (RolloutStep& step : plan.steps) text += lines_of(keys_of(step), "  - ", "    ", &step == &plan.steps.front());
  text += "\n# What a model's first version is judged by, as there is nothing to compare it with.\nabsolute:\n";
  return text + lines_of(keys_of(plan.absolute), "  ", "  ", true);
}

}  // namespace slipway
