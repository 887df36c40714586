// The alarms' YAML. One table lists every key with its place in the struct: the reader and the commented file both
// come from it.
#include "monitor/alarm_rules.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/strict_yaml.h"

namespace slipway {
namespace {

constexpr uint64_t kMaxAlarmFileBytes = uint64_t{1} << 20;

struct RuleKey {
  const char* name;
  double* number;
  int64_t* count;
  double lowest, highest;
  const char* meaning;
};

std::vector<RuleKey> rule_keys(AlarmRules& r) {
  return {
      {"mean_latency_ms", &r.mean_latency_ms, nullptr, 0, 1e9,
       "MeanLatencyHigh: mean time from request to answer of a version; 0 is off"},
      {"error_rate", &r.error_rate, nullptr, 0, 1,
       "ErrorRateHigh: share of requests that fail through the server's fault; 0 is off"},
      {"timeout_rate", &r.timeout_rate, nullptr, 0, 1, "TimeoutRateHigh: share that misses its deadline; 0 is off"},
      {"memory_ratio", &r.memory_ratio, nullptr, 0, 1,
       "MemoryHigh: resident memory / the limit that applies (cgroup or host); 0 is off"},
      {"no_traffic_s", &r.no_traffic_s, nullptr, 0, 1e9, "NoTraffic: seconds without a request of a model; 0 is off"},
      {"min_requests", nullptr, &r.min_requests, 1, 1e9, "with fewer in the window, a version's figures aren't judged"},
      {"window_s", nullptr, &r.window_s, 1, 3600, "that latency and rates are taken over"},
      {"for_s", nullptr, &r.for_s, 0, 86400, "a condition must hold this long before its alarm fires"},
      {"resolve_ratio", &r.resolve_ratio, nullptr, 0, 1, "it resolves after as long below this share of its threshold"},
  };
}

}  // namespace

AlarmRules parse_alarm_rules(const std::string& text, const std::string& path) {
  AlarmRules rules;
  const std::vector<RuleKey> keys = rule_keys(rules);
  const bool empty = text.find_first_not_of(" \t\r\n") == std::string::npos;
  std::vector<std::string_view> known;
  for (const RuleKey& key : keys) known.emplace_back(key.name);
  known.emplace_back("webhook");
  if (empty) return rules;
  const StrictMap map(parse_yaml(text, path), path, known);
  for (const RuleKey& key : keys) {
    if (!map.has(key.name)) continue;
    if (key.count != nullptr) {
      *key.count = map.integer(key.name, 0, static_cast<int64_t>(key.lowest), static_cast<int64_t>(key.highest));
      continue;
    }
    const double value = map.real(key.name, 0);
    if (value < key.lowest || value > key.highest)
      fail(ErrorCode::kInvalidArgument, "A number from {} to {} is expected here: {} at {}", key.lowest, key.highest,
           value, map.place(key.name));
    *key.number = value;
  }
  rules.webhook = map.text("webhook");
  if (!rules.webhook.empty() && !rules.webhook.starts_with("http://"))
    fail(ErrorCode::kInvalidArgument, "A webhook is an address as http://HOST:PORT/PATH: '{}' at {}", rules.webhook,
         map.place("webhook"));
  return rules;
}

AlarmRules load_alarm_rules(const std::string& path) {
  return parse_alarm_rules(read_text_file(path, kMaxAlarmFileBytes), path);
}

std::string alarm_rules_template() {
  AlarmRules rules;
  std::string text = "# When `slipway serve --alarms FILE` raises an alarm. The values are the defaults.\n\n";
  for (const RuleKey& key : rule_keys(rules)) {
    const std::string value = key.count != nullptr ? fmt::format("{}", *key.count) : fmt::format("{}", *key.number);
    text += fmt::format("{:<22} # {}\n", fmt::format("{}: {}", key.name, value), key.meaning);
  }
  return text +
         "\n# Gets a POST for each alarm that fires or resolves, and each minute while one fires, as Alertmanager's\n"
         "# /api/v2/alerts takes it.\n# webhook: http://127.0.0.1:9093/api/v2/alerts\n";
}

}  // namespace slipway
