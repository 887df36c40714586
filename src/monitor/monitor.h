#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "monitor/alarm_rules.h"
#include "monitor/observation.h"
#include "serve/server.h"

namespace slipway {

class AdminPlane;

struct MonitorOptions {
  AlarmRules alarms;
  int64_t history_s = 900;         ///< of the dashboard's series, one point a second
  std::function<int64_t()> clock;  ///< monotonic nanoseconds; empty: the real one
};

/// Watches a server: live distributions, time series, alarms. observe() is called for each answered request.
class Monitor {
 public:
  Monitor(Server& server, MonitorOptions options);
  ~Monitor();
  void observe(const Served& served) noexcept;
  /// Once a second: a point of the series, and the alarms judged.
  void tick();
  /// tick() in a thread of its own, until destroyed.
  void start();
  /// Since the version was loaded. Fails with kNotFound when it is not.
  Observation observation(const std::string& model, int64_t version, Variant variant) const;
  std::vector<Alarm> alarms() const;  ///< pending and firing
  /// What the dashboard shows now: process, models, versions, alarms; `rollouts` (JSON text) goes in as it is.
  std::string status_json(const std::string& rollouts = {}) const;
  /// The series' points after `since_ms`, of the process, of everything, of each model and version.
  std::string series_json(int64_t since_ms = 0) const;
  std::string alarms_json() const;
  /// prometheus_text(), then live scores and alarms in the same format.
  std::string metrics_text() const;
  /// GET / (the dashboard), /api/status, /api/series?since=, /api/alarms, /metrics. `extra` adds the rollouts' state to
  /// /api/status under "rollouts", as JSON text.
  void serve_on(AdminPlane& admin, std::function<std::string()> extra = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipway
