// Conv, Gemm and MatMul by a matrix become the fused domain's Conv and Gemm, which take a bias, a residual and an
// activation. MatMul followed by Add of a row takes the row as bias, whatever the rank of its left side.
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

void to_domain(Graph& graph, NodeId id, const char* op) {
  const Node node = graph.node(id);
  rewrite(graph, id,
          {.op_type = op, .domain = std::string(kFusedDomain), .inputs = node.inputs, .attributes = node.attributes});
}

ValueId scaled(Graph& graph, ValueId value, float factor) {
  std::vector<float> values = to_floats(*graph.constant(value));
  for (float& v : values) v *= factor;
  const Dims dims = graph.constant(value)->dims();
  return graph.add_constant(graph.value(value).name + "_scaled", Tensor::of<float>(dims, values));
}

// Gemm's alpha and beta move into constants: in the fused domain these names belong to the activation.
bool gemm_to_domain(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const float alpha = node.real("alpha", 1.0f), beta = node.real("beta", 1.0f);
  const auto constant = [&](size_t i) { return graph.constant(node.input(i)) != nullptr; };
  if ((alpha != 1.0f && !constant(1)) || (beta != 1.0f && node.has_input(2) && !constant(2))) return false;
  NodeSpec spec{
      .op_type = "Gemm", .domain = std::string(kFusedDomain), .inputs = node.inputs, .attributes = node.attributes};
  if (alpha != 1.0f) spec.inputs[1] = scaled(graph, node.inputs[1], alpha);
  if (beta != 1.0f && node.has_input(2)) spec.inputs[2] = scaled(graph, node.inputs[2], beta);
  spec.attributes.erase("alpha");
  spec.attributes.erase("beta");
  rewrite(graph, id, std::move(spec));
  return true;
}

bool take_row(Graph& graph, NodeId id) {
  const Node add = graph.node(id);
  for (size_t side : {size_t{0}, size_t{1}}) {
    const Node* matmul = graph.producer(add.inputs[side]);
    if (matmul == nullptr || !matmul->is_fused("Gemm") || matmul->has_input(2) || matmul->has("activation")) continue;
    const Tensor* row = graph.constant(add.inputs[1 - side]);
    const Shape& b = graph.value(matmul->inputs[1]).shape;
    if (row == nullptr || row->rank() != 1 || graph.only_user(add.inputs[side]) != id || !b.has_rank()) continue;
    if (!b[matmul->integer("transB", 0) != 0 ? 0 : 1].same_as(Dim(row->dims()[0]))) continue;
    NodeSpec spec{.op_type = "Gemm",
                  .domain = std::string(kFusedDomain),
                  .name = matmul->name,
                  .inputs = {matmul->inputs[0], matmul->inputs[1], add.inputs[1 - side]},
                  .attributes = matmul->attributes};
    rewrite(graph, id, std::move(spec));
    return true;
  }
  return false;
}

}  // namespace

bool to_fused(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || node.outputs.size() != 1 || graph.value(node.outputs[0]).dtype != DType::kFloat32) continue;
    if (node.is("Conv") && node.text("auto_pad", "NOTSET") == "NOTSET") {
      graph.erase_attribute(id, "auto_pad");
      to_domain(graph, id, "Conv");
    } else if (node.is("MatMul") && graph.value(node.inputs[1]).shape.rank() == 2 &&
               graph.value(node.inputs[0]).shape.rank() >= 2) {
      to_domain(graph, id, "Gemm");
    } else if (node.is("Gemm")) {
      if (!gemm_to_domain(graph, id)) continue;
    } else if (!node.is("Add") || !take_row(graph, id)) {
      continue;
    }
    changed = true;
  }
  return changed;
}

}  // namespace slipway
