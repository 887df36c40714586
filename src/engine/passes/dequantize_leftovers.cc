// Constants behind a DequantizeLinear that no integer operator took become floats, for the float operators that read
// them.
#include "base/error.h"
#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/evaluate.h"

namespace slipway {

bool dequantize_leftovers(Graph& graph, const PassContext& context) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.is("DequantizeLinear") || graph.is_output(node.outputs[0])) continue;
    std::vector<const Tensor*> inputs;
    bool constant = true;
    for (ValueId v : node.inputs) {
      inputs.push_back(graph.constant(v));
      constant &= v == kNoValue || inputs.back() != nullptr;
    }
    if (!constant || inputs[0]->elements() * 4 > context.max_folded_bytes) continue;
    const ValueId out = node.outputs[0];
    const std::string name = graph.value(out).name;
    const ValueId folded = graph.add_constant(name, std::move(evaluate_node(graph, node, inputs)[0]));
    graph.replace_uses(out, folded);
    erase_unused(graph, id);
    graph.rename(folded, name);
    changed = true;
  }
  return changed;
}

}  // namespace slipway
