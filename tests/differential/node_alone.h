#pragma once
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// A graph of one node whose operands are its inputs, constants apart, each once.
struct NodeAlone {
  Graph graph;
  std::vector<Tensor> inputs;    ///< their values
  std::vector<ValueId> sources;  ///< the values of the other graph that they stand for
};
/// `tensors` by ValueId of `graph`, whose values the node reads; all of its `outputs` become outputs.
NodeAlone node_alone(const Graph& graph, NodeSpec spec, const std::vector<ValueId>& captures, size_t outputs,
                     const std::vector<Tensor>& tensors);

}  // namespace slipway
