#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/observation.h"
#include "rollout/gates.h"
#include "rollout/rollout_plan.h"

namespace slipway {

enum class RolloutPhase : uint8_t {
  kIdle,
  kRunning,     ///< in a step, judged
  kPaused,      ///< by a person: judged, sent back when it fails, not raised
  kHeld,        ///< the step's time is over without a verdict: the same, until a person decides
  kPromoted,    ///< the candidate is the live version
  kRolledBack,  ///< by the gates or a fault
  kAborted,     ///< by a person
};
/// "idle", "running", …, "rolled_back", "aborted".
const char* to_string(RolloutPhase phase);
std::optional<RolloutPhase> parse_rollout_phase(std::string_view name);
/// The candidate has a share of the traffic.
inline bool is_active(RolloutPhase phase) {
  return phase == RolloutPhase::kRunning || phase == RolloutPhase::kPaused || phase == RolloutPhase::kHeld;
}

enum class RolloutCommand : uint8_t { kPause, kResume, kPromote, kAbort };

/// One rollout as a value. Times are the injected clock's nanoseconds.
struct RolloutState {
  RolloutPhase phase = RolloutPhase::kIdle;
  int64_t live = 0, candidate = 0;  ///< versions; live 0: the model's first, judged by absolute limits
  size_t step = 0;                  ///< index into the plan's
  int64_t step_ns = 0;              ///< the step began; moved on by pauses
  int64_t deadline_ns = 0;          ///< of the step, after which it is held
  int64_t paused_ns = 0;
  int look = 0;                       ///< looks taken in this step
  int64_t looked_n = 0;               ///< candidate's requests in the last one
  int64_t next_look_n = 0;            ///< and in the next one
  bool ready_look = false;            ///< the one that is due when the step's minima are met was taken
  int64_t moved_ns = 0, moved_n = 0;  ///< the candidate last answered, or had nothing waiting
  double memory_ratio_at_start = 0;
  std::shared_ptr<const Observation> live_start, candidate_start;  ///< counters when the step began
  std::shared_ptr<const Observation> baseline;  ///< live version's traffic while it had nearly all: for the last step
  std::vector<GateVerdict> verdicts;            ///< of the last look
  std::string reason;                           ///< of the phase, one sentence
};

/// What the controller sees; the observations count since the version was loaded.
struct RolloutInputs {
  int64_t now_ns = 0;
  const Observation& live;       ///< of the variant kStable
  const Observation& candidate;  ///< of the variant kCandidate
  bool candidate_loaded = true;
  int64_t candidate_waiting = 0;  ///< requests in its queue
  double memory_ratio = 0;        ///< resident / limit; 0: unknown
  std::optional<RolloutCommand> command = std::nullopt;
};

/// What happened, for the journal and people.
struct RolloutEvent {
  std::string event;  ///< "started", "raised", "held", "rolled_back", …
  std::string sentence;
};

struct RolloutDecision {
  RolloutState state;
  std::vector<RolloutEvent> events;
  std::string refusal;  ///< why the command can't be followed; empty: it was, or there was none
};

/// The candidate's share of 10,000 that a state asks for; 0 unless it is active.
int rollout_share(const RolloutState& state, const RolloutPlan& plan);

/// A rollout at its first step. With `inputs.live` empty and `live` 0 the plan's last step alone is taken.
RolloutDecision begin_rollout(int64_t live, int64_t candidate, const RolloutPlan& plan, const RolloutInputs& inputs);

/// The next state. Pure: the same arguments give the same decision. Invariants: the share rises only on a look where
/// all gates pass (or by promote), one step at a time; an inactive state stays what it is.
RolloutDecision advance_rollout(const RolloutState& state, const RolloutPlan& plan, const RolloutInputs& inputs);

/// The part of a step's error that look `look` (from 1) may spend on one gate: α / (steps · gates · look · (look + 1)),
/// whose sum over all looks, gates and steps is α (union bound), however many looks there will be.
double look_alpha(const RolloutPlan& plan, int look);

}  // namespace slipway
