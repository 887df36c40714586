#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/plan.h"
#include "engine/program.h"

namespace slipway {

/// A child process that answers requests, JSON both ways, so that what is measured there (memory, start-up, thread
/// pools) is its own. Errors thrown in the child come back as the same Error; its death as kInternal naming `label`.
/// Once this process is interrupted (base/interrupt.h), ask() fails with kInterrupted and the child is interrupted,
/// too.
class ChildProcess {
 public:
  /// Called in the child with one request after the other, in a thread of its own.
  using Answer = std::function<nlohmann::json(const nlohmann::json& request)>;
  ChildProcess(std::string label, const Answer& answer);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  nlohmann::json ask(const nlohmann::json& request);

 private:
  std::string label_;
  pid_t pid_ = -1;
  int socket_ = -1;
};

/// Loads a model, makes it ready for inputs like the example and saves that as a plan file, all in a child; returns the
/// time it took, ms.
double build_plan_file(const std::function<Graph()>& load, const ProgramOptions& options,
                       const std::vector<Tensor>& example, const std::string& plan_path, const std::string& label);

/// Random inputs of a model whose shapes are known, or of such ports: floats in [0, 1), small integers.
std::vector<Tensor> random_inputs(const Graph& graph);
std::vector<Tensor> random_inputs(const std::vector<PortInfo>& ports);

/// A plan file in a process of its own, opened as a server would: first result, then rounds of runs on random inputs.
class MeasuredPlan {
 public:
  struct Opened {
    double first_result_ms = 0;  ///< from opening the file
    bool whole = false;          ///< one plan is all there is
    int threads = 1;
    std::vector<Dims> inputs;  ///< what is run
    std::string precision, choices_digest;
    MemoryInfo memory;  ///< without a whole plan: weights and the largest arena alone
  };
  struct Round {
    std::vector<double> times_ms;
    uint64_t peak_bytes = 0, peak_over_start_bytes = 0;  ///< resident
    double preemptions_per_s = 0;                        ///< times that the kernel took a CPU away, all threads
  };
  /// On `inputs`; without any, random ones of the shapes of the file that come first.
  MeasuredPlan(const std::string& plan_path, std::string label, std::vector<Tensor> inputs = {});
  const Opened& opened() const { return opened_; }
  /// Runs for `seconds`, at least `min_runs` times; a plan of one thread on the next CPU with each call.
  Round run(double seconds, int64_t min_runs = 1);

 private:
  ChildProcess child_;
  Opened opened_;
};

}  // namespace slipway
