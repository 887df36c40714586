// Samples of a data set through a program: requests of their own, they are stacked only where the model's rows are
// proven independent, and never by the reference.
#include "engine/executor.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "model/rows.h"

namespace slipway {
namespace {

/// The first dimension that all inputs fix: 0 when all leave it free, 1 when they differ in that or one has none.
int64_t fixed_rows(const Graph& graph) {
  int64_t fixed = -1;
  for (ValueId id : graph.inputs()) {
    const Shape& shape = graph.value(id).shape;
    if (shape.has_rank() && shape.rank() == 0) return 1;
    const int64_t rows = shape.has_rank() && shape[0].is_known() ? shape[0].value() : 0;
    if (fixed >= 0 && fixed != rows) return 1;
    fixed = rows;
  }
  return std::max<int64_t>(fixed, 0);
}

/// The size of every shape's first axis, 0 where they have none in common.
int64_t common_rows(const std::vector<Dims>& shapes) {
  for (const Dims& dims : shapes)
    if (dims.empty() || dims[0] != shapes[0][0]) return 0;
  return shapes.empty() ? 0 : shapes[0][0];
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

std::vector<std::vector<Tensor>> Executor::run_requests(std::span<const std::vector<Tensor>> requests) {
  return slipway::run_requests(requests, {.rows = samples_at_once()},
                               [&](std::span<const Tensor> inputs) { return run(inputs); });
}

std::vector<Tensor> Executor::run_samples(std::span<const Tensor> inputs) {
  const int64_t samples = inputs.empty() || inputs[0].rank() == 0 ? 0 : inputs[0].dims()[0];
  for (const Tensor& t : inputs)
    if (t.rank() == 0 || t.dims()[0] != samples || samples == 0)
      fail(ErrorCode::kInvalidArgument,
           "The inputs do not have the same number of samples, at least one, along their first axis: {} and {}",
           samples, to_string(t.dims()));
  std::vector<std::vector<Tensor>> requests(static_cast<size_t>(samples));
  for (int64_t i = 0; i < samples; ++i)
    for (const Tensor& t : inputs) requests[static_cast<size_t>(i)].push_back(rows_of(t, i, 1));
  const std::vector<std::vector<Tensor>> results = run_requests(requests);
  std::vector<Tensor> outputs;
  for (size_t o = 0; o < results[0].size(); ++o) {
    std::vector<Tensor> parts;
    for (const std::vector<Tensor>& result : results) {
      if (result[o].rank() == 0 || result[o].dims() != results[0][o].dims())
        fail(ErrorCode::kUnsupported,
             "An output does not have the samples along its first axis, or its shape differs from sample to sample: "
             "output {} is {} and {}",
             o, to_string(results[0][o].dims()), to_string(result[o].dims()));
      parts.push_back(result[o]);
    }
    outputs.push_back(stack_rows(parts));
  }
  return outputs;
}

std::vector<std::vector<Tensor>> run_requests(std::span<const std::vector<Tensor>> requests, const RowStep& step,
                                              const std::function<std::vector<Tensor>(std::span<const Tensor>)>& run) {
  std::map<std::vector<Dims>, std::vector<size_t>> alike;
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<Dims> shapes;
    for (const Tensor& t : requests[i]) shapes.push_back(t.dims());
    alike[std::move(shapes)].push_back(i);
  }
  std::vector<std::vector<Tensor>> results(requests.size());
  for (const auto& [shapes, members] : alike) {
    const int64_t rows = common_rows(shapes);
    const auto at_once = static_cast<size_t>(rows > 0 && step.rows % rows == 0 ? step.rows / rows : 1);
    for (size_t first = 0; first < members.size(); first += at_once) {
      const size_t count = std::min(at_once, members.size() - first);
      if (at_once == 1) {
        results[members[first]] = run(requests[members[first]]);
        continue;
      }
      std::vector<Tensor> stacked;
      for (size_t input = 0; input < shapes.size(); ++input) {
        std::vector<Tensor> parts;
        for (size_t k = 0; k < (step.fill ? at_once : count); ++k)
          parts.push_back(requests[members[first + std::min(k, count - 1)]][input]);
        stacked.push_back(stack_rows(parts));
      }
      const int64_t stacked_rows = stacked[0].dims()[0];
      for (const Tensor& output : run(stacked)) {
        if (output.rank() == 0 || output.dims()[0] % (stacked_rows / rows) != 0)
          fail(ErrorCode::kUnsupported, "An output does not have the samples along its first axis: it is {} for {}",
               to_string(output.dims()), stacked_rows / rows);
        const int64_t of_one = output.dims()[0] / (stacked_rows / rows);
        for (size_t k = 0; k < count; ++k)
          results[members[first + k]].push_back(rows_of(output, static_cast<int64_t>(k) * of_one, of_one));
      }
    }
  }
  return results;
}

}  // namespace slipway
