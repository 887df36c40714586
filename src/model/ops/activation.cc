// Activations. Element by element in double, by forms that lose no digits in the tails, rounded once to the tensor's
// type; NaN and the sign of zero pass; integers (Relu, Clip, PRelu) stay exact. Softmax and its kin work along one axis
// from opset 13 on, over all axes from `axis` on before.
#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "base/error.h"
#include "model/ops/expand.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

template <typename F>
void apply(EvalContext& ctx, const F& f) {
  const Tensor& x = ctx.input(0);
  std::vector<double> values = to_doubles(x);
  for (double& v : values) v = f(v);
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
}

template <double (*kFunction)(double)>
void eval_unary(EvalContext& ctx) {
  apply(ctx, kFunction);
}

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double softsign(double x) { return x / (1 + std::abs(x)); }
double mish(double x) { return x * std::tanh(softplus(x)); }
double hyperbolic_tangent(double x) { return std::tanh(x); }
double error_function(double x) { return std::erf(x); }
double hard_swish(double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }

void eval_relu(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (is_integer(x.dtype())) {
    std::vector<int64_t> values = to_ints(x);
    for (int64_t& v : values) v = std::max<int64_t>(v, 0);
    return ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), values), x.dtype()));
  }
  apply(ctx, [](double v) { return v < 0 ? 0 : v; });
}

void eval_leaky_relu(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 0.01f);
  apply(ctx, [=](double v) { return v < 0 ? alpha * v : v; });
}
void eval_elu(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 1.0f);
  apply(ctx, [=](double v) { return v < 0 ? alpha * std::expm1(v) : v; });
}
void eval_swish(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 1.0f);
  apply(ctx, [=](double v) { return v * sigmoid(alpha * v); });
}
void eval_selu(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 1.67326319217681884765625f);
  const double gamma = ctx.node.real("gamma", 1.05070102214813232421875f);
  apply(ctx, [=](double v) { return gamma * (v < 0 ? alpha * std::expm1(v) : v); });
}
void eval_celu(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 1.0f);
  if (alpha == 0) ctx.reject("alpha is zero");
  apply(ctx, [=](double v) { return v < 0 ? alpha * std::expm1(v / alpha) : v; });
}
void eval_hard_sigmoid(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 0.2f), beta = ctx.node.real("beta", 0.5f);
  apply(ctx, [=](double v) { return std::clamp(alpha * v + beta, 0.0, 1.0); });
}
void eval_thresholded_relu(EvalContext& ctx) {
  const double alpha = ctx.node.real("alpha", 1.0f);
  apply(ctx, [=](double v) { return v > alpha ? v : 0; });
}
void eval_shrink(EvalContext& ctx) {
  const double lambd = ctx.node.real("lambd", 0.5f), bias = ctx.node.real("bias", 0.0f);
  apply(ctx, [=](double v) { return v < -lambd ? v + bias : v > lambd ? v - bias : 0; });
}
void eval_gelu(EvalContext& ctx) {
  const std::string approximate = ctx.node.text("approximate", "none");
  if (approximate == "tanh")
    return apply(ctx,
                 [](double v) { return v * sigmoid(std::sqrt(8 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)); });
  if (approximate != "none") ctx.reject(fmt::format("approximate is unknown: '{}'", approximate));
  apply(ctx, [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); });
}

// Below opset 11 the bounds are attributes, since then optional inputs.
template <typename T, typename Read>
std::pair<std::optional<T>, std::optional<T>> clip_bounds(const EvalContext& ctx, const Read& read) {
  std::optional<T> bounds[2];
  for (size_t i = 0; i < 2; ++i) {
    const char* name = i == 0 ? "min" : "max";
    if (ctx.opset < 11 && ctx.node.has(name)) bounds[i] = static_cast<T>(ctx.node.real(name, 0));
    if (ctx.opset < 11 || !ctx.has_input(i + 1)) continue;
    if (ctx.input(i + 1).elements() != 1) ctx.reject(fmt::format("{} is not a scalar", name));
    bounds[i] = read(ctx.input(i + 1))[0];
  }
  return {bounds[0], bounds[1]};
}

void eval_clip(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto clip = [](auto v, const auto& bounds) {
    if (bounds.first && v < *bounds.first) v = *bounds.first;
    if (bounds.second && v > *bounds.second) v = *bounds.second;
    return v;
  };
  if (is_integer(x.dtype())) {
    const auto bounds = clip_bounds<int64_t>(ctx, to_ints);
    std::vector<int64_t> values = to_ints(x);
    for (int64_t& v : values) v = clip(v, bounds);
    return ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), values), x.dtype()));
  }
  const auto bounds = clip_bounds<double>(ctx, to_doubles);
  apply(ctx, [&](double v) { return clip(v, bounds); });
}

double multiply(double a, double b) { return a * b; }
// Modulo 2^64, as the machine's does.
int64_t multiply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

void eval_prelu(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &slope = ctx.input(1);
  const auto run = [&](auto values, const auto& slopes) {
    const auto factors = expand(ctx.node, slope.dims(), slopes, x.dims());
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] < 0) values[i] = multiply(values[i], factors[i]);
    return values;
  };
  if (is_integer(x.dtype()))
    ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), run(to_ints(x), to_ints(slope))), x.dtype()));
  else
    ctx.set_output(0, from_doubles(x.dtype(), x.dims(), run(to_doubles(x), to_doubles(slope))));
}

enum class Normalise { kSoftmax, kLogSoftmax, kHardmax };

// One lane of `count` values, `step` apart.
template <Normalise kKind>
void normalise_lane(double* v, size_t count, size_t step) {
  size_t best = 0;
  for (size_t i = 1; i < count; ++i)
    if (v[i * step] > v[best * step]) best = i;
  const double peak = v[best * step];
  if constexpr (kKind == Normalise::kHardmax) {
    for (size_t i = 0; i < count; ++i) v[i * step] = i == best;
    return;
  }
  double rest = std::exp(peak - peak) - 1;  // the sum but for the peak's 1, which would swallow it; NaN at infinity
  for (size_t i = 0; i < count; ++i)
    if (i != best) rest += std::exp(v[i * step] - peak);
  for (size_t i = 0; i < count; ++i)
    v[i * step] = kKind == Normalise::kSoftmax ? std::exp(v[i * step] - peak) / (1 + rest)
                                               : -(std::log1p(rest) - (v[i * step] - peak));
}

int64_t softmax_axis(const Node& node, int64_t opset, int64_t rank) {
  const int64_t axis = node.integer("axis", opset < 13 ? 1 : -1);
  if (opset < 13 && axis == rank) return axis;  // all axes are batch: lanes of one
  return normalize_axis(axis, rank, node.label());
}

template <Normalise kKind>
void eval_softmax(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t axis = softmax_axis(ctx.node, ctx.opset, x.rank());
  size_t count = 1, step = 1;
  for (int64_t i = axis; i < x.rank(); ++i) {
    const auto size = static_cast<size_t>(x.dims()[static_cast<size_t>(i)]);
    (i == axis || ctx.opset < 13 ? count : step) *= size;
  }
  std::vector<double> y = to_doubles(x);
  if (!y.empty())
    for (size_t start = 0; start < y.size(); start += count * step)
      for (size_t i = 0; i < step; ++i) normalise_lane<kKind>(&y[start + i], count, step);
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

void infer_softmax(InferContext& ctx) {
  if (ctx.shape(0).has_rank()) softmax_axis(ctx.node, ctx.opset, static_cast<int64_t>(ctx.shape(0).rank()));
  infer_same_as_first(ctx);
}

double per_element(const CostContext& ctx, double flops) {
  return flops * static_cast<double>(element_count(ctx.outputs[0]));
}
double softmax_flops(const CostContext& ctx) { return per_element(ctx, 5); }

void infer_dropout(InferContext& ctx) {
  infer_same_as_first(ctx);
  ctx.set_output(1, ctx.opset < 10 ? ctx.dtype(0) : DType::kBool, ctx.shape(0));
}

// Training, with a seed: an element stays where a number of [0, 1) is at least the ratio, and is scaled. The numbers
// are those of the Mersenne Twister with 53 bits, so that a seed means what it means to numpy.
void drop_out(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (!ctx.node.has("seed"))
    fail(ErrorCode::kUnsupported,
         "Dropout in training mode is not run without a seed; export the model in evaluation mode: {}",
         ctx.node.label());
  if (ctx.has_input(1) && ctx.input(1).elements() != 1) ctx.reject("its ratio is not one number");
  const double ratio = ctx.has_input(1) ? to_doubles(ctx.input(1))[0] : 0.5;
  if (!(ratio >= 0 && ratio < 1)) ctx.reject(fmt::format("its ratio is outside [0, 1): {}", ratio));
  std::mt19937 random(static_cast<uint32_t>(ctx.node.integer("seed", 0)));
  std::vector<double> values = to_doubles(x), mask(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double high = static_cast<double>(random() >> 5), low = static_cast<double>(random() >> 6);
    mask[i] = (high * 0x1p26 + low) * 0x1p-53 >= ratio;
    values[i] = mask[i] * values[i] / (1 - ratio);
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
  ctx.set_output(1, from_doubles(DType::kBool, x.dims(), mask));
}

void rows_of_dropout(RowsContext& ctx) {
  const auto training = ctx.in.ints(2);
  if (ctx.in.has_input(2) && (!training || training->empty() || training->front() != 0))
    return ctx.mixes("what it drops depends on the place");
  rows_stay(ctx);
}

// Inference: the identity, with a mask of ones.
void eval_dropout(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const bool training = ctx.has_input(2) && ctx.input(2).elements() == 1 && to_ints(ctx.input(2))[0] != 0;
  const bool drops = !ctx.has_input(1) || ctx.input(1).elements() != 1 || to_doubles(ctx.input(1))[0] != 0;
  if (training && drops) return drop_out(ctx);
  ctx.set_output(0, x);
  if (!ctx.wants_output(1)) return;
  const std::vector<double> ones(static_cast<size_t>(x.elements()), 1.0);
  ctx.set_output(1, from_doubles(ctx.opset < 10 ? x.dtype() : DType::kBool, x.dims(), ones));
}

constexpr OpSpec unary(std::string_view name, void (*eval)(EvalContext&), int since = 1, std::string_view domain = "") {
  return {.name = name,
          .since = since,
          .min_inputs = 1,
          .infer = infer_same_as_first,
          .eval = eval,
          .traits = kElementwise,
          .domain = domain};
}
// Before opset 13 it goes over the axis and all behind it.
bool is_softmax_axis(const RowsContext& ctx, size_t rows) {
  const int64_t axis = softmax_axis(ctx.node(), ctx.in.opset, static_cast<int64_t>(ctx.rank(0)));
  return ctx.in.opset < 13 ? static_cast<int64_t>(rows) >= axis : static_cast<int64_t>(rows) == axis;
}

constexpr OpSpec along_axis(std::string_view name, void (*eval)(EvalContext&)) {
  return {.name = name,
          .min_inputs = 1,
          .infer = infer_softmax,
          .eval = eval,
          .flops = softmax_flops,
          .rows = [](RowsContext& ctx) { rows_unless(ctx, is_softmax_axis); }};
}

}  // namespace

std::span<const OpSpec> activation_ops() {
  static constexpr OpSpec kActivationOps[] = {
      unary("Relu", eval_relu, 6),
      unary("LeakyRelu", eval_leaky_relu, 6),
      unary("Elu", eval_elu, 6),
      unary("Selu", eval_selu, 6),
      unary("Celu", eval_celu, 12),
      unary("Sigmoid", eval_unary<sigmoid>, 6),
      unary("HardSigmoid", eval_hard_sigmoid, 6),
      unary("HardSwish", eval_unary<hard_swish>, 14),
      unary("Tanh", eval_unary<hyperbolic_tangent>, 6),
      unary("Softplus", eval_unary<softplus>),
      unary("Softsign", eval_unary<softsign>),
      unary("ThresholdedRelu", eval_thresholded_relu, 1),
      unary("Shrink", eval_shrink, 9),
      unary("Gelu", eval_gelu, 20),
      unary("Swish", eval_swish, 24),
      unary("Mish", eval_unary<mish>, 18),
      // For models of earlier opsets, which spell these out.
      unary("HardSwish", eval_unary<hard_swish>, 1, kFusedDomain),
      unary("Gelu", eval_gelu, 1, kFusedDomain),
      unary("Swish", eval_swish, 1, kFusedDomain),
      unary("Erf", eval_unary<error_function>, 9),
      {.name = "Clip",
       .since = 6,
       .min_inputs = 1,
       .max_inputs = 3,
       .infer = infer_same_as_first,
       .eval = eval_clip,
       .traits = kElementwise},
      {.name = "PRelu",
       .since = 7,
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_same_as_first,
       .eval = eval_prelu,
       .traits = kElementwise},
      along_axis("Softmax", eval_softmax<Normalise::kSoftmax>),
      along_axis("LogSoftmax", eval_softmax<Normalise::kLogSoftmax>),
      along_axis("Hardmax", eval_softmax<Normalise::kHardmax>),
      {.name = "Dropout",
       .since = 7,
       .until = 11,
       .min_inputs = 1,
       .max_outputs = 2,
       .infer = infer_dropout,
       .eval = eval_dropout,
       .rows = rows_stay,
       .traits = kElementwise | kMovesOnly},
      {.name = "Dropout",
       .since = 12,
       .min_inputs = 1,
       .max_inputs = 3,
       .max_outputs = 2,
       .infer = infer_dropout,
       .eval = eval_dropout,
       .rows = rows_of_dropout},
  };
  return kActivationOps;
}

}  // namespace slipway
