// A BatchNormalization that no linear operator can take in becomes Mul and Add with constants of shape [C,1,…].
#include "engine/passes/affine.h"
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {

bool batch_norm_to_affine(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (!node.alive || !node.is("BatchNormalization") || node.outputs.size() != 1) continue;
    const Value& x = graph.value(node.inputs[0]);
    const auto affine = batch_norm_affine(graph, node);
    if (!affine || x.dtype != DType::kFloat32 || x.shape.rank() < 2) continue;
    Dims dims(x.shape.rank() - 1, 1);
    dims[0] = static_cast<int64_t>(affine->scale.size());
    const std::string base = graph.value(node.outputs[0]).name;
    const ValueId scale = graph.add_constant(base + "_scale", from_doubles(DType::kFloat32, dims, affine->scale));
    const ValueId shift = graph.add_constant(base + "_shift", from_doubles(DType::kFloat32, dims, affine->shift));
    const ValueId scaled = graph.add_node(
        NodeSpec{.op_type = "Mul", .name = node.name, .inputs = {node.inputs[0], scale}}, base + "_scaled", id);
    rewrite(graph, id, {.op_type = "Add", .inputs = {scaled, shift}});
    changed = true;
  }
  return changed;
}

}  // namespace slipway
