// Numbers that a value is multiplied with one after the other become one number, and a number on each side of a matrix
// product becomes one on its left: exporters split the scale of attention between queries and keys.
//
// What overflows or vanishes must do so as before. Two factors merge where both shrink or both enlarge, so that what is
// between them is never further out than the result; on both sides of a product only factors that shrink, so that no
// operand grows.
#include <cmath>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr double kSmallestFactor = 0x1p-30, kLargestFactor = 0x1p30;

/// x·factor, made by a node that a single other reads.
struct Scaled {
  ValueId x;
  double factor;
};

std::optional<Scaled> scaled_value(const Graph& graph, const Node& node) {
  if ((!node.is("Mul") && !node.is("Div")) || node.inputs.size() != 2) return std::nullopt;
  for (size_t side : {size_t{0}, size_t{1}}) {
    const auto number = scalar(graph, node.inputs[1 - side]);
    if (!number || (side == 1 && node.is("Div")) || !same_type(graph, node.inputs[side], node.outputs[0])) continue;
    if (graph.value(node.outputs[0]).dtype != DType::kFloat32) return std::nullopt;
    const double factor = node.is("Div") ? 1 / static_cast<double>(*number) : static_cast<double>(*number);
    if (!(std::abs(factor) >= kSmallestFactor && std::abs(factor) <= kLargestFactor)) return std::nullopt;
    return Scaled{node.inputs[side], factor};
  }
  return std::nullopt;
}

std::optional<Scaled> scaled_for(const Graph& graph, ValueId value, NodeId reader) {
  const Node* node = graph.producer(value);
  if (node == nullptr || graph.only_user(value) != reader) return std::nullopt;
  return scaled_value(graph, *node);
}

ValueId number(Graph& graph, ValueId value, double factor) {
  return graph.add_constant(graph.value(value).name + "_scale", Tensor::scalar<float>(static_cast<float>(factor)));
}

bool merge_chain(Graph& graph, NodeId id) {
  const auto outer = scaled_value(graph, graph.node(id));
  const auto inner = outer ? scaled_for(graph, outer->x, id) : std::nullopt;
  if (!inner) return false;
  const double a = std::abs(inner->factor), b = std::abs(outer->factor), both = inner->factor * outer->factor;
  if (!((a <= 1 && b <= 1) || (a >= 1 && b >= 1)) || std::abs(both) < kSmallestFactor ||
      std::abs(both) > kLargestFactor)
    return false;
  const ValueId factor = number(graph, graph.node(id).outputs[0], both);
  rewrite(graph, id, {.op_type = "Mul", .inputs = {inner->x, factor}});
  return true;
}

bool merge_sides(Graph& graph, NodeId id) {
  const std::vector<ValueId> inputs = graph.node(id).inputs;
  const auto left = scaled_for(graph, inputs[0], id), right = scaled_for(graph, inputs[1], id);
  if (!left || !right || std::abs(left->factor) > 1 || std::abs(right->factor) > 1 ||
      std::abs(left->factor * right->factor) < kSmallestFactor)
    return false;
  const NodeId first = graph.value(inputs[0]).producer, second = graph.value(inputs[1]).producer;
  rewrite(graph, first,
          {.op_type = "Mul", .inputs = {left->x, number(graph, inputs[0], left->factor * right->factor)}});
  graph.set_input(id, 1, right->x);
  erase_unused(graph, second);
  return true;
}

}  // namespace

bool merge_scales(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive) continue;
    changed |= graph.node(id).is("MatMul") ? merge_sides(graph, id) : merge_chain(graph, id);
  }
  return changed;
}

}  // namespace slipway
