// Operators that ask for a shape or give the same values another one. Their inference carries the contents of shape
// tensors, so that the chains that exporters write (Shape, Gather, Unsqueeze, Concat, Reshape) end in symbols again.
#include "model/shape.h"

#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

// Shape's [start, end) (from opset 15), clamped as slices are.
std::pair<size_t, size_t> shape_range(const Node& node, int64_t rank) {
  const auto clamped = [rank](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t start = clamped(node.integer("start", 0));
  const int64_t end = clamped(node.integer("end", rank));
  return {static_cast<size_t>(start), static_cast<size_t>(std::max(start, end))};
}

void infer_shape(InferContext& ctx) {
  const Shape& shape = ctx.shape(0);
  if (!shape.has_rank()) return ctx.set_output(0, DType::kInt64, Shape::with_rank(1));
  const auto [start, end] = shape_range(ctx.node, static_cast<int64_t>(shape.rank()));
  ctx.set_output(0, DType::kInt64, Shape({Dim(static_cast<int64_t>(end - start))}));
  set_contents(ctx, 0,
               {shape.dims().begin() + static_cast<std::ptrdiff_t>(start),
                shape.dims().begin() + static_cast<std::ptrdiff_t>(end)});
}

void eval_shape(EvalContext& ctx) {
  const Dims& dims = ctx.input(0).dims();
  const auto [start, end] = shape_range(ctx.node, ctx.input(0).rank());
  const std::vector<int64_t> part(dims.begin() + static_cast<std::ptrdiff_t>(start),
                                  dims.begin() + static_cast<std::ptrdiff_t>(end));
  ctx.set_output(0, Tensor::of<int64_t>({static_cast<int64_t>(part.size())}, part));
}

void infer_size(InferContext& ctx) {
  ctx.set_output(0, DType::kInt64, Shape(std::vector<Dim>{}));
  if (!ctx.shape(0).has_rank()) return;
  Dim size(1);
  for (const Dim& d : ctx.shape(0).dims()) size = multiply(size, d);
  set_contents(ctx, 0, {size});
}

void eval_size(EvalContext& ctx) { ctx.set_output(0, Tensor::scalar<int64_t>(ctx.input(0).elements())); }

// The one dimension that makes `known` dims hold as many elements as `from`, where it can be told: symbols cancel.
Dim missing_dim(const InferContext& ctx, const std::vector<Dim>& from, const std::vector<Dim>& known) {
  std::vector<Dim> symbols;
  int64_t numerator = 1, denominator = 1;
  for (const Dim& d : from) {
    if (d.is_unknown()) return Dim();
    if (d.is_symbol())
      symbols.push_back(d);
    else if (__builtin_mul_overflow(numerator, d.value(), &numerator))
      return Dim();
  }
  for (const Dim& d : known) {
    if (d.is_unknown()) return Dim();
    if (d.is_symbol()) {
      const auto it = std::find(symbols.begin(), symbols.end(), d);
      if (it == symbols.end()) return Dim();
      symbols.erase(it);
    } else if (__builtin_mul_overflow(denominator, d.value(), &denominator)) {
      return Dim();
    }
  }
  if (denominator == 0 || numerator == 0) return Dim();
  if (symbols.empty() && numerator % denominator != 0)
    ctx.reject(fmt::format("a shape does not divide the input's {} elements", numerator));
  if (symbols.empty()) return Dim(numerator / denominator);
  return symbols.size() == 1 && numerator == denominator ? symbols[0] : Dim();
}

void infer_reshape(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  const bool allow_zero = ctx.node.integer("allowzero", 0) != 0;
  const auto target = contents(ctx, 1);
  if (!target) {
    const Shape& length = ctx.shape(1);
    const bool known = length.has_rank() && length.rank() == 1 && length[0].is_known() && length[0].value() <= 64;
    ctx.set_output(0, ctx.dtype(0), known ? Shape::with_rank(static_cast<size_t>(length[0].value())) : Shape());
    return;
  }
  const auto constant = ctx.ints(1);
  if (target->size() > kMaxRank) ctx.reject("its target shape is absurdly long");
  std::vector<Dim> to = *target;
  std::vector<Dim> rest;
  std::optional<size_t> hole;
  bool single = true;
  for (size_t i = 0; i < to.size(); ++i) {
    if (constant && (*constant)[i] < -1) ctx.reject("a dimension of its target shape is below -1");
    if (to[i] == Dim(0) && !allow_zero) {
      if (from.has_rank() && i >= from.rank())
        ctx.reject("a 0 in its target shape copies a dimension that is not there");
      to[i] = from.has_rank() ? from[i] : Dim();
      rest.push_back(to[i]);
      continue;
    }
    if (!to[i].is_unknown()) {
      rest.push_back(to[i]);
      continue;
    }
    if (hole && constant) ctx.reject("its target shape has more than one -1");
    single = !hole;
    hole = i;
  }
  // A lone unknown, -1 or not, follows from the number of elements.
  if (hole && single && from.has_rank()) to[*hole] = missing_dim(ctx, from.dims(), rest);
  const Shape shape(std::move(to));
  if (shape.is_static() && from.is_static() && element_count(shape.to_dims()) != element_count(from.to_dims()))
    ctx.reject(fmt::format("{} can't be reshaped to {}", to_string(from), to_string(shape)));
  ctx.set_output(0, ctx.dtype(0), shape);
  if (shape.rank() <= 1)
    if (auto dims = contents(ctx, 0)) set_contents(ctx, 0, std::move(*dims));
}

void eval_reshape(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Dims dims = to_ints(ctx.input(1));
  if (dims.size() > kMaxRank) ctx.reject("its target shape is absurdly long");
  std::optional<size_t> hole;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && ctx.node.integer("allowzero", 0) == 0) {
      if (i >= x.dims().size()) ctx.reject("a 0 in its target shape copies a dimension that is not there");
      dims[i] = x.dims()[i];
    } else if (dims[i] == -1) {
      if (hole) ctx.reject("its target shape has more than one -1");
      hole = i;
      dims[i] = 1;
    }
  }
  const int64_t count = element_count(dims);
  if (hole && count > 0 && x.elements() % count == 0) dims[*hole] = x.elements() / count;
  if (element_count(dims) != x.elements())
    ctx.reject(fmt::format("{} can't be reshaped to {}", to_string(x.dims()), to_string(dims)));
  ctx.set_output(0, x.reshaped(std::move(dims)));
}

int64_t flatten_axis(const Node& node, int64_t rank) {
  const int64_t axis = node.integer("axis", 1);
  return axis == rank ? axis : normalize_axis(axis, rank, node.label());
}

void infer_flatten(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  if (!from.has_rank()) return ctx.set_output(0, ctx.dtype(0), Shape::with_rank(2));
  const auto axis = static_cast<size_t>(flatten_axis(ctx.node, static_cast<int64_t>(from.rank())));
  std::vector<Dim> dims = {Dim(1), Dim(1)};
  for (size_t i = 0; i < from.rank(); ++i) dims[i >= axis] = multiply(dims[i >= axis], from[i]);
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

void eval_flatten(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t axis = flatten_axis(ctx.node, x.rank());
  const int64_t rows = element_count(std::span(x.dims()).first(static_cast<size_t>(axis)));
  const int64_t columns = element_count(std::span(x.dims()).subspan(static_cast<size_t>(axis)));
  ctx.set_output(0, x.reshaped({rows, columns}));
}

void pass_contents(InferContext& ctx) {
  if (auto dims = contents(ctx, 0)) set_contents(ctx, 0, std::move(*dims));
}

void infer_squeeze(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  const Axes axes = axes_of(ctx, "axes", 1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!from.has_rank() || !axes.known) return;
  std::vector<int64_t> drop = normalize_axes(axes.values, static_cast<int64_t>(from.rank()), ctx.node);
  std::vector<Dim> dims;
  for (size_t i = 0; i < from.rank(); ++i) {
    const bool named = std::find(drop.begin(), drop.end(), static_cast<int64_t>(i)) != drop.end();
    if (named && from[i].is_known() && from[i] != Dim(1))
      ctx.reject(fmt::format("it drops axis {} of size {}, which is not 1", i, from[i].value()));
    if (!axes.given && !from[i].is_known()) return;
    if (!(axes.given ? named : from[i] == Dim(1))) dims.push_back(from[i]);
  }
  const bool small = dims.size() <= 1 && from.rank() <= 1;
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
  if (small) pass_contents(ctx);
}

void eval_squeeze(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Axes axes = axes_of(ctx, "axes", 1);
  const std::vector<int64_t> drop = normalize_axes(axes.values, x.rank(), ctx.node);
  Dims dims;
  for (int64_t i = 0; i < x.rank(); ++i) {
    const int64_t size = x.dims()[static_cast<size_t>(i)];
    const bool named = std::find(drop.begin(), drop.end(), i) != drop.end();
    if (named && size != 1) ctx.reject(fmt::format("it drops axis {} of size {}, which is not 1", i, size));
    if (!(axes.given ? named : size == 1)) dims.push_back(size);
  }
  ctx.set_output(0, x.reshaped(std::move(dims)));
}

// Where the new axes stand in the output.
template <typename T>
std::vector<T> unsqueezed(const std::vector<T>& from, std::span<const int64_t> axes, const Node& node) {
  if (axes.size() > kMaxRank)
    fail(ErrorCode::kInvalidModel, "It adds an absurd number of axes at {}: {}", node.label(), axes.size());
  const std::vector<int64_t> fresh = normalize_axes(axes, static_cast<int64_t>(from.size() + axes.size()), node);
  std::vector<T> dims;
  size_t next = 0;
  for (size_t i = 0; i < from.size() + axes.size(); ++i)
    dims.push_back(std::find(fresh.begin(), fresh.end(), static_cast<int64_t>(i)) != fresh.end() ? T(1) : from[next++]);
  return dims;
}

void infer_unsqueeze(InferContext& ctx) {
  const Axes axes = axes_of(ctx, "axes", 1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!axes.given) ctx.reject("its axes are missing");
  if (!ctx.shape(0).has_rank() || !axes.known) return;
  ctx.set_output(0, ctx.dtype(0), Shape(unsqueezed(ctx.shape(0).dims(), axes.values, ctx.node)));
  if (ctx.shape(0).rank() + axes.values.size() <= 1) pass_contents(ctx);
}

void eval_unsqueeze(EvalContext& ctx) {
  const Axes axes = axes_of(ctx, "axes", 1);
  if (!axes.given) ctx.reject("its axes are missing");
  ctx.set_output(0, ctx.input(0).reshaped(unsqueezed(ctx.input(0).dims(), axes.values, ctx.node)));
}

void infer_expand(InferContext& ctx) {
  const auto target = contents(ctx, 1);
  const Shape& from = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!target || !from.has_rank()) return;
  if (target->size() > kMaxRank) ctx.reject("its target shape is absurdly long");
  std::vector<Dim> to = *target;
  if (from.rank() > to.size()) to.insert(to.begin(), from.rank() - to.size(), Dim(1));
  const size_t skip = to.size() - from.rank();
  for (size_t i = 0; i < from.rank(); ++i) {
    const Dim &a = to[skip + i], &b = from[i];
    if (a.is_known() && b.is_known() && a != b && a != Dim(1) && b != Dim(1))
      ctx.reject(fmt::format("{} does not expand to {}", to_string(from), to_string(Shape(*target))));
    if (a == Dim(1) || (b.is_known() && b != Dim(1)))
      to[skip + i] = b;
    else if (!(b == Dim(1)) && !a.is_known() && !a.same_as(b))
      to[skip + i] = Dim();
  }
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(to)));
}

void eval_expand(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Dims to = to_ints(ctx.input(1));
  if (to.size() > kMaxRank) ctx.reject("its target shape is absurdly long");
  if (x.dims().size() > to.size()) to.insert(to.begin(), x.dims().size() - to.size(), 1);
  const size_t skip = to.size() - x.dims().size();
  for (size_t i = 0; i < x.dims().size(); ++i) {
    const int64_t size = x.dims()[i];
    if (to[skip + i] == 1) to[skip + i] = size;
    if (size != 1 && size != to[skip + i])
      ctx.reject(fmt::format("{} does not expand to {}", to_string(x.dims()), to_string(to)));
  }
  bounded_count(to);
  ctx.set_output(0, copy_strided(x, to, to, broadcast_strides(x.dims(), to)));
}

void infer_identity(InferContext& ctx) {
  infer_same_as_first(ctx);
  pass_contents(ctx);
}

void eval_identity(EvalContext& ctx) { ctx.set_output(0, ctx.input(0)); }

// A shape says how many rows there are, never what they hold.
void rows_of_shape(RowsContext& ctx) { ctx.set(0, {RowFacts::Kind::kCount, 0, {}, {}}); }

void rows_of_expand(RowsContext& ctx) {
  if (!ctx.any_along()) {
    if (ctx.is_independent(0)) rows_filled(ctx);
    return;
  }
  if (ctx.is_along(1)) return ctx.mixes("its shape depends on what the rows hold");
  const RowFacts& x = ctx.rows(0);
  const Shape& to = ctx.output();
  if (to.rank() < ctx.rank(0)) return ctx.mixes("its result's rank is not known");
  const size_t axis = to.rank() - ctx.rank(0) + x.axis;
  if (to[axis].is_unknown() || !sizes_are_fixed(ctx, axis)) return ctx.mixes("its result's sizes are not known");
  ctx.set_along(axis, x.block);
}

constexpr uint32_t kReshapes = kViews | kMovesOnly;

constexpr OpSpec kShapeOps[] = {
    {.name = "Shape", .since = 1, .min_inputs = 1, .infer = infer_shape, .eval = eval_shape, .rows = rows_of_shape},
    {.name = "Size", .since = 1, .min_inputs = 1, .infer = infer_size, .eval = eval_size, .rows = rows_of_shape},
    {.name = "Reshape",
     .since = 5,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_reshape,
     .eval = eval_reshape,
     .rows = rows_reshaped,
     .traits = kReshapes},
    {.name = "Flatten",
     .since = 1,
     .min_inputs = 1,
     .infer = infer_flatten,
     .eval = eval_flatten,
     .rows = rows_reshaped,
     .traits = kReshapes},
    {.name = "Squeeze",
     .since = 1,
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_squeeze,
     .eval = eval_squeeze,
     .rows = rows_reshaped,
     .traits = kReshapes},
    {.name = "Unsqueeze",
     .since = 1,
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_unsqueeze,
     .eval = eval_unsqueeze,
     .rows = rows_reshaped,
     .traits = kReshapes},
    {.name = "Expand",
     .since = 8,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_expand,
     .eval = eval_expand,
     .rows = rows_of_expand,
     .traits = kMovesOnly},
    {.name = "Identity",
     .since = 1,
     .min_inputs = 1,
     .infer = infer_identity,
     .eval = eval_identity,
     .traits = kElementwise | kReshapes | kTakesAny},
};

}  // namespace

std::span<const OpSpec> shape_ops() { return kShapeOps; }

}  // namespace slipway
