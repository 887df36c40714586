#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "monitor/alarm_rules.h"

namespace slipway {

/// What the alarms judge of one version, over the last `window_s` seconds.
struct VersionWindow {
  std::string model;
  int64_t version = 0;
  int64_t requests = 0, faults = 0, timeouts = 0;
  double mean_latency_ms = 0;
};

/// What they judge of everything, at one moment.
struct AlarmFigures {
  std::vector<VersionWindow> versions;
  std::map<std::string, double> idle_s;  ///< by model with a live version: seconds since its last request
  uint64_t resident_bytes = 0, memory_limit_bytes = 0;
};

struct AlarmEvent {
  Alarm alarm;
  bool resolved = false;  ///< else it began to fire
};

/// The alarms' states: inactive → pending → firing → inactive, by the rules and a clock that the caller brings.
class Alarms {
 public:
  explicit Alarms(AlarmRules rules) : rules_(std::move(rules)) {}
  /// Returns what changed between firing and not. `now_ms` never goes back.
  std::vector<AlarmEvent> judge(const AlarmFigures& figures, int64_t now_ms);
  /// Pending and firing; those that fire first, the oldest first.
  std::vector<Alarm> current() const;
  const AlarmRules& rules() const { return rules_; }

 private:
  struct State {
    Alarm alarm;
    int64_t calm_since_ms = -1;  ///< firing, but below the hysteresis since then
    bool judged = false;
  };
  struct Condition {
    std::string name, model;
    int64_t version = 0;
    double value = 0, threshold = 0;
    bool enough = true;  ///< without enough requests, it holds as little as at 0
    std::string sentence;
  };
  void judge(const Condition& condition, int64_t now_ms, std::vector<AlarmEvent>& events);
  AlarmRules rules_;
  std::map<std::tuple<std::string, std::string, int64_t>, State> states_;
};

/// Alertmanager's POST /api/v2/alerts: one alert with labels, annotations, startsAt and, when resolved, endsAt.
std::string alert_json(const AlarmEvent& event, int64_t now_ms);

}  // namespace slipway
