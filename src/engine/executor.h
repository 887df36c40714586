#pragma once
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

struct ExecutorOptions {
  std::string engine = "slipway";  ///< or "reference"
  int64_t batch = 1;               ///< samples that run_samples() computes at once where it may
  std::map<std::string, int64_t> dims = {};
  int threads = 1;
  bool tune = false;  ///< time the candidates (for benchmarks; results are the same within float rounding)
  std::string timing_cache = {};
  bool optimize = true;
};

/// Something that runs a model: our engine or the reference, behind one interface. Inputs and outputs in the model's
/// order.
class Executor {
 public:
  Executor(const Graph& graph, ExecutorOptions options) : graph_(graph), options_(std::move(options)) {}
  virtual ~Executor() = default;

  /// One run on the inputs as they are, whatever their sizes. Fails as evaluate() does.
  virtual std::vector<Tensor> run(std::span<const Tensor> inputs) = 0;

  /// Any number of samples, each a request of its own, stacked along the first axis of every input, and so of every
  /// output. They are computed options.batch at once (or as many as the model fixes), the last ones filled up, only
  /// where rows are proven independent; else one at a time. Fails with kInvalidArgument where an input or output has no
  /// axis for samples, kUnsupported where the model fixes a batch whose rows are not proven independent.
  std::vector<Tensor> run_samples(std::span<const Tensor> inputs);

 protected:
  /// What run_samples() computes at once.
  int64_t samples_at_once();

  Graph graph_;
  ExecutorOptions options_;

 private:
  int64_t step_ = 0;  ///< 0: not asked yet
};

/// Any number of samples, stacked along the first axis of every input, `step` at a time through `run`, the last ones
/// filled up. Fails with kUnsupported where an output has no axis for samples, kInvalidArgument where its shape
/// changes.
std::vector<Tensor> run_in_steps(std::span<const Tensor> inputs, int64_t step,
                                 const std::function<std::vector<Tensor>(std::span<const Tensor>)>& run);

/// How many samples of a data set a model can be given at once: the batch that it fixes, `wanted` where its rows are
/// proven independent, else 1.
int64_t batch_of_samples(const Graph& graph, int64_t wanted);

std::unique_ptr<Executor> make_executor(const Graph& graph, const ExecutorOptions& options = {});

}  // namespace slipway
