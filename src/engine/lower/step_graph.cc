#include "engine/lower/step_graph.h"

#include "base/error.h"

namespace slipway {

Graph step_graph(const Graph& graph, const Node& node) {
  Graph one;
  one.ir_version = graph.ir_version;
  one.opsets = graph.opsets;
  std::vector<ValueId> inputs, captures;
  const auto add = [&](ValueId id) {
    if (id == kNoValue) return kNoValue;
    const Value& v = graph.value(id);
    return one.add_input(v.name, v.dtype, v.shape);
  };
  for (ValueId id : node.inputs) inputs.push_back(add(id));
  for (ValueId id : node.captures) captures.push_back(add(id));
  std::vector<std::string> names;
  for (ValueId id : node.outputs) names.push_back(id == kNoValue ? "" : graph.value(id).name);
  const NodeId copy = one.add_node({node.op_type, node.domain, node.name, inputs, node.attributes}, names);
  one.set_captures(copy, captures);
  one.add_origins(copy, node.origins);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId out = one.node(copy).outputs[i];
    if (out == kNoValue) continue;
    one.set_type(out, graph.value(node.outputs[i]).dtype, graph.value(node.outputs[i]).shape);
    one.add_output(out);
  }
  return one;
}

const Node& step_node(const Graph& graph) {
  if (graph.node_count() != 1) fail(ErrorCode::kInvalidModel, "A plan's step is not one node; build the plan again.");
  for (NodeId id = 0; id < graph.node_limit(); ++id)
    if (graph.node(id).alive) return graph.node(id);
  fail(ErrorCode::kInternal, "A step has no node");
}

}  // namespace slipway
