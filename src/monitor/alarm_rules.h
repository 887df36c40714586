#pragma once
#include <cstdint>
#include <string>

namespace slipway {

/// Thresholds of the alarms; a YAML file beside, all keys optional. Each fires when its condition holds for `for_s`
/// seconds and resolves when it has been below `resolve_ratio` of the threshold for as long (hysteresis).
struct AlarmRules {
  double mean_latency_ms = 0;  ///< 0: off
  double error_rate = 0.05;    ///< share of requests that fail through the server's fault
  double timeout_rate = 0.05;
  double memory_ratio = 0.8;  ///< resident / the limit that applies (cgroup or host)
  double no_traffic_s = 0;    ///< 0: off
  int64_t min_requests = 20;  ///< in the window; below, rates are not judged
  int64_t window_s = 60;
  int64_t for_s = 10;
  double resolve_ratio = 0.8;
  std::string webhook;  ///< http://host:port/path: a POST for each change, and each minute while firing; empty: none
};

/// Fails with kNotFound, or kInvalidArgument naming file, line and key.
AlarmRules load_alarm_rules(const std::string& path);
AlarmRules parse_alarm_rules(const std::string& text, const std::string& path);
std::string alarm_rules_template();

struct Alarm {
  std::string name, model;  ///< "MeanLatencyHigh"; empty model: the whole process
  int64_t version = 0;
  bool firing = false;  ///< else pending
  double value = 0, threshold = 0;
  int64_t since_ms = 0;  ///< epoch
  std::string sentence;
};

}  // namespace slipway
