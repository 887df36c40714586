// The rollouts of a server. One lock around all of it but a drill's probes: commands and ticks come one after the
// other, and a model that is drilling is left alone. The order of the journal and the routing is the point of this
// file:
//   towards a candidate: journal, then route; when the journal can't be written, the candidate goes back instead;
//   away from it:        route, then journal; what can't be written is kept and tried again each second.
// So whatever a crash cuts off, the journal never knows less of a candidate than the traffic does, and a rollout that
// is found running in it went back: restart() says so and routes to the live version.
#include "rollout/rollout.h"

#include <algorithm>
#include <exception>

#include "base/error.h"
#include "monitor/monitor.h"
#include "rollout/rollout_json.h"
#include "rollout/rollouts_impl.h"

namespace slipway {
namespace {

constexpr auto kTick = std::chrono::milliseconds(250);
constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kHistory = 20;

std::string ports_text(const ModelVersion& version) {
  std::string text;
  for (const auto* ports : {&version.inputs(), &version.outputs()})
    for (const Port& p : *ports)
      text += fmt::format("{} {} [{}]; ", p.name, datatype_name(p.dtype), fmt::join(p.dims, ", "));
  return text;
}

}  // namespace

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
    if (!change.live) change.live = m.pending->live, change.taken_back = m.pending->taken_back;
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
  if (state.live != 0) change.live = m.live, change.taken_back = true;
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
    const std::map<int64_t, std::string> bytes{{m.candidate.version, m.candidate.sha256}};
    if (server.routing(model) != routing) server.route(model, routing, bytes);
  } catch (const Error& error) {
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
  const LoadedVersions loaded = loaded_versions(server, model);
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
  if (is_active(m.state.phase)) s.step_seconds = static_cast<double>(options.clock() - m.state.step_ns) / kSecondNs;
  s.verdicts = m.state.verdicts;
  s.reason = routing.stable == 0 && !is_active(m.state.phase) ? m.nothing_live : m.state.reason;
  s.override_reason = m.live.override_reason;
  if (s.override_reason.empty())
    for (const auto& version : server.versions(model))
      if (version->version() == routing.stable && version->source().proof != Proof::kPassed)
        s.override_reason = version->source().proof_reason;
  s.journal_fault = m.journal_fault;
  s.rollback_us = m.rollback_us;
  s.history = journal.history(model, kHistory);
  return s;
}

Rollouts::Rollouts(Server& server, Observe observe, RolloutsOptions options)
    : impl_(std::make_unique<Impl>(server, std::move(observe), std::move(options))) {}

Rollouts::Rollouts(Server& server, const Monitor& monitor, RolloutsOptions options)
    : Rollouts(
          server,
          [&monitor](const std::string& model, int64_t version, Variant variant) {
            return monitor.observation(model, version, variant);
          },
          std::move(options)) {}

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
  if (now_ns() - impl_->flushed_ns < kSecondNs) return;
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
  // What the repository holds now is meant, not what the server saw when it looked last.
  if (!impl_->server.options().repository.empty()) impl_->server.load(model, version);
  const std::lock_guard lock(impl_->mutex);
  const LoadedVersions loaded = loaded_versions(impl_->server, model);
  const auto found = loaded.find(version);
  if (found == loaded.end())
    fail(ErrorCode::kNotFound, "The model has no such version; publish it as NAME/VERSION/model.onnx: '{}/{}'",
         model.substr(0, 64), version);
  ModelRollout& m = impl_->models[model];
  const Routing now = impl_->server.routing(model);
  if (is_active(m.state.phase))
    fail(ErrorCode::kInvalidArgument, "A rollout is under way; promote or abort it first: {}/{} is {}", model,
         m.state.candidate, to_string(m.state.phase));
  if (m.drilling) fail(ErrorCode::kInvalidArgument, "A drill is under way; wait for its end: {}", model);
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
    impl_->server.route(model,
                        {.stable = now.stable, .candidate = version, .candidate_share = rollout_share(m.state, m.plan)},
                        {{version, m.candidate.sha256}});
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
  if (command == RolloutCommand::kAbort && found->second.state.phase == RolloutPhase::kPromoted)
    fail(ErrorCode::kInvalidArgument,
         "The rollout is over, version {} was promoted; `slipway rollout back {}` takes it back",
         found->second.state.candidate, model);
  impl_->judge(model, found->second, command, who);
}

void Rollouts::back(const std::string& model, int64_t version, const std::string& who) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->models.find(model);
  if (found == impl_->models.end()) fail(ErrorCode::kNotFound, "There is no such model: '{}'", model.substr(0, 64));
  ModelRollout& m = found->second;
  if (m.drilling) fail(ErrorCode::kInvalidArgument, "A drill is under way; wait for its end: {}", model);
  if (is_active(m.state.phase))
    fail(ErrorCode::kInvalidArgument, "A rollout is under way; abort it instead: {}/{} is {}", model, m.state.candidate,
         to_string(m.state.phase));
  impl_->flush(m);
  const int64_t live = impl_->server.routing(model).stable;
  const std::vector<LiveRecord> records = impl_->journal.live(model);
  const auto to = std::find_if(records.begin(), records.end(), [&](const LiveRecord& r) {
    return version == 0 ? r.version != live && !r.taken_back : r.version == version;
  });
  if (live != 0 && version == live)
    fail(ErrorCode::kInvalidArgument, "The version is live already: {}/{}", model, version);
  if (to == records.end() && version == 0)
    fail(ErrorCode::kNotFound,
         "No other version was live before; name one that was taken back, or bring one up with `slipway rollout "
         "start`: {}{}",
         model, live == 0 ? "" : fmt::format("/{} is live", live));
  if (to == records.end())
    fail(ErrorCode::kNotFound, "The version was never live; bring it up with `slipway rollout start`: {}/{}", model,
         version);
  const LoadedVersions loaded = loaded_versions(impl_->server, model);
  const auto there = loaded.find(to->version);
  if (there == loaded.end() || there->second->source().sha256 != to->sha256)
    fail(ErrorCode::kNotFound, "The version is not loaded as it was when it was live; put it back and load it: {}/{}",
         model, to->version);
  RolloutState state;
  state.phase = RolloutPhase::kRolledBack;
  state.live = to->version;
  state.candidate = live;
  state.reason =
      fmt::format("Taken back by hand, from version {} to version {}, which was live before.", live, to->version);
  Journal::Change change{
      .model = model, .live = *to, .taken_back = true, .events = {impl_->line(model, "taken_back", state.reason, who)}};
  // A load may have replaced it this very moment: then nothing moves.
  impl_->server.route(model, {.stable = to->version}, {{to->version, to->sha256}});
  m.live = *to;
  m.nothing_live.clear();
  impl_->back_to_live(model, m, std::move(state), std::move(change));
}

DrillResult Rollouts::drill(const std::string& model, int64_t version, const std::string& who) {
  std::unique_lock lock(impl_->mutex);
  const auto found = impl_->models.find(model);
  if (found == impl_->models.end()) fail(ErrorCode::kNotFound, "There is no such model: '{}'", model.substr(0, 64));
  ModelRollout& m = found->second;
  if (is_active(m.state.phase))
    fail(ErrorCode::kInvalidArgument, "A rollout is under way; a drill needs quiet: {}/{}", model, m.state.candidate);
  if (m.drilling) fail(ErrorCode::kInvalidArgument, "A drill is under way; wait for its end: {}", model);
  const int64_t live = impl_->server.routing(model).stable;
  int64_t candidate = 0;
  std::string sha256;
  for (const auto& [number, v] : loaded_versions(impl_->server, model))
    if (number != live && v->source().proof == Proof::kPassed && (version == 0 || version == number))
      candidate = number, sha256 = v->source().sha256;
  if (live == 0 || candidate == 0)
    fail(ErrorCode::kNotFound, "A drill needs a live version and another, verified one; {} has {}", model,
         live == 0 ? std::string("no live one")
                   : fmt::format("version {} live and no other that is loaded and verified", live));
  impl_->flush(m);
  const std::string begun = fmt::format("A drill sends 1 % to version {} and back to version {}.", candidate, live);
  impl_->journal.write({.model = model, .events = {impl_->line(model, "drill", begun, who)}});
  // Without the lock: the probes may take long, and other models' rollouts are judged meanwhile.
  m.drilling = true;
  lock.unlock();
  DrillResult result;
  std::exception_ptr failure;
  try {
    result = practise_rollback(impl_->server, model, live, candidate, sha256);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  m.drilling = false;
  if (failure) std::rethrow_exception(failure);
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
  for (const IndexEntry& entry : impl_->server.index())
    if (!impl_->models.contains(entry.model) && (all.empty() || all.back().model != entry.model))
      all.push_back({.model = entry.model,
                     .reason = fmt::format("Version {} is {}{}", entry.version,
                                           entry.state == "LOADING" ? "being loaded" : "not loaded",
                                           entry.reason.empty() ? "." : ": " + entry.reason)});
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
