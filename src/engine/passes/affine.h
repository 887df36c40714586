#pragma once
#include <optional>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// y = x · scale[c] + shift[c] for each channel.
struct Affine {
  std::vector<double> scale, shift;
};

/// A BatchNormalization at inference with constant, finite parameters.
std::optional<Affine> batch_norm_affine(const Graph& graph, const Node& node);

/// The Conv, ConvTranspose or Gemm that makes the value and whose only reader is `reader`; kNoNode otherwise.
NodeId linear_before(const Graph& graph, ValueId value, NodeId reader);
/// Output channels of such a node; 0 when its weights are not constant FP32 and its channels unknown.
int64_t channels_of(const Graph& graph, const Node& linear);
/// Rank of its output: that of its weights.
size_t output_rank(const Graph& graph, const Node& linear);

/// Turns `last`, which applies `affine` to the result of `linear`, into `linear` with new weights and bias. False, and
/// nothing done, unless the bias is constant or absent and, where the scale is not 1, the weights are constant FP32.
bool fold_affine(Graph& graph, NodeId linear, NodeId last, const Affine& affine);

}  // namespace slipway
