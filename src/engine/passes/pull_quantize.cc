// QuantizeLinear moves above reshapes, transposes and Concat, to the operators that compute: Q(M(x)) = M(Q(x)). There
// it can become part of an integer operator, and inputs of a Concat with scales of their own meet the common one.
#include <algorithm>

#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"

namespace slipway {
namespace {

bool is_passable(const Node& node) {
  static constexpr std::string_view kOps[] = {"Reshape",   "Flatten",  "Squeeze", "Unsqueeze",
                                              "Transpose", "Identity", "Concat"};
  return node.domain.empty() && std::find(std::begin(kOps), std::end(kOps), node.op_type) != std::end(kOps);
}

bool pull(Graph& graph, NodeId id) {
  const Node quantizer = graph.node(id);
  const auto y = quantization_of(graph, quantizer);
  const Node* maker = graph.producer(quantizer.inputs[0]);
  if (!y || maker == nullptr || !is_passable(*maker) || graph.only_user(quantizer.inputs[0]) != id) return false;
  const Node mover = *maker;
  std::vector<ValueId> inputs = mover.inputs;
  const size_t count = mover.is("Concat") ? inputs.size() : 1;
  for (size_t i = 0; i < count; ++i) {
    const Value& x = graph.value(mover.inputs[i]);
    const Shape shape = x.shape;
    std::vector<ValueId> operands = quantizer.inputs;
    operands[0] = mover.inputs[i];
    inputs[i] = graph.add_node(NodeSpec{.op_type = "QuantizeLinear",
                                        .name = quantizer.name,
                                        .inputs = std::move(operands),
                                        .attributes = quantizer.attributes},
                               x.name + "_codes", id);
    graph.set_type(inputs[i], y->dtype, shape);
  }
  rewrite(graph, id,
          {.op_type = mover.op_type, .name = mover.name, .inputs = std::move(inputs), .attributes = mover.attributes});
  return true;
}

}  // namespace

bool pull_quantize(Graph& graph, const PassContext&) {
  bool changed = false;
  for (bool again = true; again; changed |= again) {
    again = false;
    for (NodeId id : graph.topological_order())
      if (graph.node(id).is("QuantizeLinear")) again |= pull(graph, id);
  }
  return changed;
}

}  // namespace slipway
