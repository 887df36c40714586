// The table of operators that gradients flow through, and its elementwise family. Each row's function follows the ONNX
// operator's specification; libtorch's own operation carries the gradient, so that training costs what it costs there.
#include "train/operators.h"

#include <array>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace slipway {
namespace {

using Tensors = std::vector<at::Tensor>;

template <at::Tensor (*kFunction)(const at::Tensor&)>
Tensors unary(const TorchCall& call) {
  return {kFunction(call.x())};
}

template <at::Tensor (*kFunction)(const at::Tensor&, const at::Tensor&)>
Tensors binary(const TorchCall& call) {
  return {kFunction(call.x(), call.inputs[1])};
}

template <at::Tensor (*kFunction)(const at::Tensor&, const at::Tensor&)>
Tensors fold(const TorchCall& call) {
  at::Tensor total = call.x();
  for (size_t i = 1; i < call.inputs.size(); ++i) total = kFunction(total, call.inputs[i]);
  return {total};
}

at::Tensor plus(const at::Tensor& a, const at::Tensor& b) { return at::add(a, b); }
at::Tensor minus(const at::Tensor& a, const at::Tensor& b) { return at::sub(a, b); }
at::Tensor times(const at::Tensor& a, const at::Tensor& b) { return at::mul(a, b); }
at::Tensor over(const at::Tensor& a, const at::Tensor& b) { return at::div(a, b); }

Tensors mean(const TorchCall& call) { return {fold<plus>(call)[0] / static_cast<double>(call.inputs.size())}; }

Tensors power(const TorchCall& call) {
  if (call.inputs[1].numel() == 1 && call.inputs[1].dim() <= call.x().dim()) return {at::pow(call.x(), call.number(1))};
  return {at::pow(call.x(), call.inputs[1])};
}

at::Tensor softplus(const at::Tensor& x) { return at::softplus(x); }
at::Tensor softsign(const at::Tensor& x) { return x / (1 + at::abs(x)); }

Tensors leaky_relu(const TorchCall& call) {
  return {at::leaky_relu(call.x(), static_cast<double>(call.node.real("alpha", 0.01f)))};
}
Tensors elu(const TorchCall& call) { return {at::elu(call.x(), static_cast<double>(call.node.real("alpha", 1.0f)))}; }
Tensors selu(const TorchCall& call) {
  return {at::elu(call.x(), static_cast<double>(call.node.real("alpha", 1.67326319217681884765625f)),
                  static_cast<double>(call.node.real("gamma", 1.05070102214813232421875f)))};
}
Tensors celu(const TorchCall& call) { return {at::celu(call.x(), static_cast<double>(call.node.real("alpha", 1.0f)))}; }
Tensors thresholded_relu(const TorchCall& call) {
  return {at::threshold(call.x(), static_cast<double>(call.node.real("alpha", 1.0f)), 0)};
}

Tensors prelu(const TorchCall& call) {
  const at::Tensor &x = call.x(), &slope = call.inputs[1];
  const bool by_channel = x.dim() >= 2 && slope.dim() == x.dim() - 1 && slope.numel() == x.size(1);
  if (slope.numel() == 1 || (by_channel && slope.size(0) == x.size(1))) return {at::prelu(x, slope.flatten())};
  return {at::where(x < 0, x * slope, x)};
}

Tensors hard_sigmoid(const TorchCall& call) {
  const float alpha = call.node.real("alpha", 0.2f), beta = call.node.real("beta", 0.5f);
  if (alpha == 1.0f / 6 && beta == 0.5f) return {at::hardsigmoid(call.x())};
  return {at::clamp(call.x() * static_cast<double>(alpha) + static_cast<double>(beta), 0, 1)};
}

Tensors gelu(const TorchCall& call) { return {at::gelu(call.x(), call.node.text("approximate", "none"))}; }

// Below opset 11 the bounds are attributes, since then optional inputs. hardtanh has clamp's values and a far cheaper
// gradient.
Tensors clip(const TorchCall& call) {
  constexpr std::array kNames = {"min", "max"};
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::array bounds = {-kInfinity, kInfinity};
  for (size_t i = 0; i < 2; ++i) {
    if (call.opset < 11 && call.node.has(kNames[i])) bounds[i] = static_cast<double>(call.node.real(kNames[i], 0));
    if (call.opset >= 11 && call.has(i + 1)) bounds[i] = call.number(i + 1);
  }
  const auto [low, high] = bounds;
  if (low == -kInfinity && high == kInfinity) return {call.x()};
  return {low < high ? at::hardtanh(call.x(), low, high) : at::clamp(call.x(), low, high)};
}

Tensors identity(const TorchCall& call) { return {call.x()}; }

Tensors dropout(const TorchCall& call) {
  const bool training = call.has(2) && call.number(2) != 0;
  if (training && (!call.has(1) || call.number(1) != 0)) call.refuse("training mode");
  if (call.node.output(1) == kNoValue) return {call.x()};
  return {call.x(), at::ones_like(call.x(), call.opset < 10 ? call.x().scalar_type() : at::kBool)};
}

Tensors cast(const TorchCall& call) {
  switch (static_cast<DType>(call.node.integer("to", 0))) {
    case DType::kFloat32:
      return {call.x().to(at::kFloat)};
    case DType::kFloat64:
      return {call.x().to(at::kDouble)};
    case DType::kFloat16:
      return {call.x().to(at::kHalf)};
    default:
      call.refuse("the target type");
  }
}
Tensors cast_like(const TorchCall& call) { return {call.x().to(call.inputs[1].scalar_type())}; }

Tensors where(const TorchCall& call) { return {at::where(call.x(), call.inputs[1], call.inputs[2])}; }

constexpr OperatorRow kElementwise[] = {
    {"Add", binary<plus>},
    {"Sub", binary<minus>},
    {"Mul", binary<times>},
    {"Div", binary<over>},
    {"Pow", power},
    {"Sum", fold<plus>},
    {"Mean", mean},
    {"Min", fold<at::minimum>},
    {"Max", fold<at::maximum>},
    {"Abs", unary<at::abs>},
    {"Neg", unary<at::neg>},
    {"Sqrt", unary<at::sqrt>},
    {"Exp", unary<at::exp>},
    {"Log", unary<at::log>},
    {"Reciprocal", unary<at::reciprocal>},
    {"Sin", unary<at::sin>},
    {"Cos", unary<at::cos>},
    {"Tan", unary<at::tan>},
    {"Atan", unary<at::atan>},
    {"Sinh", unary<at::sinh>},
    {"Cosh", unary<at::cosh>},
    {"Relu", unary<at::relu>},
    {"LeakyRelu", leaky_relu},
    {"PRelu", prelu},
    {"Elu", elu},
    {"Selu", selu},
    {"Celu", celu},
    {"ThresholdedRelu", thresholded_relu},
    {"Clip", clip},
    {"Sigmoid", unary<at::sigmoid>},
    {"HardSigmoid", hard_sigmoid},
    {"HardSwish", unary<at::hardswish>},
    {"Tanh", unary<at::tanh>},
    {"Erf", unary<at::erf>},
    {"Gelu", gelu},
    {"Softplus", unary<softplus>},
    {"Softsign", unary<softsign>},
    {"Mish", unary<at::mish>},
    {"Identity", identity},
    {"Dropout", dropout},
    {"Cast", cast},
    {"CastLike", cast_like},
    {"Where", where},
};

}  // namespace

std::vector<int64_t> TorchCall::ints(size_t i) const {
  const at::Tensor dense = inputs[i].to(at::kLong).contiguous();
  return {dense.data_ptr<int64_t>(), dense.data_ptr<int64_t>() + dense.numel()};
}

double TorchCall::number(size_t i) const {
  if (inputs[i].numel() != 1)
    fail(ErrorCode::kInvalidModel, "An input is not one number at {}: input {} has {}", node.label(), i,
         inputs[i].numel());
  return inputs[i].item<double>();
}

std::optional<std::vector<int64_t>> TorchCall::list(std::string_view attribute, size_t i) const {
  if (node.has(attribute)) return node.integers(attribute);
  if (has(i)) return ints(i);
  return std::nullopt;
}

int64_t TorchCall::axis(int64_t fallback, int64_t rank) const {
  return normalize_axis(node.integer("axis", fallback), rank, node.label());
}

void TorchCall::refuse(std::string_view what) const {
  fail(ErrorCode::kUnsupported,
       "Training can't go through this variant of an operator; quantise after training instead (slipway quantize): {} "
       "of {}",
       what, node.label());
}

std::vector<int64_t> axes_from_front(const std::vector<int64_t>& axes, int64_t rank, const Node& node) {
  std::vector<int64_t> result;
  for (const int64_t axis : axes) result.push_back(normalize_axis(axis, rank, node.label()));
  if (axes.empty()) {
    result.resize(static_cast<size_t>(rank));
    std::iota(result.begin(), result.end(), int64_t{0});
  }
  return result;
}

OpFunction find_operator(const Node& node) {
  if (!node.domain.empty()) return nullptr;
  for (const std::span<const OperatorRow> family :
       {std::span<const OperatorRow>(kElementwise), window_operators(), movement_operators(), reduction_operators()})
    for (const OperatorRow& row : family)
      if (row.op == node.op_type) return row.function;
  return nullptr;
}

}  // namespace slipway
