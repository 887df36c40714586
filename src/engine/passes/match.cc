// Pattern reading and in-place rewriting shared by the passes. Invariant of rewrite(): the final node of a fused group
// is the one that stays, so the value that the rest of the model knows keeps its id and its name.
#include "engine/passes/match.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace slipway {
namespace {

bool is_unused(const Graph& graph, const Node& node) {
  for (ValueId out : node.outputs)
    if (out != kNoValue && (!graph.value(out).uses.empty() || graph.is_output(out))) return false;
  return true;
}

void erase_chain(Graph& graph, std::vector<NodeId> candidates, NodeId heir) {
  while (!candidates.empty()) {
    const NodeId id = candidates.back();
    candidates.pop_back();
    if (id == kNoNode || id == heir || !graph.node(id).alive || !is_unused(graph, graph.node(id))) continue;
    for (const auto* list : {&graph.node(id).inputs, &graph.node(id).captures})
      for (ValueId v : *list)
        if (v != kNoValue) candidates.push_back(graph.value(v).producer);
    if (heir != kNoNode) graph.add_origins(heir, std::vector<std::string>(graph.node(id).origins));
    graph.erase_node(id);
  }
}

}  // namespace

const Node* made_by(const Graph& graph, ValueId value, std::string_view op) {
  const Node* node = graph.producer(value);
  return node != nullptr && node->is(op) ? node : nullptr;
}

std::optional<float> scalar(const Graph& graph, ValueId value) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->elements() != 1 || !(is_float(tensor->dtype()) || is_integer(tensor->dtype())))
    return std::nullopt;
  return to_floats(*tensor)[0];
}

std::optional<std::vector<int64_t>> constant_ints(const Graph& graph, ValueId value) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || !is_integer(tensor->dtype())) return std::nullopt;
  return to_ints(*tensor);
}

std::optional<std::vector<int64_t>> integers_of(const Graph& graph, const Node& node, std::string_view attribute,
                                                size_t input) {
  if (node.has(attribute)) return node.integers(attribute);
  if (!node.has_input(input)) return std::vector<int64_t>{};
  return constant_ints(graph, node.inputs[input]);
}

bool same_type(const Graph& graph, ValueId a, ValueId b) {
  return same_shape(graph, a, b) && graph.value(a).dtype == graph.value(b).dtype;
}

bool same_shape(const Graph& graph, ValueId a, ValueId b) {
  if (a == kNoValue || b == kNoValue) return false;
  const Value &va = graph.value(a), &vb = graph.value(b);
  if (!va.shape.has_rank() || !vb.shape.has_rank() || va.shape.rank() != vb.shape.rank()) return false;
  for (size_t i = 0; i < va.shape.rank(); ++i)
    if (!va.shape[i].same_as(vb.shape[i])) return false;
  return true;
}

std::vector<int64_t> perm_of(const Node& transpose) {
  const std::vector<int64_t> perm = transpose.integers("perm");
  std::vector<bool> seen(perm.size(), false);
  for (int64_t axis : perm) {
    if (axis < 0 || axis >= static_cast<int64_t>(perm.size()) || seen[static_cast<size_t>(axis)]) return {};
    seen[static_cast<size_t>(axis)] = true;
  }
  return perm;
}

std::optional<Bounds> bounds_of(const Graph& graph, const Node& node) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (node.is("Relu")) return Bounds{0.0f, kInfinity};
  if (!node.is("Clip")) return std::nullopt;
  Bounds bounds{node.real("min", -kInfinity), node.real("max", kInfinity)};
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (!node.has_input(i)) continue;
    const auto bound = scalar(graph, node.inputs[i]);
    if (!bound) return std::nullopt;
    (i == 1 ? bounds.lo : bounds.hi) = *bound;
  }
  if (std::isnan(bounds.lo) || std::isnan(bounds.hi)) return std::nullopt;
  bounds.lo = std::min(bounds.lo, bounds.hi);  // a minimum above the maximum gives the maximum everywhere
  return bounds;
}

bool read_only_within(const Graph& graph, const std::vector<NodeId>& nodes, NodeId last) {
  const auto inside = [&](NodeId id) { return id == last || std::find(nodes.begin(), nodes.end(), id) != nodes.end(); };
  for (NodeId id : nodes) {
    if (id == last) continue;
    for (ValueId out : graph.node(id).outputs) {
      if (out == kNoValue) continue;
      const std::vector<Use>& uses = graph.value(out).uses;
      if (graph.is_output(out) || !std::all_of(uses.begin(), uses.end(), [&](const Use& u) { return inside(u.node); }))
        return false;
    }
  }
  return true;
}

void rewrite(Graph& graph, NodeId id, NodeSpec spec) {
  std::vector<NodeId> producers;
  for (ValueId v : graph.node(id).inputs)
    if (v != kNoValue) producers.push_back(graph.value(v).producer);
  const Attributes old = graph.node(id).attributes;
  graph.set_op(id, std::move(spec.op_type), std::move(spec.domain));
  graph.set_inputs(id, std::move(spec.inputs));
  for (const auto& [name, attribute] : old) graph.erase_attribute(id, name);
  for (auto& [name, attribute] : spec.attributes) graph.set_attribute(id, name, std::move(attribute));
  if (!spec.name.empty()) graph.rename_node(id, std::move(spec.name));
  erase_chain(graph, std::move(producers), id);
}

void erase_unused(Graph& graph, NodeId node) { erase_chain(graph, {node}, kNoNode); }

bool bypass(Graph& graph, NodeId id, ValueId with) {
  const ValueId out = graph.node(id).output(0);
  if (graph.is_output(out) && (graph.value(with).producer == kNoNode || graph.is_output(with))) return false;
  graph.replace_uses(out, with);
  erase_unused(graph, id);
  return true;
}

}  // namespace slipway
