#pragma once
#include <vector>

#include "model/graph.h"

namespace slipway {

/// The node alone: a Graph of one node whose graph inputs are the node's inputs and captures in order (constants too,
/// by type and shape alone), and whose outputs are the node's. Absent inputs stay absent.
Graph step_graph(const Graph& graph, const Node& node);
/// The only node of such a graph.
const Node& step_node(const Graph& graph);

}  // namespace slipway
