#pragma once
// What rollout.cc and adopt.cc share.
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "rollout/rollout.h"

namespace slipway {

using LoadedVersions = std::map<int64_t, std::shared_ptr<ModelVersion>>;
/// Generations of loaded versions: one that was loaded again, or whose bytes or proof changed, is another.
using Generations = std::set<uint64_t>;

inline LoadedVersions loaded_versions(const Server& server, const std::string& model) {
  LoadedVersions loaded;
  for (auto& version : server.versions(model)) {
    const int64_t number = version->version();
    loaded[number] = std::move(version);
  }
  return loaded;
}

struct ModelRollout {
  RolloutState state;
  RolloutPlan plan;
  LiveRecord live, candidate;  ///< as the journal is to have them
  std::string nothing_live;    ///< why no version is live
  std::string journal_fault;
  std::optional<Journal::Change> pending;  ///< what the journal did not take yet
  std::optional<double> rollback_us;
  Generations seen, tried;  ///< versions at the last poll; those that were there at a try to make one live
  bool drilling = false;    ///< its routing is the drill's; nothing else touches the model meanwhile
};

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
  void adopt(const std::string& model, ModelRollout& m, const LoadedVersions& loaded);
  bool adopt_as_before(const std::string& model, ModelRollout& m, const LoadedVersions& loaded);
  void adopt_new();
  void go_live(const std::string& model, ModelRollout& m, LiveRecord live, const std::string& event,
               const std::string& sentence);
  void judge(const std::string& model, ModelRollout& m, std::optional<RolloutCommand> command, const std::string& who);
  void settle(const std::string& model, ModelRollout& m, RolloutDecision&& decision, const std::string& who);
  void back_to_live(const std::string& model, ModelRollout& m, RolloutState&& state, Journal::Change&& change);
  void fall_back(const std::string& model, ModelRollout& m, const char* why);
  void flush(ModelRollout& m);
  /// Nothing for a version that is not loaded.
  Observation counters(const std::string& model, int64_t version, Variant variant) const {
    try {
      return version == 0 ? Observation() : observe(model, version, variant);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kNotFound) throw;
      return {};
    }
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
  static JournalEvent event_of(const std::string& model, std::string event, std::string sentence,
                               const std::string& who = {}, std::string details = {}) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return {.at_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
            .model = model,
            .event = std::move(event),
            .sentence = std::move(sentence),
            .who = who,
            .details = std::move(details)};
  }
  /// The same, logged.
  static JournalEvent line(const std::string& model, std::string event, std::string sentence,
                           const std::string& who = {}, std::string details = {}) {
    log_info("{}: {}: {}", model, event, sentence);
    return event_of(model, std::move(event), std::move(sentence), who, std::move(details));
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

}  // namespace slipway
