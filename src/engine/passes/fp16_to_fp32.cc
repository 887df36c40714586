// Models stored in FP16 or BF16 are computed in FP32: constants and type-giving attributes are widened, subgraphs
// included; the model's inputs and outputs keep their type, with a Cast at the border. Shapes may follow from rounded
// values: what is constant is computed before, as the file gives it, and what Unique compares is rounded first.
#include <map>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

bool is_half(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBfloat16; }

bool is_half_code(int64_t code) {
  return code == static_cast<int64_t>(DType::kFloat16) || code == static_cast<int64_t>(DType::kBfloat16);
}

// The Cast that gives a graph output its half type.
bool is_border_cast(const Graph& graph, const Node& node) {
  return node.is("Cast") && graph.is_output(node.outputs[0]) && graph.value(node.outputs[0]).uses.empty() &&
         graph.value(node.inputs[0]).dtype == DType::kFloat32;
}

// A half value that this pass left, because Unique shall see rounded values.
bool is_rounding(const Graph& graph, ValueId value) {
  const Node* cast = graph.producer(value);
  if (cast == nullptr || !cast->is("Cast") || graph.value(cast->inputs[0]).dtype != DType::kFloat32) return false;
  const NodeId back = graph.only_user(value);
  if (back == kNoNode || !graph.node(back).is("Cast")) return false;
  const NodeId reader = graph.only_user(graph.node(back).outputs[0]);
  return reader != kNoNode && graph.node(reader).is("Unique");
}

bool computes_in_half(const Graph& graph) {
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    const Node& node = graph.node(id);
    if (!node.alive) continue;
    for (ValueId v : node.inputs)
      if (v != kNoValue && is_half(graph.value(v).dtype) && !(node.is("Cast") && graph.value(v).is_input) &&
          !is_rounding(graph, v))
        return true;
    for (ValueId v : node.outputs)
      if (v != kNoValue && is_half(graph.value(v).dtype) && !is_border_cast(graph, node) && !is_rounding(graph, v))
        return true;
  }
  return false;
}

void widen(Graph& graph) {
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& value = graph.value(id);
    if (!value.alive || !is_half(value.dtype) || value.is_input) continue;
    if (value.is_constant())
      graph.set_constant(id, cast(*std::shared_ptr<const Tensor>(value.constant), DType::kFloat32));
    else
      graph.set_type(id, DType::kFloat32, Shape(value.shape));
  }
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.node(id).alive) continue;
    const Attributes attributes = graph.node(id).attributes;
    for (const auto& [name, attribute] : attributes) {
      if (const auto* tensor = std::get_if<Tensor>(&attribute); tensor != nullptr && is_half(tensor->dtype()))
        graph.set_attribute(id, name, cast(*tensor, DType::kFloat32));
      const auto* code = std::get_if<int64_t>(&attribute);
      if (code != nullptr && (name == "to" || name == "dtype" || name == "output_dtype") && is_half_code(*code))
        graph.set_attribute(id, name, static_cast<int64_t>(DType::kFloat32));
      if (const auto* subgraph = std::get_if<GraphPtr>(&attribute)) {
        for (ValueId v : (*subgraph)->inputs())
          if (is_half((*subgraph)->value(v).dtype))
            (*subgraph)->set_type(v, DType::kFloat32, Shape((*subgraph)->value(v).shape));
        widen(**subgraph);
      }
    }
  }
}

}  // namespace

bool fp16_to_fp32(Graph& graph, const PassContext& context) {
  if (!computes_in_half(graph)) return false;
  constant_folding(graph, context);
  const auto cast_node = [&](ValueId value, DType to, const std::string& name, NodeId like) {
    const ValueId out = graph.add_node(
        NodeSpec{.op_type = "Cast", .name = name, .inputs = {value}, .attributes = {{"to", static_cast<int64_t>(to)}}},
        name, like);
    graph.set_type(out, to, Shape(graph.value(value).shape));
    return out;
  };
  std::map<NodeId, DType> compare;  // Unique nodes by what they compare
  for (NodeId id : graph.topological_order())
    if (const Node& node = graph.node(id); node.is("Unique") && is_half(graph.value(node.inputs[0]).dtype))
      compare[id] = graph.value(node.inputs[0]).dtype;
  std::vector<DType> output_types;
  for (ValueId v : graph.outputs()) output_types.push_back(graph.value(v).dtype);
  widen(graph);
  for (ValueId v : std::vector<ValueId>(graph.inputs())) {
    if (!is_half(graph.value(v).dtype) || graph.value(v).uses.empty()) continue;
    const std::vector<Use> uses = graph.value(v).uses;
    const ValueId wide = cast_node(v, DType::kFloat32, graph.value(v).name + "_fp32", kNoNode);
    for (const Use& use : uses) {
      const size_t index = static_cast<size_t>(use.input), inputs = graph.node(use.node).inputs.size();
      if (index < inputs) {
        graph.set_input(use.node, index, wide);
      } else {
        std::vector<ValueId> captures = graph.node(use.node).captures;
        captures[index - inputs] = wide;
        graph.set_captures(use.node, std::move(captures));
      }
    }
  }
  for (const auto& [id, half] : compare) {
    const std::string name = graph.value(graph.node(id).inputs[0]).name;
    const ValueId rounded = cast_node(graph.node(id).inputs[0], half, name + "_rounded", id);
    graph.set_input(id, 0, cast_node(rounded, DType::kFloat32, name + "_rounded_fp32", id));
  }
  for (size_t i = 0; i < output_types.size(); ++i) {
    const ValueId out = graph.outputs()[i];
    if (!is_half(output_types[i]) || graph.value(out).is_input) continue;
    const std::string name = graph.value(out).name;
    graph.rename(out, name + "_fp32");
    graph.set_output(i, cast_node(out, output_types[i], name, kNoNode));
  }
  return true;
}

}  // namespace slipway
