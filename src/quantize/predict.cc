// Top-1 classes over the test split.
#include "quantize/predict.h"

#include <algorithm>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/progress.h"
#include "data/feed.h"
#include "data/top_classes.h"
#include "engine/executor.h"
#include "metrics/classification.h"

namespace slipway {

Predictions predict(const Graph& graph, const Dataset& data, const PredictOptions& options) {
  const Feed feed(data, graph);
  const int64_t size = data.size(Split::kTest), chosen = options.samples < 0 ? size : std::min(options.samples, size);
  const int64_t batch = batch_of_samples(graph, options.batch);
  Predictions result;
  Executor executor(graph, {.batch = batch, .program = {.threads = options.threads}});
  Progress progress("judge", chosen, options.quiet);
  for (int64_t first = 0; first < chosen; first += batch) {
    const int64_t count = std::min(batch, chosen - first);
    std::vector<int64_t> indices;  // spread evenly over the split
    for (int64_t at = first; at < first + count; ++at)
      indices.push_back(at * (size / chosen) + at * (size % chosen) / chosen);
    const auto results = executor.run_requests(feed.requests(Split::kTest, indices, options.threads));
    for (size_t i = 0; i < indices.size(); ++i) {
      const std::optional<size_t> which = scores_output(results[i], 1);
      if (!which) return {};
      const std::vector<float> scores = to_floats(results[i][*which]);
      const int64_t index = indices[i], label = data.label(Split::kTest, index);
      if (label >= static_cast<int64_t>(scores.size()))
        fail(ErrorCode::kInvalidArgument,
             "A label lies beyond the model's classes; correct label_map or label_offset in {}: {} of sample '{}', the "
             "model has {} classes",
             data.path(), label, data.sample_name(Split::kTest, index), scores.size());
      result.labels.push_back(label);
      result.classes.push_back(argmax(scores));
    }
    progress.step(count);
  }
  return result;
}

double top1_accuracy(const Predictions& predictions) {
  return predictions.classes.empty() ? 0 : agreement(predictions.classes, predictions.labels);
}

}  // namespace slipway
