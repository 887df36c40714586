// Shape arithmetic becomes constants. Integer tensors that hold shapes are followed through the graph with symbols (the
// operators' own inference does it); a tensor known in full is replaced by a constant, and a Reshape target by one with
// 0 where the size is the input's own and a single -1 elsewhere, so that models stay free in their batch.
#include <algorithm>

#include "base/error.h"
#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/op.h"

namespace slipway {
namespace {

using Contents = std::vector<std::optional<std::vector<Dim>>>;

void propagate(const Graph& graph, const Node& node, Contents& contents) {
  const OpSpec* spec = find_op(graph, node);
  if (spec == nullptr || spec->infer == nullptr || spec->has(kHasSubgraph)) return;
  std::vector<ValueFacts> facts(node.inputs.size());
  std::vector<const ValueFacts*> inputs(node.inputs.size(), nullptr);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue) continue;
    const Value& v = graph.value(node.inputs[i]);
    facts[i] = {v.dtype, v.shape, v.constant, contents[static_cast<size_t>(node.inputs[i])]};
    inputs[i] = &facts[i];
  }
  InferContext ctx(node, node.domain == kFusedDomain ? 1 : graph.opset(node.domain), std::move(inputs),
                   node.outputs.size());
  spec->infer(ctx);
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) contents[static_cast<size_t>(node.outputs[i])] = ctx.results()[i].dims;
}

bool holds_shape(const Value& value) {
  return (value.dtype == DType::kInt64 || value.dtype == DType::kInt32) && value.shape.is_static() &&
         value.shape.rank() <= 1;
}

ValueId add_ints(Graph& graph, const std::string& name, DType dtype, const Dims& dims,
                 const std::vector<int64_t>& values) {
  return graph.add_constant(name, cast(Tensor::of<int64_t>(dims, values), dtype));
}

bool replace_known(Graph& graph, NodeId id, const Contents& contents) {
  const ValueId out = graph.node(id).output(0);
  if (graph.node(id).outputs.size() != 1 || out == kNoValue || graph.is_output(out)) return false;
  const Value& value = graph.value(out);
  const auto& dims = contents[static_cast<size_t>(out)];
  if (!dims || !holds_shape(value) || value.uses.empty()) return false;
  std::vector<int64_t> values;
  for (const Dim& d : *dims) {
    if (!d.is_known()) return false;
    values.push_back(d.value());
  }
  const Dims shape = value.shape.to_dims();
  if (element_count(shape) != static_cast<int64_t>(values.size())) return false;
  const std::string name = value.name;
  const ValueId constant = add_ints(graph, name, value.dtype, shape, values);
  graph.replace_uses(out, constant);
  erase_unused(graph, id);
  graph.rename(constant, name);
  return true;
}

bool fix_target(Graph& graph, NodeId id, const Contents& contents) {
  const Node& node = graph.node(id);
  if (!node.is("Reshape") || !node.has_input(1) || graph.constant(node.inputs[1]) != nullptr ||
      node.integer("allowzero", 0) != 0)
    return false;
  const auto& dims = contents[static_cast<size_t>(node.inputs[1])];
  const Shape& from = graph.value(node.inputs[0]).shape;
  if (!dims) return false;
  std::vector<int64_t> target;
  for (size_t i = 0; i < dims->size(); ++i) {
    const Dim& d = (*dims)[i];
    const bool copied = d == Dim(0);  // from the input
    if (copied && i >= from.rank()) return false;
    const bool own = !d.is_known() && i < from.rank() && from[i].same_as(d);
    target.push_back(copied || own ? 0 : d.value());
  }
  if (std::count(target.begin(), target.end(), -1) > 1) return false;
  const ValueId old = node.inputs[1];
  const ValueId constant = add_ints(graph, graph.value(node.outputs[0]).name + "_shape", DType::kInt64,
                                    {static_cast<int64_t>(target.size())}, target);
  graph.set_input(id, 1, constant);
  if (graph.value(old).producer != kNoNode) erase_unused(graph, graph.value(old).producer);
  return true;
}

}  // namespace

bool simplify_shapes(Graph& graph, const PassContext&) {
  Contents contents(static_cast<size_t>(graph.value_limit()));
  const std::vector<NodeId> order = graph.topological_order();
  for (NodeId id : order) {
    const Node& node = graph.node(id);
    const bool about_shapes =
        node.is("Shape") || node.is("Size") || std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
          return v != kNoValue && contents[static_cast<size_t>(v)].has_value();
        });
    if (!about_shapes) continue;
    try {
      propagate(graph, node, contents);
    } catch (const Error&) {
      continue;  // infer_shapes reports it
    }
  }
  bool changed = false;
  for (NodeId id : order) {
    if (!graph.node(id).alive) continue;
    changed |= replace_known(graph, id, contents) || fix_target(graph, id, contents);
  }
  return changed;
}

}  // namespace slipway
