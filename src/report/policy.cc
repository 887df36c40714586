// The policy's YAML. One table lists every key with its place in the struct: the reader, the digest and the commented
// file all come from it.
#include "report/policy.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/strict_yaml.h"

namespace slipway {
namespace {

constexpr uint64_t kMaxPolicyBytes = uint64_t{1} << 20;

constexpr char kQuantization[] = "quantization";

/// A threshold: where it lives (one of the pointers), its bounds and what it means.
struct Key {
  const char* section;
  const char* name;
  double* number;
  std::optional<double>* optional;
  int64_t* count;
  bool* flag;
  double lowest, highest;
  const char* meaning;
  int* bits = nullptr;
  std::vector<int> choices = {};  ///< of `bits`
};

Key number(const char* section, const char* name, double& at, double low, double high, const char* meaning) {
  return {section, name, &at, nullptr, nullptr, nullptr, low, high, meaning};
}
Key optional(const char* section, const char* name, std::optional<double>& at, double low, double high,
             const char* meaning) {
  return {section, name, nullptr, &at, nullptr, nullptr, low, high, meaning};
}
Key count(const char* section, const char* name, int64_t& at, const char* meaning) {
  return {section, name, nullptr, nullptr, &at, nullptr, 0, 1e9, meaning};
}
Key flag(const char* section, const char* name, bool& at, const char* meaning) {
  return {section, name, nullptr, nullptr, nullptr, &at, 0, 1, meaning};
}
Key bits(const char* section, const char* name, int& at, std::vector<int> choices, const char* meaning) {
  return {section, name, nullptr, nullptr, nullptr, nullptr, 1, 64, meaning, &at, std::move(choices)};
}

std::vector<Key> keys_of(Policy& p) {
  constexpr double kAny = 1e12;
  return {
      number("accuracy", "max_drop_points", p.accuracy.max_drop_points, 0, 100,
             "top-1 accuracy may drop by less than this many percentage points"),
      number("accuracy", "max_class_drop_points", p.accuracy.max_class_drop_points, 0, 100,
             "recall that any one class may lose (judged where McNemar's p < 0.05)"),
      number("accuracy", "max_edge_case_drop_points", p.accuracy.max_edge_case_drop_points, 0, 100,
             "accuracy that may be lost on dark, noisy or blurred samples (the same rule)"),
      optional("accuracy", "min_agreement", p.accuracy.min_agreement, 0, 1,
               "share of samples on which both models must predict the same class"),
      count("accuracy", "min_samples", p.accuracy.min_samples, "with fewer samples a pass becomes inconclusive"),
      flag("accuracy", "require_better_than_chance", p.accuracy.require_better_than_chance,
           "both models must beat predictions that have nothing to do with the labels (p < 0.001)"),
      optional("accuracy", "min_top1_percent", p.accuracy.min_top1_percent, 0, 100,
               "top-1 accuracy that the candidate must reach, whatever the original does"),
      number("output", "min_cosine", p.output.min_cosine, -1, 1,
             "mean cosine similarity of every output must be above"),
      optional("output", "max_kl", p.output.max_kl, 0, kAny, "mean Kullback-Leibler divergence of every output, nats"),
      optional("output", "max_mse", p.output.max_mse, 0, kAny, "mean squared error of every output"),
      number("performance", "max_latency_ratio", p.performance.max_latency_ratio, 0, kAny,
             "candidate / original, warm medians; fails when the interval's lower end is above"),
      number("performance", "confidence", p.performance.confidence, 0.5, 0.9999, "of that bootstrap interval"),
      count("performance", "min_rounds", p.performance.min_rounds,
            "interleaved rounds below which latency is inconclusive"),
      number("performance", "max_memory_increase_percent", p.performance.max_memory_increase_percent, 0, kAny,
             "peak memory above the original's"),
      number("performance", "memory_slack_mib", p.performance.memory_slack_mib, 0, kAny,
             "smaller differences are the allocator's and not judged"),
      optional("performance", "max_file_increase_percent", p.performance.max_file_increase_percent, -100, kAny,
               "size of the ONNX file above the original's; -60 asks for 60 % less"),
      flag("stability", "require_reproducible", p.stability.require_reproducible,
           "the same input must give the same bits, run after run"),
      number("stability", "max_variation", p.stability.max_variation, 0, kAny,
             "difference over thread counts and batch positions, relative to the largest output"),
      count("stability", "max_new_nonfinite", p.stability.max_new_nonfinite,
            "inputs that may give NaN or infinity in the candidate but not in the original"),
      number(
          "stability", "max_engine_error", p.stability.max_engine_error, 0, kAny,
          "a step of a plan against the reference, relative to its largest value; NaN and integers must be the same"),
      optional("stability", "max_saturated_percent", p.stability.max_saturated_percent, 0, 100,
               "codes of a layer at the end of their range, on real samples"),
      number("simulation", "max_error_rate", p.simulation.max_error_rate, 0, 1,
             "share of the served requests that may fail under load, soak, replay and A/B comparison"),
      number("simulation", "max_p99_ratio", p.simulation.max_p99_ratio, 0, kAny,
             "candidate / original, served in turns; fails when the interval's lower end is above"),
      optional("simulation", "max_memory_slope_mib_per_hour", p.simulation.max_memory_slope_mib_per_hour, 0, kAny,
               "growth of the server's memory; fails when the interval's lower end is above"),
      number("simulation", "min_seconds", p.simulation.min_seconds, 0, kAny,
             "of load and soak; with fewer a pass becomes inconclusive"),
      optional(kQuantization, "max_accuracy_drop_points", p.quantization.max_accuracy_drop_points, 0, 100,
               "top-1 must lose less; else PTQ is followed by QAT. Default: accuracy.max_drop_points"),
      optional(kQuantization, "time_budget_minutes", p.quantization.time_budget_minutes, 0.01, 1e6,
               "for quantising; below 15 with more than 3 points allowed, PTQ alone. Default: no limit"),
      flag(kQuantization, "accuracy_critical", p.quantization.accuracy_critical,
           "choose QAT (quantisation-aware training) at once"),
      bits(kQuantization, "weight_bits", p.quantization.weight_bits, {8, 4}, "8 or 4; below 8 asks for QAT"),
      bits(kQuantization, "activation_bits", p.quantization.activation_bits, {8}, "so far the only choice"),
  };
}

std::string text_of(const Key& k) {
  if (k.number != nullptr) return fmt::format("{}", *k.number);
  if (k.count != nullptr) return fmt::format("{}", *k.count);
  if (k.flag != nullptr) return *k.flag ? "true" : "false";
  if (k.bits != nullptr) return fmt::format("{}", *k.bits);
  return *k.optional ? fmt::format("{}", **k.optional) : "";
}

double bounded(const Key& k, const StrictMap& map) {
  const double value = map.real(k.name, 0);
  if (value < k.lowest || value > k.highest)
    fail(ErrorCode::kInvalidArgument, "A number from {} to {} is expected here: {} at {}", k.lowest, k.highest, value,
         map.place(k.name));
  return value;
}

int chosen(const Key& k, const StrictMap& map) {
  const auto value = static_cast<int>(map.integer(k.name, 0, 1, 64));
  if (std::find(k.choices.begin(), k.choices.end(), value) == k.choices.end())
    fail(ErrorCode::kInvalidArgument, "A number of bits that is not offered; choose {}: {} at {}",
         fmt::join(k.choices, " or "), value, map.place(k.name));
  return value;
}

}  // namespace

Policy parse_policy(const std::string& text, const std::string& name) {
  Policy policy;
  const std::vector<Key> keys = keys_of(policy);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return policy;
  const std::vector<std::string_view> sections{"accuracy",  "output",     "performance",
                                               "stability", "simulation", kQuantization};
  const StrictMap top(parse_yaml(text, name), name, sections);
  for (const std::string_view section : sections) {
    if (!top.has(section)) continue;
    std::vector<std::string_view> known;
    for (const Key& k : keys)
      if (k.section == section) known.push_back(k.name);
    const StrictMap map = top.map(section, known);
    for (const Key& k : keys) {
      if (k.section != section || !map.has(k.name)) continue;
      if (k.number != nullptr) *k.number = bounded(k, map);
      if (k.optional != nullptr) *k.optional = bounded(k, map);
      if (k.count != nullptr) *k.count = map.integer(k.name, 0, 0, static_cast<int64_t>(k.highest));
      if (k.bits != nullptr) *k.bits = chosen(k, map);
      if (k.flag != nullptr) *k.flag = map.flag(k.name, false);
    }
  }
  return policy;
}

Policy load_policy(const std::string& path) { return parse_policy(read_text_file(path, kMaxPolicyBytes), path); }

std::string policy_template() {
  Policy policy;
  std::string text =
      "# What a candidate model must keep of the original to pass `slipway verify`, and when simulated before release\n"
      "# by `slipway ship`; last, what decides how it is quantised. The values are the defaults.\n"
      "# A figure whose key is commented out is reported and not judged.\n";
  std::string section;
  for (const Key& k : keys_of(policy)) {
    if (k.section != section) text += fmt::format("\n{}:\n", section = k.section);
    const std::string value = text_of(k);
    const bool off = value.empty();
    const std::string line = fmt::format("  {}{}: {}", off ? "# " : "", k.name, value);
    text += fmt::format("{:<42} # {}\n", line, k.meaning);
  }
  return text;
}

std::string policy_digest(const Policy& policy) {
  Policy copy = policy, defaults;
  const std::vector<Key> keys = keys_of(copy), usual = keys_of(defaults);
  std::string text;
  for (size_t i = 0; i < keys.size(); ++i)
    if (const Key& k = keys[i]; k.section != std::string_view(kQuantization) || text_of(k) != text_of(usual[i]))
      text += fmt::format("{}.{}={}\n", k.section, k.name, text_of(k));
  return sha256_hex(text);
}

QuantizationGoal quantization_goal(const Policy& policy) {
  QuantizationGoal goal = policy.quantization;
  if (!goal.max_accuracy_drop_points) goal.max_accuracy_drop_points = policy.accuracy.max_drop_points;
  return goal;
}

}  // namespace slipway
