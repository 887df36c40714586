#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "quantize/strategy.h"
#include "serve/tls.h"
#include "ship/server_process.h"
#include "ship/stages.h"
#include "verify/verify.h"

namespace slipway {

enum class CanaryTraffic {
  kReplay,  ///< the test split, again and again
  kLive,    ///< what comes
};

struct ShipOptions {
  std::string model, data;     ///< ONNX file; data file
  std::string policy;          ///< empty: the defaults
  std::string candidate;       ///< made elsewhere from the model: nothing is optimised or quantised
  std::string repository;      ///< empty: stops after the simulation
  std::string name;            ///< in the repository; empty: the model file's stem
  std::string work;            ///< empty: REPOSITORY/.slipway/ship/NAME, or MODEL.ship without a repository
  std::string recording;       ///< replayed by the simulation; empty: the test split
  std::string plan;            ///< rollout plan file; empty: the server's
  std::string from;            ///< stage to do again, with those after it
  std::string url, admin_url;  ///< of a running server; empty: found by the repository, or started
  std::string token;           ///< of its admin port
  TlsFiles tls;                ///< of a running server that speaks it
  std::string program = "/proc/self/exe";
  uint16_t http_port = 8000, grpc_port = 8001, admin_port = 8002;  ///< of a server that is started; 0: any
  std::optional<QuantizeStrategy> strategy;  ///< of quantising; none: by the rule, from the policy
  bool skip_quantize = false, tune = true, quiet = false;
  bool stop_server = false;  ///< the one that was started here, at the end
  int threads = 0;           ///< of the served model; 0: as NAME/config.yaml says, else 1
  VerifyExtent extent;       ///< of the verification; `quick` shortens calibration, training and simulation too
  double rate = 0;           ///< requests a second of the canary's replay; 0: from the simulation's capacity
  CanaryTraffic traffic = CanaryTraffic::kReplay;
};

struct ShipResult {
  RoadResult road;
  std::string work, name;
  std::optional<RunningServer> server;
  bool server_started = false, server_stopped = false;
  std::vector<std::string> warnings;  ///< about data and models, from the verification
};

struct ShipObserver {
  std::function<void(const StageReport&)> stage;
  std::function<void(const std::string&)> note;  ///< what happens within a stage
};

/// optimize → quantize → verify → simulate → publish → canary → promote, resumed after the last stage that is still
/// valid; stops at the first that does not pass, with its reason. Fails with kInvalidArgument (options, data), kIo, …
/// as the stages do, kOverloaded when another process works in the same folder, kInterrupted; then what was finished
/// stays finished.
ShipResult ship(const ShipOptions& options, const ShipObserver& observer);

}  // namespace slipway
