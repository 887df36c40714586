// Arithmetic of two or more tensors with numpy broadcasting. Floats are computed in double and rounded once; integers
// wrap modulo 2^bits and divide towards zero, by zero to zero. Contents of shape tensors are followed through + - * /.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"
#include "model/ops/walk.h"

namespace slipway {
namespace {

struct Operation {
  double (*real)(double, double);
  int64_t (*sint)(int64_t, int64_t);
  uint64_t (*uint)(uint64_t, uint64_t);
};

bool is_unsigned(DType dtype) { return to_string(dtype).starts_with('u'); }

// Folds all inputs, left to right, in the wide type that `load` gives.
template <typename T, typename Compute>
std::vector<T> fold_inputs(const EvalContext& ctx, const Dims& dims, std::vector<T> (*load)(const Tensor&),
                           Compute (*f)(Compute, Compute)) {
  std::vector<T> total = load(ctx.input(0));
  Dims total_dims = ctx.input(0).dims();
  if (ctx.input_count() == 1) return total;
  for (size_t i = 1; i < ctx.input_count(); ++i) {
    const std::vector<T> next = load(ctx.input(i));
    std::vector<T> result(static_cast<size_t>(element_count(dims)));
    combine(dims, total_dims, total.data(), ctx.input(i).dims(), next.data(), result.data(), f);
    total = std::move(result);
    total_dims = dims;
  }
  return total;
}

void eval_function(EvalContext& ctx, const Operation& f) {
  const DType dtype = ctx.input(0).dtype();
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (ctx.input(i).dtype() != dtype) ctx.reject("its inputs' element types differ");
  const Dims dims = broadcast_inputs(ctx);
  if (dtype == DType::kFloat32 && ctx.input_count() == 2) {
    Tensor y(dtype, dims);
    const Tensor &a = ctx.input(0), &b = ctx.input(1);
    combine(dims, a.dims(), a.values<float>().data(), b.dims(), b.values<float>().data(),
            y.mutable_values<float>().data(), f.real);
    return ctx.set_output(0, std::move(y));
  }
  if (is_float(dtype)) return ctx.set_output(0, from_doubles(dtype, dims, fold_inputs(ctx, dims, to_doubles, f.real)));
  if (!is_integer(dtype)) ctx.reject(fmt::format("it takes numbers, not {}", to_string(dtype)));
  const std::vector<int64_t> values =
      is_unsigned(dtype) ? fold_inputs(ctx, dims, to_ints, f.uint) : fold_inputs(ctx, dims, to_ints, f.sint);
  ctx.set_output(0, cast(Tensor::of<int64_t>(dims, values), dtype));
}

// Signed arithmetic through unsigned: wraps instead of overflowing.
template <typename Operation>
constexpr int64_t wrap(int64_t a, int64_t b, Operation f) {
  return static_cast<int64_t>(f(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
}

constexpr Operation kAdd = {
    [](double a, double b) { return a + b; },
    [](int64_t a, int64_t b) { return wrap(a, b, [](uint64_t x, uint64_t y) { return x + y; }); },
    [](uint64_t a, uint64_t b) { return a + b; },
};
constexpr Operation kSub = {
    [](double a, double b) { return a - b; },
    [](int64_t a, int64_t b) { return wrap(a, b, [](uint64_t x, uint64_t y) { return x - y; }); },
    [](uint64_t a, uint64_t b) { return a - b; },
};
constexpr Operation kMul = {
    [](double a, double b) { return a * b; },
    [](int64_t a, int64_t b) { return wrap(a, b, [](uint64_t x, uint64_t y) { return x * y; }); },
    [](uint64_t a, uint64_t b) { return a * b; },
};
constexpr Operation kDiv = {
    [](double a, double b) { return a / b; },
    [](int64_t a, int64_t b) {
      if (b == -1) return static_cast<int64_t>(uint64_t{0} - static_cast<uint64_t>(a));
      return b == 0 ? int64_t{0} : a / b;
    },
    [](uint64_t a, uint64_t b) { return b == 0 ? uint64_t{0} : a / b; },
};
constexpr Operation kMax = {
    [](double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b); },
    [](int64_t a, int64_t b) { return std::max(a, b); },
    [](uint64_t a, uint64_t b) { return std::max(a, b); },
};
constexpr Operation kMin = {
    [](double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b); },
    [](int64_t a, int64_t b) { return std::min(a, b); },
    [](uint64_t a, uint64_t b) { return std::min(a, b); },
};
// The remainder takes the divisor's sign …
constexpr Operation kModFloor = {
    [](double a, double b) {
      const double r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    },
    [](int64_t a, int64_t b) {
      const int64_t r = b == 0 || b == -1 ? 0 : a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    },
    [](uint64_t a, uint64_t b) { return b == 0 ? uint64_t{0} : a % b; },
};
// … or, with fmod, the dividend's.
constexpr Operation kModTrunc = {
    [](double a, double b) { return std::fmod(a, b); },
    [](int64_t a, int64_t b) { return b == 0 || b == -1 ? int64_t{0} : a % b; },
    kModFloor.uint,
};

template <const Operation& kFunction>
void eval_fold(EvalContext& ctx) {
  eval_function(ctx, kFunction);
}

void eval_mod(EvalContext& ctx) { eval_function(ctx, ctx.node.integer("fmod", 0) != 0 ? kModTrunc : kModFloor); }

void eval_mean(EvalContext& ctx) {
  if (!is_float(ctx.input(0).dtype())) ctx.reject("it takes floats");
  const Dims dims = broadcast_inputs(ctx);
  std::vector<double> total = fold_inputs(ctx, dims, to_doubles, kAdd.real);
  for (double& v : total) v /= static_cast<double>(ctx.input_count());
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), dims, total));
}

int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 != 0 ? -1 : 1) : 0;
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (; exponent != 0; exponent >>= 1, factor *= factor)
    if (exponent & 1) result *= factor;
  return static_cast<int64_t>(result);
}

void eval_pow(EvalContext& ctx) {
  const Tensor &base = ctx.input(0), &exponent = ctx.input(1);
  const Dims dims = broadcast_inputs(ctx);
  if (is_integer(base.dtype()) && is_integer(exponent.dtype())) {
    std::vector<int64_t> result(static_cast<size_t>(element_count(dims)));
    combine(dims, base.dims(), to_ints(base).data(), exponent.dims(), to_ints(exponent).data(), result.data(),
            integer_power);
    return ctx.set_output(0, cast(Tensor::of<int64_t>(dims, result), base.dtype()));
  }
  double (*power)(double, double) = [](double a, double b) { return std::pow(a, b); };
  std::vector<double> result(static_cast<size_t>(element_count(dims)));
  combine(dims, base.dims(), to_doubles(base).data(), exponent.dims(), to_doubles(exponent).data(), result.data(),
          power);
  ctx.set_output(0, from_doubles(base.dtype(), dims, result));
}

// Contents of shape tensors, where no arithmetic on symbols is needed.
Dim follow(std::string_view op, const Dim& a, const Dim& b) {
  if (op == "Mul") return multiply(a, b);
  if (op == "Div") return divide(a, b);
  if (op == "Max") return a.same_as(b) ? a : a.is_known() && b.is_known() ? std::max(a.value(), b.value()) : Dim();
  if (op == "Add") return add(a, b);
  if (b == Dim(0)) return a;
  if (a.same_as(b)) return Dim(0);
  return a.is_known() && b.is_known() && a.value() >= b.value() ? Dim(a.value() - b.value()) : Dim();
}

void infer_arithmetic(InferContext& ctx) {
  infer_broadcast(ctx);
  if (ctx.input_count() != 2) return;
  const auto a = contents(ctx, 0), b = contents(ctx, 1);
  if (!a || !b || a->empty() || b->empty() || (a->size() != b->size() && a->size() != 1 && b->size() != 1)) return;
  std::vector<Dim> result;
  for (size_t i = 0; i < std::max(a->size(), b->size()); ++i)
    result.push_back(follow(ctx.node.op_type, (*a)[a->size() == 1 ? 0 : i], (*b)[b->size() == 1 ? 0 : i]));
  set_contents(ctx, 0, std::move(result));
}

constexpr OpSpec binary(std::string_view name, int since, void (*infer)(InferContext&), void (*eval)(EvalContext&),
                        uint32_t traits = 0) {
  return {.name = name,
          .since = since,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer,
          .eval = eval,
          .traits = kElementwise | traits};
}

double variadic_flops(const CostContext& ctx) {
  return static_cast<double>(element_count(ctx.outputs[0])) * static_cast<double>(ctx.inputs.size() - 1);
}

constexpr OpSpec variadic(std::string_view name, void (*infer)(InferContext&), void (*eval)(EvalContext&)) {
  return {.name = name,
          .since = 6,
          .min_inputs = 1,
          .max_inputs = -1,
          .infer = infer,
          .eval = eval,
          .flops = variadic_flops,
          .traits = kElementwise | kCommutative};
}

constexpr OpSpec kArithmeticOps[] = {
    binary("Add", 7, infer_arithmetic, eval_fold<kAdd>, kCommutative),
    binary("Sub", 7, infer_arithmetic, eval_fold<kSub>),
    binary("Mul", 7, infer_arithmetic, eval_fold<kMul>, kCommutative),
    binary("Div", 7, infer_arithmetic, eval_fold<kDiv>),
    binary("Mod", 10, infer_broadcast, eval_mod),
    binary("Pow", 7, infer_broadcast, eval_pow),
    variadic("Max", infer_arithmetic, eval_fold<kMax>),
    variadic("Min", infer_broadcast, eval_fold<kMin>),
    variadic("Sum", infer_broadcast, eval_fold<kAdd>),
    variadic("Mean", infer_broadcast, eval_mean),
};

}  // namespace

std::span<const OpSpec> arithmetic_ops() { return kArithmeticOps; }

}  // namespace slipway
