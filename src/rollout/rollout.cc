// The rollouts of a server. One lock around all of it: commands and ticks come one after the other. The order of the
// journal and the routing is the point of this file:
//   towards a candidate: journal, then route; when the journal can't be written, the candidate goes back instead;
//   away from it:        route, then journal; what can't be written is kept and tried again each second.
// So whatever a crash cuts off, the journal never knows less of a candidate than the traffic does, and a rollout that
// is found running in it went back: restart() says so and routes to the live version.
#include "rollout/rollout.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "rollout/rollout_json.h"

namespace slipway {
namespace {

constexpr auto kTick = std::chrono::milliseconds(250);
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHistory = 20;

int64_t epoch_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// A version of a model with its bytes: what is known of it must not be applied to others.
using Loaded = std::map<int64_t, std::shared_ptr<ModelVersion>>;
using Identity = std::set<std::pair<int64_t, std::string>>;

Loaded loaded_versions(const Server& server, const std::string& model) {
  Loaded loaded;
  for (auto& version : server.versions(model)) {
    const int64_t number = version->version();
    loaded[number] = std::move(version);
  }
  return loaded;
}

std::string ports_text(const ModelVersion& version) {
  std::string text;
  for (const auto* ports : {&version.inputs(), &version.outputs()})
    for (const Port& p : *ports)
      text += fmt::format("{} {} [{}]; ", p.name, datatype_name(p.dtype), fmt::join(p.dims, ", "));
  return text;
}

struct ModelRollout {
  RolloutState state;
  RolloutPlan plan;
  LiveRecord live, candidate;  ///< as the journal is to have them
  std::string nothing_live;    ///< why no version is live
  std::string journal_fault;
  std::optional<Journal::Change> pending;  ///< what the journal did not take yet
  std::optional<double> rollback_us;
  Identity seen, tried;  ///< versions at the last poll; at the last try to make one live
};

}  // namespace

struct Rollouts::Impl {
  Impl(Server& s, Observe o, RolloutsOptions opts)
      : server(s), observe(std::move(o)), options(std::move(opts)), journal(options.journal) {
    if (!options.clock) options.clock = now_ns;
    if (!options.memory_ratio)
      options.memory_ratio = [] {
        const ProcessFacts facts = process_facts();
        return facts.memory_limit_bytes == 0
                   ? 0.0
                   : static_cast<double>(facts.resident_bytes) / static_cast<double>(facts.memory_limit_bytes);
      };
    restart();
  }

  void restart();
  void adopt(const std::string& model, ModelRollout& m, const Loaded& loaded);
  void adopt_new();
  void go_live(const std::string& model, ModelRollout& m, LiveRecord live, std::string event, std::string sentence);
  void judge(const std::string& model, ModelRollout& m, std::optional<RolloutCommand> command, const std::string& who);
  void settle(const std::string& model, ModelRollout& m, RolloutDecision&& decision, const std::string& who);
  void back_to_live(const std::string& model, ModelRollout& m, RolloutState&& state, Journal::Change&& change);
  void fall_back(const std::string& model, ModelRollout& m, const char* why);
  void flush(ModelRollout& m);
  Observation counters(const std::string& model, int64_t version, Variant variant) const {
    return version == 0 ? Observation() : observe(model, version, variant);
  }
  RolloutStatus status_of(const std::string& model, const ModelRollout& m) const;

  RolloutRecord record(const ModelRollout& m, const RolloutState& s) const {
    return {.phase = s.phase,
            .live = s.live,
            .candidate = s.candidate,
            .candidate_sha256 = m.candidate.sha256,
            .override_reason = m.candidate.override_reason,
            .reason = s.reason,
            .step = static_cast<int64_t>(s.step),
            .share = rollout_share(s, m.plan)};
  }
  JournalEvent line(const std::string& model, std::string event, std::string sentence, const std::string& who = {},
                    std::string details = {}) const {
    log_info("{}: {}: {}", model, event, sentence);
    return {.at_ms = epoch_ms(),
            .model = model,
            .event = std::move(event),
            .sentence = std::move(sentence),
            .who = who,
            .details = std::move(details)};
  }

  Server& server;
  Observe observe;
  RolloutsOptions options;
  Journal journal;
  mutable std::mutex mutex;
  std::map<std::string, ModelRollout> models;
  int64_t flushed_ns = 0;

  std::mutex stop_mutex;
  std::condition_variable stop;
  bool stopping = false;
  std::thread thread;
};

void Rollouts::Impl::restart() {
  for (auto& [model, r] : journal.rollouts()) {
    ModelRollout& m = models[model];
    m.plan = options.plan;
    m.candidate = {r.candidate, r.candidate_sha256, r.override_reason};
    m.state.live = r.live, m.state.candidate = r.candidate;
    if (is_active(r.phase)) {
      r.reason = fmt::format("The server stopped while version {} had {:g} %: back to {}.", r.candidate,
                             static_cast<double>(r.share) / 100,
                             r.live == 0 ? std::string("nothing") : fmt::format("version {}", r.live));
      r.phase = RolloutPhase::kRolledBack, r.share = 0;
      journal.write({.model = model, .rollout = r, .events = {line(model, "rolled_back", r.reason)}});
    }
    m.state.phase = r.phase;
    m.state.reason = r.reason;
  }
}

void Rollouts::Impl::go_live(const std::string& model, ModelRollout& m, LiveRecord live, std::string event,
                             std::string sentence) {
  const int64_t version = live.version;
  try {
    flush(m);
    journal.write({.model = model, .live = live, .events = {line(model, std::move(event), std::move(sentence))}});
    server.route(model, {.stable = version});
    m.live = std::move(live);
    m.nothing_live.clear();
  } catch (const Error& error) {
    m.nothing_live = fmt::format("Version {} could not go live: {}", version, error.what());
    log_error("{}: {}", model, m.nothing_live);
  }
}

void Rollouts::Impl::adopt(const std::string& model, ModelRollout& m, const Loaded& loaded) {
  const std::vector<LiveRecord> before = journal.live(model);
  const auto sent_back = [&](const ModelVersion& v) {
    return (m.state.phase == RolloutPhase::kRolledBack || m.state.phase == RolloutPhase::kAborted) &&
           v.version() == m.candidate.version && v.source().sha256 == m.candidate.sha256;
  };
  for (size_t i = 0; i < before.size(); ++i) {
    const auto found = loaded.find(before[i].version);
    if (found == loaded.end() || found->second->source().sha256 != before[i].sha256) continue;
    if (i == 0) {
      server.route(model, {.stable = before[i].version});
      m.live = before[i];
      m.nothing_live.clear();
      log_info("{}: version {} is live, as before", model, before[i].version);
      return;
    }
    if (sent_back(*found->second)) continue;
    return go_live(model, m, before[i], "live",
                   fmt::format("Version {}, live until now, is not loaded as it was: version {}, which was live before "
                               "it, takes over.",
                               before[0].version, before[i].version));
  }
  const ModelVersion *passed = nullptr, *highest = nullptr;
  std::string proofs;
  for (const auto& [number, v] : loaded) {
    proofs += fmt::format("{}version {}: {}", proofs.empty() ? "" : "; ", number,
                          sent_back(*v) ? std::string("its rollout was sent back") : v->source().proof_reason);
    if (sent_back(*v)) continue;
    // What was live once is replaced by a rollout only, unless its own number comes back with proven bytes.
    if (!before.empty() && number != before[0].version) continue;
    highest = v.get();
    if (v->source().proof == Proof::kPassed) passed = v.get();
  }
  if (passed != nullptr)
    return go_live(model, m, {passed->version(), passed->source().sha256, ""}, "live",
                   fmt::format("Version {} went live: {}", passed->version(),
                               before.empty() ? "the model's first that is verified."
                                              : "its bytes changed, and the new ones are verified."));
  if (highest != nullptr && options.allow_unverified) {
    const std::string reason = fmt::format("--allow-unverified; {}", highest->source().proof_reason);
    return go_live(model, m, {highest->version(), highest->source().sha256, reason}, "override",
                   fmt::format("Version {} went live unverified, by --allow-unverified: {}", highest->version(),
                               highest->source().proof_reason));
  }
  m.nothing_live = fmt::format("No version is live, for none may be: {}. Verify and publish one, or start a rollout.",
                               proofs.empty() ? "none is loaded" : proofs);
  log_warning("{}: {}", model, m.nothing_live);
}

/// Models whose versions are the same as at the last poll, and not those of the last try.
void Rollouts::Impl::adopt_new() {
  std::set<std::string> loading;
  for (const IndexEntry& entry : server.index())
    if (entry.state == "LOADING") loading.insert(entry.model);
  for (const std::string& model : server.models()) {
    ModelRollout& m = models[model];
    const Loaded loaded = loaded_versions(server, model);
    Identity now;
    for (const auto& [number, v] : loaded) now.insert({number, v->source().sha256});
    const bool settled = now == m.seen && !loading.contains(model);
    m.seen = now;
    if (!settled || is_active(m.state.phase) || server.routing(model).stable != 0) continue;
    const bool more = !std::includes(m.tried.begin(), m.tried.end(), now.begin(), now.end());
    m.tried = std::move(now);
    if (more) adopt(model, m, loaded);
  }
}

void Rollouts::Impl::flush(ModelRollout& m) {
  if (!m.pending) return;
  try {
    journal.write(*m.pending);
    m.pending.reset();
    m.journal_fault.clear();
  } catch (const Error& error) {
    m.journal_fault = error.what();
    throw;
  }
}

/// One swap first; the journal may wait.
void Rollouts::Impl::back_to_live(const std::string& model, ModelRollout& m, RolloutState&& state,
                                  Journal::Change&& change) {
  const int64_t decided = now_ns();
  std::string fault;
  try {
    server.route(model, {.stable = state.live});
  } catch (const Error& error) {
    fault = error.what();
    try {
      server.route(model, {});
    } catch (const Error&) {
    }
  }
  const double us = static_cast<double>(now_ns() - decided) / 1000;
  m.rollback_us = us;
  m.state = std::move(state);
  if (m.state.live == 0) m.nothing_live = m.state.reason;
  JournalEvent& last = change.events.back();
  last.sentence += fault.empty()
                       ? fmt::format(" {} again after {:.0f} µs.",
                                     m.state.live == 0 ? std::string("Nothing is live")
                                                       : fmt::format("Version {} has all traffic", m.state.live),
                                     us)
                       : fmt::format(" There is no version to go back to: {}", fault);
  change.rollout = record(m, m.state);
  if (m.pending) {
    change.events.insert(change.events.begin(), m.pending->events.begin(), m.pending->events.end());
    if (!change.live) change.live = m.pending->live;
  }
  m.pending = std::move(change);
  flushed_ns = now_ns();
  try {
    flush(m);
  } catch (const Error& error) {
    log_error("{}: {}", model, error.what());
  }
}

/// The journal did not take the step towards the candidate, or the step could not be taken.
void Rollouts::Impl::fall_back(const std::string& model, ModelRollout& m, const char* why) {
  RolloutState state = m.state;
  state.phase = RolloutPhase::kRolledBack;
  state.reason = fmt::format("Sent back, for the next step could not be made safe: {}.", why);
  Journal::Change change{.model = model, .events = {line(model, "rolled_back", state.reason)}};
  if (state.live != 0) change.live = m.live;
  back_to_live(model, m, std::move(state), std::move(change));
}

void Rollouts::Impl::settle(const std::string& model, ModelRollout& m, RolloutDecision&& d, const std::string& who) {
  if (!d.refusal.empty()) fail(ErrorCode::kInvalidArgument, "{} See `slipway rollout status`: '{}'", d.refusal, model);
  if (d.events.empty()) {
    m.state = std::move(d.state);
    return;
  }
  const std::string details = d.state.verdicts.empty() ? "" : verdicts_json(d.state.verdicts);
  Journal::Change change{.model = model, .rollout = record(m, d.state)};
  for (RolloutEvent& e : d.events) change.events.push_back(line(model, e.event, e.sentence, who, details));
  if (!is_active(d.state.phase) && d.state.phase != RolloutPhase::kPromoted)
    return back_to_live(model, m, std::move(d.state), std::move(change));
  try {
    Routing routing{
        .stable = d.state.live, .candidate = d.state.candidate, .candidate_share = rollout_share(d.state, m.plan)};
    if (d.state.phase == RolloutPhase::kPromoted) {
      change.live = m.candidate;
      routing = {.stable = d.state.candidate};
    }
    journal.write(change);
    if (server.routing(model) != routing) server.route(model, routing);
  } catch (const Error& error) {
    log_error("{}: {}", model, error.what());
    return fall_back(model, m, error.what());
  }
  m.state = std::move(d.state);
  if (m.state.phase == RolloutPhase::kPromoted) m.live = m.candidate, m.nothing_live.clear();
}

void Rollouts::Impl::judge(const std::string& model, ModelRollout& m, std::optional<RolloutCommand> command,
                           const std::string& who) {
  const RolloutState& s = m.state;
  const Observation live = counters(model, s.live, Variant::kStable);
  const Observation candidate = counters(model, s.candidate, Variant::kCandidate);
  RolloutInputs inputs{.now_ns = options.clock(), .live = live, .candidate = candidate};
  const Loaded loaded = loaded_versions(server, model);
  const auto found = loaded.find(s.candidate);
  inputs.candidate_loaded = found != loaded.end() && found->second->source().sha256 == m.candidate.sha256;
  if (inputs.candidate_loaded) inputs.candidate_waiting = found->second->metrics().queue_depth;
  inputs.memory_ratio = options.memory_ratio();
  inputs.command = command;
  settle(model, m, advance_rollout(s, m.plan, inputs), who);
}

RolloutStatus Rollouts::Impl::status_of(const std::string& model, const ModelRollout& m) const {
  const Routing routing = server.routing(model);
  RolloutStatus s{.model = model, .phase = m.state.phase, .live = routing.stable, .candidate = m.state.candidate};
  s.share = m.state.phase == RolloutPhase::kPromoted ? 1 : routing.candidate_share / 10'000.0;
  s.steps = m.plan.steps;
  s.step = m.state.step;
  if (is_active(m.state.phase)) s.step_seconds = static_cast<double>(options.clock() - m.state.step_ns) / kSecond;
  s.verdicts = m.state.verdicts;
  s.reason = routing.stable == 0 && !is_active(m.state.phase) ? m.nothing_live : m.state.reason;
  s.override_reason = m.live.override_reason;
  s.journal_fault = m.journal_fault;
  s.rollback_us = m.rollback_us;
  s.history = journal.history(model, kHistory);
  return s;
}

Rollouts::Rollouts(Server& server, Observe observe, RolloutsOptions options)
    : impl_(std::make_unique<Impl>(server, std::move(observe), std::move(options))) {}

Rollouts::~Rollouts() {
  {
    const std::lock_guard lock(impl_->stop_mutex);
    impl_->stopping = true;
  }
  impl_->stop.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
}

void Rollouts::adopt() {
  const std::lock_guard lock(impl_->mutex);
  for (int poll = 0; poll < 2; ++poll) impl_->adopt_new();
}

void Rollouts::tick() {
  const std::lock_guard lock(impl_->mutex);
  for (auto& [model, m] : impl_->models)
    if (is_active(m.state.phase)) impl_->judge(model, m, std::nullopt, "");
  impl_->adopt_new();
  if (now_ns() - impl_->flushed_ns < kSecond) return;
  impl_->flushed_ns = now_ns();
  for (auto& [model, m] : impl_->models) {
    try {
      impl_->flush(m);
    } catch (const Error&) {  // said when it began; status() shows it
    }
  }
}

void Rollouts::run() {
  impl_->thread = std::thread([this] {
    std::unique_lock lock(impl_->stop_mutex);
    while (!impl_->stop.wait_for(lock, kTick, [this] { return impl_->stopping; })) {
      lock.unlock();
      try {
        tick();
      } catch (const std::exception& error) {
        log_error("rollouts: {}", error.what());
      }
      lock.lock();
    }
  });
}

void Rollouts::start(const std::string& model, int64_t version, const RolloutStart& how) {
  const std::lock_guard lock(impl_->mutex);
  const Loaded loaded = loaded_versions(impl_->server, model);
  const auto found = loaded.find(version);
  if (found == loaded.end())
    fail(ErrorCode::kNotFound, "The version is not loaded; load it first: '{}/{}'", model.substr(0, 64), version);
  ModelRollout& m = impl_->models[model];
  const Routing now = impl_->server.routing(model);
  if (is_active(m.state.phase))
    fail(ErrorCode::kInvalidArgument, "A rollout is under way; promote or abort it first: {}/{} is {}", model,
         m.state.candidate, to_string(m.state.phase));
  if (now.stable == version) fail(ErrorCode::kInvalidArgument, "The version is live already: {}/{}", model, version);
  impl_->flush(m);
  const VersionSource& source = found->second->source();
  LiveRecord candidate{version, source.sha256, ""};
  std::vector<JournalEvent> events;
  if (source.proof != Proof::kPassed) {
    const std::string name = fmt::format("{}/{}", model, version);
    if (how.override_unverified != name) {
      const std::string why = fmt::format("Version {} was refused: {}", version, source.proof_reason);
      impl_->journal.write({.model = model, .events = {impl_->line(model, "refused", why, how.who)}});
      fail(ErrorCode::kVerificationFailed,
           "Nothing proves that this version is good; verify and publish it, or give --override-unverified {}: {}",
           name, source.proof_reason);
    }
    candidate.override_reason = fmt::format("overridden by name: {}", source.proof_reason);
    events.push_back(impl_->line(
        model, "override",
        fmt::format("Version {} goes ahead unverified, overridden by name: {}", version, source.proof_reason),
        how.who));
  }
  const auto live = loaded.find(now.stable);
  const std::string ports = ports_text(*found->second);
  if (live != loaded.end() && ports_text(*live->second) != ports)
    events.push_back(impl_->line(
        model, "warning",
        fmt::format("The candidate takes or gives other tensors than version {}: {}", now.stable, ports), how.who));
  const RolloutPlan plan = how.plan.value_or(impl_->options.plan);
  const Observation live_counters = impl_->counters(model, now.stable, Variant::kStable);
  const Observation candidate_counters = impl_->counters(model, version, Variant::kCandidate);
  RolloutDecision d = begin_rollout(now.stable, version, plan,
                                    {.now_ns = impl_->options.clock(),
                                     .live = live_counters,
                                     .candidate = candidate_counters,
                                     .memory_ratio = impl_->options.memory_ratio()});
  for (const RolloutEvent& e : d.events) events.push_back(impl_->line(model, e.event, e.sentence, how.who));
  ModelRollout next = m;
  next.plan = plan;
  next.candidate = std::move(candidate);
  impl_->journal.write({.model = model, .rollout = impl_->record(next, d.state), .events = std::move(events)});
  next.state = std::move(d.state);
  next.rollback_us.reset();
  m = std::move(next);
  try {
    impl_->server.route(
        model, {.stable = now.stable, .candidate = version, .candidate_share = rollout_share(m.state, m.plan)});
  } catch (const Error& error) {
    impl_->fall_back(model, m, error.what());
    throw;
  }
}

void Rollouts::command(const std::string& model, RolloutCommand command, const std::string& who) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->models.find(model);
  if (found == impl_->models.end())
    fail(ErrorCode::kNotFound, "There is no such model or it has no rollout: '{}'", model.substr(0, 64));
  impl_->judge(model, found->second, command, who);
}

DrillResult Rollouts::drill(const std::string& model, int64_t version, const std::string& who) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->models.find(model);
  if (found == impl_->models.end()) fail(ErrorCode::kNotFound, "There is no such model: '{}'", model.substr(0, 64));
  ModelRollout& m = found->second;
  if (is_active(m.state.phase))
    fail(ErrorCode::kInvalidArgument, "A rollout is under way; a drill needs quiet: {}/{}", model, m.state.candidate);
  const int64_t live = impl_->server.routing(model).stable;
  int64_t candidate = 0;
  for (const auto& [number, v] : loaded_versions(impl_->server, model))
    if (number != live && v->source().proof == Proof::kPassed && (version == 0 || version == number))
      candidate = number;
  if (live == 0 || candidate == 0)
    fail(ErrorCode::kNotFound, "A drill needs a live version and another, verified one: {} has live {}, other {}",
         model, live, candidate);
  impl_->flush(m);
  const std::string begun = fmt::format("A drill sends 1 % to version {} and back to version {}.", candidate, live);
  impl_->journal.write({.model = model, .events = {impl_->line(model, "drill", begun, who)}});
  const DrillResult result = practise_rollback(impl_->server, model, live, candidate);
  m.pending = Journal::Change{
      .model = model,
      .events = {impl_->line(model, "drill",
                             fmt::format("The way back was routed in {:.0f} µs; version {} answered after {:.2f} ms.",
                                         result.routed_us, live, result.effective_us / 1000),
                             who)}};
  impl_->flush(m);
  return result;
}

std::vector<RolloutStatus> Rollouts::status() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<RolloutStatus> all;
  for (const auto& [model, m] : impl_->models) all.push_back(impl_->status_of(model, m));
  return all;
}

RolloutStatus Rollouts::status(const std::string& model) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->models.find(model);
  if (found == impl_->models.end()) fail(ErrorCode::kNotFound, "There is no such model: '{}'", model.substr(0, 64));
  return impl_->status_of(model, found->second);
}

std::vector<JournalEvent> Rollouts::history(const std::string& model, int64_t limit) const {
  return impl_->journal.history(model, limit);
}

}  // namespace slipway
