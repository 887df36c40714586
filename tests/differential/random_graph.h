#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "graph_writer.h"

namespace slipway {

/// A valid model with inputs for it: the same for a seed on every machine.
struct RandomGraph {
  Graph graph;
  std::vector<Tensor> inputs;
};

/// 1 to about 25 nodes from the operator registry. Patterns that passes look for, quantised ones among them, are as
/// frequent as operators alone; constants stand where inputs could and the other way round; values have several
/// readers, are outputs as well as read, or are read by nobody. Fails as infer_shapes() does where inference refuses
/// the whole though it took every node.
RandomGraph random_graph(uint64_t seed);

/// One node more in a graph, of an operator that chance picks; false when no proposal was valid.
bool add_some_node(GraphWriter& writer);

/// Erases constants that nothing reads, and inputs too unless they are kept.
void erase_unused(Graph& graph, bool keep_inputs);

}  // namespace slipway
