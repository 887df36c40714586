// Gemm and MatMul (with an Add of a row) of dequantised activations and constant weights become QGemm, weights as rows
// [N,K].
#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"

namespace slipway {
namespace {

Tensor transposed(const Tensor& codes) {
  const int64_t rows = codes.dims()[0], columns = codes.dims()[1];
  Tensor result(DType::kInt8, {columns, rows});
  const std::span<const int8_t> from = codes.values<int8_t>();
  const std::span<int8_t> to = result.mutable_values<int8_t>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      to[static_cast<size_t>(c * rows + r)] = from[static_cast<size_t>(r * columns + c)];
  return result;
}

// The Add of a constant row that follows a MatMul, and the row; kNoNode when there is none.
std::pair<NodeId, ValueId> row_after(const Graph& graph, const Node& matmul) {
  const NodeId id = graph.only_user(matmul.outputs[0]);
  if (id == kNoNode || !graph.node(id).is("Add")) return {kNoNode, kNoValue};
  const Node& add = graph.node(id);
  const ValueId row = add.inputs[0] == matmul.outputs[0] ? add.inputs[1] : add.inputs[0];
  const Shape &shape = graph.value(row).shape, &b = graph.value(matmul.inputs[1]).shape;
  const Node* maker = graph.producer(row);
  const bool constant = graph.constant(row) != nullptr || (maker != nullptr && maker->is("DequantizeLinear") &&
                                                           graph.constant(maker->inputs[0]) != nullptr);
  if (!constant || shape.rank() != 1 || b.rank() != 2 || !shape[0].same_as(b[1])) return {kNoNode, kNoValue};
  return {id, row};
}

bool is_plain(const Node& gemm) {
  return gemm.real("alpha", 1.0f) == 1.0f && gemm.integer("transA", 0) == 0 &&
         (!gemm.has_input(2) || gemm.real("beta", 1.0f) == 1.0f);
}

bool convert_gemm(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const bool is_gemm = node.is("Gemm");
  const bool rows_given = is_gemm && node.integer("transB", 0) != 0;
  const Shape& a = graph.value(node.inputs[0]).shape;
  if (is_gemm && !is_plain(node)) return false;
  const auto x = dequantized(graph, node.inputs[0]);
  auto weights = quantized_weights(graph, node.inputs[1], rows_given ? 0 : 1);
  if (!x || !weights || weights->codes.rank() != 2 || a.rank() < 2) return false;
  if (!rows_given) {
    weights->codes = transposed(weights->codes);
    weights->constant = kNoValue;
  }
  NodeId end = id;
  ValueId bias = is_gemm ? node.input(2) : kNoValue;
  if (!is_gemm)
    if (const auto [add, row] = row_after(graph, node); add != kNoNode) {
      end = add;
      bias = row;
    }
  const Tail tail = follow(graph, end, nullptr);
  const auto linear = integer_linear(graph, *weights, bias, x->quantization, graph.value(node.outputs[0]).name);
  if (!linear) return false;
  NodeSpec spec{.op_type = "QGemm",
                .domain = std::string(kFusedDomain),
                .name = node.name,
                .inputs = {x->codes, linear->weights},
                .attributes = epilogue_attributes(tail, x->quantization, *linear)};
  if (linear->bias != kNoValue) spec.inputs.push_back(linear->bias);
  rewrite(graph, tail.last, std::move(spec));
  return true;
}

}  // namespace

bool quantize_gemm(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.alive && (node.is("Gemm") || node.is("MatMul"))) changed |= convert_gemm(graph, id);
  }
  return changed;
}

}  // namespace slipway
