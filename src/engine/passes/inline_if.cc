// An If whose condition is a constant is replaced by the branch that it takes: exporters write one where a shape
// decides (squeeze of an axis that may be 1), and constant folding then knows the shape.
#include <vector>

#include "engine/passes/inline.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

const Graph* branch_taken(const Graph& graph, const Node& node) {
  const Tensor* condition = graph.constant(node.input(0));
  if (condition == nullptr || condition->dtype() != DType::kBool || condition->elements() != 1) return nullptr;
  const auto it = node.attributes.find(condition->values<bool>()[0] ? "then_branch" : "else_branch");
  const GraphPtr* branch = it == node.attributes.end() ? nullptr : std::get_if<GraphPtr>(&it->second);
  return branch == nullptr ? nullptr : branch->get();
}

}  // namespace

bool inline_if(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).is("If")) continue;
    const Graph* branch = branch_taken(graph, graph.node(id));
    if (branch == nullptr || branch->outputs().size() != graph.node(id).outputs.size()) continue;
    const std::vector<ValueId> results = BodyInliner(graph, *branch, id, true).copy({});
    const std::vector<ValueId> outputs = graph.node(id).outputs;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != kNoValue) graph.replace_uses(outputs[i], results[i]);
    graph.erase_node(id);
    changed = true;
  }
  return changed;
}

}  // namespace slipway
