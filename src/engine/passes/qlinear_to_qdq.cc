// QLinearConv and QLinearMatMul become DequantizeLinear, the float operator and QuantizeLinear: one form of quantised
// model for all that follows.
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

ValueId dequantize(Graph& graph, NodeId like, ValueId codes, ValueId scale, ValueId zero_point, int64_t axis) {
  NodeSpec spec{.op_type = "DequantizeLinear", .inputs = {codes, scale}};
  if (zero_point != kNoValue) spec.inputs.push_back(zero_point);
  if (graph.constant(scale)->elements() > 1) spec.attributes.insert_or_assign("axis", axis);
  const std::string name = graph.value(codes).name + "_dequantized";
  return graph.add_node(std::move(spec), name, like);
}

bool convert(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const bool is_conv = node.is("QLinearConv");
  for (size_t i : {size_t{1}, size_t{4}, size_t{6}}) {
    const Tensor* scale = graph.constant(node.input(i));
    if (scale == nullptr || (scale->elements() != 1 && (i != 4 || graph.opset() < 13))) return false;
  }
  const int64_t weights_axis = is_conv ? 0 : graph.value(node.inputs[3]).shape.rank() == 2 ? 1 : -1;
  if (graph.constant(node.inputs[4])->elements() > 1 && weights_axis < 0) return false;
  NodeSpec spec{.op_type = is_conv ? "Conv" : "MatMul", .name = node.name, .attributes = node.attributes};
  spec.inputs = {dequantize(graph, id, node.inputs[0], node.inputs[1], node.inputs[2], 1),
                 dequantize(graph, id, node.inputs[3], node.inputs[4], node.inputs[5], weights_axis)};
  if (is_conv && node.has_input(8)) {
    const std::vector<float> x_scale = to_floats(*graph.constant(node.inputs[1]));
    std::vector<float> scales = to_floats(*graph.constant(node.inputs[4]));
    for (float& s : scales) s *= x_scale[0];
    const Dims dims = scales.size() == 1 ? Dims{} : Dims{static_cast<int64_t>(scales.size())};
    const ValueId scale =
        graph.add_constant(graph.value(node.inputs[8]).name + "_scale", Tensor::of<float>(dims, scales));
    spec.inputs.push_back(dequantize(graph, id, node.inputs[8], scale, kNoValue, 0));
  }
  const std::string name = graph.value(node.outputs[0]).name + "_reals";
  const ValueId reals = graph.add_node(std::move(spec), name, id);
  rewrite(graph, id, {.op_type = "QuantizeLinear", .inputs = {reals, node.inputs[6], node.inputs[7]}});
  return true;
}

}  // namespace

bool qlinear_to_qdq(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.alive && (node.is("QLinearConv") || node.is("QLinearMatMul"))) changed |= convert(graph, id);
  }
  return changed;
}

}  // namespace slipway
