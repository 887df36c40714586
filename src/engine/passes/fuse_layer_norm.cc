// The arithmetic of a normalisation over the last axes becomes one operator. With d = x − mean(x) exporters write
//   d / √(mean(d²) + ε)·γ + β      PyTorch, Paddle; the square as Pow or Mul, the root's inverse by Div or Reciprocal
//   x·(r·γ) + (β − mean·(r·γ))     TensorFlow, r = 1 / √(mean(d²) + ε); the difference also as a sum with −mean
// for LayerNormalization, and the first form with d = x for RMSNormalization. γ and β may be absent; they must be the
// same for all rows.
#include <algorithm>
#include <cmath>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/ops/expand.h"

namespace slipway {
namespace {

/// A pattern as far as it is found: the nodes that it is made of and what it computes.
struct Normalization {
  std::vector<NodeId> nodes;
  ValueId x = kNoValue, mean = kNoValue, scale = kNoValue, bias = kNoValue;
  int64_t axis = 0;  ///< the first of those that are normalised
  float epsilon = 0;
};

// Notes the node that makes the value when it is that operator.
const Node* step(const Graph& graph, ValueId value, std::string_view op, Normalization& n) {
  const Node* node = made_by(graph, value, op);
  if (node != nullptr) n.nodes.push_back(graph.value(value).producer);
  return node;
}

// Whether the value is that number, and raises no rank when it meets the other.
bool is_number(const Graph& graph, ValueId value, float expected, ValueId other) {
  const auto number = scalar(graph, value);
  return number && *number == expected && graph.value(value).shape.rank() <= graph.value(other).shape.rank();
}

// The first axis of a mean over the last ones that keeps them as axes of 1, and what it is the mean of.
bool mean_over_last(const Graph& graph, ValueId value, ValueId& of, int64_t& axis, Normalization& n) {
  const Node* node = step(graph, value, "GlobalAveragePool", n);
  const bool pools = node != nullptr;
  if (!pools) node = step(graph, value, "ReduceMean", n);
  if (node == nullptr) return false;
  of = node->inputs[0];
  const auto rank = static_cast<int64_t>(graph.value(of).shape.rank());
  axis = 2;
  if (pools) return rank > 2;
  auto axes = integers_of(graph, *node, "axes", 1);
  if (!axes || axes->empty() || node->integer("keepdims", 1) == 0) return false;
  for (int64_t& a : *axes)
    if (a < 0) a += rank;
  std::sort(axes->begin(), axes->end());
  axis = axes->front();
  for (size_t i = 0; i < axes->size(); ++i)
    if ((*axes)[i] != rank - static_cast<int64_t>(axes->size() - i)) return false;
  return axis >= 0;
}

// mean(d²) + ε
bool is_variance(const Graph& graph, ValueId value, ValueId& d, Normalization& n) {
  const Node* add = step(graph, value, "Add", n);
  if (add == nullptr) return false;
  const size_t side = scalar(graph, add->inputs[1]) ? 1 : 0;
  const auto epsilon = scalar(graph, add->inputs[side]);
  ValueId square = kNoValue;
  if (!epsilon || !std::isfinite(*epsilon) || !mean_over_last(graph, add->inputs[1 - side], square, n.axis, n))
    return false;
  n.epsilon = *epsilon;
  if (graph.value(add->inputs[side]).shape.rank() > graph.value(square).shape.rank()) return false;
  if (const Node* power = step(graph, square, "Pow", n)) {
    d = power->inputs[0];
    return is_number(graph, power->inputs[1], 2, d);
  }
  const Node* product = step(graph, square, "Mul", n);
  if (product == nullptr || product->inputs[0] != product->inputs[1]) return false;
  d = product->inputs[0];
  return true;
}

bool is_deviation(const Graph& graph, ValueId value, ValueId& d, Normalization& n) {
  if (const Node* root = step(graph, value, "Sqrt", n)) return is_variance(graph, root->inputs[0], d, n);
  const Node* power = step(graph, value, "Pow", n);
  return power != nullptr && is_number(graph, power->inputs[1], 0.5f, power->inputs[0]) &&
         is_variance(graph, power->inputs[0], d, n);
}

bool is_inverse_deviation(const Graph& graph, ValueId value, ValueId& d, Normalization& n) {
  if (const Node* inverse = step(graph, value, "Reciprocal", n)) return is_deviation(graph, inverse->inputs[0], d, n);
  if (const Node* inverse = step(graph, value, "Div", n))
    return is_number(graph, inverse->inputs[0], 1, inverse->inputs[1]) && is_deviation(graph, inverse->inputs[1], d, n);
  const Node* power = step(graph, value, "Pow", n);
  return power != nullptr && is_number(graph, power->inputs[1], -0.5f, power->inputs[0]) &&
         is_variance(graph, power->inputs[0], d, n);
}

// The inverse deviation, or its product with γ.
bool is_scaled_inverse(const Graph& graph, ValueId value, ValueId& d, Normalization& n) {
  const Normalization before = n;
  if (is_inverse_deviation(graph, value, d, n)) return true;
  n = before;
  const Node* product = step(graph, value, "Mul", n);
  for (size_t side = 0; product != nullptr && side < 2; ++side) {
    Normalization tried = n;
    if (!is_inverse_deviation(graph, product->inputs[side], d, tried)) continue;
    n = std::move(tried);
    n.scale = product->inputs[1 - side];
    return true;
  }
  return false;
}

// Whether d is x less its mean over the same axes; notes x and the mean.
bool is_centred(const Graph& graph, ValueId d, Normalization& n) {
  const Node* difference = step(graph, d, "Sub", n);
  if (difference == nullptr) return false;
  ValueId of = kNoValue;
  int64_t axis = 0;
  if (!mean_over_last(graph, difference->inputs[1], of, axis, n) || of != difference->inputs[0] || axis != n.axis)
    return false;
  n.x = of;
  n.mean = difference->inputs[1];
  return true;
}

// d / deviation, d·inverse or d·(inverse·γ)
std::optional<Normalization> quotient(const Graph& graph, const Node& node) {
  for (size_t side : {size_t{1}, size_t{0}}) {
    Normalization n;
    ValueId d = kNoValue;
    const bool found = node.is("Div") ? side == 1 && is_deviation(graph, node.inputs[1], d, n)
                                      : node.inputs.size() == 2 && is_scaled_inverse(graph, node.inputs[side], d, n);
    if (!found || d != node.inputs[1 - side]) continue;
    Normalization centred = n;
    if (is_centred(graph, d, centred)) return centred;
    n.x = d;
    return n;
  }
  return std::nullopt;
}

// Whether the value is mean·factor, or with −mean.
bool is_shifted_mean(const Graph& graph, ValueId value, ValueId factor, bool negated, Normalization& n) {
  const Node* product = step(graph, value, "Mul", n);
  for (size_t side = 0; product != nullptr && side < 2; ++side) {
    if (product->inputs[1 - side] != factor) continue;
    const Node* neg = negated ? step(graph, product->inputs[side], "Neg", n) : nullptr;
    const ValueId mean = !negated ? product->inputs[side] : neg != nullptr ? neg->inputs[0] : kNoValue;
    if (mean == n.mean) return true;
  }
  return false;
}

// Whether the value is β − mean·factor or −mean·factor + β; notes β.
bool is_shift(const Graph& graph, ValueId value, ValueId factor, Normalization& n) {
  if (const Node* difference = step(graph, value, "Sub", n)) {
    n.bias = difference->inputs[0];
    return is_shifted_mean(graph, difference->inputs[1], factor, false, n);
  }
  const Node* sum = step(graph, value, "Add", n);
  for (size_t side = 0; sum != nullptr && side < 2; ++side) {
    Normalization tried = n;
    tried.bias = sum->inputs[1 - side];
    if (!is_shifted_mean(graph, sum->inputs[side], factor, true, tried)) continue;
    n = std::move(tried);
    return true;
  }
  return false;
}

// Whether γ is constant and finite: infinite, the difference of two products is NaN, but not the product of the
// difference.
bool is_finite(const Graph& graph, ValueId scale) {
  if (scale == kNoValue) return true;
  const Tensor* constant = graph.constant(scale);
  if (constant == nullptr) return false;
  const std::vector<float> values = to_floats(*constant);
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// x·(inverse·γ) + (β − mean·(inverse·γ))
std::optional<Normalization> expanded(const Graph& graph, const Node& node) {
  for (size_t side : {size_t{0}, size_t{1}}) {
    Normalization start;
    const Node* product = step(graph, node.inputs[side], "Mul", start);
    for (size_t k = 0; product != nullptr && k < 2; ++k) {
      Normalization n = start;
      ValueId d = kNoValue;
      const ValueId factor = product->inputs[k];
      if (is_scaled_inverse(graph, factor, d, n) && is_finite(graph, n.scale) && is_centred(graph, d, n) &&
          n.x == product->inputs[1 - k] && is_shift(graph, node.inputs[1 - side], factor, n))
        return n;
    }
  }
  return std::nullopt;
}

/// γ or β in the shape of the normalised axes.
struct Row {
  ValueId value = kNoValue;
  std::optional<Tensor> repeated = {};  ///< a constant that stands for `value`
};

std::optional<Row> row_of(const Graph& graph, const Node& node, ValueId value, const Shape& x, const Dims& row) {
  const Value& v = graph.value(value);
  if (v.dtype != DType::kFloat32 || !v.shape.is_static() || v.shape.rank() > x.rank()) return std::nullopt;
  Dims dims = v.shape.to_dims();
  if (dims == row) return Row{value};
  for (; dims.size() > row.size(); dims.erase(dims.begin()))
    if (dims.front() != 1) return std::nullopt;
  for (size_t i = 0; i < dims.size(); ++i)
    if (const int64_t d = dims[dims.size() - 1 - i]; d != 1 && d != row[row.size() - 1 - i]) return std::nullopt;
  if (!v.is_constant()) return std::nullopt;
  return Row{value, Tensor::of<float>(row, expand(node, dims, to_floats(*v.constant), row))};
}

Dims normalized_dims(const Shape& x, int64_t axis) {
  Dims dims;
  for (auto i = static_cast<size_t>(axis); i < x.rank(); ++i) dims.push_back(x[i].value());  // −1 unless known
  return dims;
}

ValueId materialize(Graph& graph, const Row& row, ValueId last) {
  return row.repeated ? graph.add_constant(graph.value(last).name + "_row", *row.repeated) : row.value;
}

// The product or sum that alone reads the value, and its other operand when that is a row.
std::optional<Row> extended(const Graph& graph, NodeId& last, std::string_view op, const Shape& x, const Dims& row) {
  const ValueId value = graph.node(last).outputs[0];
  const NodeId user = graph.only_user(value);
  if (user == kNoNode || !graph.node(user).is(op)) return std::nullopt;
  const Node& node = graph.node(user);
  auto found = row_of(graph, node, node.inputs[node.inputs[0] == value ? 1 : 0], x, row);
  if (found) last = user;
  return found;
}

bool fuse_at(Graph& graph, NodeId id, const PassContext& context) {
  const Node& node = graph.node(id);
  if (node.inputs.size() != 2 || graph.value(node.outputs[0]).dtype != DType::kFloat32) return false;
  auto found = node.is("Add")                     ? expanded(graph, node)
               : node.is("Div") || node.is("Mul") ? quotient(graph, node)
                                                  : std::nullopt;
  if (!found) return false;
  const bool centred = found->mean != kNoValue;
  if (context.standard_onnx && graph.opset() < (centred ? 17 : 23)) return false;
  const Shape x = graph.value(found->x).shape;
  const Dims dims = normalized_dims(x, found->axis);
  if (std::any_of(dims.begin(), dims.end(), [](int64_t d) { return d < 1; })) return false;

  NodeId last = id;
  std::optional<Row> scale = Row{kNoValue}, bias;
  if (found->scale != kNoValue) scale = row_of(graph, node, found->scale, x, dims);
  if (found->bias != kNoValue) bias = row_of(graph, node, found->bias, x, dims);
  if (!scale || (found->bias != kNoValue && !bias)) return false;
  found->nodes.push_back(id);
  if (scale->value == kNoValue && found->bias == kNoValue)
    if (auto next = extended(graph, last, "Mul", x, dims)) scale = std::move(next), found->nodes.push_back(last);
  if (centred && !bias) bias = extended(graph, last, "Add", x, dims);
  if (!read_only_within(graph, found->nodes, last)) return false;

  if (scale->value == kNoValue) {
    const std::vector<float> ones(static_cast<size_t>(element_count(dims)), 1.0f);
    scale->repeated = Tensor::of<float>(dims, ones);
  }
  const ValueId out = graph.node(last).outputs[0];
  NodeSpec spec{.op_type = centred               ? "LayerNormalization"
                           : graph.opset() >= 23 ? "RMSNormalization"
                                                 : "SimplifiedLayerNormalization",
                .inputs = {found->x, materialize(graph, *scale, out)},
                .attributes = {{"axis", found->axis - static_cast<int64_t>(x.rank())}, {"epsilon", found->epsilon}}};
  if (bias) spec.inputs.push_back(materialize(graph, *bias, out));
  rewrite(graph, last, std::move(spec));
  return true;
}

}  // namespace

bool fuse_layer_norm(Graph& graph, const PassContext& context) {
  bool changed = false;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).alive && graph.node(id).domain.empty() && graph.node(id).outputs.size() == 1)
      changed |= fuse_at(graph, id, context);
  return changed;
}

}  // namespace slipway
