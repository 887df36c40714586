#pragma once
#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "model/graph.h"

namespace slipway {

struct PredictOptions {
  int64_t samples = -1;  ///< of the test split, spread evenly; −1: all
  int64_t batch = 32;    ///< at once, where the model's first dimension is free
  int threads = 1;
  bool quiet = false;  ///< no progress
};

/// Top-1 classes of samples of the test split, with their labels (−1 without).
struct Predictions {
  std::vector<int64_t> classes, labels;
};

/// Runs the model with the engine. Empty where no output holds classes (scores_output). Fails with kInvalidArgument
/// where a label lies beyond the classes or the data does not fit.
Predictions predict(const Graph& graph, const Dataset& data, const PredictOptions& options = {});

/// Share of the predictions that equal the labels; 0 without any.
double top1_accuracy(const Predictions& predictions);

}  // namespace slipway
