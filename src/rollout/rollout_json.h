#pragma once
#include <string>
#include <vector>

#include "rollout/rollout.h"

namespace slipway {

/// One model's state: what the dashboard and `slipway rollout` read.
std::string rollout_json(const RolloutStatus& status);
/// An array, in the order given.
std::string history_json(const std::vector<JournalEvent>& events);
/// The verdicts with their numbers, an array.
std::string verdicts_json(const std::vector<GateVerdict>& verdicts);

}  // namespace slipway
