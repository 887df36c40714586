// Expand moves towards the outputs, so that what is the same everywhere is computed once, and goes where its reader
// broadcasts by itself: exporters repeat a mask over all queries or channels before they turn it into numbers.
//   op(Expand(x, s), number, …)   →  Expand(op(x, number, …), s), also where several operands are repeated alike
//   op(a, Expand(x, s))           →  op(a, x), where a has the result's shape
//   Reduce(Expand(x))             →  Expand(Reduce(x)), along axes that were not repeated, where sizes are known
#include <algorithm>
#include <array>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr std::array<std::string_view, 17> kBroadcasting = {
    "Add",   "Sub",  "Mul",     "Div",         "Where",          "And", "Or",  "Xor",
    "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Max", "Min", "Pow",
    "Sum"};
constexpr std::array<std::string_view, 11> kUnary = {"Cast", "Not",  "Neg",        "Abs", "Relu", "Clip",
                                                     "Sqrt", "Sign", "Reciprocal", "Exp", "IsNaN"};

template <size_t kCount>
bool is_one_of(const Node& node, const std::array<std::string_view, kCount>& names) {
  return node.domain.empty() && std::find(names.begin(), names.end(), node.op_type) != names.end();
}

bool is_number(const Graph& graph, ValueId value, size_t rank) {
  const Tensor* tensor = graph.constant(value);
  return tensor != nullptr && tensor->elements() == 1 && static_cast<size_t>(tensor->rank()) <= rank;
}

ValueId unexpanded(Graph& graph, NodeId id, std::vector<ValueId> inputs) {
  const Node& node = graph.node(id);
  return graph.add_node(
      NodeSpec{.op_type = node.op_type, .name = node.name, .inputs = std::move(inputs), .attributes = node.attributes},
      graph.value(node.outputs[0]).name + "_unexpanded", id);
}

bool sink_past(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Node* expand = nullptr;
  std::vector<ValueId> inputs;
  for (ValueId v : node.inputs) {
    const Node* made = v == kNoValue ? nullptr : made_by(graph, v, "Expand");
    inputs.push_back(made == nullptr ? v : made->inputs[0]);
    if (made == nullptr) continue;
    if (expand != nullptr &&
        (made->inputs[1] != expand->inputs[1] || !same_shape(graph, made->inputs[0], expand->inputs[0])))
      return false;
    expand = made;
  }
  if (expand == nullptr || !graph.value(expand->inputs[0]).shape.has_rank()) return false;
  const size_t rank = graph.value(expand->inputs[0]).shape.rank();
  for (ValueId v : node.inputs)
    if (v != kNoValue && made_by(graph, v, "Expand") == nullptr && !is_number(graph, v, rank)) return false;
  const ValueId shape = expand->inputs[1];
  const ValueId inner = unexpanded(graph, id, std::move(inputs));
  graph.set_type(inner, graph.value(node.outputs[0]).dtype, Shape(graph.value(expand->inputs[0]).shape));
  rewrite(graph, id, {.op_type = "Expand", .inputs = {inner, shape}});
  return true;
}

bool leave_to_reader(Graph& graph, NodeId id) {
  const std::vector<ValueId> inputs = graph.node(id).inputs;
  const ValueId out = graph.node(id).outputs[0];
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Node* expand = inputs[i] == kNoValue ? nullptr : made_by(graph, inputs[i], "Expand");
    if (expand == nullptr) continue;
    const bool fills = std::any_of(inputs.begin(), inputs.end(), [&](ValueId v) {
      return v != inputs[i] && made_by(graph, v, "Expand") == nullptr && same_shape(graph, v, out);
    });
    if (!fills) continue;
    graph.set_input(id, i, expand->inputs[0]);
    erase_unused(graph, graph.value(inputs[i]).producer);
    return true;
  }
  return false;
}

bool sink_past_reduction(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Node* expand = made_by(graph, node.input(0), "Expand");
  auto axes = integers_of(graph, node, "axes", 1);
  if (expand == nullptr || !axes || axes->empty()) return false;
  const Shape &x = graph.value(expand->inputs[0]).shape, &wide = graph.value(node.inputs[0]).shape,
              &y = graph.value(node.outputs[0]).shape;
  if (!x.is_static() || !wide.is_static() || !y.is_static() || x.rank() != wide.rank()) return false;
  for (int64_t& axis : *axes) {
    if (axis < 0) axis += static_cast<int64_t>(x.rank());
    if (axis < 0 || axis >= static_cast<int64_t>(x.rank()) ||
        !x[static_cast<size_t>(axis)].same_as(wide[static_cast<size_t>(axis)]))
      return false;
  }
  const bool keeps = node.integer("keepdims", 1) != 0;
  std::vector<Dim> reduced;
  for (size_t i = 0; i < x.rank(); ++i) {
    const bool is_reduced = std::find(axes->begin(), axes->end(), static_cast<int64_t>(i)) != axes->end();
    if (!is_reduced || keeps) reduced.push_back(is_reduced ? Dim(1) : x[i]);
  }
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = expand->inputs[0];
  const ValueId inner = unexpanded(graph, id, std::move(inputs));
  graph.set_type(inner, graph.value(node.outputs[0]).dtype, Shape(std::move(reduced)));
  const Dims dims = y.to_dims();
  const ValueId shape = graph.add_constant(graph.value(node.outputs[0]).name + "_shape",
                                           Tensor::of<int64_t>({static_cast<int64_t>(dims.size())}, dims));
  rewrite(graph, id, {.op_type = "Expand", .inputs = {inner, shape}});
  return true;
}

}  // namespace

bool sink_expand(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || node.outputs.size() != 1) continue;
    const bool broadcasts = is_one_of(node, kBroadcasting);
    if (broadcasts && leave_to_reader(graph, id)) changed = true;
    if ((broadcasts || is_one_of(node, kUnary)) && sink_past(graph, id)) changed = true;
    if (node.is("ReduceSum") || node.is("ReduceMean") || node.is("ReduceMax") || node.is("ReduceMin"))
      changed |= sink_past_reduction(graph, id);
  }
  return changed;
}

}  // namespace slipway
