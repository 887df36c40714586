// Watching a server. The computing threads only add to lock-free counters (observe); once a second tick() takes the
// differences into tracks per version, per model and for everything, and lets the alarms judge them. Versions are known
// by their object, so that a version loaded again starts afresh; a model's sums survive its versions.
// An object's address may come back for another one: its owner (or, while answering, its name) tells them apart.
#include "monitor/monitor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "monitor/monitor_impl.h"

namespace slipway {
namespace {

constexpr size_t kAlarmLog = 50;
constexpr int64_t kRepeatMs = 60'000;

std::string where(const Alarm& a) {
  if (a.model.empty()) return a.name;
  return a.version == 0 ? fmt::format("{} of {}", a.name, a.model)
                        : fmt::format("{} of {} version {}", a.name, a.model, a.version);
}

}  // namespace

Monitor::Impl::Impl(Server& s, MonitorOptions o)
    : server(s), options(std::move(o)), all(fresh_track()), facts(process_facts()), alarms(options.alarms) {
  if (!options.clock) options.clock = now_ns;
  last_tick_ns = start_ns = options.clock();
  start_ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
                 .count();
  if (!options.alarms.webhook.empty()) webhook.emplace(WebhookOptions{.url = options.alarms.webhook});
}

std::shared_ptr<Watched> Monitor::Impl::watched(const ModelVersion& version) {
  {
    const std::shared_lock lock(watched_mutex);
    const auto found = watched_versions.find(&version);
    if (found != watched_versions.end() && found->second->version == version.version() &&
        found->second->model == version.model())
      return found->second;
  }
  auto fresh = std::make_shared<Watched>();
  fresh->model = version.model();
  fresh->version = version.version();
  if (version.outputs().empty()) {
    fresh->shape.reason = "the model has no outputs";
  } else {
    const Port& port = version.outputs()[0];
    fresh->shape = score_shape(port.name, port.dtype, port.dims, version.outputs().size() == 1);
    fresh->output = port.name;
  }
  const std::unique_lock lock(watched_mutex);
  auto& kept = watched_versions[&version];
  if (kept == nullptr || kept->version != fresh->version || kept->model != fresh->model) kept = std::move(fresh);
  return kept;
}

Tally Monitor::Impl::tally(const ModelVersion& version) {
  Tally t;
  const VersionMetrics& metrics = version.metrics();
  const auto seen = watched(version);
  for (int i = 0; i < kVariantCount; ++i) {
    const VariantMetrics& m = metrics.variants[static_cast<size_t>(i)];
    VariantSnapshot counters{.requests = m.requests, .rows = m.rows};
    for (size_t e = 0; e < counters.errors.size(); ++e) counters.errors[e] = m.errors[e];
    t.total_us.merge(m.total_us.snapshot());
    Observation o;
    seen->scores[static_cast<size_t>(i)].copy_to(o);
    t.sums += {.requests = counters.requests,
               .rows = counters.rows,
               .faults = counters.faults(),
               .timeouts = counters.timeouts(),
               .rejections = counters.rejections(),
               .scored = o.confidence.count(),
               .confidence = o.confidence.sum,
               .entropy = o.entropy.sum,
               .margin = o.margin.sum};
    for (size_t bin = 0; bin < ScoreHistogram::kBins; ++bin) t.confidence.counts[bin] += o.confidence.counts[bin];
    t.confidence.sum += o.confidence.sum;
  }
  t.sums.answered = t.total_us.count();
  t.sums.latency_us = t.total_us.sum();
  t.sums.executions = metrics.executions;
  t.sums.batched_rows = metrics.batch_rows.snapshot().sum();
  return t;
}

void Monitor::Impl::tick() {
  const std::vector<std::shared_ptr<ModelVersion>> loaded = server.versions();
  const ProcessFacts now_facts = process_facts();
  std::set<const ModelVersion*> present;
  for (const auto& version : loaded) present.insert(version.get());
  {
    // one that is gone may still answer, one that is new may have answered before it was listed
    const std::unique_lock lock(watched_mutex);
    std::erase_if(watched_versions, [&](const auto& entry) {
      return present.contains(entry.first) ? (entry.second->absent_ticks = 0) != 0 : ++entry.second->absent_ticks > 2;
    });
  }
  const std::lock_guard lock(mutex);
  const int64_t now = options.clock(), now_ms = epoch_ms(now);
  std::erase_if(versions, [&](const auto& entry) { return !present.contains(entry.first); });
  std::map<std::string, std::pair<Tally, int64_t>> by_model;
  Tally everything;
  int64_t waiting = 0;
  AlarmFigures figures;
  for (const auto& version : loaded) {
    VersionTrack& v = versions.try_emplace(version.get(), VersionTrack{version, fresh_track(), {}}).first->second;
    if (v.object.lock() != version) v = {version, fresh_track(), {}};
    Tally total = tally(*version);
    const Tally delta = total.since(v.last);
    v.last = std::move(total);
    const int64_t depth = version->metrics().queue_depth;
    v.track.add(delta, depth, now, now_ms);
    auto& [model_delta, model_depth] = by_model[version->model()];
    model_delta.merge(delta);
    model_depth += depth;
    everything.merge(delta);
    waiting += depth;
    const Sums window = v.track.window();
    figures.versions.push_back({.model = version->model(),
                                .version = version->version(),
                                .requests = window.requests,
                                .faults = window.faults,
                                .timeouts = window.timeouts,
                                .mean_latency_ms = window.answered == 0
                                                       ? 0
                                                       : static_cast<double>(window.latency_us) / 1000 /
                                                             static_cast<double>(window.answered)});
  }
  std::erase_if(models, [&](const auto& entry) { return !by_model.contains(entry.first); });
  for (const auto& [name, change] : by_model) {
    Track& track = models.try_emplace(name, fresh_track()).first->second;
    track.add(change.first, change.second, now, now_ms);
    if (server.routing(name).stable != 0) figures.idle_s[name] = track.idle_s(now);
  }
  all.add(everything, waiting, now, now_ms);
  const double seconds = static_cast<double>(now - last_tick_ns) * 1e-9;
  process.push_back({.t_ms = now_ms,
                     .resident_bytes = now_facts.resident_bytes,
                     .cpu_cores = seconds > 0 ? (now_facts.cpu_seconds - facts.cpu_seconds) / seconds : 0,
                     .in_flight = server.in_flight()});
  while (now_ms - process.front().t_ms > options.history_s * 1000) process.pop_front();
  facts = now_facts;
  last_tick_ns = now;
  figures.resident_bytes = facts.resident_bytes;
  figures.memory_limit_bytes = facts.memory_limit_bytes;
  tell(alarms.judge(figures, now_ms), now_ms);
}

void Monitor::Impl::tell(const std::vector<AlarmEvent>& events, int64_t now_ms) {
  for (const AlarmEvent& event : events) {
    if (event.resolved)
      log_info("Alarm resolved: {}", where(event.alarm));
    else
      log_warning("Alarm: {}: {}", where(event.alarm), event.alarm.sentence);
    if (webhook) webhook->post(alert_json(event, now_ms));
    alarm_log.emplace_back(now_ms, event);
    if (alarm_log.size() > kAlarmLog) alarm_log.pop_front();
  }
  if (!webhook || now_ms - last_repeat_ms < kRepeatMs) return;
  last_repeat_ms = now_ms;
  for (const Alarm& alarm : alarms.current()) {
    const bool told = std::any_of(events.begin(), events.end(), [&](const AlarmEvent& e) {
      return e.alarm.name == alarm.name && e.alarm.model == alarm.model && e.alarm.version == alarm.version;
    });
    if (alarm.firing && !told) webhook->post(alert_json({alarm, false}, now_ms));
  }
}

void Monitor::Impl::run() {
  auto next = std::chrono::steady_clock::now();
  std::unique_lock lock(stop_mutex);
  while (true) {
    next = std::max(next + std::chrono::seconds(1), std::chrono::steady_clock::now());
    if (stop.wait_until(lock, next, [&] { return stopping; })) return;
    lock.unlock();
    try {
      tick();
    } catch (const std::exception& error) {
      log_error("The monitor missed a second: {}", error.what());
    }
    lock.lock();
  }
}

Monitor::Monitor(Server& server, MonitorOptions options) : impl_(std::make_unique<Impl>(server, std::move(options))) {}

Monitor::~Monitor() {
  if (!impl_->thread.joinable()) return;
  {
    const std::lock_guard lock(impl_->stop_mutex);
    impl_->stopping = true;
  }
  impl_->stop.notify_all();
  impl_->thread.join();
}

void Monitor::observe(const Served& served) noexcept {
  if (served.response.error) return;
  try {
    const auto watched = impl_->watched(served.version);
    if (watched->shape.classes == 0) return;
    for (const WireTensor& output : served.response.outputs)
      if (output.name == watched->output) {
        watched->scores[static_cast<size_t>(served.variant)].add(output, watched->shape);
        return;
      }
  } catch (const std::bad_alloc&) {  // only the first of a version allocates; a later one tries again
  }
}

void Monitor::tick() { impl_->tick(); }

void Monitor::start() {
  SLIPWAY_CHECK(!impl_->thread.joinable());
  impl_->thread = std::thread([this] { impl_->run(); });
}

Observation Monitor::observation(const std::string& model, int64_t version, Variant variant) const {
  for (const auto& loaded : impl_->server.versions(model)) {
    if (loaded->version() != version) continue;
    const auto watched = impl_->watched(*loaded);
    Observation o;
    o.generation = loaded->generation();
    o.traffic = snapshot(loaded->metrics().variants[static_cast<size_t>(variant)]);
    o.scored = watched->shape.classes > 0;
    watched->scores[static_cast<size_t>(variant)].copy_to(o);
    return o;
  }
  fail(ErrorCode::kNotFound, "This version is not loaded, so there is nothing to observe; load it: {} version {}",
       model, version);
}

std::vector<Alarm> Monitor::alarms() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->alarms.current();
}

}  // namespace slipway
