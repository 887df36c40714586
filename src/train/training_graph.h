#pragma once
#include <map>
#include <string>

#include "model/graph.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

/// What a BatchNormalization that was folded into a convolution was before.
struct BatchNorm {
  Tensor weight;                       ///< the convolution's, not scaled
  Tensor gamma, beta, mean, variance;  ///< a value each channel; the convolution's bias is taken off the mean
  float epsilon = 1e-5f;
};

/// A model as training wants it: cleaned up and folded as quantisation takes it, each folded BatchNormalization beside.
struct TrainingGraph {
  Graph graph;
  std::map<std::string, BatchNorm> batch_norms;  ///< by name of the convolution's output in `graph`
};

/// Fails as prepare_for_quantization does.
TrainingGraph prepare_for_training(const Graph& model, const QuantizeOptions& options);

}  // namespace slipway
