// MatMul of two matrices followed by Add of a row becomes Gemm.
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

bool is_row(const Shape& shape, const Dim& columns) {
  if (!shape.has_rank() || shape.rank() < 1 || shape.rank() > 2 || !columns.is_known()) return false;
  return shape[shape.rank() - 1].same_as(columns) && (shape.rank() == 1 || shape[0].same_as(Dim(1)));
}

}  // namespace

bool matmul_add_to_gemm(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node add = graph.node(id);
    if (!add.alive || !add.is("Add")) continue;
    for (size_t side : {size_t{0}, size_t{1}}) {
      const Node* matmul = made_by(graph, add.inputs[side], "MatMul");
      if (matmul == nullptr || graph.only_user(add.inputs[side]) != id) continue;
      const Value &a = graph.value(matmul->inputs[0]), &b = graph.value(matmul->inputs[1]);
      if (a.shape.rank() != 2 || b.shape.rank() != 2 || !is_float(b.dtype)) continue;
      if (!is_row(graph.value(add.inputs[1 - side]).shape, b.shape[1])) continue;
      rewrite(graph, id,
              {.op_type = "Gemm",
               .name = matmul->name,
               .inputs = {matmul->inputs[0], matmul->inputs[1], add.inputs[1 - side]}});
      changed = true;
      break;
    }
  }
  return changed;
}

}  // namespace slipway
