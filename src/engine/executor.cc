// The engine and the reference behind one interface, each run as a whole; samples of a data set, which are requests of
// their own, are stacked only where the model's rows are proven independent, and never by the reference.
#include "engine/executor.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/infer.h"
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

class ReferenceExecutor : public Executor {
 public:
  using Executor::Executor;
  std::vector<Tensor> run(std::span<const Tensor> inputs) override { return evaluate(graph_, inputs); }
};

class EngineExecutor : public Executor {
 public:
  using Executor::Executor;

  // The plan is made at the first run, for the shapes that come; other shapes make another.
  std::vector<Tensor> run(std::span<const Tensor> inputs) override {
    require_inputs_match(graph_, inputs);
    if (!session_ || !fits(inputs)) session_.emplace(build(inputs));
    return session_->run(inputs);
  }

 private:
  bool fits(std::span<const Tensor> inputs) const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (session_->plan().inputs()[i].dims != inputs[i].dims()) return false;
    return true;
  }

  std::shared_ptr<const Plan> build(std::span<const Tensor> inputs) const {
    std::map<std::string, int64_t> dims = options_.dims;
    std::optional<int64_t> batch;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs()[i]);
      if (inputs[i].rank() > 0 && !batch) batch = std::max<int64_t>(inputs[i].dims()[0], 1);
      for (size_t axis = 0; axis < inputs[i].dims().size(); ++axis) {
        if (v.shape.has_rank() && v.shape[axis].is_known()) continue;
        if (inputs[i].dims()[axis] == 0)
          fail(ErrorCode::kInvalidArgument,
               "An input is empty, and plans are for at least one row; give more, or --engine reference: '{}' is {}",
               v.name, to_string(inputs[i].dims()));
        dims[fmt::format("{}.{}", v.name, axis)] = inputs[i].dims()[axis];
      }
    }
    Graph bound = graph_;
    bind_dims(bound, dims);
    return Plan::build(bound, {.batch = batch.value_or(1),
                               .threads = options_.threads,
                               .tune = options_.tune,
                               .timing_cache = options_.timing_cache,
                               .optimize = options_.optimize});
  }

  std::optional<Session> session_;
};

}  // namespace

int64_t batch_of_samples(const Graph& graph, int64_t wanted) {
  const int64_t fixed = fixed_rows(graph);
  if (fixed != 0) return fixed;
  return wanted > 1 && prove_row_independence(graph).proven ? wanted : 1;
}

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
  return step_ = fixed == 0 && options_.engine == "reference" ? 1 : batch_of_samples(graph_, options_.batch);
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

std::unique_ptr<Executor> make_executor(const Graph& graph, const ExecutorOptions& options) {
  if (options.engine == "reference") return std::make_unique<ReferenceExecutor>(graph, options);
  if (options.engine == "slipway") return std::make_unique<EngineExecutor>(graph, options);
  fail(ErrorCode::kInvalidArgument, "There is no such engine; use slipway or reference: '{}'", options.engine);
}

}  // namespace slipway
