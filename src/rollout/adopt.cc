// Which version of a model is live when no rollout says so: after a start, and when a model is loaded later. What the
// journal names comes back, its bytes being the same; a model that never had a live version gets the highest that is
// verified; nothing else moves without a rollout.
#include <algorithm>

#include "base/error.h"
#include "rollout/rollouts_impl.h"

namespace slipway {

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
      m.pending = Journal::Change{.model = model, .rollout = r, .events = {line(model, "rolled_back", r.reason)}};
      try {
        flush(m);
      } catch (const Error& error) {  // a full disk: the traffic is right, and the journal says the same as before
        log_error("{}: {}", model, error.what());
      }
    }
    m.state.phase = r.phase;
    m.state.reason = r.reason;
  }
}

void Rollouts::Impl::go_live(const std::string& model, ModelRollout& m, LiveRecord live, const std::string& event,
                             const std::string& sentence) {
  const int64_t version = live.version;
  try {
    flush(m);
    journal.write({.model = model, .live = live, .events = {event_of(model, event, sentence)}});
    server.route(model, {.stable = version}, {{version, live.sha256}});
    log_info("{}: {}: {}", model, event, sentence);
    m.live = std::move(live);
    m.nothing_live.clear();
  } catch (const Error& error) {
    std::string why = fmt::format("Version {} could not go live: {}", version, error.what());
    if (why != m.nothing_live) log_error("{}: {}", model, why);
    m.nothing_live = std::move(why);
    m.tried.clear();  // the next poll tries again
  }
}

/// What the journal names as live comes back as soon as it is there, whatever else is still loading.
bool Rollouts::Impl::adopt_as_before(const std::string& model, ModelRollout& m, const LoadedVersions& loaded) {
  const std::vector<LiveRecord> before = journal.live(model);
  if (before.empty()) return false;
  const auto found = loaded.find(before[0].version);
  if (found == loaded.end() || found->second->source().sha256 != before[0].sha256) return false;
  server.route(model, {.stable = before[0].version}, {{before[0].version, before[0].sha256}});
  m.live = before[0];
  m.nothing_live.clear();
  log_info("{}: version {} is live, as before", model, before[0].version);
  if (found->second->source().proof != Proof::kPassed && before[0].override_reason.empty())
    log_warning("{}: nothing proves version {} any more: {}", model, before[0].version,
                found->second->source().proof_reason);
  return true;
}

void Rollouts::Impl::adopt(const std::string& model, ModelRollout& m, const LoadedVersions& loaded) {
  const std::vector<LiveRecord> before = journal.live(model);
  const auto sent_back = [&](const ModelVersion& v) {
    return (m.state.phase == RolloutPhase::kRolledBack || m.state.phase == RolloutPhase::kAborted) &&
           v.version() == m.candidate.version && v.source().sha256 == m.candidate.sha256;
  };
  for (size_t i = 1; i < before.size(); ++i) {
    const auto found = loaded.find(before[i].version);
    if (found == loaded.end() || found->second->source().sha256 != before[i].sha256) continue;
    if (before[i].taken_back || sent_back(*found->second)) continue;
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
  m.nothing_live =
      fmt::format("No version is live; put its report.json (slipway verify, slipway ship) beside a model.onnx: {}",
                  proofs.empty() ? "none is loaded" : proofs);
  log_warning("{}: {}", model, m.nothing_live);
}

/// What was live comes back at once. Otherwise a model's versions must be there, the same at two polls, and not all of
/// them at the last try.
void Rollouts::Impl::adopt_new() {
  std::set<std::string> loading;
  for (const IndexEntry& entry : server.index())
    if (entry.state == "LOADING") loading.insert(entry.model);
  for (const std::string& model : server.models()) {
    ModelRollout& m = models[model];
    const LoadedVersions loaded = loaded_versions(server, model);
    Generations now;
    for (const auto& [number, v] : loaded) now.insert(v->generation());
    const bool settled = now == m.seen && !loading.contains(model);
    m.seen = now;
    if (m.drilling || is_active(m.state.phase) || server.routing(model).stable != 0) continue;
    if (std::includes(m.tried.begin(), m.tried.end(), now.begin(), now.end())) continue;
    try {
      const bool as_before = adopt_as_before(model, m, loaded);
      if (!as_before && !settled) continue;
      m.tried = std::move(now);
      if (!as_before) adopt(model, m, loaded);
    } catch (const Error& error) {  // it was unloaded or replaced this very moment: the next poll sees what is there
      log_warning("{}: {}", model, error.what());
    }
  }
}

}  // namespace slipway
