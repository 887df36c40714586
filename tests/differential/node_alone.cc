// One node taken out of its graph, to be inferred and evaluated on concrete operands.
#include "node_alone.h"

#include <map>
#include <utility>

#include "base/error.h"

namespace slipway {

NodeAlone node_alone(const Graph& graph, NodeSpec spec, const std::vector<ValueId>& captures, size_t outputs,
                     const std::vector<Tensor>& tensors) {
  NodeAlone alone;
  alone.graph.opsets = graph.opsets;
  std::map<ValueId, ValueId> copies;
  const auto copy = [&](ValueId id) {
    if (id == kNoValue) return kNoValue;
    const auto [it, is_new] = copies.emplace(id, kNoValue);
    if (!is_new) return it->second;
    const Value& v = graph.value(id);
    if (v.is_constant()) return it->second = alone.graph.add_constant(v.name, *v.constant);
    const Tensor& t = tensors[static_cast<size_t>(id)];
    alone.inputs.push_back(t);
    alone.sources.push_back(id);
    return it->second = alone.graph.add_input(v.name, t.dtype(), Shape::of(t.dims()));
  };
  std::vector<ValueId> captured;
  for (ValueId& id : spec.inputs) id = copy(id);
  for (const ValueId id : captures) captured.push_back(copy(id));
  std::vector<std::string> names;
  for (size_t i = 0; i < outputs; ++i) names.push_back(fmt::format("result{}", i));
  const NodeId node = alone.graph.add_node(std::move(spec), names);
  alone.graph.set_captures(node, captured);
  for (const ValueId id : alone.graph.node(node).outputs) alone.graph.add_output(id);
  return alone;
}

}  // namespace slipway
