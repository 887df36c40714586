// Products, reductions, softmax and normalisation.
#include <algorithm>

#include "base/error.h"
#include "train/operators.h"

namespace slipway {
namespace {

using Tensors = std::vector<at::Tensor>;
using Ints = std::vector<int64_t>;

Tensors matmul(const TorchCall& call) { return {at::matmul(call.x(), call.inputs[1])}; }

Tensors gemm(const TorchCall& call) {
  const at::Tensor a = call.node.integer("transA", 0) != 0 ? call.x().t() : call.x();
  const at::Tensor b = call.node.integer("transB", 0) != 0 ? call.inputs[1].t() : call.inputs[1];
  const auto alpha = static_cast<double>(call.node.real("alpha", 1)),
             beta = static_cast<double>(call.node.real("beta", 1));
  if (call.has(2)) return {at::addmm(call.inputs[2], a, b, beta, alpha)};
  const at::Tensor y = at::mm(a, b);
  return {alpha == 1 ? y : y * alpha};
}

using Reduction = at::Tensor (*)(const at::Tensor&, const Ints& axes, bool keep);

template <Reduction kReduction>
Tensors reduce(const TorchCall& call) {
  const Ints given = call.list("axes", 1).value_or(Ints());
  if (given.empty() && call.node.integer("noop_with_empty_axes", 0) != 0) return {call.x()};
  const Ints axes = axes_from_front(given, call.x().dim(), call.node);
  return {kReduction(call.x(), axes, call.node.integer("keepdims", 1) != 0)};
}

at::Tensor sum(const at::Tensor& x, const Ints& axes, bool keep) { return at::sum(x, axes, keep); }
at::Tensor mean(const at::Tensor& x, const Ints& axes, bool keep) { return at::mean(x, axes, keep); }
at::Tensor largest(const at::Tensor& x, const Ints& axes, bool keep) { return at::amax(x, axes, keep); }
at::Tensor smallest(const at::Tensor& x, const Ints& axes, bool keep) { return at::amin(x, axes, keep); }
at::Tensor l1(const at::Tensor& x, const Ints& axes, bool keep) { return at::linalg_vector_norm(x, 1, axes, keep); }
at::Tensor l2(const at::Tensor& x, const Ints& axes, bool keep) { return at::linalg_vector_norm(x, 2, axes, keep); }
at::Tensor sum_square(const at::Tensor& x, const Ints& axes, bool keep) { return at::sum(x * x, axes, keep); }
at::Tensor log_sum(const at::Tensor& x, const Ints& axes, bool keep) { return at::log(at::sum(x, axes, keep)); }
at::Tensor log_sum_exp(const at::Tensor& x, const Ints& axes, bool keep) { return at::logsumexp(x, axes, keep); }
at::Tensor product(const at::Tensor& x, const Ints& axes, bool keep) {
  at::Tensor y = x;
  Ints order = axes;
  std::sort(order.rbegin(), order.rend());
  for (const int64_t axis : order) y = at::prod(y, axis, keep);
  return y;
}

// Below opset 13 all axes from `axis` on count as one.
template <at::Tensor (*kFunction)(const at::Tensor&, int64_t, c10::optional<at::ScalarType>)>
Tensors softmax(const TorchCall& call) {
  const at::Tensor& x = call.x();
  if (call.opset >= 13) return {kFunction(x, call.axis(-1, x.dim()), c10::nullopt)};
  const int64_t given = call.node.integer("axis", 1), axis = given == x.dim() ? given : call.axis(1, x.dim());
  Ints dims(x.sizes().begin(), x.sizes().begin() + axis);
  dims.push_back(1);
  for (int64_t i = axis; i < x.dim(); ++i) dims.back() *= x.size(i);
  return {kFunction(x.reshape(dims), axis, c10::nullopt).reshape(x.sizes())};
}

double epsilon_of(const TorchCall& call) { return static_cast<double>(call.node.real("epsilon", 1e-5f)); }

// By the given statistics, which are constants like the others.
Tensors batch_normalization(const TorchCall& call) {
  const at::Tensor& x = call.x();
  if (call.opset >= 14 ? call.node.integer("training_mode", 0) != 0 : call.node.output(1) != kNoValue)
    call.refuse("training mode");
  const int64_t channels = x.size(1);
  Ints dims(static_cast<size_t>(x.dim() - 1), 1);
  dims[0] = channels;
  if (call.opset < 9 && call.node.integer("spatial", 1) == 0) dims.assign(x.sizes().begin() + 1, x.sizes().end());
  const at::Tensor scale = call.inputs[1] * at::rsqrt(call.inputs[4] + epsilon_of(call));
  const at::Tensor bias = call.inputs[2] - call.inputs[3] * scale;
  return {at::addcmul(bias.reshape(dims), x, scale.reshape(dims))};
}

Tensors instance_normalization(const TorchCall& call) {
  return {at::group_norm(call.x(), call.x().size(1), call.inputs[1], call.inputs[2], epsilon_of(call))};
}

// Scale and bias are one a group below opset 21, one a channel since.
Tensors group_normalization(const TorchCall& call) {
  const int64_t groups = call.node.integer("num_groups", 0);
  if (groups < 1) fail(ErrorCode::kInvalidModel, "There must be groups at {}: {}", call.node.label(), groups);
  at::Tensor scale = call.inputs[1], bias = call.inputs[2];
  if (call.opset < 21) {
    const int64_t channels = call.x().size(1) / groups;
    scale = scale.unsqueeze(1).expand({groups, channels}).flatten();
    bias = bias.unsqueeze(1).expand({groups, channels}).flatten();
  }
  return {at::group_norm(call.x(), groups, scale, bias, epsilon_of(call))};
}

Tensors layer_normalization(const TorchCall& call) {
  const at::Tensor& x = call.x();
  const int64_t axis = call.axis(-1, x.dim());
  const at::IntArrayRef shape = x.sizes().slice(static_cast<size_t>(axis));
  const at::Tensor scale = call.inputs[1], bias = call.has(2) ? call.inputs[2] : at::Tensor();
  const auto fits = [&](const at::Tensor& t) { return !t.defined() || t.sizes() == shape; };
  Tensors outputs;
  if (fits(scale) && fits(bias)) {
    outputs = {at::layer_norm(x, shape, scale, bias, epsilon_of(call))};
  } else {
    const at::Tensor y = at::layer_norm(x, shape, {}, {}, epsilon_of(call)) * scale;
    outputs = {bias.defined() ? y + bias : y};
  }
  if (call.node.output(1) == kNoValue && call.node.output(2) == kNoValue) return outputs;
  Ints axes;
  for (int64_t i = axis; i < x.dim(); ++i) axes.push_back(i);
  const auto [variance, average] = at::var_mean(x, axes, false, true);
  outputs.insert(outputs.end(), {average, at::rsqrt(variance + epsilon_of(call))});
  return outputs;
}

// Krizhevsky, Sutskever & Hinton 2012, section 3.3. The sum runs over `before` channels, the own one and `after`.
Tensors lrn(const TorchCall& call) {
  const at::Tensor& x = call.x();
  const int64_t n = x.size(0), channels = x.size(1), size = call.node.integer("size", 1);
  const int64_t before = std::min((size - 1) / 2, channels), after = std::min(size / 2, channels);
  const int64_t window = before + after + 1;
  const double alpha = static_cast<double>(call.node.real("alpha", 0.0001f)) / static_cast<double>(size);
  const auto beta = static_cast<double>(call.node.real("beta", 0.75f)),
             bias = static_cast<double>(call.node.real("bias", 1.0f));
  const at::Tensor squares = (x * x).reshape({n, 1, channels, x.numel() / std::max<int64_t>(n * channels, 1)});
  const at::Tensor sums = at::avg_pool2d(at::constant_pad_nd(squares, {0, 0, before, after}), {window, 1}, {1, 1});
  const at::Tensor root = at::pow(sums * (alpha * static_cast<double>(window)) + bias, beta);
  return {x / root.reshape(x.sizes())};
}

constexpr OperatorRow kReductionRows[] = {
    {"MatMul", matmul},
    {"Gemm", gemm},
    {"ReduceSum", reduce<sum>},
    {"ReduceMean", reduce<mean>},
    {"ReduceMax", reduce<largest>},
    {"ReduceMin", reduce<smallest>},
    {"ReduceProd", reduce<product>},
    {"ReduceL1", reduce<l1>},
    {"ReduceL2", reduce<l2>},
    {"ReduceSumSquare", reduce<sum_square>},
    {"ReduceLogSum", reduce<log_sum>},
    {"ReduceLogSumExp", reduce<log_sum_exp>},
    {"Softmax", softmax<at::softmax>},
    {"LogSoftmax", softmax<at::log_softmax>},
    {"BatchNormalization", batch_normalization},
    {"InstanceNormalization", instance_normalization},
    {"GroupNormalization", group_normalization},
    {"LayerNormalization", layer_normalization},
    {"LRN", lrn},
};

}  // namespace

std::span<const OperatorRow> reduction_operators() { return kReductionRows; }

}  // namespace slipway
