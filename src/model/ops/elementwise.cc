// Functions of one tensor, element by element, and conversions. Floats are computed in double and rounded once.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

using RealFunction = double (*)(double);
using IntFunction = int64_t (*)(int64_t);

Tensor map_reals(const Tensor& x, RealFunction f) {
  if (x.dtype() != DType::kFloat32) {
    std::vector<double> values = to_doubles(x);
    for (double& v : values) v = f(v);
    return from_doubles(x.dtype(), x.dims(), values);
  }
  Tensor y(DType::kFloat32, x.dims());
  const auto from = x.values<float>();
  const auto to = y.mutable_values<float>();
  for (size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(f(static_cast<double>(from[i])));
  return y;
}

template <RealFunction kReal>
void eval_real(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (!is_float(x.dtype())) ctx.reject(fmt::format("it takes floats, not {}", to_string(x.dtype())));
  ctx.set_output(0, map_reals(x, kReal));
}

template <RealFunction kReal, IntFunction kInt>
void eval_number(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (is_float(x.dtype())) return ctx.set_output(0, map_reals(x, kReal));
  if (!is_integer(x.dtype())) ctx.reject(fmt::format("it takes numbers, not {}", to_string(x.dtype())));
  const bool is_unsigned = to_string(x.dtype()).starts_with('u');
  std::vector<int64_t> values = to_ints(x);
  if (!is_unsigned)
    for (int64_t& v : values) v = kInt(v);
  else if (ctx.node.op_type == "Sign")
    for (int64_t& v : values) v = v != 0;
  ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), values), x.dtype()));
}

double real_sign(double v) {
  if (v > 0) return 1.0;
  return v < 0 ? -1.0 : v + 0.0;  // −0 becomes 0, NaN stays
}

int64_t int_sign(int64_t v) { return (v > 0 ? 1 : 0) - (v < 0 ? 1 : 0); }

// Negation that wraps, as the machine's does.
int64_t negated(int64_t v) { return static_cast<int64_t>(uint64_t{0} - static_cast<uint64_t>(v)); }

template <bool (*kTest)(double, const Node&)>
void eval_test(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (!is_float(x.dtype())) ctx.reject(fmt::format("it takes floats, not {}", to_string(x.dtype())));
  const std::vector<double> values = to_doubles(x);
  Tensor y(DType::kBool, x.dims());
  const auto to = y.mutable_values<bool>();
  for (size_t i = 0; i < values.size(); ++i) to[i] = kTest(values[i], ctx.node);
  ctx.set_output(0, std::move(y));
}

bool test_infinite(double v, const Node& node) {
  return std::isinf(v) && node.integer(v > 0 ? "detect_positive" : "detect_negative", 1) != 0;
}

bool test_nan(double v, const Node&) { return std::isnan(v); }

template <typename Context>
DType cast_target(const Context& ctx) {
  const int64_t to = ctx.node.integer("to", 0);
  if (to <= 0 || to >= kDTypeCount) ctx.reject(fmt::format("attribute 'to' names no element type: {}", to));
  return static_cast<DType>(to);
}

void infer_cast_to(InferContext& ctx, DType target) {
  ctx.set_output(0, target, ctx.shape(0));
  if (auto dims = contents(ctx, 0)) set_contents(ctx, 0, std::move(*dims));
}

void infer_cast(InferContext& ctx) { infer_cast_to(ctx, cast_target(ctx)); }
void infer_cast_like(InferContext& ctx) { infer_cast_to(ctx, ctx.dtype(1)); }

// A number as ONNX writes it: any prefix of blanks, a sign, digits or INF or NAN, in any case.
double number_in(const EvalContext& ctx, const std::string& text) {
  const size_t start = std::min(text.find_first_not_of(" \t\n"), text.size());
  const size_t end = text.find_last_not_of(" \t\n") + 1;
  char* stop = nullptr;
  const double value = std::strtod(text.c_str() + start, &stop);
  if (start >= end || stop != text.c_str() + end) ctx.reject(fmt::format("a string holds no number: '{}'", text));
  return value;
}

Tensor from_strings(const EvalContext& ctx, const Tensor& x, DType to, const SmallFloatRules& rules) {
  if (is_integer(to)) {  // exact where it is an integer that a double can't hold
    std::vector<int64_t> values;
    for (const std::string& text : x.strings()) {
      char* stop = nullptr;
      errno = 0;
      const long long whole = std::strtoll(text.c_str(), &stop, 10);
      const bool exact = errno == 0 && stop != text.c_str() && *stop == 0;
      values.push_back(exact ? whole : to_ints(Tensor::scalar<double>(number_in(ctx, text)))[0]);
    }
    return cast(Tensor::of<int64_t>(x.dims(), values), to);
  }
  std::vector<double> values;
  for (const std::string& text : x.strings()) values.push_back(number_in(ctx, text));
  return cast(Tensor::of<double>(x.dims(), values), to, rules);
}

// The shortest digits that give the number back.
Tensor to_strings(const Tensor& x) {
  std::vector<std::string> texts;
  const auto append = [&](const auto& values, auto&& print) {
    for (const auto& v : values) texts.push_back(print(v));
  };
  const auto plain = [](auto v) { return fmt::format("{}", v); };
  if (x.dtype() == DType::kFloat64)
    append(to_doubles(x), plain);
  else if (is_float(x.dtype()) || is_small_float(x.dtype()))
    append(to_floats(x), plain);
  else if (x.dtype() == DType::kUint64)
    append(x.values<uint64_t>(), plain);
  else if (x.dtype() == DType::kBool)
    append(to_ints(x), [](int64_t v) { return std::string(v != 0 ? "True" : "False"); });
  else
    append(to_ints(x), plain);
  return Tensor::of_strings(x.dims(), std::move(texts));
}

void set_cast(EvalContext& ctx, DType to) {
  const Tensor& x = ctx.input(0);
  const std::string round = ctx.node.text("round_mode", "up");
  using Round = SmallFloatRules::Round;
  if (round != "up" && round != "down" && round != "nearest")
    ctx.reject(fmt::format("round_mode is unknown: {}", round));
  const SmallFloatRules rules{.saturate = ctx.node.integer("saturate", 1) != 0,
                              .round = round == "up"     ? Round::kUp
                                       : round == "down" ? Round::kDown
                                                         : Round::kNearest};
  if (x.dtype() == to) return ctx.set_output(0, x);
  if (to == DType::kString) return ctx.set_output(0, to_strings(x));
  if (x.dtype() == DType::kString) return ctx.set_output(0, from_strings(ctx, x, to, rules));
  ctx.set_output(0, cast(x, to, rules));
}

void eval_cast(EvalContext& ctx) { set_cast(ctx, cast_target(ctx)); }
void eval_cast_like(EvalContext& ctx) { set_cast(ctx, ctx.input(1).dtype()); }

template <typename Context>
DType bit_cast_target(const Context& ctx, DType from) {
  const DType to = cast_target(ctx);
  if (from != DType::kUndefined && (bits_of(from) == 0 || bits_of(from) != bits_of(to)))
    ctx.reject(fmt::format("{} and {} have not the same bits", to_string(from), to_string(to)));
  return to;
}

void infer_bit_cast(InferContext& ctx) { ctx.set_output(0, bit_cast_target(ctx, ctx.dtype(0)), ctx.shape(0)); }

// Bytes of a bool may only be 0 or 1.
void eval_bit_cast(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const DType to = bit_cast_target(ctx, x.dtype());
  const auto owner = std::make_shared<const Tensor>(x);
  Tensor y = Tensor::view(to, x.dims(), owner->raw(), owner);
  if (to == DType::kBool && x.dtype() != DType::kBool) y = cast(cast(x, DType::kInt64), DType::kBool);
  ctx.set_output(0, std::move(y));
}

// Of the second input only the type counts.
void rows_of_cast_like(RowsContext& ctx) { ctx.set(0, ctx.rows(0)); }

void infer_bool(InferContext& ctx) { ctx.set_output(0, DType::kBool, ctx.shape(0)); }

constexpr OpSpec unary(std::string_view name, int since, void (*eval)(EvalContext&)) {
  return {.name = name,
          .since = since,
          .min_inputs = 1,
          .infer = infer_same_as_first,
          .eval = eval,
          .traits = kElementwise};
}

constexpr OpSpec kElementwiseOps[] = {
    unary("Abs", 6,
          eval_number<[](double v) { return std::fabs(v); }, [](int64_t v) { return v < 0 ? negated(v) : v; }>),
    unary("Neg", 6, eval_number<[](double v) { return -v; }, negated>),
    unary("Sign", 9, eval_number<real_sign, int_sign>),
    unary("Sqrt", 6, eval_real<[](double v) { return std::sqrt(v); }>),
    unary("Exp", 6, eval_real<[](double v) { return std::exp(v); }>),
    unary("Log", 6, eval_real<[](double v) { return std::log(v); }>),
    unary("Reciprocal", 6, eval_real<[](double v) { return 1.0 / v; }>),
    unary("Floor", 6, eval_real<[](double v) { return std::floor(v); }>),
    unary("Ceil", 6, eval_real<[](double v) { return std::ceil(v); }>),
    unary("Round", 11, eval_real<[](double v) { return std::nearbyint(v); }>),
    unary("Sin", 7, eval_real<[](double v) { return std::sin(v); }>),
    unary("Cos", 7, eval_real<[](double v) { return std::cos(v); }>),
    unary("Tan", 7, eval_real<[](double v) { return std::tan(v); }>),
    unary("Asin", 7, eval_real<[](double v) { return std::asin(v); }>),
    unary("Acos", 7, eval_real<[](double v) { return std::acos(v); }>),
    unary("Atan", 7, eval_real<[](double v) { return std::atan(v); }>),
    unary("Sinh", 9, eval_real<[](double v) { return std::sinh(v); }>),
    unary("Cosh", 9, eval_real<[](double v) { return std::cosh(v); }>),
    unary("Asinh", 9, eval_real<[](double v) { return std::asinh(v); }>),
    unary("Acosh", 9, eval_real<[](double v) { return std::acosh(v); }>),
    unary("Atanh", 9, eval_real<[](double v) { return std::atanh(v); }>),
    {.name = "IsNaN",
     .since = 9,
     .min_inputs = 1,
     .infer = infer_bool,
     .eval = eval_test<test_nan>,
     .traits = kElementwise},
    {.name = "IsInf",
     .since = 10,
     .min_inputs = 1,
     .infer = infer_bool,
     .eval = eval_test<test_infinite>,
     .traits = kElementwise},
    {.name = "Cast", .since = 6, .min_inputs = 1, .infer = infer_cast, .eval = eval_cast, .traits = kElementwise},
    {.name = "BitCast",
     .since = 26,
     .min_inputs = 1,
     .infer = infer_bit_cast,
     .eval = eval_bit_cast,
     .traits = kElementwise},
    {.name = "CastLike",
     .since = 15,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_cast_like,
     .eval = eval_cast_like,
     .rows = rows_of_cast_like},
};

}  // namespace

std::span<const OpSpec> elementwise_ops() { return kElementwiseOps; }

}  // namespace slipway
