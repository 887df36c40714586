// A product's result times a number, or times one number a column, is a product with other weights: x·W·s = x·(W·s).
// A bias between takes the factor too, and the number (not the row) is found behind reshapes and transposes as well:
// models that scale their queries, or each branch's channels, lose that step. Weights that something else reads stay.
//
// As where an affine is folded into a convolution (affine.h), factors are multiplied in double and rounded once. No
// weight may leave the normal numbers.
#include <cmath>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr int kMaxMoves = 6;  // between the product and its factor

/// One number, or one a column.
using Factors = std::vector<double>;

std::optional<Factors> factors_of(const Graph& graph, const Node& node, size_t side) {
  const Tensor* tensor = graph.constant(node.inputs[side]);
  if (tensor == nullptr || tensor->dtype() != DType::kFloat32 || tensor->elements() == 0) return std::nullopt;
  if (tensor->elements() != 1 && tensor->dims().back() != tensor->elements()) return std::nullopt;
  Factors factors = to_doubles(*tensor);
  for (double& f : factors) {
    if (!(std::abs(f) >= 0x1p-20 && std::abs(f) <= 0x1p20)) return std::nullopt;
    if (node.is("Div")) f = 1 / f;
  }
  return factors;
}

/// A constant operand of the product or sum, and what it becomes.
struct Change {
  NodeId node;
  size_t input;
  Tensor tensor;
};

// The constant with its last axis, or all of it, times the factors; nothing where it is not one that may change.
std::optional<Change> scaled_operand(const Graph& graph, NodeId id, size_t input, const Factors& factors) {
  const ValueId value = graph.node(id).input(input);
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() != DType::kFloat32 || graph.value(value).uses.size() != 1)
    return std::nullopt;
  const auto columns = static_cast<int64_t>(factors.size());
  if (columns != 1 && (tensor->rank() == 0 || tensor->dims().back() != columns)) return std::nullopt;
  Tensor scaled(DType::kFloat32, tensor->dims());
  const std::span<const float> from = tensor->values<float>();
  const std::span<float> to = scaled.mutable_values<float>();
  for (size_t i = 0; i < from.size(); ++i) {
    to[i] = static_cast<float>(static_cast<double>(from[i]) * factors[i % factors.size()]);
    if (from[i] != 0 && !std::isnormal(to[i])) return std::nullopt;
  }
  return Change{id, input, std::move(scaled)};
}

class ScaleFolding {
 public:
  ScaleFolding(const Graph& graph, Factors factors) : graph_(graph), factors_(std::move(factors)) {}

  /// Whether the value that alone `reader` reads takes the factors; then they are in `changes`.
  bool take(ValueId value, NodeId reader) {
    for (int moves = 0; moves <= kMaxMoves; ++moves) {
      const Node* node = graph_.producer(value);
      if (node == nullptr || graph_.only_user(value) != reader || !node->domain.empty()) return false;
      reader = graph_.value(value).producer;
      if (node->is("MatMul")) return take_product(*node, reader);
      if (node->is("Add")) return take_sum(*node, reader);
      const OpSpec* spec = find_op(graph_, *node);
      const bool moves_all = node->is("Transpose") || (spec != nullptr && spec->has(kViews));
      if (!moves_all || factors_.size() != 1 || node->inputs.empty()) return false;
      value = node->inputs[0];
    }
    return false;
  }

  std::vector<Change> changes;

 private:
  bool change(NodeId id, size_t input) {
    auto found = scaled_operand(graph_, id, input, factors_);
    if (found) changes.push_back(std::move(*found));
    return found.has_value();
  }

  bool take_product(const Node& product, NodeId id) {
    const Shape& b = graph_.value(product.inputs[1]).shape;
    return graph_.value(product.inputs[0]).shape.rank() >= 2 && b.rank() == 2 && change(id, 1);
  }

  bool take_sum(const Node& sum, NodeId id) {
    for (size_t side : {size_t{0}, size_t{1}}) {
      const Node* product = made_by(graph_, sum.inputs[side], "MatMul");
      if (product == nullptr || graph_.only_user(sum.inputs[side]) != id) continue;
      if (!same_type(graph_, sum.inputs[side], sum.outputs[0])) continue;
      return change(id, 1 - side) && take_product(*product, graph_.value(sum.inputs[side]).producer);
    }
    return false;
  }

  const Graph& graph_;
  const Factors factors_;
};

bool fold_scale_at(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (graph.value(node.outputs[0]).uses.empty() && !graph.is_output(node.outputs[0])) return false;  // dead code
  for (size_t side : {size_t{0}, size_t{1}}) {
    if ((side == 1 && node.is("Div")) || !same_type(graph, node.inputs[side], node.outputs[0])) continue;
    auto factors = factors_of(graph, node, 1 - side);
    if (!factors) continue;
    ScaleFolding folding(graph, std::move(*factors));
    const ValueId value = node.inputs[side];
    if (!folding.take(value, id) || !bypass(graph, id, value)) continue;
    for (Change& c : folding.changes) {
      const std::string name = graph.value(graph.node(c.node).inputs[c.input]).name;
      graph.set_input(c.node, c.input, graph.add_constant(name + "_scaled", std::move(c.tensor)));
    }
    return true;
  }
  return false;
}

}  // namespace

bool fold_scale(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.alive && (node.is("Mul") || node.is("Div")) && node.inputs.size() == 2 &&
        graph.value(node.outputs[0]).dtype == DType::kFloat32)
      changed |= fold_scale_at(graph, id);
  }
  return changed;
}

}  // namespace slipway
