// Evaluates nodes whose inputs are all constant with the reference. A value that has no elements is a constant,
// whatever makes it, graph inputs included; so is what an empty cache or selection leads to, and no kernel sees it.
// DequantizeLinear stays: folding it would lose the quantisation that the file carries. Random operators and those with
// subgraphs stay too.
#include <algorithm>

#include "base/error.h"
#include "engine/passes/passes.h"
#include "model/evaluate.h"
#include "model/op.h"

namespace slipway {
namespace {

bool foldable(const Graph& graph, const Node& node, const PassContext& context) {
  const OpSpec* spec = find_op(graph, node);
  if (spec == nullptr || spec->eval == nullptr || spec->has(kNondeterministic) || spec->has(kHasSubgraph)) return false;
  if (node.is("DequantizeLinear") || !node.captures.empty()) return false;
  for (ValueId v : node.inputs)
    if (v != kNoValue && graph.constant(v) == nullptr) return false;
  int64_t bytes = 0;
  for (ValueId v : node.outputs) {
    if (v == kNoValue) continue;
    const Value& out = graph.value(v);
    if (!out.shape.is_static() || out.dtype == DType::kUndefined) return false;
    const int64_t elements = element_count(out.shape.to_dims());
    bytes += out.dtype == DType::kString ? elements * 32 : static_cast<int64_t>(bytes_of(out.dtype, elements));
  }
  return bytes <= context.max_folded_bytes;
}

bool is_empty(const Value& v) {
  return v.alive && !v.is_constant() && v.dtype != DType::kUndefined && v.shape.is_static() &&
         element_count(v.shape.to_dims()) == 0;
}

bool fold_empty(Graph& graph) {
  bool changed = false;
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (!is_empty(v) || v.uses.empty() || v.capture >= 0 || graph.is_output(id)) continue;
    const ValueId constant = graph.add_constant(v.name + "_empty", Tensor(v.dtype, v.shape.to_dims()));
    graph.replace_uses(id, constant);
    changed = true;
  }
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).is("Concat")) continue;
    std::vector<ValueId> kept = graph.node(id).inputs;
    const int64_t axis = graph.node(id).integer("axis", 0);
    std::erase_if(kept, [&](ValueId v) {
      const Tensor* t = graph.constant(v);
      const int64_t at = t == nullptr || axis >= 0 ? axis : axis + t->rank();
      return t != nullptr && at >= 0 && at < t->rank() && t->dims()[static_cast<size_t>(at)] == 0;
    });
    if (kept.empty() || kept.size() == graph.node(id).inputs.size()) continue;
    graph.set_inputs(id, std::move(kept));
    changed = true;
  }
  return changed;
}

}  // namespace

bool constant_folding(Graph& graph, const PassContext& context) {
  bool changed = fold_empty(graph);
  for (NodeId id : graph.topological_order()) {
    if (!foldable(graph, graph.node(id), context)) continue;
    std::vector<const Tensor*> inputs;
    for (ValueId v : graph.node(id).inputs) inputs.push_back(graph.constant(v));
    std::vector<Tensor> results;
    try {
      results = evaluate_node(graph, graph.node(id), inputs);
    } catch (const Error&) {
      continue;  // whoever runs the node reports it
    }
    const std::vector<ValueId> outputs = graph.node(id).outputs;
    bool replaced = false, kept = false;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ValueId out = outputs[i];
      if (out == kNoValue || graph.value(out).uses.empty()) continue;
      if (graph.is_output(out)) {
        kept = true;  // a graph output must be some node's output; its other readers are few
        continue;
      }
      const std::string name = graph.value(out).name;
      const ValueId constant = graph.add_constant(name, std::move(results[i]));
      graph.replace_uses(out, constant);
      replaced = true;
      graph.rename(out, name + "_folded");
      graph.rename(constant, name);
    }
    if (replaced && !kept &&
        std::none_of(outputs.begin(), outputs.end(), [&](ValueId v) { return v != kNoValue && graph.is_output(v); }))
      graph.erase_node(id);
    changed |= replaced;
  }
  return changed;
}

}  // namespace slipway
