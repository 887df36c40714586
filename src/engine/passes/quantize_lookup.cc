// Whatever computes an 8-bit tensor from another one, element by element, is a table of 256 codes: the element-wise
// nodes between a DequantizeLinear and a QuantizeLinear are run once on all codes by the reference and replaced by
// QLookup. With nothing between, it is a change of scale; with equal parameters both nodes go.
#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"
#include "model/evaluate.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr size_t kMaxRegion = 16;

/// Element-wise nodes that end in one quantiser and begin at one quantised tensor.
struct Region {
  std::optional<QuantizedValue> source;
  std::vector<NodeId> nodes;         ///< users first
  std::vector<ValueId> dequantized;  ///< the source as reals, by one or more DequantizeLinear nodes
};

bool is_scalar(const Graph& graph, ValueId value) {
  const Tensor* tensor = graph.constant(value);
  return tensor != nullptr && tensor->elements() == 1;
}

bool collect(const Graph& graph, ValueId value, Region& region) {
  if (value == kNoValue || is_scalar(graph, value)) return true;
  if (const auto source = dequantized(graph, value)) {
    if (region.source && (region.source->codes != source->codes || region.source->quantization != source->quantization))
      return false;
    region.source = source;
    region.dequantized.push_back(value);
    return true;
  }
  const NodeId id = graph.value(value).producer;
  if (id == kNoNode) return false;
  const auto seen = std::find(region.nodes.begin(), region.nodes.end(), id);
  if (seen != region.nodes.end()) return true;
  const Node& node = graph.node(id);
  const OpSpec* spec = find_op(graph, node);
  if (spec == nullptr || !spec->has(kElementwise) || spec->has(kNondeterministic) || node.outputs.size() != 1 ||
      node.is("QuantizeLinear") || node.is("DequantizeLinear") || region.nodes.size() >= kMaxRegion)
    return false;
  region.nodes.push_back(id);
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return collect(graph, v, region); });
}

Tensor every_code(DType dtype) {
  Tensor codes(dtype, {256});
  for (int i = 0; i < 256; ++i) codes.mutable_raw()[i] = static_cast<std::byte>(dtype == DType::kInt8 ? i - 128 : i);
  return codes;
}

Tensor tabulate(const Graph& graph, const Node& quantizer, const Region& region, const std::vector<NodeId>& order) {
  std::unordered_map<ValueId, Tensor> values;
  const auto run = [&](const Node& node) {
    std::vector<const Tensor*> inputs;
    for (ValueId v : node.inputs) {
      if (is_scalar(graph, v)) values.try_emplace(v, graph.constant(v)->reshaped({}));  // must not raise the rank
      const auto it = values.find(v);
      inputs.push_back(it != values.end() ? &it->second : graph.constant(v));
    }
    values[node.outputs[0]] = std::move(evaluate_node(graph, node, inputs)[0]);
  };
  values[region.source->codes] = every_code(region.source->quantization.dtype);
  for (ValueId v : region.dequantized) run(*graph.producer(v));
  for (NodeId id : order)
    if (std::find(region.nodes.begin(), region.nodes.end(), id) != region.nodes.end()) run(graph.node(id));
  run(quantizer);
  return values[quantizer.outputs[0]];
}

}  // namespace

bool quantize_lookup(Graph& graph, const PassContext&) {
  bool changed = false;
  const std::vector<NodeId> order = graph.topological_order();
  for (NodeId id : order) {
    if (!graph.node(id).alive || !graph.node(id).is("QuantizeLinear")) continue;
    const Node node = graph.node(id);
    const auto y = quantization_of(graph, node);
    Region region;
    if (!y || !collect(graph, node.inputs[0], region) || !region.source) continue;
    // Between two values of one shape no constant [1,1,…] can have raised the rank.
    if (!same_shape(graph, region.source->codes, node.outputs[0])) continue;
    if (region.nodes.empty() && region.source->quantization == *y && bypass(graph, id, region.source->codes)) {
      changed = true;
      continue;
    }
    Tensor table = tabulate(graph, node, region, order);
    if (table.elements() != 256) continue;
    const ValueId constant = graph.add_constant(graph.value(node.outputs[0]).name + "_table", std::move(table));
    const std::string name = region.nodes.empty() ? node.name : graph.node(region.nodes[0]).name;
    rewrite(graph, id,
            {.op_type = "QLookup",
             .domain = std::string(kFusedDomain),
             .name = name,
             .inputs = {region.source->codes, constant}});
    changed = true;
  }
  return changed;
}

}  // namespace slipway
