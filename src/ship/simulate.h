#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "data/dataset.h"
#include "report/report.h"

namespace slipway {

struct SimulateOptions {
  std::string program = "/proc/self/exe";  ///< whose verb `serve` is the server
  std::string recording;                   ///< replayed; empty: samples of the test split
  int threads = 1;                         ///< of the served models
  std::map<std::string, int64_t> dims;     ///< sizes of their free dimensions but the first
  double load_seconds = 3;                 ///< of each load
  double soak_seconds = 10;                ///< more where the policy asks for more seconds in all
  int64_t samples = 1000;                  ///< of replay and A/B comparison
  bool many_connections = true;            ///< also a load of 16
  bool classifier = true;                  ///< labels are compared with the first output's top-1
  bool tune = true;                        ///< time the candidates of the served plans
  bool quiet = false;                      ///< no progress
};

/// The candidate as it will be served, before release: a server of its own on loopback with the original as version 1
/// and the candidate as version 2 of one model; loads, a soak, a replay, and an A/B comparison in turns. Verdicts are
/// judge()'s. The server and its files are gone afterwards, whatever happens. Fails with kIo when the server can't be
/// started, kInvalidModel, … as it refuses a model, kInvalidArgument (recording), kInterrupted.
SimulationFigures simulate(const std::string& original_path, const std::string& candidate_path, const Dataset& data,
                           const Policy& policy, const SimulateOptions& options = {});

}  // namespace slipway
