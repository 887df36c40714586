// Reductions over axes: Reduce*, ArgMax, ArgMin, CumSum, CumProd. Floats accumulate in double, integers in 64 bits.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"
#include "model/ops/walk.h"

namespace slipway {
namespace {

constexpr double kBeyondAll = std::numeric_limits<double>::infinity();

double keep(double total, double) { return total; }
int64_t wrapping_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t wrapping_multiply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
double larger(double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b); }
double smaller(double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b); }
int64_t larger_int(int64_t a, int64_t b) { return std::max(a, b); }
int64_t smaller_int(int64_t a, int64_t b) { return std::min(a, b); }

// total = step(total, value) over the values, then finish(total, count). Integers go the exact way where there is one.
struct Reducer {
  std::string_view name;
  double start;
  double (*step)(double, double);
  double (*finish)(double, double);
  int64_t (*int_step)(int64_t, int64_t);
};
constexpr Reducer kReducers[] = {
    {"ReduceSum", 0, [](double a, double v) { return a + v; }, keep, wrapping_add},
    {"ReduceMean", 0, [](double a, double v) { return a + v; }, [](double a, double n) { return a / n; }, nullptr},
    {"ReduceProd", 1, [](double a, double v) { return a * v; }, keep, wrapping_multiply},
    {"ReduceMax", -kBeyondAll, larger, keep, larger_int},
    {"ReduceMin", kBeyondAll, smaller, keep, smaller_int},
    {"ReduceL1", 0, [](double a, double v) { return a + std::fabs(v); }, keep, nullptr},
    {"ReduceL2", 0, [](double a, double v) { return a + v * v; }, [](double a, double) { return std::sqrt(a); },
     nullptr},
    {"ReduceSumSquare", 0, [](double a, double v) { return a + v * v; }, keep, nullptr},
    {"ReduceLogSum", 0, [](double a, double v) { return a + v; }, [](double a, double) { return std::log(a); },
     nullptr},
    {"ReduceLogSumExp", 0, [](double a, double v) { return a + std::exp(v); },
     [](double a, double) { return std::log(a); }, nullptr},
};

const Reducer& reducer_of(const Node& node) {
  return *std::find_if(std::begin(kReducers), std::end(kReducers),
                       [&](const Reducer& r) { return r.name == node.op_type; });
}

// Which axes go; all of them when none is named, unless the node says that it then does nothing (`noop`).
struct Plan {
  bool noop = false;
  std::vector<bool> reduced;
};

Plan plan_of(const Node& node, const Axes& axes, int64_t rank) {
  const bool none = axes.values.empty();
  Plan plan{none && node.integer("noop_with_empty_axes", 0) != 0, {}};
  plan.reduced.assign(static_cast<size_t>(rank), none);
  for (int64_t axis : normalize_axes(axes.values, rank, node)) plan.reduced[static_cast<size_t>(axis)] = true;
  return plan;
}

void infer_reduce(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  const bool keep_dims = ctx.node.integer("keepdims", 1) != 0;
  const Axes axes = axes_of(ctx, "axes", 1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!from.has_rank()) return;
  if (!axes.known) return ctx.set_output(0, ctx.dtype(0), keep_dims ? Shape::with_rank(from.rank()) : Shape());
  const Plan plan = plan_of(ctx.node, axes, static_cast<int64_t>(from.rank()));
  if (plan.noop) return ctx.set_output(0, ctx.dtype(0), from);
  std::vector<Dim> dims;
  for (size_t i = 0; i < from.rank(); ++i) {
    if (!plan.reduced[i]) dims.push_back(from[i]);
    if (plan.reduced[i] && keep_dims) dims.push_back(Dim(1));
  }
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
  const auto content = contents(ctx, 0);
  if (ctx.node.op_type != "ReduceProd" || !content || from.rank() != 1) return;
  Dim product(1);
  for (const Dim& d : *content) product = multiply(product, d);
  set_contents(ctx, 0, {product});
}

// Strides over the input that walk the output, standing still along reduced axes.
Dims output_strides(const Dims& kept, const Plan& plan) {
  Dims strides = strides_of(kept);
  for (size_t i = 0; i < strides.size(); ++i)
    if (plan.reduced[i]) strides[i] = 0;
  return strides;
}

template <typename T>
void accumulate(const Dims& dims, const Dims& strides, const std::vector<T>& values, std::vector<T>& totals,
                T (*step)(T, T)) {
  const int64_t inner = dims.empty() ? 0 : strides.back();
  walk<1>(dims, {strides}, [&](int64_t start, const std::array<int64_t, 1>& at, int64_t length) {
    for (int64_t i = 0; i < length; ++i) {
      T& total = totals[static_cast<size_t>(at[0] + i * inner)];
      total = step(total, values[static_cast<size_t>(start + i)]);
    }
  });
}

int64_t int_start(const Reducer& reducer, DType dtype) {
  if (reducer.int_step != larger_int && reducer.int_step != smaller_int) return static_cast<int64_t>(reducer.start);
  if (dtype == DType::kBool) return reducer.int_step == larger_int ? 0 : 1;
  const Tensor limit = from_doubles(dtype, {1}, std::array{reducer.start});
  return to_ints(limit)[0];
}

void eval_reduce(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Reducer& reducer = reducer_of(ctx.node);
  if (!is_float(x.dtype()) && !is_integer(x.dtype()) && x.dtype() != DType::kBool)
    ctx.reject(fmt::format("it takes numbers, not {}", to_string(x.dtype())));
  const Plan plan = plan_of(ctx.node, axes_of(ctx, "axes", 1), x.rank());
  if (plan.noop) return ctx.set_output(0, x);
  Dims kept = x.dims(), dims;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (plan.reduced[i]) kept[i] = 1;
    if (!plan.reduced[i] || ctx.node.integer("keepdims", 1) != 0) dims.push_back(kept[i]);
  }
  const auto count = static_cast<size_t>(element_count(kept));
  const Dims strides = output_strides(kept, plan);
  if (!is_float(x.dtype()) && reducer.int_step != nullptr) {
    // Flipping the top bit orders unsigned 64-bit values as signed ones.
    const bool flip =
        x.dtype() == DType::kUint64 && reducer.int_step != wrapping_add && reducer.int_step != wrapping_multiply;
    const auto flipped = [flip](int64_t v) { return flip ? v ^ std::numeric_limits<int64_t>::min() : v; };
    std::vector<int64_t> values = to_ints(x);
    for (int64_t& v : values) v = flipped(v);
    std::vector<int64_t> totals(count, flipped(int_start(reducer, x.dtype())));
    accumulate(x.dims(), strides, values, totals, reducer.int_step);
    for (int64_t& v : totals) v = flipped(v);
    return ctx.set_output(0, cast(Tensor::of<int64_t>(dims, totals), x.dtype()));
  }
  std::vector<double> values = to_doubles(x);
  std::vector<double> totals(count, reducer.start);
  std::vector<double> peaks;
  if (reducer.name == "ReduceLogSumExp") {
    peaks.assign(count, -kBeyondAll);
    accumulate(x.dims(), strides, values, peaks, larger);
    for (double& peak : peaks)
      if (!std::isfinite(peak)) peak = 0;
    const std::vector<double> shifts = peaks;
    const int64_t inner = strides.empty() ? 0 : strides.back();
    walk<1>(x.dims(), {strides}, [&](int64_t start, const std::array<int64_t, 1>& at, int64_t length) {
      for (int64_t i = 0; i < length; ++i)
        values[static_cast<size_t>(start + i)] -= shifts[static_cast<size_t>(at[0] + i * inner)];
    });
  }
  accumulate(x.dims(), strides, values, totals, reducer.step);
  const double per_output = count == 0 ? 0.0 : static_cast<double>(values.size()) / static_cast<double>(count);
  for (size_t i = 0; i < count; ++i)
    totals[i] = reducer.finish(totals[i], per_output) + (peaks.empty() ? 0.0 : peaks[i]);
  ctx.set_output(0, from_doubles(x.dtype(), dims, totals));
}

double reduce_flops(const CostContext& ctx) { return static_cast<double>(element_count(ctx.inputs[0])); }

void infer_arg(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  ctx.set_output(0, DType::kInt64, Shape());
  if (!from.has_rank()) return;
  std::vector<Dim> dims = from.dims();
  const int64_t axis = normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(from.rank()), ctx.node.label());
  if (ctx.node.integer("keepdims", 1) != 0)
    dims[static_cast<size_t>(axis)] = Dim(1);
  else
    dims.erase(dims.begin() + axis);
  ctx.set_output(0, DType::kInt64, Shape(std::move(dims)));
}

bool is_nan(double v) { return std::isnan(v); }
bool is_nan(int64_t) { return false; }

// NaN is found before all numbers, as numpy does.
template <typename T>
Tensor best_indices(const EvalContext& ctx, const Dims& from, const std::vector<T>& values) {
  const auto axis = static_cast<size_t>(
      normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(from.size()), ctx.node.label()));
  const bool largest = ctx.node.op_type == "ArgMax", last = ctx.node.integer("select_last_index", 0) != 0;
  const int64_t size = from[axis];
  const int64_t outer = element_count(std::span(from).first(axis));
  const int64_t inner = element_count(std::span(from).subspan(axis + 1));
  if (size == 0 && outer * inner > 0) ctx.reject("it searches an empty axis");
  Dims dims = from;
  dims[axis] = 1;
  if (ctx.node.integer("keepdims", 1) == 0) dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  Tensor y(DType::kInt64, dims);
  const auto to = y.mutable_values<int64_t>();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < inner; ++k) {
      const auto value = [&](int64_t i) { return values[static_cast<size_t>((o * size + i) * inner + k)]; };
      int64_t best = 0;
      for (int64_t i = 1; i < size; ++i) {
        const bool same = value(i) == value(best) || (is_nan(value(i)) && is_nan(value(best)));
        const bool better =
            !is_nan(value(best)) && (is_nan(value(i)) || (largest ? value(i) > value(best) : value(i) < value(best)));
        if (better || (last && same)) best = i;
      }
      to[static_cast<size_t>(o * inner + k)] = best;
    }
  return y;
}

void eval_arg(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  ctx.set_output(
      0, is_integer(x.dtype()) ? best_indices(ctx, x.dims(), to_ints(x)) : best_indices(ctx, x.dims(), to_doubles(x)));
}

template <typename T>
std::vector<T> running_totals(const EvalContext& ctx, const Dims& dims, const std::vector<T>& values) {
  const std::vector<int64_t> given = to_ints(ctx.input(1));
  if (given.size() != 1) ctx.reject("its axis is not one number");
  const auto axis = static_cast<size_t>(normalize_axis(given[0], static_cast<int64_t>(dims.size()), ctx.node.label()));
  const bool exclusive = ctx.node.integer("exclusive", 0) != 0, reverse = ctx.node.integer("reverse", 0) != 0;
  const bool product = ctx.node.op_type == "CumProd";
  const int64_t size = dims[axis], inner = element_count(std::span(dims).subspan(axis + 1));
  std::vector<T> sums(values.size());
  const int64_t lines = size == 0 ? 0 : static_cast<int64_t>(values.size()) / size;
  for (int64_t line = 0; line < lines; ++line) {
    T total = product ? 1 : 0;
    for (int64_t i = 0; i < size; ++i) {
      const int64_t at = reverse ? size - 1 - i : i;
      const auto index = static_cast<size_t>((line / inner * size + at) * inner + line % inner);
      if (exclusive) sums[index] = total;
      total = product ? total * values[index] : total + values[index];
      if (!exclusive) sums[index] = total;
    }
  }
  return sums;
}

void eval_cumulative(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (is_float(x.dtype()))
    return ctx.set_output(0, from_doubles(x.dtype(), x.dims(), running_totals(ctx, x.dims(), to_doubles(x))));
  const std::vector<int64_t> values = to_ints(x);
  const std::vector<uint64_t> bits(values.begin(), values.end());
  ctx.set_output(0, cast(Tensor::of<uint64_t>(x.dims(), running_totals(ctx, x.dims(), bits)), x.dtype()));
}

// The axes that go take their places with them.
void rows_of_reduction(RowsContext& ctx, const std::vector<bool>& reduced) {
  const RowFacts& x = ctx.rows(0);
  if (reduced[x.axis]) return ctx.mixes("it reduces over the rows");
  const bool keeps = ctx.node().integer("keepdims", 1) != 0;
  const auto gone = std::count(reduced.begin(), reduced.begin() + static_cast<std::ptrdiff_t>(x.axis), true);
  ctx.set_along(x.axis - (keeps ? 0 : static_cast<size_t>(gone)), x.block);
}

void rows_of_reduce(RowsContext& ctx) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  const Axes axes = axes_of(ctx.in, "axes", 1);
  if (!axes.known) return ctx.mixes("its axes are not known");
  const Plan plan = plan_of(ctx.node(), axes, static_cast<int64_t>(ctx.rank(0)));
  rows_of_reduction(ctx, plan.noop ? std::vector<bool>(ctx.rank(0), false) : plan.reduced);
}

void rows_of_arg(RowsContext& ctx) {
  if (ctx.only_first() == nullptr) return;
  std::vector<bool> reduced(ctx.rank(0), false);
  reduced[static_cast<size_t>(
      normalize_axis(ctx.node().integer("axis", 0), static_cast<int64_t>(reduced.size()), ctx.node().label()))] = true;
  rows_of_reduction(ctx, reduced);
}

bool sums_along(const RowsContext& ctx, size_t axis) {
  const auto given = ctx.in.ints(1);
  return !given || given->size() != 1 ||
         normalize_axis((*given)[0], static_cast<int64_t>(ctx.rank(0)), ctx.node().label()) ==
             static_cast<int64_t>(axis);
}

constexpr OpSpec reduction(std::string_view name) {
  return {.name = name,
          .min_inputs = 1,
          .max_inputs = 2,
          .infer = infer_reduce,
          .eval = eval_reduce,
          .flops = reduce_flops,
          .rows = rows_of_reduce};
}

constexpr OpSpec kReductionOps[] = {
    reduction("ReduceSum"),
    reduction("ReduceMean"),
    reduction("ReduceProd"),
    reduction("ReduceMax"),
    reduction("ReduceMin"),
    reduction("ReduceL1"),
    reduction("ReduceL2"),
    reduction("ReduceSumSquare"),
    reduction("ReduceLogSum"),
    reduction("ReduceLogSumExp"),
    {.name = "ArgMax",
     .min_inputs = 1,
     .infer = infer_arg,
     .eval = eval_arg,
     .flops = reduce_flops,
     .rows = rows_of_arg},
    {.name = "ArgMin",
     .min_inputs = 1,
     .infer = infer_arg,
     .eval = eval_arg,
     .flops = reduce_flops,
     .rows = rows_of_arg},
    {.name = "CumSum",
     .since = 11,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_same_as_first,
     .eval = eval_cumulative,
     .flops = reduce_flops,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, sums_along); }},
    {.name = "CumProd",
     .since = 26,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_same_as_first,
     .eval = eval_cumulative,
     .flops = reduce_flops,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, sums_along); }},
};

}  // namespace

std::span<const OpSpec> reduction_ops() { return kReductionOps; }

}  // namespace slipway
