// The alarms' state machine, after Prometheus' alerting rules (`for`) with a hysteresis on the way back: a condition
// that holds makes an alarm pending; held for `for_s` it fires; a firing one resolves once its value has stayed below
// `resolve_ratio` of the threshold for `for_s`. What disappears (an unloaded version) resolves at once.
#include "monitor/alarms.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

namespace slipway {
namespace {

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

std::string rfc3339(int64_t ms) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

}  // namespace

void Alarms::judge(const Condition& c, int64_t now_ms, std::vector<AlarmEvent>& events) {
  if (!(c.threshold > 0)) return;
  const double value = c.enough ? c.value : 0;
  const auto key = std::make_tuple(c.name, c.model, c.version);
  auto found = states_.find(key);
  if (found == states_.end()) {
    if (!(value > c.threshold)) return;
    found = states_.emplace(key, State{}).first;
    found->second.alarm = {.name = c.name, .model = c.model, .version = c.version, .since_ms = now_ms};
  }
  State& state = found->second;
  state.judged = true;
  state.alarm.value = value;
  state.alarm.threshold = c.threshold;
  state.alarm.sentence = c.sentence;
  const int64_t wait_ms = rules_.for_s * 1000;
  if (!state.alarm.firing) {
    if (!(value > c.threshold)) {
      states_.erase(found);
    } else if (now_ms - state.alarm.since_ms >= wait_ms) {
      state.alarm.firing = true;
      state.alarm.since_ms = now_ms;
      events.push_back({state.alarm, false});
    }
    return;
  }
  if (value > c.threshold * rules_.resolve_ratio) {
    state.calm_since_ms = -1;
    return;
  }
  if (state.calm_since_ms < 0) state.calm_since_ms = now_ms;
  if (now_ms - state.calm_since_ms < wait_ms) return;
  events.push_back({state.alarm, true});
  states_.erase(found);
}

std::vector<AlarmEvent> Alarms::judge(const AlarmFigures& f, int64_t now_ms) {
  std::vector<AlarmEvent> events;
  for (auto& [key, state] : states_) state.judged = false;
  for (const VersionWindow& v : f.versions) {
    const bool enough = v.requests >= std::max<int64_t>(rules_.min_requests, 1);
    const auto about = [&](const char* name, double value, double threshold, std::string sentence) {
      judge({.name = name,
             .model = v.model,
             .version = v.version,
             .value = value,
             .threshold = threshold,
             .enough = enough,
             .sentence = std::move(sentence)},
            now_ms, events);
    };
    const auto requests = static_cast<double>(v.requests);
    const double errors = ratio(static_cast<double>(v.faults), requests);
    const double timeouts = ratio(static_cast<double>(v.timeouts), requests);
    about("MeanLatencyHigh", v.mean_latency_ms, rules_.mean_latency_ms,
          fmt::format("{} version {} took {:.2f} ms on average over the last {} s; the threshold is {:g} ms", v.model,
                      v.version, v.mean_latency_ms, rules_.window_s, rules_.mean_latency_ms));
    about("ErrorRateHigh", errors, rules_.error_rate,
          fmt::format("{} version {} failed {:.2f} % of {} requests over the last {} s; the threshold is {:g} %",
                      v.model, v.version, errors * 100, v.requests, rules_.window_s, rules_.error_rate * 100));
    about("TimeoutRateHigh", timeouts, rules_.timeout_rate,
          fmt::format("{} version {} missed the deadline of {:.2f} % of {} requests over the last {} s; the threshold "
                      "is {:g} %",
                      v.model, v.version, timeouts * 100, v.requests, rules_.window_s, rules_.timeout_rate * 100));
  }
  for (const auto& [model, idle_s] : f.idle_s)
    judge({.name = "NoTraffic",
           .model = model,
           .value = idle_s,
           .threshold = rules_.no_traffic_s,
           .sentence = fmt::format("{} has had no request for {:.0f} s; the threshold is {:g} s", model, idle_s,
                                   rules_.no_traffic_s)},
          now_ms, events);
  if (f.memory_limit_bytes > 0) {
    const double used = ratio(static_cast<double>(f.resident_bytes), static_cast<double>(f.memory_limit_bytes));
    judge({.name = "MemoryHigh",
           .value = used,
           .threshold = rules_.memory_ratio,
           .sentence = fmt::format("The server uses {:.1f} % of the {:.0f} MiB that it may; the threshold is {:g} %",
                                   used * 100, static_cast<double>(f.memory_limit_bytes) / (1 << 20),
                                   rules_.memory_ratio * 100)},
          now_ms, events);
  }
  for (auto at = states_.begin(); at != states_.end();) {
    if (at->second.judged) {
      ++at;
      continue;
    }
    if (at->second.alarm.firing) events.push_back({at->second.alarm, true});
    at = states_.erase(at);
  }
  return events;
}

std::vector<Alarm> Alarms::current() const {
  std::vector<Alarm> alarms;
  for (const auto& [key, state] : states_) alarms.push_back(state.alarm);
  std::stable_sort(alarms.begin(), alarms.end(), [](const Alarm& a, const Alarm& b) {
    return a.firing != b.firing ? a.firing : a.since_ms < b.since_ms;
  });
  return alarms;
}

std::string alert_json(const AlarmEvent& event, int64_t now_ms) {
  const Alarm& a = event.alarm;
  nlohmann::json labels = {{"alertname", a.name}, {"job", "slipway"}, {"severity", "page"}};
  if (!a.model.empty()) labels["model"] = a.model;
  if (a.version > 0) labels["version"] = std::to_string(a.version);
  nlohmann::json alert = {{"labels", labels},
                          {"annotations",
                           {{"summary", a.sentence},
                            {"value", fmt::format("{:g}", a.value)},
                            {"threshold", fmt::format("{:g}", a.threshold)}}},
                          {"startsAt", rfc3339(a.since_ms)}};
  if (event.resolved) alert["endsAt"] = rfc3339(now_ms);
  return nlohmann::json::array({alert}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace slipway
