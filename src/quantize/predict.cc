// Top-1 classes over the test split.
#include "quantize/predict.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/progress.h"
#include "data/top_classes.h"
#include "engine/executor.h"
#include "metrics/classification.h"

namespace slipway {
namespace {

/// Samples first, first + 1, … of `chosen` spread evenly over the split, stacked.
Tensor read(const Dataset& data, int64_t chosen, int64_t first, int64_t count, int threads) {
  const int64_t size = data.size(Split::kTest);
  if (chosen == size) return data.batch(Split::kTest, first, count, threads);
  std::optional<Tensor> stacked;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = first + i;
    const Tensor sample = data.input(Split::kTest, at * (size / chosen) + at * (size % chosen) / chosen);
    if (!stacked) {
      Dims dims = sample.dims();
      dims.insert(dims.begin(), count);
      stacked.emplace(sample.dtype(), dims);
    }
    if (sample.bytes() * static_cast<size_t>(count) != stacked->bytes())
      fail(ErrorCode::kInvalidArgument,
           "Samples of different shapes can't be judged together; give preprocess a size in {}: {}", data.path(),
           to_string(sample.dims()));
    std::memcpy(stacked->mutable_raw() + static_cast<size_t>(i) * sample.bytes(), sample.raw(), sample.bytes());
  }
  return *std::move(stacked);
}

}  // namespace

Predictions predict(const Graph& graph, const Dataset& data, const PredictOptions& options) {
  if (graph.inputs().size() != 1)
    fail(ErrorCode::kUnsupported, "A data file feeds one input; the model has {}: '{}'", graph.inputs().size(),
         graph.name);
  const int64_t size = data.size(Split::kTest), chosen = options.samples < 0 ? size : std::min(options.samples, size);
  const int64_t batch = batch_of_samples(graph, options.batch);
  Predictions result;
  Executor executor(graph, {.batch = batch, .program = {.threads = options.threads}});
  Progress progress("judge", chosen, options.quiet);
  for (int64_t first = 0; first < chosen; first += batch) {
    const int64_t count = std::min(batch, chosen - first);
    const Tensor samples = read(data, chosen, first, count, options.threads);
    const std::vector<Tensor> outputs = executor.run_samples(std::span(&samples, 1));
    const std::optional<size_t> which = scores_output(outputs, samples.dims()[0]);
    if (!which) return {};
    const std::vector<float> scores = to_floats(outputs[*which]);
    const auto classes = static_cast<size_t>(outputs[*which].dims()[1]);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = first + i, index = at * (size / chosen) + at * (size % chosen) / chosen;
      const int64_t label = data.label(Split::kTest, index);
      if (label >= static_cast<int64_t>(classes))
        fail(ErrorCode::kInvalidArgument,
             "A label lies beyond the model's classes; correct label_map or label_offset in {}: {} of sample '{}', the "
             "model has {} classes",
             data.path(), label, data.sample_name(Split::kTest, index), classes);
      result.labels.push_back(label);
      result.classes.push_back(argmax(std::span(scores).subspan(static_cast<size_t>(i) * classes, classes)));
    }
    progress.step(count);
  }
  return result;
}

double top1_accuracy(const Predictions& predictions) {
  return predictions.classes.empty() ? 0 : agreement(predictions.classes, predictions.labels);
}

}  // namespace slipway
