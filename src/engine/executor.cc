// Samples of a data set through a program: requests of their own, they are stacked only where the model's rows are
// proven independent, and never by the reference.
#include "engine/executor.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/rows.h"

namespace slipway {
namespace {

/// The first dimension that inputs fix: 0 when all leave it free, 1 when they fix different ones.
int64_t fixed_rows(const Graph& graph) {
  int64_t fixed = 0;
  for (ValueId id : graph.inputs()) {
    const Shape& shape = graph.value(id).shape;
    if (shape.rank() == 0 || !shape[0].is_known()) continue;
    if (fixed != 0 && fixed != shape[0].value()) return 1;
    fixed = shape[0].value();
  }
  return fixed;
}

}  // namespace

int64_t batch_of_samples(const Graph& graph, int64_t wanted) {
  const int64_t fixed = fixed_rows(graph);
  if (fixed != 0) return fixed;
  return wanted > 1 && prove_row_independence(graph).proven ? wanted : 1;
}

Executor::Executor(const Graph& graph, const ExecutorOptions& options)
    : graph_(graph),
      engine_(options.engine),
      batch_(options.batch),
      session_(backend_named(options.engine).make(graph, options.program)->open()) {}

int64_t Executor::samples_at_once() {
  if (step_ != 0) return step_;
  const int64_t fixed = fixed_rows(graph_);
  if (fixed > 1)
    if (const RowIndependence rows = prove_row_independence(graph_); !rows.proven)
      fail(
          ErrorCode::kUnsupported,
          "The model computes {} samples at once and its rows are not proven independent, so no sample has a result of "
          "its own; export it with a batch of 1 or a free one: {}",
          fixed, rows.reason);
  return step_ = fixed == 0 && engine_ == "reference" ? 1 : batch_of_samples(graph_, batch_);
}

std::vector<Tensor> Executor::run_samples(std::span<const Tensor> inputs) {
  const int64_t samples = inputs.empty() || inputs[0].rank() == 0 ? 0 : inputs[0].dims()[0];
  for (const Tensor& t : inputs)
    if (t.rank() == 0 || t.dims()[0] != samples || samples == 0)
      fail(ErrorCode::kInvalidArgument,
           "The inputs do not have the same number of samples, at least one, along their first axis: {} and {}",
           samples, to_string(t.dims()));
  return run_in_steps(inputs, samples_at_once(), [&](std::span<const Tensor> part) { return run(part); });
}

std::vector<Tensor> run_in_steps(std::span<const Tensor> inputs, int64_t step,
                                 const std::function<std::vector<Tensor>(std::span<const Tensor>)>& run) {
  const int64_t samples = inputs[0].dims().at(0);
  std::vector<Tensor> outputs;
  for (int64_t first = 0; first < samples; first += step) {
    std::vector<Tensor> part;
    for (const Tensor& t : inputs) part.push_back(rows_of(t, first, step));
    const std::vector<Tensor> results = run(part);
    for (size_t i = 0; i < results.size(); ++i) {
      Dims dims = results[i].dims();
      if (dims.empty() || dims[0] % step != 0)
        fail(ErrorCode::kUnsupported,
             "An output does not have the samples along its first axis: output {} is {} for {} samples", i,
             to_string(dims), step);
      dims[0] = dims[0] / step * samples;
      if (first == 0) outputs.emplace_back(results[i].dtype(), dims);
      if (outputs[i].dims() != dims)
        fail(ErrorCode::kInvalidArgument, "An output's shape differs from sample to sample: output {} is {} and {}", i,
             to_string(outputs[i].dims()), to_string(dims));
      const size_t sample_bytes = results[i].bytes() / static_cast<size_t>(step);
      std::memcpy(outputs[i].mutable_raw() + static_cast<size_t>(first) * sample_bytes, results[i].raw(),
                  static_cast<size_t>(std::min(step, samples - first)) * sample_bytes);
    }
  }
  return outputs;
}

}  // namespace slipway
