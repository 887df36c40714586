// The engine and the reference behind one interface, with any number of samples cut into batches.
#include "engine/executor.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/infer.h"

namespace slipway {
namespace {

// Rows [first, first + count) along axis 0; rows beyond the end repeat the last one.
Tensor rows_of(const Tensor& t, int64_t first, int64_t count) {
  const int64_t rows = t.dims().at(0);
  if (first == 0 && count == rows) return t;
  Dims dims = t.dims();
  dims[0] = count;
  const size_t row_bytes = t.bytes() / static_cast<size_t>(rows);
  Tensor part(t.dtype(), dims);
  std::byte* to = part.mutable_raw();
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + static_cast<size_t>(i) * row_bytes,
                t.raw() + static_cast<size_t>(std::min(first + i, rows - 1)) * row_bytes, row_bytes);
  return part;
}

class BatchingExecutor : public Executor {
 public:
  BatchingExecutor(const Graph& graph, const ExecutorOptions& options)
      : graph_(graph), options_(options), batch_(options.batch) {
    bool batched = !graph_.inputs().empty();
    std::optional<int64_t> fixed;
    for (const auto* ports : {&graph_.inputs(), &graph_.outputs()})
      for (ValueId id : *ports) {
        const Shape& shape = graph_.value(id).shape;
        if (!shape.has_rank() || shape.rank() == 0) {
          batched = false;
          continue;
        }
        if (!shape[0].is_known()) continue;
        if (fixed && *fixed != shape[0].value()) batched = false;
        fixed = shape[0].value();
      }
    batched_ = batched;
    if (batched_ && fixed) batch_ = *fixed;
  }

  std::vector<Tensor> run(std::span<const Tensor> inputs) override {
    if (inputs.size() != graph_.inputs().size())
      fail(ErrorCode::kInvalidArgument, "The model takes {} inputs; {} were given", graph_.inputs().size(),
           inputs.size());
    require_ranks(inputs);
    if (!batched_) return run_whole(inputs);
    const int64_t samples = inputs[0].rank() > 0 ? inputs[0].dims()[0] : 0;
    for (const Tensor& t : inputs)
      if (t.rank() == 0 || t.dims()[0] != samples || samples == 0)
        fail(ErrorCode::kInvalidArgument,
             "The inputs do not have the same number of samples along their first axis: {} and {}", samples,
             to_string(t.dims()));
    if (samples == batch_) return run_whole(inputs);
    std::vector<Tensor> outputs;
    for (int64_t first = 0; first < samples; first += batch_) {
      std::vector<Tensor> part;
      for (const Tensor& t : inputs) part.push_back(rows_of(t, first, batch_));
      const std::vector<Tensor> results = run_whole(part);
      for (size_t i = 0; i < results.size(); ++i) {
        if (first == 0) {
          Dims dims = results[i].dims();
          dims[0] = dims[0] / batch_ * samples;
          outputs.emplace_back(results[i].dtype(), dims);
        }
        const size_t row_bytes = results[i].bytes() / static_cast<size_t>(batch_);
        const auto rows = static_cast<size_t>(std::min(batch_, samples - first));
        std::memcpy(outputs[i].mutable_raw() + static_cast<size_t>(first) * row_bytes, results[i].raw(),
                    rows * row_bytes);
      }
    }
    return outputs;
  }

 protected:
  virtual std::vector<Tensor> run_whole(std::span<const Tensor> inputs) = 0;
  // Before anything is cut into batches, so that the message shows what was given.
  void require_ranks(std::span<const Tensor> inputs) const {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs()[i]);
      if (v.shape.has_rank() && static_cast<int64_t>(v.shape.rank()) != inputs[i].rank())
        fail(ErrorCode::kInvalidArgument, "An input does not match the model; '{}' wants {}{}, given {}{}", v.name,
             to_string(v.dtype), to_string(v.shape), to_string(inputs[i].dtype()), to_string(inputs[i].dims()));
    }
  }
  Graph graph_;
  ExecutorOptions options_;
  int64_t batch_;
  bool batched_ = false;
};

class ReferenceExecutor : public BatchingExecutor {
 public:
  using BatchingExecutor::BatchingExecutor;

 protected:
  std::vector<Tensor> run_whole(std::span<const Tensor> inputs) override { return evaluate(graph_, inputs); }
};

class EngineExecutor : public BatchingExecutor {
 public:
  using BatchingExecutor::BatchingExecutor;

 protected:
  // The plan is made at the first run, for the shapes that come; other shapes make another.
  std::vector<Tensor> run_whole(std::span<const Tensor> inputs) override {
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
    require_inputs_match(graph_, inputs);
    std::map<std::string, int64_t> dims = options_.dims;
    int64_t batch = 1;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs()[i]);
      if (inputs[i].rank() > 0 && i == 0) batch = std::max<int64_t>(inputs[i].dims()[0], 1);
      for (size_t axis = 0; axis < inputs[i].dims().size(); ++axis)
        if (!v.shape.has_rank() || !v.shape[axis].is_known())
          dims[fmt::format("{}.{}", v.name, axis)] = inputs[i].dims()[axis];
    }
    Graph bound = graph_;
    bind_dims(bound, dims);
    return Plan::build(bound, {.batch = batch,
                               .threads = options_.threads,
                               .tune = options_.tune,
                               .timing_cache = options_.timing_cache,
                               .optimize = options_.optimize});
  }

  std::optional<Session> session_;
};

}  // namespace

std::unique_ptr<Executor> make_executor(const Graph& graph, const ExecutorOptions& options) {
  if (options.engine == "reference") return std::make_unique<ReferenceExecutor>(graph, options);
  if (options.engine == "slipway") return std::make_unique<EngineExecutor>(graph, options);
  fail(ErrorCode::kInvalidArgument, "There is no such engine; use slipway or reference: '{}'", options.engine);
}

}  // namespace slipway
