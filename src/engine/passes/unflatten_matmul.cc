// A product of a matrix whose left side was flattened to one, and whose result gets its axes back, is MatMul of the
// left side as it was: TensorFlow writes dense layers over sequences so. And a bias that is added behind a reshape,
// which splits a product's columns into heads, is added to the columns: there the product takes it.
#include <algorithm>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/ops/expand.h"

namespace slipway {
namespace {

// All axes but the last are the same: one that is not known follows from the others, as both have as many rows.
bool same_leading(const Shape& a, const Shape& b) {
  if (a.rank() < 2 || a.rank() != b.rank()) return false;
  size_t open = 0, named = 0;
  for (size_t i = 0; i + 1 < a.rank(); ++i) {
    if (!a[i].same_as(b[i]))
      ++open;
    else if (a[i].value() < 1)
      ++named;
  }
  return open == 0 || (open == 1 && named == 0);
}

// Reshape(MatMul(Reshape(x), w)) → MatMul(x, w)
bool unflatten(Graph& graph, NodeId id) {
  const Node& last = graph.node(id);
  const Node* product = made_by(graph, last.inputs[0], "MatMul");
  if (product == nullptr || graph.only_user(last.inputs[0]) != id) return false;
  const Node* first = made_by(graph, product->inputs[0], "Reshape");
  if (first == nullptr) return false;
  const Shape &x = graph.value(first->inputs[0]).shape, &rows = graph.value(product->inputs[0]).shape,
              &w = graph.value(product->inputs[1]).shape, &y = graph.value(last.outputs[0]).shape;
  if (rows.rank() != 2 || w.rank() != 2 || !same_leading(x, y) || !x[x.rank() - 1].same_as(rows[1]) ||
      !x[x.rank() - 1].same_as(w[0]) || !y[y.rank() - 1].same_as(w[1]))
    return false;
  rewrite(graph, id, {.op_type = "MatMul", .name = product->name, .inputs = {first->inputs[0], product->inputs[1]}});
  return true;
}

// The constant as one number a column of a value with so many, when behind the reshape it differs along the axes that
// they became and nowhere else.
std::optional<Tensor> columns_of(const Node& sum, const Tensor& constant, const Shape& reshaped, const Dim& columns) {
  if (!columns.is_known() || constant.dtype() != DType::kFloat32) return std::nullopt;
  Dims split;
  for (int64_t count = 1; count != columns.value();) {
    if (split.size() == reshaped.rank()) return std::nullopt;
    const Dim& dim = reshaped[reshaped.rank() - 1 - split.size()];
    if (!dim.is_known() || dim.value() < 1 || (count *= dim.value()) > columns.value()) return std::nullopt;
    split.insert(split.begin(), dim.value());
  }
  Dims dims = constant.dims();
  for (; dims.size() > split.size(); dims.erase(dims.begin()))
    if (dims.front() != 1) return std::nullopt;
  for (size_t i = 1; i <= dims.size(); ++i)
    if (const int64_t d = dims[dims.size() - i]; d != 1 && d != split[split.size() - i]) return std::nullopt;
  return Tensor::of<float>({columns.value()}, expand(sum, dims, to_floats(constant), split));
}

// Add(Reshape(MatMul(x, w)), b) → Reshape(Add(MatMul(x, w), b))
bool take_bias_forward(Graph& graph, NodeId id) {
  const Node sum = graph.node(id);
  for (size_t side : {size_t{0}, size_t{1}}) {
    const Node* reshape = made_by(graph, sum.inputs[side], "Reshape");
    const Tensor* constant = graph.constant(sum.inputs[1 - side]);
    if (reshape == nullptr || constant == nullptr || graph.only_user(sum.inputs[side]) != id) continue;
    if (!same_type(graph, sum.inputs[side], sum.outputs[0])) continue;
    const ValueId product = reshape->inputs[0];
    if (made_by(graph, product, "MatMul") == nullptr || graph.only_user(product) == kNoNode) continue;
    const Shape &shape = graph.value(product).shape, &reshaped = graph.value(sum.outputs[0]).shape;
    if (shape.rank() < 2) continue;
    auto bias = columns_of(sum, *constant, reshaped, shape[shape.rank() - 1]);
    if (!bias) continue;
    const ValueId row = graph.add_constant(graph.value(sum.inputs[1 - side]).name + "_row", std::move(*bias));
    const ValueId added = graph.add_node(NodeSpec{.op_type = "Add", .name = sum.name, .inputs = {product, row}},
                                         graph.value(product).name + "_biased", graph.value(product).producer);
    graph.set_type(added, DType::kFloat32, Shape(shape));
    rewrite(graph, id,
            {.op_type = "Reshape",
             .name = reshape->name,
             .inputs = {added, reshape->inputs[1]},
             .attributes = reshape->attributes});
    return true;
  }
  return false;
}

}  // namespace

bool unflatten_matmul(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive) continue;
    if (node.is("Reshape")) changed |= unflatten(graph, id);
    if (node.is("Add")) changed |= take_bias_forward(graph, id);
  }
  return changed;
}

}  // namespace slipway
