// The monitor's JSON: the status is a document of the present, the series are columns of numbers (null where nothing
// was counted), so that a page that polls each second gets a few hundred bytes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "monitor/monitor_impl.h"
#include "serve/model_version.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr const char* kColumns =
    R"(["t_ms","requests_per_s","faults_per_s","timeouts_per_s","rejections_per_s","p50_ms","p95_ms","p99_ms","mean_ms",)"
    R"("queue_depth","batch_rows","confidence","entropy","margin"])";

json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

void append_number(std::string& text, double value) {
  if (std::isfinite(value))
    fmt::format_to(std::back_inserter(text), ",{:.5g}", value);
  else
    text += ",null";
}

json to_json(const Point& p) {
  return {{"requests_per_s", p.requests_per_s}, {"faults_per_s", p.faults_per_s},
          {"timeouts_per_s", p.timeouts_per_s}, {"rejections_per_s", p.rejections_per_s},
          {"p50_ms", number(p.p50_ms)},         {"p95_ms", number(p.p95_ms)},
          {"p99_ms", number(p.p99_ms)},         {"mean_ms", number(p.mean_ms)},
          {"queue_depth", p.queue_depth},       {"batch_rows", number(p.batch_rows)},
          {"confidence", number(p.confidence)}, {"entropy", number(p.entropy)},
          {"margin", number(p.margin)}};
}

json to_json(const Alarm& a) {
  return {{"name", a.name},         {"model", a.model},
          {"version", a.version},   {"state", a.firing ? "firing" : "pending"},
          {"value", a.value},       {"threshold", a.threshold},
          {"since_ms", a.since_ms}, {"sentence", a.sentence}};
}

std::string dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

json alarms_of(const Alarms& alarms) {
  json list = json::array();
  for (const Alarm& alarm : alarms.current()) list.push_back(to_json(alarm));
  return list;
}

void append_points(std::string& text, const std::deque<Point>& points, int64_t since_ms) {
  text += "\"points\":[";
  const auto first =
      std::upper_bound(points.begin(), points.end(), since_ms, [](int64_t t, const Point& p) { return t < p.t_ms; });
  for (auto p = first; p != points.end(); ++p) {
    fmt::format_to(std::back_inserter(text), "{}[{}", p == first ? "" : ",", p->t_ms);
    for (const double value :
         {p->requests_per_s, p->faults_per_s, p->timeouts_per_s, p->rejections_per_s, p->p50_ms, p->p95_ms, p->p99_ms,
          p->mean_ms, p->queue_depth, p->batch_rows, p->confidence, p->entropy, p->margin})
      append_number(text, value);
    text += ']';
  }
  text += ']';
}

std::string quoted(const std::string& text) { return dump(json(text)); }

}  // namespace

std::string Monitor::status_json(const std::string& rollouts) const {
  json status = {{"slipway", SLIPWAY_VERSION}, {"ready", impl_->server.ready()}};
  const auto loaded = impl_->server.versions();
  json models = json::array(), versions = json::array(), index = json::array();
  for (const IndexEntry& entry : impl_->server.index())
    if (entry.state != "READY")
      index.push_back(
          {{"model", entry.model}, {"version", entry.version}, {"state", entry.state}, {"reason", entry.reason}});
  const std::lock_guard lock(impl_->mutex);
  std::map<std::string, Routing> routings;
  for (const auto& version : loaded) routings[version->model()] = impl_->server.routing(version->model());
  for (const auto& [name, routing] : routings) {
    json model = {{"model", name},
                  {"stable", routing.stable},
                  {"candidate", routing.candidate},
                  {"share", routing.candidate_share / 1e4}};
    const auto track = impl_->models.find(name);
    if (track != impl_->models.end()) {
      model["recent"] = to_json(track->second.recent());
      model["idle_s"] = track->second.idle_s(impl_->last_tick_ns);
    }
    models.push_back(std::move(model));
  }
  for (const auto& version : loaded) {
    const Routing& r = routings[version->model()];
    const bool live = version->version() == r.stable, candidate = version->version() == r.candidate;
    const double share = r.candidate_share / 1e4;
    const auto watched = impl_->watched(*version);
    json v = {{"model", version->model()},
              {"version", version->version()},
              {"role", live        ? "live"
                       : candidate ? "candidate"
                                   : "warm"},
              {"share", (live ? 1 - (r.candidate != 0 ? share : 0) : 0) + (candidate && !live ? share : 0)},
              {"proof", to_string(version->source().proof)},
              {"proof_reason", version->source().proof_reason},
              {"sha256", version->source().sha256.substr(0, 12)},
              {"memory_bytes", version->memory_bytes()}};
    v["scores"] = {
        {"on", watched->shape.classes > 0}, {"classes", watched->shape.classes}, {"reason", watched->shape.reason}};
    const auto seen = impl_->versions.find(version.get());
    if (seen != impl_->versions.end()) {
      const Track& track = seen->second.track;
      const ScoreHistogram minute = track.last_minute();
      v["recent"] = to_json(track.recent());
      v["requests"] = track.total().sums.requests;
      v["faults"] = track.total().sums.faults;
      v["timeouts"] = track.total().sums.timeouts;
      v["rejections"] = track.total().sums.rejections;
      v["scores"]["last_minute"] = {{"count", minute.count()}, {"mean", minute.mean()}, {"bins", minute.counts}};
    }
    json variants = json::array();
    for (int i = 0; i < kVariantCount; ++i) {
      const VariantMetrics& m = version->metrics().variants[static_cast<size_t>(i)];
      Observation o;
      watched->scores[static_cast<size_t>(i)].copy_to(o);
      if (m.requests > 0)
        variants.push_back({{"variant", to_string(static_cast<Variant>(i))},
                            {"requests", m.requests.load()},
                            {"confidence", o.confidence.mean()},
                            {"entropy", o.entropy.mean()},
                            {"margin", o.margin.mean()},
                            {"scored", o.confidence.count()}});
    }
    v["variants"] = std::move(variants);
    versions.push_back(std::move(v));
  }
  const ProcessPoint last = impl_->process.empty() ? ProcessPoint() : impl_->process.back();
  status["now_ms"] = impl_->epoch_ms(impl_->options.clock());
  status["start_ms"] = impl_->start_ms;
  status["process"] = {{"resident_bytes", impl_->facts.resident_bytes},
                       {"memory_limit_bytes", impl_->facts.memory_limit_bytes},
                       {"memory_alarm_ratio", impl_->options.alarms.memory_ratio},
                       {"cpu_cores", last.cpu_cores},
                       {"threads", impl_->facts.threads},
                       {"open_files", impl_->facts.open_files},
                       {"in_flight", last.in_flight}};
  status["total"] = to_json(impl_->all.recent());
  status["models"] = std::move(models);
  status["versions"] = std::move(versions);
  status["unavailable"] = std::move(index);
  status["alarms"] = alarms_of(impl_->alarms);
  status["alarm_log"] = json::array();
  for (const auto& [at_ms, event] : impl_->alarm_log) {
    json line = to_json(event.alarm);
    line["state"] = event.resolved ? "resolved" : "firing";
    line["at_ms"] = at_ms;
    status["alarm_log"].push_back(std::move(line));
  }
  json given = json::parse(rollouts, nullptr, false);
  status["rollouts"] = given.is_array() ? std::move(given) : json::array();
  return dump(status);
}

std::string Monitor::series_json(int64_t since_ms) const {
  const std::lock_guard lock(impl_->mutex);
  std::string text = fmt::format(
      "{{\"start_ms\":{},\"columns\":{},\"process_columns\":[\"t_ms\",\"resident_bytes\","
      "\"cpu_cores\",\"in_flight\"],\"process\":[",
      impl_->start_ms, kColumns);
  bool first = true;
  for (const ProcessPoint& p : impl_->process) {
    if (p.t_ms <= since_ms) continue;
    fmt::format_to(std::back_inserter(text), "{}[{},{},{:.3g},{}]", first ? "" : ",", p.t_ms, p.resident_bytes,
                   p.cpu_cores, p.in_flight);
    first = false;
  }
  text += "],\"total\":{";
  append_points(text, impl_->all.points(), since_ms);
  text += "},\"models\":[";
  first = true;
  for (const auto& [name, track] : impl_->models) {
    text += fmt::format("{}{{\"model\":{},", first ? "" : ",", quoted(name));
    append_points(text, track.points(), since_ms);
    text += '}';
    first = false;
  }
  text += "],\"versions\":[";
  first = true;
  for (const auto& [object, seen] : impl_->versions) {
    const auto version = seen.object.lock();
    if (version == nullptr) continue;
    text +=
        fmt::format("{}{{\"model\":{},\"version\":{},", first ? "" : ",", quoted(version->model()), version->version());
    append_points(text, seen.track.points(), since_ms);
    text += '}';
    first = false;
  }
  return text + "]}";
}

std::string Monitor::alarms_json() const {
  const std::lock_guard lock(impl_->mutex);
  return dump({{"alarms", alarms_of(impl_->alarms)}});
}

}  // namespace slipway
