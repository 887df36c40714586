// Interval arithmetic with one number a tensor: from a bound on the magnitudes of a node's inputs, one on those of its
// first output. A convolution or product of constants gives at most L1(weights of a channel)·|x| + |bias|, the largest
// over channels; that also bounds its partial sums in any order. A bound is only as good as that all inputs are finite,
// so an unknown input makes an unknown result, even where the function's range is small: Sigmoid(NaN) is NaN.
#include "engine/magnitudes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::infinity();

double absolute(double v) { return std::isnan(v) ? kUnknown : std::abs(v); }

// The largest over channels of Σ|w|; element i belongs to channel i / step mod count.
double largest_sum(const Tensor& weights, int64_t step, int64_t count) {
  const std::span<const float> w = weights.values<float>();
  std::vector<double> sums(static_cast<size_t>(count));
  for (int64_t i = 0; i < weights.elements(); ++i)
    sums[static_cast<size_t>(i / step % count)] += absolute(w[static_cast<size_t>(i)]);
  return *std::max_element(sums.begin(), sums.end());
}

double activated(const Node& node, const std::string& name, double y) {
  const double alpha = absolute(node.real("alpha", 0)), beta = absolute(node.real("beta", 0));
  if (name == "Clip") {
    const double low = node.real("alpha", 0), high = node.real("beta", 0);
    return std::min(std::max(alpha, beta), std::max({y, low, -high}));
  }
  if (name == "Tanh" || name == "HardSigmoid") return 1;
  if (name == "LeakyRelu") return y * std::max(1.0, alpha);
  return y;  // Relu, HardSwish, SiLU: |f(x)| ≤ |x|
}

const Tensor* constant_of(const Graph& graph, const Node& node, size_t i) {
  return node.has_input(i) && graph.value(node.inputs[i]).is_constant() ? graph.constant(node.inputs[i]) : nullptr;
}

Magnitude of_convolution(const Graph& graph, const Node& node, std::span<const double> in) {
  const Tensor* w = constant_of(graph, node, 1);
  if (w == nullptr || w->dtype() != DType::kFloat32 || w->elements() == 0) return {kUnknown, kUnknown};
  const int64_t count = w->dims()[0];
  double y = largest_sum(*w, w->elements() / count, count) * in[0];
  for (size_t i : {2, 3})
    if (node.has_input(i)) y += in[i];
  return {activated(node, node.text("activation", ""), y), y};
}

// Gemm and MatMul.
Magnitude of_product(const Graph& graph, const Node& node, std::span<const double> in) {
  const Tensor* b = constant_of(graph, node, 1);
  const bool fused = !node.domain.empty(), gemm = node.op_type == "Gemm";
  const double scale = gemm && !fused ? absolute(node.real("alpha", 1)) : 1;
  double y;
  if (b != nullptr && b->rank() == 2 && b->dtype() == DType::kFloat32 && b->elements() > 0) {
    const bool transposed = gemm && node.integer("transB", 0) != 0;
    const int64_t count = b->dims()[transposed ? 0 : 1];
    y = scale * largest_sum(*b, transposed ? b->dims()[1] : 1, count) * in[0];
  } else {
    const Dims a = graph.value(node.inputs[0]).shape.to_dims();
    if (a.empty()) return {kUnknown, kUnknown};
    const int64_t depth = gemm && node.integer("transA", 0) != 0 ? a[0] : a.back();
    y = scale * static_cast<double>(depth) * in[0] * in[1];
  }
  if (gemm && node.has_input(2)) y += in[2] * (fused ? 1 : absolute(node.real("beta", 1)));
  return {fused ? activated(node, node.text("activation", ""), y) : y, y};
}

// Of an element before scale and bias: no deviation is more than √n standard deviations. Without epsilon 0/0 may be.
double normalized(const Graph& graph, const Node& node) {
  if (!(node.real("epsilon", 1e-5f) > 0)) return kUnknown;
  const Dims x = graph.value(node.inputs[0]).shape.to_dims();
  const int64_t axis = normalize_axis(node.integer("axis", -1), static_cast<int64_t>(x.size()), node.label());
  return std::sqrt(static_cast<double>(element_count(std::span(x).subspan(static_cast<size_t>(axis)))));
}

double of_operator(const Graph& graph, const Node& node, std::span<const double> in) {
  const std::string& op = node.op_type;
  const auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), op) != names.end();
  };
  const double largest = *std::max_element(in.begin(), in.end());
  if (is_one_of({"Relu",        "Abs",       "Neg",   "Identity", "Reshape",      "Flatten",     "Squeeze",
                 "Unsqueeze",   "Transpose", "Slice", "Split",    "Gather",       "Expand",      "Tile",
                 "AveragePool", "HardSwish", "Swish", "Gelu",     "DepthToSpace", "SpaceToDepth"}))
    return in[0];
  if (op == "GlobalAveragePool" || op == "GlobalMaxPool")  // of nothing: NaN, an infinity
    return element_count(graph.value(node.inputs[0]).shape.to_dims()) == 0 ? kUnknown : in[0];
  if (op == "Dropout") return node.has_input(2) ? kUnknown : in[0];  // training scales what it keeps
  if (op == "MaxPool") return may_have_empty_windows(node) ? kUnknown : in[0];
  if (is_one_of({"Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Erf", "Sin", "Cos", "Softsign"})) return 1;
  if (is_one_of({"Concat", "Max", "Min"})) return largest;
  if (op == "Pad") return constant_of(graph, node, 2) != nullptr ? std::max(in[0], in[2]) : in[0];
  if (op == "LeakyRelu") return in[0] * std::max(1.0, absolute(node.real("alpha", 0.01f)));
  if (op == "Elu") return std::max(in[0], absolute(node.real("alpha", 1)));
  if (op == "Clip")
    return in[0] + (in.size() > 1 ? in[1] : absolute(node.real("min", 0))) +
           (in.size() > 2 ? in[2] : absolute(node.real("max", 0)));
  if (is_one_of({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}))
    return normalized(graph, node) * in[1] + (in.size() > 2 ? in[2] : 0);
  if (op == "Add" || op == "Sub") return in[0] + in[1];
  if (op == "Mul") return in[0] * in[1];
  if (op == "Div") {
    const Tensor* divisor = constant_of(graph, node, 1);
    if (divisor == nullptr) return kUnknown;
    double smallest = kUnknown;
    for (double v : to_doubles(*divisor)) smallest = std::min(smallest, absolute(v));
    return in[0] / smallest;
  }
  return kUnknown;
}

}  // namespace

double constant_magnitude(const Tensor& constant) {
  double largest = 0;
  for (float v : constant.values<float>()) largest = std::max(largest, absolute(v));
  return largest;
}

Magnitude node_magnitude(const Graph& graph, const Node& node, std::span<const double> in) {
  if (in.empty() || std::any_of(in.begin(), in.end(), [](double v) { return !(v < kProvenMagnitude); }))
    return {kUnknown, kUnknown};
  if (node.is("Conv") || node.is_fused("Conv")) return of_convolution(graph, node, in);
  if (node.is("Gemm") || node.is_fused("Gemm") || node.is("MatMul")) return of_product(graph, node, in);
  const double y = node.domain.empty() || node.domain == kFusedDomain ? of_operator(graph, node, in) : kUnknown;
  return {y, y};
}

}  // namespace slipway
