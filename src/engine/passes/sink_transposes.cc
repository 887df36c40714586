// Transposes move towards the outputs, past element-wise operators, Concat and means, until they meet their inverse
// (remove_no_ops cancels the pair) or the output: channels-last models lose the pairs around their convolutions. Where
// nothing moves any more, a Transpose that only moves axes of size 1 becomes a Reshape.
#include <algorithm>
#include <numeric>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/op.h"

namespace slipway {
namespace {

using Perm = std::vector<int64_t>;

Perm perm_before(const Graph& graph, ValueId value, NodeId reader) {
  const Node* transpose = made_by(graph, value, "Transpose");
  if (transpose == nullptr || graph.is_output(value)) return {};
  for (const Use& use : graph.value(value).uses)
    if (use.node != reader) return {};
  return perm_of(*transpose);
}

// The constant in the layout before the transpose, where at most one axis is longer than 1.
std::optional<Tensor> untransposed(const Tensor& tensor, const Perm& perm) {
  if (tensor.dims().size() > perm.size()) return std::nullopt;
  Dims aligned(perm.size() - tensor.dims().size(), 1), before(perm.size(), 1);
  aligned.insert(aligned.end(), tensor.dims().begin(), tensor.dims().end());
  if (std::count_if(aligned.begin(), aligned.end(), [](int64_t d) { return d != 1; }) > 1) return std::nullopt;
  for (size_t i = 0; i < perm.size(); ++i) before[static_cast<size_t>(perm[i])] = aligned[i];
  return tensor.reshaped(before);
}

// node(Transpose(x), …) → Transpose(node(x, …)), given the new inputs.
void exchange(Graph& graph, NodeId id, std::vector<ValueId> inputs, Attributes attributes, const Perm& perm) {
  const Node node = graph.node(id);
  const std::string name = graph.value(node.outputs[0]).name + "_untransposed";
  const ValueId inner = graph.add_node(NodeSpec{.op_type = node.op_type,
                                                .domain = node.domain,
                                                .name = node.name,
                                                .inputs = std::move(inputs),
                                                .attributes = std::move(attributes)},
                                       name, id);
  rewrite(graph, id, {.op_type = "Transpose", .inputs = {inner}, .attributes = {{"perm", perm}}});
}

bool sink_elementwise(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  Perm perm;
  for (ValueId v : node.inputs)
    if (v != kNoValue && perm.empty()) perm = perm_before(graph, v, id);
  if (perm.empty()) return false;
  std::vector<ValueId> inputs;
  std::vector<std::pair<size_t, Tensor>> constants;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId v = node.inputs[i];
    inputs.push_back(v);
    if (v == kNoValue) continue;
    if (const Tensor* tensor = graph.constant(v)) {
      if (tensor->rank() == 0) continue;
      auto moved = untransposed(*tensor, perm);
      if (!moved) return false;
      constants.emplace_back(i, std::move(*moved));
    } else if (perm_before(graph, v, id) == perm) {
      inputs[i] = graph.producer(v)->inputs[0];
    } else {
      return false;
    }
  }
  for (auto& [i, tensor] : constants)
    inputs[i] = graph.add_constant(graph.value(node.inputs[i]).name + "_untransposed", std::move(tensor));
  exchange(graph, id, std::move(inputs), node.attributes, perm);
  return true;
}

bool sink_concat(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Perm perm = perm_before(graph, node.inputs[0], id);
  if (perm.empty()) return false;
  std::vector<ValueId> inputs;
  for (ValueId v : node.inputs) {
    if (perm_before(graph, v, id) != perm) return false;
    inputs.push_back(graph.producer(v)->inputs[0]);
  }
  int64_t axis = node.integer("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(perm.size());
  if (axis < 0 || axis >= static_cast<int64_t>(perm.size())) return false;
  exchange(graph, id, std::move(inputs), {{"axis", perm[static_cast<size_t>(axis)]}}, perm);
  return true;
}

bool sink_mean(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Perm perm = perm_before(graph, node.inputs[0], id);
  auto axes = integers_of(graph, node, "axes", 1);
  if (perm.empty() || !axes || axes->empty()) return false;
  for (int64_t& axis : *axes) {
    if (axis < 0) axis += static_cast<int64_t>(perm.size());
    if (axis < 0 || axis >= static_cast<int64_t>(perm.size())) return false;
    axis = perm[static_cast<size_t>(axis)];
  }
  Perm kept;
  for (int64_t axis : perm)
    if (std::find(axes->begin(), axes->end(), axis) == axes->end()) kept.push_back(axis);
  const bool keepdims = node.integer("keepdims", 1) != 0;
  if (!keepdims && !std::is_sorted(kept.begin(), kept.end())) return false;
  std::sort(axes->begin(), axes->end());
  std::vector<ValueId> inputs{graph.producer(node.inputs[0])->inputs[0]};
  Attributes attributes{{"keepdims", int64_t{keepdims}}};
  if (node.has("axes"))
    attributes.insert_or_assign("axes", *axes);
  else
    inputs.push_back(graph.add_constant(graph.value(node.outputs[0]).name + "_axes",
                                        Tensor::of<int64_t>({static_cast<int64_t>(axes->size())}, *axes)));
  if (keepdims)
    exchange(graph, id, std::move(inputs), std::move(attributes), perm);
  else
    rewrite(graph, id, {.op_type = node.op_type, .inputs = std::move(inputs), .attributes = std::move(attributes)});
  return true;
}

bool to_reshape(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Shape& shape = graph.value(node.inputs[0]).shape;
  const Perm perm = perm_of(node);
  if (perm.empty() || !shape.has_rank() || shape.rank() != perm.size()) return false;
  std::vector<int64_t> long_axes, target;
  for (size_t i = 0; i < perm.size(); ++i) {
    const Dim& dim = shape[static_cast<size_t>(perm[i])];
    if (!dim.same_as(Dim(1))) long_axes.push_back(perm[i]);
    if (dim.is_known() && dim.value() == 0) return false;
    target.push_back(dim.is_known() ? dim.value() : perm[i] == static_cast<int64_t>(i) ? 0 : -1);
  }
  if (!std::is_sorted(long_axes.begin(), long_axes.end()) || std::count(target.begin(), target.end(), -1) > 1)
    return false;
  const ValueId constant = graph.add_constant(graph.value(node.outputs[0]).name + "_shape",
                                              Tensor::of<int64_t>({static_cast<int64_t>(target.size())}, target));
  rewrite(graph, id, {.op_type = "Reshape", .inputs = {node.inputs[0], constant}});
  return true;
}

}  // namespace

bool sink_transposes(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || !node.domain.empty() || node.inputs.empty() || node.outputs.size() != 1) continue;
    const OpSpec* spec = find_op(graph, node);
    if (spec == nullptr) continue;
    if (node.op_type == "Concat")
      changed |= sink_concat(graph, id);
    else if (node.op_type == "ReduceMean" || node.op_type == "ReduceMax")
      changed |= sink_mean(graph, id);
    else if (spec->has(kElementwise) && node.op_type != "PRelu")
      changed |= sink_elementwise(graph, id);
  }
  if (changed) return true;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).is("Transpose")) changed |= to_reshape(graph, id);
  return changed;
}

}  // namespace slipway
