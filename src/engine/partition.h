#pragma once
#include <span>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// Some nodes of a graph as a graph of their own.
struct GraphPart {
  Graph graph;
  std::vector<ValueId> reads;  ///< what it takes, by the order of graph.inputs(): ids in the whole
  std::vector<ValueId> makes;  ///< what others read of it, by the order of graph.outputs(): ids in the whole
};

/// Gives every output a value of its own that a node makes, by Identity where it is an input, a constant or another
/// output too.
void separate_outputs(Graph& graph);

/// `nodes` in topological order. Constants go along; what the nodes make is an output where a node outside reads it, or
/// it is an output of the whole.
GraphPart extract_part(const Graph& whole, std::span<const NodeId> nodes);

/// A subgraph of a node of `whole` as a graph of its own: what it captures are further inputs, after its own, or
/// constants where they are constant. `captured` gets the index in node.captures of each further input.
Graph standalone_body(const Graph& whole, const Node& node, const Graph& body, std::vector<size_t>& captured);

/// What runs at one time.
struct GraphStage {
  enum Kind {
    kPlan,      ///< every shape is known: one plan
    kNode,      ///< one node, interpreted: its shapes depend on the data, its types fit no plan, or it has subgraphs
    kRemainder  ///< what depends on shapes that only the stages before make known
  } kind;
  std::vector<NodeId> nodes;
};

/// Cuts a graph whose inputs have known shapes into stages, in order, as few as may be: runs of what can be planned,
/// and what must be interpreted between them. Only the last one may be a remainder.
std::vector<GraphStage> cut_into_stages(const Graph& graph);

}  // namespace slipway
