#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/feed.h"
#include "model/graph.h"
#include "quantize/calibrate/calibration.h"

namespace slipway {

/// Where calibration gets its samples.
struct CalibrationSource {
  int64_t count = 0;
  /// The samples of these indices as requests to the model.
  std::function<std::vector<std::vector<Tensor>>(std::span<const int64_t> indices)> read;
  std::string digest = {};  ///< of the whole set
};

/// The samples of a split.
CalibrationSource samples_of(Feed feed, Split split, int threads = 1);

struct CalibrateOptions {
  int64_t samples = 500;  ///< at most; the source may have fewer. Spread evenly over the source
  int64_t batch = 16;     ///< samples at once, where the model's rows are proven independent
  int threads = 1;
  int64_t shard = 0, shards = 1;   ///< only samples [n·shard/shards, n·(shard+1)/shards) of the chosen n
  std::string engine = "slipway";  ///< a backend's name
};

/// Runs the float graph on the samples and observes the named values (graph inputs or node outputs, float32), batch by
/// batch: memory is one batch's activations plus the observers'. Shows progress. Fails with kInvalidArgument where a
/// name is unknown or the source is empty, kInvalidModel naming tensor and node where a value is NaN or infinite.
Calibration calibrate(const Graph& graph, const CalibrationSource& source, std::span<const std::string> names,
                      const CalibrateOptions& options = {});

}  // namespace slipway
