#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "model/graph.h"
#include "model/onnx/identity.h"
#include "report/policy.h"
#include "report/report.h"

namespace slipway {

struct VerifyOptions {
  int threads = 1;
  int64_t max_samples = -1;          ///< of the test split, spread evenly; −1: all
  int64_t batch = 32;                ///< samples at once when judging accuracy
  int64_t edge_case_samples = 1000;  ///< at most, for each kind of spoiled sample
  int64_t layer_samples = 8;         ///< compared layer by layer
  double seconds = 4;                ///< of latency measurement, both models together; more also buys reference runs
  std::string timing_cache = {};     ///< see BuildOptions
  bool tune = true;                  ///< judge the plans that would be served; tests do without
  bool quiet = false;                ///< no progress
  std::string save_plan = {};        ///< where the candidate's plan goes, the one that was judged; empty: nowhere
};

/// How much is looked at, as it was asked for; what was not is the default, or with `quick` a part of it.
struct VerifyExtent {
  bool quick = false;
  std::optional<int64_t> samples, edge_case_samples;
  std::optional<double> seconds;
};
/// With these numbers; `quick` takes no fewer samples than the policy wants.
VerifyOptions verify_options(const VerifyExtent& extent, const Policy& policy);

/// A model and the ONNX file that it came from, whose size and digest the Report records.
struct VerifySubject {
  const Graph& graph;
  std::string path;
  ModelIdentity identity = identify_model(path);  ///< of the bytes that `graph` was read from
};

/// Judges a candidate against the original it was made from: performance, accuracy, distances by output and by layer,
/// stability, and both models' plans against the reference, by the policy. Fails with kInvalidArgument where the data
/// does not fit a model (both shapes named), where the pre-processing that a model carries contradicts the data file,
/// or the models' inputs or outputs differ; kUnsupported for a model with more than one input.
Report verify(const VerifySubject& reference, const VerifySubject& candidate, const Dataset& data,
              const Policy& policy = {}, const VerifyOptions& options = {});

}  // namespace slipway
