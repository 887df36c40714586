#pragma once
#include <span>
#include <string>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

/// Whether a model computes each row of a batch apart from the others.
struct RowIndependence {
  bool proven = false;
  std::string reason;  ///< where not: the first node that mixes rows and how, or the input or output that has none
};

/// Proves from the graph that the rows along axis 0 of every input and output are independent: each row of every output
/// follows from the same row of the inputs alone, whatever the others hold and however many they are (a fixed first
/// axis counts as rows too). Sound, not complete: what it can't prove may still be true. Fails as infer_shapes() does.
RowIndependence prove_row_independence(const Graph& graph);

/// Tensors one after the other along axis 0: equal in type and in all other axes.
Tensor stack_rows(std::span<const Tensor> parts);

}  // namespace slipway
