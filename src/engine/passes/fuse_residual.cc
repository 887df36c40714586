// Add of a convolution's result and a tensor of the same shape becomes the convolution's residual input. Of two
// convolutions the later one takes the sum, so that its residual is ready.
#include <unordered_map>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {

bool fuse_residual(Graph& graph, const PassContext&) {
  bool changed = false;
  const std::vector<NodeId> order = graph.topological_order();
  std::unordered_map<NodeId, size_t> position;
  for (size_t i = 0; i < order.size(); ++i) position[order[i]] = i;
  for (NodeId id : order) {
    const Node add = graph.node(id);
    if (!add.alive || !add.is("Add") || !same_type(graph, add.inputs[0], add.inputs[1])) continue;
    NodeId chosen = kNoNode;
    size_t side = 0;
    for (size_t i : {size_t{0}, size_t{1}}) {
      const Node* conv = graph.producer(add.inputs[i]);
      if (conv == nullptr || !conv->is_fused("Conv") || conv->has("activation") || conv->has_input(3)) continue;
      const NodeId candidate = graph.value(add.inputs[i]).producer;
      if (graph.constant(add.inputs[1 - i]) != nullptr) continue;  // a kernel adds in place, to what was computed
      if (graph.only_user(add.inputs[i]) != id || (chosen != kNoNode && position[candidate] < position[chosen]))
        continue;
      chosen = candidate;
      side = i;
    }
    if (chosen == kNoNode) continue;
    const Node conv = graph.node(chosen);
    NodeSpec spec{.op_type = "Conv",
                  .domain = std::string(kFusedDomain),
                  .name = conv.name,
                  .inputs = conv.inputs,
                  .attributes = conv.attributes};
    spec.inputs.resize(3, kNoValue);
    spec.inputs.push_back(add.inputs[1 - side]);
    rewrite(graph, id, std::move(spec));
    changed = true;
  }
  return changed;
}

}  // namespace slipway
