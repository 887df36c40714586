#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/program.h"
#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

struct ExecutorOptions {
  std::string engine = "slipway";  ///< a backend's name
  int64_t batch = 1;               ///< rows that run_requests() computes at once where it may
  ProgramOptions program = {};
};

/// A session of a program, and samples of a data set through it. Inputs and outputs in the model's order.
class Executor {
 public:
  /// Fails with kInvalidArgument where there is no such engine.
  Executor(const Graph& graph, const ExecutorOptions& options = {});

  /// As ProgramSession::run().
  std::vector<Tensor> run(std::span<const Tensor> inputs) { return session_->run(inputs); }

  /// Requests, of any shapes; each one's outputs. They are computed options.batch rows at once (or as many as the model
  /// fixes), the last ones filled up, only where rows are proven independent; else one at a time. Fails with
  /// kUnsupported where the model fixes a batch whose rows are not proven independent.
  std::vector<std::vector<Tensor>> run_requests(std::span<const std::vector<Tensor>> requests);
  /// The same of requests of one row and equal shapes, stacked along the first axis of every input and output.
  std::vector<Tensor> run_samples(std::span<const Tensor> inputs);

 private:
  /// What run_requests() computes at once.
  int64_t samples_at_once();

  Graph graph_;
  std::string engine_;
  int64_t batch_;
  std::unique_ptr<ProgramSession> session_;
  int64_t step_ = 0;  ///< 0: not asked yet
};

/// How many rows are computed at once, and whether fewer of them are filled up with copies of the last one.
struct RowStep {
  int64_t rows = 1;
  bool fill = true;
};

/// Requests through `run`, each one's outputs. Those of equal shapes are stacked along the first axis of every input,
/// as many as make step.rows; where their inputs have no common number of rows, or one row is a step, each goes alone.
/// Fails with kUnsupported where what was stacked has an output without an axis for the rows. A `run` that gives
/// nothing back gets nothing divided.
std::vector<std::vector<Tensor>> run_requests(std::span<const std::vector<Tensor>> requests, const RowStep& step,
                                              const std::function<std::vector<Tensor>(std::span<const Tensor>)>& run);

/// How many samples of a data set a model can be given at once: the batch that it fixes, `wanted` where its rows are
/// proven independent, else 1.
int64_t batch_of_samples(const Graph& graph, int64_t wanted);

}  // namespace slipway
