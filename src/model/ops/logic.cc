// Comparison, boolean and bitwise operators, and selection by a condition, with numpy broadcasting.
#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/shape_rules.h"
#include "model/ops/walk.h"

namespace slipway {
namespace {

template <typename T>
using Compare = bool (*)(T, T);

template <typename From, typename Compute>
Tensor compare(const EvalContext& ctx, std::vector<From> (*load)(const Tensor&), Compare<Compute> f) {
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  Tensor y(DType::kBool, broadcast_inputs(ctx));
  combine(y.dims(), a.dims(), load(a).data(), b.dims(), load(b).data(), y.mutable_values<bool>().data(), f);
  return y;
}

void require_same_type(const EvalContext& ctx) {
  if (ctx.input(0).dtype() != ctx.input(1).dtype()) ctx.reject("its inputs' element types differ");
}

struct Comparison {
  Compare<double> real;
  Compare<int64_t> sint;
  Compare<uint64_t> uint;
};

template <template <typename> typename F>
constexpr Comparison comparison() {
  return {[](double a, double b) { return F<double>()(a, b); }, [](int64_t a, int64_t b) { return F<int64_t>()(a, b); },
          [](uint64_t a, uint64_t b) { return F<uint64_t>()(a, b); }};
}

Tensor equal_strings(const EvalContext& ctx) {
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  Tensor y(DType::kBool, broadcast_inputs(ctx));
  bool (*same)(std::string_view, std::string_view) = [](std::string_view x, std::string_view z) { return x == z; };
  combine(y.dims(), a.dims(), a.strings().data(), b.dims(), b.strings().data(), y.mutable_values<bool>().data(), same);
  return y;
}

template <template <typename> typename F>
void eval_comparison(EvalContext& ctx) {
  require_same_type(ctx);
  constexpr Comparison f = comparison<F>();
  const DType dtype = ctx.input(0).dtype();
  if (dtype == DType::kString && ctx.node.op_type == "Equal") return ctx.set_output(0, equal_strings(ctx));
  if (is_float(dtype)) return ctx.set_output(0, compare(ctx, to_doubles, f.real));
  const bool is_unsigned = to_string(dtype).starts_with('u');
  ctx.set_output(0, is_unsigned ? compare(ctx, to_ints, f.uint) : compare(ctx, to_ints, f.sint));
}

template <Compare<int64_t> kCompare>
void eval_boolean(EvalContext& ctx) {
  for (size_t i = 0; i < 2; ++i)
    if (ctx.input(i).dtype() != DType::kBool) ctx.reject("it takes booleans");
  ctx.set_output(0, compare(ctx, to_ints, kCompare));
}

void eval_not(EvalContext& ctx) {
  if (ctx.input(0).dtype() != DType::kBool) ctx.reject("it takes booleans");
  Tensor y(DType::kBool, ctx.input(0).dims());
  const auto from = ctx.input(0).values<bool>();
  std::transform(from.begin(), from.end(), y.mutable_values<bool>().begin(), [](bool v) { return !v; });
  ctx.set_output(0, std::move(y));
}

using BitFunction = uint64_t (*)(uint64_t, uint64_t);

void eval_bits(EvalContext& ctx, BitFunction f) {
  require_same_type(ctx);
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  if (!is_integer(a.dtype())) ctx.reject(fmt::format("it takes integers, not {}", to_string(a.dtype())));
  Tensor y(DType::kInt64, broadcast_inputs(ctx));
  combine(y.dims(), a.dims(), to_ints(a).data(), b.dims(), to_ints(b).data(), y.mutable_values<int64_t>().data(), f);
  ctx.set_output(0, cast(y, a.dtype()));
}

template <BitFunction kFunction>
void eval_bitwise(EvalContext& ctx) {
  eval_bits(ctx, kFunction);
}

void eval_bit_not(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (!is_integer(x.dtype())) ctx.reject(fmt::format("it takes integers, not {}", to_string(x.dtype())));
  std::vector<int64_t> values = to_ints(x);
  for (int64_t& v : values) v = ~v;
  ctx.set_output(0, cast(Tensor::of<int64_t>(x.dims(), values), x.dtype()));
}

void eval_bit_shift(EvalContext& ctx) {
  const std::string direction = ctx.node.text("direction", "");
  if (direction == "LEFT")
    eval_bits(ctx, [](uint64_t a, uint64_t b) { return b < 64 ? a << b : 0; });
  else if (direction == "RIGHT")
    eval_bits(ctx, [](uint64_t a, uint64_t b) { return b < 64 ? a >> b : 0; });
  else
    ctx.reject(fmt::format("attribute 'direction' is LEFT or RIGHT, not '{}'", direction));
}

// Exporters test shapes for -1 before they expand: sizes are never negative, so such tests are decided here.
void infer_equal(InferContext& ctx) {
  infer_broadcast_bool(ctx);
  const auto test_negative = [&](size_t shape, size_t number) -> std::optional<std::vector<Dim>> {
    const auto dims = contents(ctx, shape);
    const auto& constant = ctx.input(number).constant;
    if (!dims || constant == nullptr || !is_integer(constant->dtype()) || constant->rank() > 1) return std::nullopt;
    const std::vector<int64_t> numbers = to_ints(*constant);
    if (numbers.size() != 1 && numbers.size() != dims->size()) return std::nullopt;
    std::vector<Dim> result;
    for (size_t i = 0; i < dims->size(); ++i) {
      const int64_t n = numbers[numbers.size() == 1 ? 0 : i];
      const Dim& d = (*dims)[i];
      result.push_back(d.is_known() ? Dim(d.value() == n) : d.is_symbol() && n < 0 ? Dim(0) : Dim());
    }
    return result;
  };
  auto result = test_negative(0, 1);
  if (!result) result = test_negative(1, 0);
  if (result) ctx.set_output_dims(0, std::move(*result));
}

void infer_where(InferContext& ctx) {
  ctx.set_output(0, ctx.dtype(1), broadcast_inputs(ctx));
  const auto condition = contents(ctx, 0), yes = contents(ctx, 1), no = contents(ctx, 2);
  if (!condition || !yes || !no || condition->empty() || yes->empty() || no->empty()) return;
  const size_t count = std::max({condition->size(), yes->size(), no->size()});
  const auto fits = [count](const auto& dims) { return dims->size() == count || dims->size() == 1; };
  if (!fits(condition) || !fits(yes) || !fits(no)) return;
  std::vector<Dim> result;
  const auto at = [](const auto& dims, size_t i) { return (*dims)[dims->size() == 1 ? 0 : i]; };
  for (size_t i = 0; i < count; ++i) {
    const Dim c = at(condition, i), a = at(yes, i), b = at(no, i);
    result.push_back(c == Dim(1) ? a : c == Dim(0) ? b : a.same_as(b) ? a : Dim());
  }
  set_contents(ctx, 0, std::move(result));
}

void eval_where(EvalContext& ctx) {
  const Tensor &condition = ctx.input(0), &yes = ctx.input(1), &no = ctx.input(2);
  if (condition.dtype() != DType::kBool) ctx.reject("its condition must be boolean");
  if (yes.dtype() != no.dtype()) ctx.reject("its inputs' element types differ");
  const Dims dims = broadcast_inputs(ctx);
  std::vector<int64_t> sources(static_cast<size_t>(element_count(dims)));
  const std::array<Dims, 3> strides = {broadcast_strides(condition.dims(), dims), broadcast_strides(yes.dims(), dims),
                                       broadcast_strides(no.dims(), dims)};
  const auto step = [&](size_t k) { return dims.empty() ? 0 : strides[k].back(); };
  const auto flags = condition.values<bool>();
  walk<3>(dims, strides, [&](int64_t out, const std::array<int64_t, 3>& at, int64_t length) {
    for (int64_t i = 0; i < length; ++i)
      sources[static_cast<size_t>(out + i)] = flags[static_cast<size_t>(at[0] + i * step(0))]
                                                  ? source_of(0, at[1] + i * step(1))
                                                  : source_of(1, at[2] + i * step(2));
  });
  const std::array<const Tensor*, 2> pools = {&yes, &no};
  ctx.set_output(0, pick(pools, dims, sources));
}

constexpr OpSpec logical_binary(std::string_view name, int since, void (*infer)(InferContext&),
                                void (*eval)(EvalContext&), uint32_t traits = 0) {
  return {.name = name,
          .since = since,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer,
          .eval = eval,
          .traits = kElementwise | traits};
}

constexpr OpSpec logical_unary(std::string_view name, int since, void (*eval)(EvalContext&)) {
  return {.name = name,
          .since = since,
          .min_inputs = 1,
          .infer = infer_same_as_first,
          .eval = eval,
          .traits = kElementwise};
}

constexpr OpSpec kLogicOps[] = {
    logical_binary("And", 7, infer_broadcast_bool, eval_boolean<[](int64_t a, int64_t b) { return a != 0 && b != 0; }>,
                   kCommutative),
    logical_binary("Or", 7, infer_broadcast_bool, eval_boolean<[](int64_t a, int64_t b) { return a != 0 || b != 0; }>,
                   kCommutative),
    logical_binary("Xor", 7, infer_broadcast_bool,
                   eval_boolean<[](int64_t a, int64_t b) { return (a != 0) != (b != 0); }>, kCommutative),
    logical_unary("Not", 1, eval_not),
    logical_binary("Equal", 7, infer_equal, eval_comparison<std::equal_to>, kCommutative),
    logical_binary("Greater", 7, infer_broadcast_bool, eval_comparison<std::greater>),
    logical_binary("Less", 7, infer_broadcast_bool, eval_comparison<std::less>),
    logical_binary("GreaterOrEqual", 12, infer_broadcast_bool, eval_comparison<std::greater_equal>),
    logical_binary("LessOrEqual", 12, infer_broadcast_bool, eval_comparison<std::less_equal>),
    logical_binary("BitShift", 11, infer_broadcast, eval_bit_shift),
    logical_binary("BitwiseAnd", 18, infer_broadcast, eval_bitwise<[](uint64_t a, uint64_t b) { return a & b; }>,
                   kCommutative),
    logical_binary("BitwiseOr", 18, infer_broadcast, eval_bitwise<[](uint64_t a, uint64_t b) { return a | b; }>,
                   kCommutative),
    logical_binary("BitwiseXor", 18, infer_broadcast, eval_bitwise<[](uint64_t a, uint64_t b) { return a ^ b; }>,
                   kCommutative),
    logical_unary("BitwiseNot", 18, eval_bit_not),
    {.name = "Where",
     .since = 9,
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_where,
     .eval = eval_where,
     .traits = kElementwise},
};

}  // namespace

std::span<const OpSpec> logic_ops() { return kLogicOps; }

}  // namespace slipway
