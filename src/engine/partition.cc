// Where a graph is cut. A node can be planned when the types and shapes of all that it reads and makes are known and it
// has no subgraph. One whose inputs' shapes are known, but not its outputs', is interpreted: its results make more
// shapes known. All that reads those is the remainder, which is bound, and cut again, when they are there.
//
// Stages alternate between planned and interpreted; a node's stage is the first one of its kind that none of its
// producers' stages comes after.
#include "engine/partition.h"

#include <algorithm>
#include <map>
#include <set>

#include "model/op.h"

namespace slipway {
namespace {

/// Copies values and nodes of one graph to another.
class Copier {
 public:
  Copier(const Graph& from, const Graph& opsets) : from_(from) {
    to.ir_version = opsets.ir_version;
    to.opsets = opsets.opsets;
    to.name = from.name;
  }

  void as_input(ValueId id) {
    const Value& v = from_.value(id);
    ids_[id] = to.add_input(v.name, v.dtype, v.shape);
  }
  void as_constant(ValueId id, const Tensor& tensor) { ids_[id] = to.add_constant(from_.value(id).name, tensor); }
  bool has(ValueId id) const { return ids_.contains(id); }
  ValueId at(ValueId id) const { return id == kNoValue ? kNoValue : ids_.at(id); }

  void node(NodeId id) {
    const Node& node = from_.node(id);
    for (const auto* list : {&node.inputs, &node.captures})
      for (ValueId v : *list)
        if (v != kNoValue && !has(v) && from_.value(v).is_constant()) as_constant(v, *from_.constant(v));
    std::vector<std::string> names;
    for (ValueId v : node.outputs) names.push_back(v == kNoValue ? "" : from_.value(v).name);
    const NodeId copy =
        to.add_node({node.op_type, node.domain, node.name, mapped(node.inputs), node.attributes}, names);
    to.set_captures(copy, mapped(node.captures));
    to.add_origins(copy, node.origins);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const Value& v = from_.value(node.outputs[i]);
      ids_[node.outputs[i]] = to.node(copy).outputs[i];
      to.set_type(to.node(copy).outputs[i], v.dtype, v.shape);
    }
  }

  Graph to;

 private:
  std::vector<ValueId> mapped(const std::vector<ValueId>& list) const {
    std::vector<ValueId> result;
    for (ValueId v : list) result.push_back(at(v));
    return result;
  }

  const Graph& from_;
  std::map<ValueId, ValueId> ids_;
};

bool fits_a_plan(const Value& v) {
  return v.dtype != DType::kUndefined && v.dtype != DType::kString && bits_of(v.dtype) >= 8 && v.shape.is_static();
}

// More is never known of a sequence or optional, and what reads it is interpreted.
bool is_determined(const Value& v) {
  return !is_tensor(v.dtype) || (v.dtype != DType::kUndefined && v.shape.is_static());
}

}  // namespace

void separate_outputs(Graph& graph) {
  std::set<ValueId> seen;
  for (size_t i = 0; i < graph.outputs().size(); ++i) {
    const ValueId id = graph.outputs()[i];
    if (graph.producer(id) != nullptr && seen.insert(id).second) continue;
    const std::string name = graph.value(id).name + "_output";
    const ValueId copy = graph.add_node({.op_type = "Identity", .domain = "", .name = name, .inputs = {id}}, name);
    graph.set_type(copy, graph.value(id).dtype, Shape(graph.value(id).shape));
    graph.set_output(i, copy);
  }
}

GraphPart extract_part(const Graph& whole, std::span<const NodeId> nodes) {
  GraphPart part;
  Copier copier(whole, whole);
  std::vector<bool> inside(static_cast<size_t>(whole.node_limit()), false);
  for (NodeId id : nodes) inside[static_cast<size_t>(id)] = true;
  for (NodeId id : nodes) {
    const Node& node = whole.node(id);
    for (const auto* list : {&node.inputs, &node.captures})
      for (ValueId v : *list) {
        if (v == kNoValue || copier.has(v) || whole.value(v).is_constant()) continue;
        copier.as_input(v);
        part.reads.push_back(v);
      }
    copier.node(id);
  }
  for (NodeId id : nodes)
    for (ValueId v : whole.node(id).outputs) {
      if (v == kNoValue) continue;
      const auto& uses = whole.value(v).uses;
      if (!whole.is_output(v) &&
          std::all_of(uses.begin(), uses.end(), [&](const Use& use) { return inside[static_cast<size_t>(use.node)]; }))
        continue;
      copier.to.add_output(copier.at(v));
      part.makes.push_back(v);
    }
  part.graph = copier.to;  // a copy: subgraphs become its own
  return part;
}

Graph standalone_body(const Graph& whole, const Node& node, const Graph& body, std::vector<size_t>& captured) {
  Copier copier(body, body.opsets.empty() ? whole : body);
  for (ValueId id : body.inputs()) copier.as_input(id);
  for (ValueId id = 0; id < body.value_limit(); ++id) {
    const Value& v = body.value(id);
    if (!v.alive || v.capture < 0) continue;
    const ValueId outer = node.captures[static_cast<size_t>(v.capture)];
    if (const Tensor* constant = whole.constant(outer)) {
      copier.as_constant(id, *constant);
      continue;
    }
    copier.as_input(id);
    captured.push_back(static_cast<size_t>(v.capture));
  }
  for (NodeId id : body.topological_order()) copier.node(id);
  for (ValueId id : body.outputs()) {
    if (!copier.has(id)) copier.as_constant(id, *body.constant(id));
    copier.to.add_output(copier.at(id));
  }
  return Graph(copier.to);
}

std::vector<GraphStage> cut_into_stages(const Graph& graph) {
  constexpr int kUnknown = -1;
  std::vector<int> level(static_cast<size_t>(graph.value_limit()), 0);  // even: of a plan, odd: interpreted
  std::map<int, std::vector<NodeId>> planned, interpreted;
  std::vector<NodeId> remainder;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const OpSpec* spec = find_op(graph, node);
    bool known = true, plannable = spec != nullptr && !spec->has(kHasSubgraph);
    int last = 0;
    for (const auto* list : {&node.inputs, &node.captures})
      for (ValueId v : *list) {
        if (v == kNoValue) continue;
        known &= level[static_cast<size_t>(v)] != kUnknown;
        plannable &= fits_a_plan(graph.value(v));
        last = std::max(last, level[static_cast<size_t>(v)]);
      }
    bool determined = known;
    for (ValueId v : node.outputs)
      if (v != kNoValue) {
        plannable &= fits_a_plan(graph.value(v));
        determined &= is_determined(graph.value(v));
      }
    if (!known) {
      remainder.push_back(id);
    } else {
      last += last % 2 == (plannable ? 0 : 1) ? 0 : 1;
      (plannable ? planned : interpreted)[last].push_back(id);
    }
    for (ValueId v : node.outputs)
      if (v != kNoValue) level[static_cast<size_t>(v)] = determined ? last : kUnknown;
  }
  std::vector<GraphStage> stages;
  const int levels =
      std::max(planned.empty() ? 0 : planned.rbegin()->first, interpreted.empty() ? 0 : interpreted.rbegin()->first);
  for (int i = 0; i <= levels; ++i) {
    if (planned.contains(i)) stages.push_back({GraphStage::kPlan, planned.at(i)});
    if (interpreted.contains(i))
      for (NodeId id : interpreted.at(i)) stages.push_back({GraphStage::kNode, {id}});
  }
  if (!remainder.empty()) stages.push_back({GraphStage::kRemainder, remainder});
  return stages;
}

}  // namespace slipway
