#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "monitor/observation.h"
#include "rollout/controller.h"
#include "rollout/journal.h"
#include "rollout/rollout_plan.h"
#include "serve/server.h"

namespace slipway {

class AdminPlane;
class Monitor;
struct AdminReply;
struct AdminRequest;

struct RolloutsOptions {
  JournalOptions journal;
  bool allow_unverified = false;         ///< a model's first version may go live without proof
  RolloutPlan plan;                      ///< of rollouts that bring none
  std::function<int64_t()> clock;        ///< monotonic nanoseconds; empty: the real one
  std::function<double()> memory_ratio;  ///< resident / limit; empty: this process's
};

struct RolloutStart {
  std::optional<RolloutPlan> plan;
  std::string override_unverified;  ///< "MODEL/VERSION": goes ahead without proof
  std::string who;                  ///< for the journal
};

/// One model's rollout as people see it.
struct RolloutStatus {
  std::string model;
  RolloutPhase phase = RolloutPhase::kIdle;
  int64_t live = 0, candidate = 0;  ///< versions; 0: none
  double share = 0;                 ///< of the requests that go to the candidate; 1 once it is promoted
  std::vector<RolloutStep> steps;
  size_t step = 0;
  double step_seconds = 0;  ///< since the step began
  std::vector<GateVerdict> verdicts;
  std::string reason;
  std::string override_reason;        ///< of the live version; empty: it was verified
  std::string journal_fault;          ///< why the last state is not on disk yet; empty: it is
  std::optional<double> rollback_us;  ///< from the last decision to go back until the routing was changed
  std::vector<JournalEvent> history;  ///< newest first
};

struct DrillResult {
  int64_t live = 0, candidate = 0;
  double routed_us = 0;     ///< from the decision until the routing was changed
  double effective_us = 0;  ///< until a request that the candidate would have had was answered by the live version
};

/// The rollouts of a server: the only one that moves its traffic. What leads towards a candidate is in the journal
/// before it happens; going back happens first and is journalled after, for the journal already says that a rollout
/// found running after a restart went back. Thread-safe.
class Rollouts {
 public:
  /// Counters of a version's traffic since it was loaded. Fails with kNotFound when it is not.
  using Observe = std::function<Observation(const std::string& model, int64_t version, Variant variant)>;
  /// Opens the journal; rollouts that a crash interrupted become rolled back. Fails as Journal does.
  Rollouts(Server& server, Observe observe, RolloutsOptions options);
  /// Observing through a monitor, which must outlive this.
  Rollouts(Server& server, const Monitor& monitor, RolloutsOptions options);
  ~Rollouts();

  /// Gives every model that is loaded and has no live version the one that the journal names, or, if it never had one,
  /// the highest that is verified (or any, with allow_unverified). Why a model stays without is logged and in status().
  void adopt();
  /// Judges what runs, adopts what was loaded since.
  void tick();
  /// tick() four times a second in a thread of its own, until destroyed.
  void run();

  /// Fails with kNotFound (not loaded), kInvalidArgument (one runs, it is live already), kVerificationFailed (no proof
  /// and no override of this very name), kIo (journal).
  void start(const std::string& model, int64_t version, const RolloutStart& how);
  /// Fails with kInvalidArgument when there is nothing to command.
  void command(const std::string& model, RolloutCommand command, const std::string& who);
  /// All traffic back, at once, to a version that was live before (0: the one before the live one) and still has the
  /// same bytes. Versions stay loaded after they were replaced, so the way is one swap. Fails with kInvalidArgument
  /// while a rollout runs, kNotFound where no such version was ever live, or it is gone or changed.
  void back(const std::string& model, int64_t version, const std::string& who);
  /// Sends a hundredth of the traffic to a verified version (0: the highest beside the live one) and back, and times
  /// the way back. Fails with kInvalidArgument while a rollout runs, kNotFound without such a version.
  DrillResult drill(const std::string& model, int64_t version, const std::string& who);

  std::vector<RolloutStatus> status() const;
  /// Fails with kNotFound.
  RolloutStatus status(const std::string& model) const;
  std::vector<JournalEvent> history(const std::string& model, int64_t limit) const;
  /// status() as a JSON array, for the dashboard.
  std::string status_json() const;
  /// GET /api/rollouts, /api/rollouts/MODEL[/history], /api/history (of all models); POST
  /// /api/rollouts/MODEL/start|pause|resume|promote|abort|back|drill.
  void serve_on(AdminPlane& admin);
  AdminReply answer(const AdminRequest& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The way back, practised: `live` and `candidate` are loaded, no rollout runs. Routes to `live` alone in the end,
/// whatever happens. Fails with kDeadline when no probe is answered, kVerificationFailed when the candidate's bytes are
/// not those of `sha256`.
DrillResult practise_rollback(Server& server, const std::string& model, int64_t live, int64_t candidate,
                              const std::string& sha256);

}  // namespace slipway
