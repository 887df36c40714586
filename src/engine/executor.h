#pragma once
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
  int64_t batch = 1;               ///< samples computed at once where the model's first dimensions are free
  std::map<std::string, int64_t> dims = {};
  int threads = 1;
  bool tune = false;  ///< time the candidates (for benchmarks; results are the same within float rounding)
  std::string timing_cache = {};
  bool optimize = true;
};

/// Something that runs a model on any number of samples: our engine or the reference, behind one interface. Inputs and
/// outputs in the model's order. When the model's first dimensions are free, any n samples are accepted (cut into
/// batches of options.batch, the last one padded); otherwise the inputs must have the model's own shapes, or a multiple
/// of them along axis 0 when every input and output has the same first dimension.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::vector<Tensor> run(std::span<const Tensor> inputs) = 0;
};

std::unique_ptr<Executor> make_executor(const Graph& graph, const ExecutorOptions& options = {});

}  // namespace slipway
