// DequantizeLinear moves below operators that only move values, which then run on integers: M(DQ(q)) = DQ(M(q)). Pad
// moves when its value has an exact code. MaxPool counts, since dequantising is monotone, but where a window may be
// empty: no code is minus infinity. Weights move through Transpose, their channel axis with them.
#include <algorithm>

#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

bool moves_first_input(const Node& node) {
  static constexpr std::string_view kOps[] = {"Reshape", "Flatten",       "Squeeze", "Unsqueeze",    "Transpose",
                                              "Slice",   "Identity",      "Gather",  "DepthToSpace", "SpaceToDepth",
                                              "MaxPool", "GlobalMaxPool", "Expand",  "Tile"};
  return node.domain.empty() && std::find(std::begin(kOps), std::end(kOps), node.op_type) != std::end(kOps);
}

// The constant that pads codes as the node pads reals; nothing when there is none, kNoValue when none is needed.
std::optional<ValueId> pad_code(Graph& graph, const Node& pad, const Quantization& q) {
  if (pad.text("mode", "constant") != "constant") return kNoValue;
  float real = 0;
  if (pad.has_input(2)) {
    const auto given = scalar(graph, pad.inputs[2]);
    if (!given) return std::nullopt;
    real = *given;
  }
  const int32_t code = q.code(real);
  if (static_cast<float>(code - q.zero_point) * q.scale != real) return std::nullopt;
  const std::string name = graph.value(pad.outputs[0]).name + "_code";
  return graph.add_constant(name, q.dtype == DType::kInt8 ? Tensor::scalar(static_cast<int8_t>(code))
                                                          : Tensor::scalar(static_cast<uint8_t>(code)));
}

// Moves the DequantizeLinear `like` below the node, whose integer form reads `inputs`.
void exchange(Graph& graph, NodeId id, std::vector<ValueId> inputs, const Node& like, DType codes_dtype,
              Attributes dequantize_attributes) {
  const Node node = graph.node(id);
  const Shape shape = graph.value(node.outputs[0]).shape;
  const std::string name = graph.value(node.outputs[0]).name + "_codes";
  const ValueId moved = graph.add_node(
      NodeSpec{.op_type = node.op_type, .name = node.name, .inputs = std::move(inputs), .attributes = node.attributes},
      name, id);
  graph.set_type(moved, codes_dtype, shape);
  NodeSpec dequantize{
      .op_type = "DequantizeLinear", .name = like.name, .inputs = like.inputs, .attributes = dequantize_attributes};
  dequantize.inputs[0] = moved;
  rewrite(graph, id, std::move(dequantize));
}

bool push_through_move(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const auto x = dequantized(graph, node.input(0));
  if (!x || node.outputs.size() != 1) return false;
  if (node.is("MaxPool") && may_have_empty_windows(node)) return false;
  const Node dequantize = *graph.producer(node.inputs[0]);
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = x->codes;
  if (node.is("Pad")) {
    if (graph.opset() < 11) return false;
    const auto code = pad_code(graph, node, x->quantization);
    if (!code) return false;
    if (inputs.size() < 3) inputs.resize(3, kNoValue);
    inputs[2] = *code;
  }
  exchange(graph, id, std::move(inputs), dequantize, x->quantization.dtype, dequantize.attributes);
  return true;
}

bool push_through_concat(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  std::vector<ValueId> inputs;
  std::optional<Quantization> shared;
  for (ValueId v : node.inputs) {
    const auto x = dequantized(graph, v);
    if (!x || (shared && *shared != x->quantization)) return false;
    shared = x->quantization;
    inputs.push_back(x->codes);
  }
  if (!shared) return false;
  const Node dequantize = *graph.producer(node.inputs[0]);
  exchange(graph, id, std::move(inputs), dequantize, shared->dtype, dequantize.attributes);
  return true;
}

bool push_weights(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Node* maker = made_by(graph, node.inputs[0], "DequantizeLinear");
  const std::vector<int64_t> perm = perm_of(node);
  if (maker == nullptr || perm.empty() || maker->integer("block_size", 0) != 0) return false;
  const Node dequantize = *maker;
  const Tensor *codes = graph.constant(dequantize.inputs[0]), *scale = graph.constant(dequantize.inputs[1]);
  if (codes == nullptr || scale == nullptr || codes->rank() != static_cast<int64_t>(perm.size())) return false;
  Attributes attributes = dequantize.attributes;
  if (scale->elements() > 1) {
    int64_t axis = dequantize.integer("axis", 1);
    if (axis < 0) axis += codes->rank();
    attributes.insert_or_assign("axis", std::find(perm.begin(), perm.end(), axis) - perm.begin());
  }
  std::vector<ValueId> inputs{dequantize.inputs[0]};
  exchange(graph, id, std::move(inputs), dequantize, codes->dtype(), std::move(attributes));
  return true;
}

}  // namespace

bool push_dequantize(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || node.inputs.empty() || !node.domain.empty()) continue;
    if (node.op_type == "Transpose" && push_weights(graph, id))
      changed = true;
    else if (graph.node(id).op_type == "Concat")
      changed |= push_through_concat(graph, id);
    else if (graph.node(id).op_type == "Pad" || moves_first_input(graph.node(id)))
      changed |= push_through_move(graph, id);
  }
  return changed;
}

}  // namespace slipway
