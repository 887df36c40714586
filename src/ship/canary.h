#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "load/load.h"

namespace slipway {

struct CanaryOptions {
  std::string admin_url, token;  ///< of the running server
  TlsFiles tls;                  ///< of its https addresses
  std::string http_url;          ///< where the replayed requests go
  std::string model;
  int64_t version = 0;
  std::string plan;        ///< the rollout plan's YAML; empty: the server's
  double rate = 100;       ///< requests a second of the replay
  double patience_s = 30;  ///< for a server that does not answer, and for a first version to go live
  std::string who = "slipway ship";
};

struct CanaryResult {
  bool promoted = false;
  bool first = false;    ///< nothing was live before: judged by its report, or by the plan's absolute limits
  bool already = false;  ///< it was live before
  std::string state, reason;
  int64_t live = 0;                     ///< version, at the end
  double seconds = 0, rollback_us = 0;  ///< rollback: from the decision until the routing was changed; 0: none
  int64_t requests = 0, errors = 0;     ///< of the replay
};

/// Loads the version into a running server and takes it to all of the traffic: goes live by itself as the first one,
/// else by a rollout, which is joined when it already runs. With samples the traffic is their replay in an open loop,
/// without it is what comes. `on_progress` gets a sentence at each step. Ctrl-C aborts the rollout and fails with
/// kInterrupted. Fails with what the server refuses (kVerificationFailed, kNotFound, …), kIo when it goes away.
CanaryResult run_canary(const CanaryOptions& options, const std::vector<LoadSample>& samples,
                        const std::function<void(const std::string&)>& on_progress);

/// The live version of a model; 0: none, or the model is unknown. Fails with kIo.
int64_t live_version(const std::string& admin_url, const std::string& token, const TlsFiles& tls,
                     const std::string& model);

}  // namespace slipway
