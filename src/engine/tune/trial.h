#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/lower/lower.h"

namespace slipway {

/// A candidate to be run for the first time, with its node in the model (constants are there) and alone.
struct CandidateTrial {
  const LowerContext& build;
  const LowerContext& step;
  const Candidate& candidate;
};

struct TrialResult {
  double time_us = 0;
  std::string rejected = {};  ///< why it can't be used; empty when it ran
  int crash_signal = 0;       ///< the fault that it died of, 0 for none
};

/// Packs, creates, runs and times each candidate in a child process, so that one that crashes is a result as others
/// are. `done` is called after each, in order; it may throw, which ends the trials. Fails with kIo when no process can
/// be started.
std::vector<TrialResult> run_trials(std::span<const CandidateTrial> trials, const std::function<void()>& done);

/// What a crash is called in a list of candidates.
std::string crash_reason(int signal);

}  // namespace slipway
