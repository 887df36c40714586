// A body's nodes become nodes of the graph around it. Subgraphs inside are copied with them, so that each copy is
// inferred by itself.
#include "engine/passes/inline.h"

#include <memory>

namespace slipway {

BodyInliner::BodyInliner(Graph& graph, const Graph& body, NodeId node, bool keeps_shapes)
    : graph_(graph),
      body_(body),
      node_(node),
      keeps_shapes_(keeps_shapes),
      copies_(static_cast<size_t>(body.value_limit()), kNoValue) {
  for (ValueId v = 0; v < body.value_limit(); ++v) {
    const Value& value = body.value(v);
    if (!value.alive) continue;
    ValueId& copy = copies_[static_cast<size_t>(v)];
    if (value.is_constant()) copy = graph.add_constant(value.name, *value.constant);
    if (value.capture >= 0) copy = graph.node(node).captures[static_cast<size_t>(value.capture)];
  }
}

std::vector<ValueId> BodyInliner::copies_of(const std::vector<ValueId>& values) const {
  std::vector<ValueId> mapped;
  for (ValueId v : values) mapped.push_back(v == kNoValue ? kNoValue : copies_[static_cast<size_t>(v)]);
  return mapped;
}

void BodyInliner::copy_node(const Node& node) {
  std::vector<std::string> names;
  for (ValueId v : node.outputs) names.push_back(v == kNoValue ? "" : body_.value(v).name);
  Attributes attributes = node.attributes;
  for (auto& [name, attribute] : attributes)
    if (auto* inner = std::get_if<GraphPtr>(&attribute)) *inner = std::make_shared<Graph>(**inner);
  const NodeId copy = graph_.add_node({.op_type = node.op_type,
                                       .domain = node.domain,
                                       .name = node.name,
                                       .inputs = copies_of(node.inputs),
                                       .attributes = std::move(attributes)},
                                      names, node_);
  graph_.set_captures(copy, copies_of(node.captures));
  graph_.add_origins(copy, node.origins);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    const Value& value = body_.value(node.outputs[i]);
    const ValueId out = graph_.node(copy).outputs[i];
    copies_[static_cast<size_t>(node.outputs[i])] = out;
    graph_.set_type(out, value.dtype, keeps_shapes_ ? value.shape : Shape());
  }
}

std::vector<ValueId> BodyInliner::copy(std::span<const ValueId> inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) copies_[static_cast<size_t>(body_.inputs()[i])] = inputs[i];
  for (NodeId n : body_.topological_order()) copy_node(body_.node(n));
  return copies_of(body_.outputs());
}

}  // namespace slipway
