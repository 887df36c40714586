// An If whose condition is a constant is replaced by the branch that it takes: exporters write one where a shape
// decides (squeeze of an axis that may be 1), and constant folding then knows the shape.
#include <vector>

#include "engine/passes/match.h"
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

// The branch's values in the graph around it, by id; its nodes are added in the place of the If.
std::vector<ValueId> copy_branch(Graph& graph, const Graph& branch, NodeId id) {
  const std::vector<ValueId> captures = graph.node(id).captures;
  std::vector<ValueId> copies(static_cast<size_t>(branch.value_limit()), kNoValue);
  const auto copy_of = [&](ValueId v) { return v == kNoValue ? kNoValue : copies[static_cast<size_t>(v)]; };
  const auto copies_of = [&](const std::vector<ValueId>& values) {
    std::vector<ValueId> mapped;
    for (ValueId v : values) mapped.push_back(copy_of(v));
    return mapped;
  };
  for (ValueId v = 0; v < branch.value_limit(); ++v) {
    const Value& value = branch.value(v);
    if (!value.alive) continue;
    if (value.is_constant()) copies[static_cast<size_t>(v)] = graph.add_constant(value.name, *value.constant);
    if (value.capture >= 0) copies[static_cast<size_t>(v)] = captures[static_cast<size_t>(value.capture)];
  }
  for (NodeId n : branch.topological_order()) {
    const Node& node = branch.node(n);
    std::vector<std::string> names;
    for (ValueId v : node.outputs) names.push_back(v == kNoValue ? "" : branch.value(v).name);
    const NodeId copy = graph.add_node({.op_type = node.op_type,
                                        .domain = node.domain,
                                        .name = node.name,
                                        .inputs = copies_of(node.inputs),
                                        .attributes = node.attributes},
                                       names, id);
    graph.set_captures(copy, copies_of(node.captures));
    graph.add_origins(copy, node.origins);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const Value& value = branch.value(node.outputs[i]);
      const ValueId out = graph.node(copy).outputs[i];
      copies[static_cast<size_t>(node.outputs[i])] = out;
      graph.set_type(out, value.dtype, value.shape);
    }
  }
  return copies;
}

}  // namespace

bool inline_if(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).is("If")) continue;
    const Graph* branch = branch_taken(graph, graph.node(id));
    if (branch == nullptr || branch->outputs().size() != graph.node(id).outputs.size()) continue;
    const std::vector<ValueId> copies = copy_branch(graph, *branch, id);
    const std::vector<ValueId> outputs = graph.node(id).outputs;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != kNoValue) graph.replace_uses(outputs[i], copies[static_cast<size_t>(branch->outputs()[i])]);
    graph.erase_node(id);
    changed = true;
  }
  return changed;
}

}  // namespace slipway
