// Erases nodes whose results nothing reads, users before producers, and constants without uses. Graph inputs stay: they
// are the model's signature.
#include <algorithm>

#include "engine/passes/passes.h"

namespace slipway {

bool dead_code(Graph& graph, const PassContext&) {
  bool changed = false;
  std::vector<NodeId> order = graph.topological_order();
  std::reverse(order.begin(), order.end());
  for (NodeId id : order) {
    const std::vector<ValueId>& outputs = graph.node(id).outputs;
    if (std::any_of(outputs.begin(), outputs.end(),
                    [&](ValueId v) { return v != kNoValue && (!graph.value(v).uses.empty() || graph.is_output(v)); }))
      continue;
    graph.erase_node(id);
    changed = true;
  }
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& value = graph.value(id);
    if (!value.alive || !value.is_constant() || !value.uses.empty() || graph.is_output(id) || value.is_input) continue;
    graph.erase_value(id);
    changed = true;
  }
  return changed;
}

}  // namespace slipway
