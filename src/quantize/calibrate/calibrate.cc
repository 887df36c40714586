// Calibration run: the graph is copied, the tensors of interest become outputs, and each batch's outputs go into their
// observers. The samples are chosen by index alone, so that neither batch size nor shards change the result.
#include "quantize/calibrate/calibrate.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "engine/executor.h"

namespace slipway {
namespace {

struct Observed {
  const std::string* name;
  ValueId value;
  bool is_input;
  size_t index;  ///< among the inputs, or among the outputs of the extended graph
  TensorStats stats;
};

[[noreturn]] void reject_values(const Graph& graph, const Observed& tensor) {
  const Node* producer = graph.producer(tensor.value);
  fail(ErrorCode::kInvalidModel,
       "A tensor holds NaN or infinite values on the calibration data and can't be quantised; check the "
       "pre-processing and the weights, or exclude its node: '{}' made by {}: {} NaN, {} infinite of {}",
       *tensor.name, producer == nullptr ? "the data (graph input)" : producer->label(), tensor.stats.nans(),
       tensor.stats.infinities(), tensor.stats.count());
}

}  // namespace

CalibrationSource samples_of(Feed feed, Split split, int threads) {
  const int64_t count = feed.data().size(split);
  std::string digest = feed.data().digest();
  return {count,
          [feed = std::move(feed), split, threads](std::span<const int64_t> indices) {
            return feed.requests(split, indices, threads);
          },
          std::move(digest)};
}

Calibration calibrate(const Graph& graph, const CalibrationSource& source, std::span<const std::string> names,
                      const CalibrateOptions& options) {
  if (options.samples < 1 || options.shards < 1 || options.shard < 0 || options.shard >= options.shards)
    fail(ErrorCode::kInvalidArgument,
         "Calibration needs at least one sample and a shard below the number of shards: {} samples, shard {} of {}",
         options.samples, options.shard, options.shards);
  const int64_t chosen = std::min(options.samples, source.count);
  const int64_t fixed = batch_of_samples(graph, 1), batch = batch_of_samples(graph, options.batch);
  const int64_t begin = chosen * options.shard / options.shards;
  int64_t end = chosen * (options.shard + 1) / options.shards;
  if (fixed > 1) end -= (end - begin) % batch;
  if (end <= begin)
    fail(ErrorCode::kInvalidArgument,
         "There are too few samples to calibrate with; give a larger calibration split: {} of {}, batch {}", chosen,
         source.count, batch);

  Graph extended = graph;
  std::vector<Observed> observed;
  for (const std::string& name : names) {
    const ValueId id = graph.find(name);
    if (id == kNoValue || graph.value(id).is_constant())
      fail(ErrorCode::kInvalidArgument, "The model has no such tensor to calibrate; use the model's own names: '{}'",
           name);
    if (graph.value(id).dtype != DType::kFloat32)
      fail(ErrorCode::kUnsupported, "Only float32 tensors can be calibrated; convert the model first: '{}' is {}", name,
           to_string(graph.value(id).dtype));
    Observed tensor{&name, id, graph.value(id).is_input, 0, {}};
    const auto& ports = tensor.is_input ? extended.inputs() : extended.outputs();
    if (std::find(ports.begin(), ports.end(), id) == ports.end()) extended.add_output(id);
    tensor.index = static_cast<size_t>(std::find(ports.begin(), ports.end(), id) - ports.begin());
    observed.push_back(std::move(tensor));
  }

  Executor executor(extended, {.engine = options.engine, .program = {.threads = options.threads}});
  Progress progress("Calibrating", end - begin);
  for (int64_t first = begin; first < end;) {
    const int64_t count = std::min(batch, end - first);
    std::vector<int64_t> indices;  // spread evenly over the source
    for (int64_t i = first; i < first + count; ++i)
      indices.push_back(i * (source.count / chosen) + i * (source.count % chosen) / chosen);
    // Nothing filled up is ever observed.
    run_requests(source.read(indices), {.rows = batch, .fill = false}, [&](std::span<const Tensor> inputs) {
      const std::vector<Tensor> outputs = executor.run(inputs);
      parallel_for(static_cast<int64_t>(observed.size()), options.threads, [&](int64_t from, int64_t to) {
        for (int64_t t = from; t < to; ++t) {
          Observed& tensor = observed[static_cast<size_t>(t)];
          tensor.stats.observe((tensor.is_input ? inputs[tensor.index] : outputs[tensor.index]).values<float>());
        }
      });
      return std::vector<Tensor>();
    });
    for (const Observed& tensor : observed)
      if (!tensor.stats.is_finite()) reject_values(graph, tensor);
    first += count;
    progress.step(count);
  }

  Calibration calibration{end - begin, source.digest, {}};
  for (Observed& tensor : observed) calibration.tensors.emplace(*tensor.name, std::move(tensor.stats));
  return calibration;
}

}  // namespace slipway
