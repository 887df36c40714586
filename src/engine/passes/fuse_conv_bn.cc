// BatchNormalization after Conv, ConvTranspose or Gemm is folded into weights and bias.
#include "engine/passes/affine.h"
#include "engine/passes/passes.h"

namespace slipway {

bool fuse_conv_bn(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || !node.is("BatchNormalization") || node.outputs.size() != 1) continue;
    const NodeId linear = linear_before(graph, node.inputs[0], id);
    if (linear == kNoNode) continue;
    if (const auto affine = batch_norm_affine(graph, node)) changed |= fold_affine(graph, linear, id, *affine);
  }
  return changed;
}

}  // namespace slipway
