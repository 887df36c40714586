#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "load/load.h"
#include "load/load_target.h"
#include "serve/recording.h"

namespace slipway {

struct SampleLimits {
  int64_t max_samples = 1000;
  uint64_t max_bytes = uint64_t{256} << 20;  ///< of all; at least one sample is taken
};

/// Samples spread evenly over the test split, as requests to the model. Fails as Feed does.
std::vector<LoadSample> dataset_samples(const Dataset& data, const ModelDescription& model, SampleLimits limits = {});
/// The same as PNG files, for /predict. Fails with kInvalidArgument when the data are no pictures.
std::vector<LoadSample> picture_samples(const Dataset& data, SampleLimits limits = {});
/// Numbers in [0, 1), 0 or 1 of integers, of the model's shapes with free first axes at 1. Fails with kInvalidArgument
/// where another axis is free.
std::vector<LoadSample> random_samples(const ModelDescription& model, int64_t count = 16, uint64_t seed = 1);
/// Recorded requests of `model` (empty: of the only one recorded) that did not fail through the caller's fault. With
/// `speed` > 0 they are due at the recorded gaps, so many times as fast; else one after the other. Fails with
/// kInvalidArgument when there are none, or several models and none named.
std::vector<LoadSample> recorded_samples(const std::vector<RecordedRequest>& records, const std::string& model,
                                         double speed);

}  // namespace slipway
