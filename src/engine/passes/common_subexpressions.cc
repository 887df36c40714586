// Merges nodes that compute the same: operator, attributes and inputs equal (inputs of commutative operators in any
// order). Small constants count as equal when their bytes are, so that equal scales and shapes meet.
#include <algorithm>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <variant>

#include "engine/passes/passes.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr size_t kMergedConstantBytes = 4096;

void append(std::string& key, const void* data, size_t bytes) { key.append(static_cast<const char*>(data), bytes); }

std::string tensor_key(const Tensor& tensor) {
  std::string key(to_string(tensor.dtype()));
  key += to_string(tensor.dims());
  append(key, tensor.raw(), tensor.bytes());
  return key;
}

// Empty when the attribute can't be compared cheaply.
bool append_attribute(std::string& key, const Attribute& attribute) {
  key += static_cast<char>('0' + attribute.index());
  return std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_arithmetic_v<T>) {
          append(key, &v, sizeof(v));
        } else if constexpr (std::is_same_v<T, std::string>) {
          key += v;
        } else if constexpr (std::is_same_v<T, std::vector<int64_t>> || std::is_same_v<T, std::vector<float>>) {
          append(key, v.data(), v.size() * sizeof(v[0]));
        } else if constexpr (std::is_same_v<T, Tensor>) {
          if (v.dtype() == DType::kString || v.bytes() > kMergedConstantBytes) return false;
          key += tensor_key(v);
        } else {
          return false;
        }
        return true;
      },
      attribute);
}

std::string node_key(const Graph& graph, const Node& node) {
  const OpSpec* spec = find_op(graph, node);
  if (spec == nullptr || spec->has(kNondeterministic) || spec->has(kHasSubgraph) || !node.captures.empty()) return {};
  std::string key = node.domain + ":" + node.op_type + ":" + std::to_string(node.outputs.size());
  std::vector<ValueId> inputs = node.inputs;
  if (spec->has(kCommutative)) std::sort(inputs.begin(), inputs.end());
  for (ValueId v : inputs) key += "," + std::to_string(v);
  for (const auto& [name, attribute] : node.attributes) {
    key += ";" + name + "=";
    if (!append_attribute(key, attribute)) return {};
  }
  return key;
}

bool merge_constants(Graph& graph) {
  bool changed = false;
  std::unordered_map<std::string, ValueId> seen;
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& value = graph.value(id);
    if (!value.alive || !value.is_constant() || value.uses.empty() || graph.is_output(id) || value.is_input) continue;
    if (value.dtype == DType::kString || value.constant->bytes() > kMergedConstantBytes) continue;
    const auto [it, is_new] = seen.emplace(tensor_key(*value.constant), id);
    if (is_new) continue;
    graph.replace_uses(id, it->second);
    graph.erase_value(id);
    changed = true;
  }
  return changed;
}

}  // namespace

bool common_subexpressions(Graph& graph, const PassContext&) {
  bool changed = merge_constants(graph);
  std::unordered_map<std::string, NodeId> seen;
  for (NodeId id : graph.topological_order()) {
    const std::string key = node_key(graph, graph.node(id));
    if (key.empty()) continue;
    const auto [it, is_new] = seen.emplace(key, id);
    if (is_new) continue;
    const std::vector<ValueId> outputs = graph.node(id).outputs, firsts = graph.node(it->second).outputs;
    bool mergeable = true;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != kNoValue && (graph.is_output(outputs[i]) || firsts[i] == kNoValue)) mergeable = false;
    if (!mergeable) continue;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] != kNoValue) graph.replace_uses(outputs[i], firsts[i]);
    graph.add_origins(it->second, std::vector<std::string>(graph.node(id).origins));
    graph.erase_node(id);
    changed = true;
  }
  return changed;
}

}  // namespace slipway
