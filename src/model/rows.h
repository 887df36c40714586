#pragma once
#include <span>
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

/// Whether a model computes each row of a batch apart from the others, and where the rows lie.
struct RowIndependence {
  bool proven = false;
  std::string reason = {};  ///< where not: the first node that mixes rows and how, or the input or output that has none
  /// Where proven: the axis of each along which the rows lie; −1 for one that is the same for all of them.
  std::vector<int> inputs = {}, outputs = {};
  bool along_first() const;  ///< proven, and every axis is the first
};

/// Proves from the graph that the rows along axis 0 of every input and output are independent: each row of every output
/// follows from the same row of the inputs alone, whatever the others hold and however many they are (a fixed first
/// axis counts as rows too). Sound, not complete: what it can't prove may still be true. Fails as infer_shapes() does.
RowIndependence prove_row_independence(const Graph& graph);

/// The same along whatever free axes it can be proven: the first ones; else those of one name, where an input of fixed
/// sizes is the same for all rows, as may be an output; else the first unnamed one of each input. Where there are none,
/// what prove_row_independence() says.
RowIndependence find_row_independence(const Graph& graph);

/// Tensors one after the other along an axis: equal in type and in all other axes.
Tensor stack_rows(std::span<const Tensor> parts, size_t axis = 0);

}  // namespace slipway
