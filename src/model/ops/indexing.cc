// Reading and writing by index: Gather and Scatter in their forms, OneHot, Compress, ReverseSequence, Trilu. Indices
// count from the end when negative; any outside is refused before a value moves.
#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

template <typename Context>
int64_t place(const Context& ctx, int64_t index, int64_t size) {
  if (index < -size || index >= size) ctx.reject(fmt::format("index {} lies outside the axis of {}", index, size));
  return index < 0 ? index + size : index;
}

void infer_gather(InferContext& ctx) {
  const Shape &data = ctx.shape(0), &indices = ctx.shape(1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!data.has_rank() || !indices.has_rank()) return;
  const auto axis = static_cast<size_t>(
      normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(data.rank()), ctx.node.label()));
  std::vector<Dim> dims = data.dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), indices.dims().begin(), indices.dims().end());
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
  const auto content = contents(ctx, 0);
  const auto at = ctx.ints(1);
  if (!content || !at || data.rank() != 1 || indices.rank() > 1) return;
  std::vector<Dim> picked;
  for (int64_t i : *at)
    picked.push_back((*content)[static_cast<size_t>(place(ctx, i, static_cast<int64_t>(content->size())))]);
  set_contents(ctx, 0, std::move(picked));
}

void eval_gather(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", 0), x.rank(), ctx.node.label()));
  std::vector<int64_t> indices = to_ints(ctx.input(1));
  for (int64_t& i : indices) i = place(ctx, i, x.dims()[axis]);
  Dims dims = x.dims();
  const int64_t size = dims[axis];
  const int64_t outer = element_count(std::span(dims).first(axis));
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), ctx.input(1).dims().begin(), ctx.input(1).dims().end());
  std::vector<int64_t> sources;
  sources.reserve(static_cast<size_t>(bounded_count(dims)));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i : indices)
      for (int64_t k = 0; k < inner; ++k) sources.push_back((o * size + i) * inner + k);
  ctx.set_output(0, pick(x, std::move(dims), sources));
}

// For every element of `indices`: the offset in a tensor of dims `data` where that element's own position, but along
// `axis` its value, lies.
std::vector<int64_t> element_offsets(const EvalContext& ctx, const Dims& data, const Tensor& indices) {
  if (indices.rank() != static_cast<int64_t>(data.size())) ctx.reject("its indices and its data differ in rank");
  const auto axis = static_cast<size_t>(
      normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(data.size()), ctx.node.label()));
  for (size_t i = 0; i < data.size(); ++i)
    if (i != axis && indices.dims()[i] > data[i]) ctx.reject("its indices are longer than its data");
  std::vector<int64_t> values = to_ints(indices);
  const Dims strides = strides_of(data);
  Dims at(data.size(), 0);
  for (int64_t& v : values) {
    int64_t offset = place(ctx, v, data[axis]) * strides[axis];
    for (size_t i = 0; i < at.size(); ++i)
      if (i != axis) offset += at[i] * strides[i];
    v = offset;
    for (size_t i = at.size(); i-- > 0 && ++at[i] == indices.dims()[i];) at[i] = 0;
  }
  return values;
}

void infer_gather_elements(InferContext& ctx) { ctx.set_output(0, ctx.dtype(0), ctx.shape(1)); }

void eval_gather_elements(EvalContext& ctx) {
  const std::vector<int64_t> sources = element_offsets(ctx, ctx.input(0).dims(), ctx.input(1));
  ctx.set_output(0, pick(ctx.input(0), ctx.input(1).dims(), sources));
}

// Offsets of the slices that rows of `indices` (its last axis) name, after `batch_dims` leading axes in common.
std::vector<int64_t> slice_offsets(const EvalContext& ctx, const Dims& data, const Tensor& indices,
                                   int64_t batch_dims) {
  const int64_t depth = indices.rank() == 0 ? -1 : indices.dims().back();
  const auto rank = static_cast<int64_t>(data.size());
  if (depth < 0 || batch_dims < 0 || batch_dims >= indices.rank() || batch_dims + depth > rank)
    ctx.reject("its indices are deeper than its data");
  for (size_t i = 0; i < static_cast<size_t>(batch_dims); ++i)
    if (data[i] != indices.dims()[i]) ctx.reject("its batch dimensions differ");
  const Dims strides = strides_of(data);
  const int64_t rows = element_count(std::span(indices.dims()).first(indices.dims().size() - 1));
  const int64_t batches = element_count(std::span(data).first(static_cast<size_t>(batch_dims)));
  const int64_t batch_stride = element_count(std::span(data).subspan(static_cast<size_t>(batch_dims)));
  const std::vector<int64_t> values = to_ints(indices);
  std::vector<int64_t> offsets(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    int64_t offset = row / (rows / batches) * batch_stride;
    for (int64_t i = 0; i < depth; ++i) {
      const auto axis = static_cast<size_t>(batch_dims + i);
      offset += place(ctx, values[static_cast<size_t>(row * depth + i)], data[axis]) * strides[axis];
    }
    offsets[static_cast<size_t>(row)] = offset;
  }
  return offsets;
}

void infer_gather_nd(InferContext& ctx) {
  const Shape &data = ctx.shape(0), &indices = ctx.shape(1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!data.has_rank() || !indices.has_rank() || indices.rank() == 0 || !indices.dims().back().is_known()) return;
  const auto rank = static_cast<int64_t>(data.rank());
  const int64_t batch_dims = ctx.node.integer("batch_dims", 0), depth = indices.dims().back().value();
  if (batch_dims < 0 || batch_dims > rank || depth > rank - batch_dims)
    ctx.reject("its indices are deeper than its data");
  const int64_t skip = batch_dims + depth;
  std::vector<Dim> dims(indices.dims().begin(), indices.dims().end() - 1);
  dims.insert(dims.end(), data.dims().begin() + skip, data.dims().end());
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

void eval_gather_nd(EvalContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1);
  const int64_t batch_dims = ctx.node.integer("batch_dims", 0);
  const std::vector<int64_t> offsets = slice_offsets(ctx, data.dims(), indices, batch_dims);
  const std::span<const int64_t> rest =
      std::span(data.dims()).subspan(static_cast<size_t>(batch_dims + indices.dims().back()));
  const int64_t inner = element_count(rest);
  Dims dims(indices.dims().begin(), indices.dims().end() - 1);
  dims.insert(dims.end(), rest.begin(), rest.end());
  bounded_count(dims);
  std::vector<int64_t> sources;
  for (int64_t offset : offsets)
    for (int64_t k = 0; k < inner; ++k) sources.push_back(offset + k);
  ctx.set_output(0, pick(data, std::move(dims), sources));
}

template <typename T>
T reduced(std::string_view how, T a, T b) {
  if (how == "add" || a != a || b != b) return a + b;  // NaN stays
  return how == "mul" ? a * b : how == "max" ? std::max(a, b) : std::min(a, b);
}

// `data` with updates[i] written at, or reduced into, element destinations[i].
Tensor scatter(const EvalContext& ctx, const Tensor& data, const Tensor& updates,
               std::span<const int64_t> destinations) {
  const std::string how = ctx.node.text("reduction", "none");
  if (updates.dtype() != data.dtype()) ctx.reject("its updates and its data differ in type");
  if (how == "none") {
    std::vector<int64_t> sources(static_cast<size_t>(data.elements()));
    std::iota(sources.begin(), sources.end(), 0);
    for (size_t i = 0; i < destinations.size(); ++i)
      sources[static_cast<size_t>(destinations[i])] = source_of(1, static_cast<int64_t>(i));
    const std::array<const Tensor*, 2> pools = {&data, &updates};
    return pick(pools, data.dims(), sources);
  }
  if (how != "add" && how != "mul" && how != "max" && how != "min")
    ctx.reject(fmt::format("attribute 'reduction' is none, add, mul, max or min, not '{}'", how));
  if (is_float(data.dtype())) {
    std::vector<double> result = to_doubles(data);
    const std::vector<double> with = to_doubles(updates);
    for (size_t i = 0; i < destinations.size(); ++i) {
      double& to = result[static_cast<size_t>(destinations[i])];
      to = reduced(how, to, with[i]);
    }
    return from_doubles(data.dtype(), data.dims(), result);
  }
  const std::vector<int64_t> start = to_ints(data), with = to_ints(updates);
  const bool is_unsigned = data.dtype() == DType::kUint64;
  std::vector<uint64_t> result(start.begin(), start.end());
  for (size_t i = 0; i < destinations.size(); ++i) {
    uint64_t& to = result[static_cast<size_t>(destinations[i])];
    const bool ordered = how == "max" || how == "min";
    to = ordered && !is_unsigned ? static_cast<uint64_t>(reduced(how, static_cast<int64_t>(to), with[i]))
                                 : reduced(how, to, static_cast<uint64_t>(with[i]));
  }
  return cast(Tensor::of<uint64_t>(data.dims(), result), data.dtype());
}

void eval_scatter_elements(EvalContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  if (updates.dims() != indices.dims()) ctx.reject("its updates and its indices differ in shape");
  ctx.set_output(0, scatter(ctx, data, updates, element_offsets(ctx, data.dims(), indices)));
}

void eval_scatter_nd(EvalContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  const std::vector<int64_t> offsets = slice_offsets(ctx, data.dims(), indices, 0);
  const int64_t inner = element_count(std::span(data.dims()).subspan(static_cast<size_t>(indices.dims().back())));
  if (updates.elements() != static_cast<int64_t>(offsets.size()) * inner)
    ctx.reject("its updates do not fill the slices that its indices name");
  std::vector<int64_t> destinations;
  for (int64_t offset : offsets)
    for (int64_t k = 0; k < inner; ++k) destinations.push_back(offset + k);
  ctx.set_output(0, scatter(ctx, data, updates, destinations));
}

void infer_one_hot(InferContext& ctx) {
  const Shape& indices = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(2), Shape());
  if (!indices.has_rank()) return;
  const int64_t axis =
      normalize_axis(ctx.node.integer("axis", -1), static_cast<int64_t>(indices.rank()) + 1, ctx.node.label());
  std::vector<Dim> dims = indices.dims();
  const auto depth = ctx.ints(1);
  const bool known = depth && depth->size() == 1 && (*depth)[0] >= 0;
  dims.insert(dims.begin() + axis, known ? Dim((*depth)[0]) : Dim());
  ctx.set_output(0, ctx.dtype(2), Shape(std::move(dims)));
}

void eval_one_hot(EvalContext& ctx) {
  const Tensor& indices = ctx.input(0);
  const std::vector<int64_t> depths = to_ints(ctx.input(1));
  if (depths.size() != 1 || depths[0] < 1) ctx.reject("its depth is not one positive number");
  if (ctx.input(2).elements() != 2) ctx.reject("it takes two values, off and on");
  const int64_t depth = depths[0];
  const auto axis =
      static_cast<size_t>(normalize_axis(ctx.node.integer("axis", -1), indices.rank() + 1, ctx.node.label()));
  Dims dims = indices.dims();
  const int64_t inner = element_count(std::span(dims).subspan(axis));
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  std::vector<int64_t> sources(static_cast<size_t>(bounded_count(dims)), 0);
  const std::vector<int64_t> values = to_ints(indices);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < -depth || values[i] >= depth) continue;
    const int64_t hot = values[i] < 0 ? values[i] + depth : values[i];
    const auto at = static_cast<int64_t>(i);
    sources[static_cast<size_t>((at / inner * depth + hot) * inner + at % inner)] = 1;
  }
  ctx.set_output(0, pick(ctx.input(2), std::move(dims), sources));
}

void infer_compress(InferContext& ctx) {
  Shape shape = ctx.node.has("axis") ? ctx.shape(0) : Shape::with_rank(1);
  const auto& condition = ctx.input(1).constant;
  Dim kept;
  if (condition != nullptr && condition->dtype() == DType::kBool)
    kept = Dim(std::ranges::count(condition->values<bool>(), true));
  if (shape.has_rank())
    shape[static_cast<size_t>(
        normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(shape.rank()), ctx.node.label()))] = kept;
  ctx.set_output(0, ctx.dtype(0), shape);
}

void eval_compress(EvalContext& ctx) {
  const Tensor x = ctx.node.has("axis") ? ctx.input(0) : ctx.input(0).reshaped({ctx.input(0).elements()});
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", 0), x.rank(), ctx.node.label()));
  if (ctx.input(1).dtype() != DType::kBool) ctx.reject("its condition must be boolean");
  const auto flags = ctx.input(1).values<bool>();
  Dims dims = x.dims();
  if (static_cast<int64_t>(flags.size()) > dims[axis]) ctx.reject("its condition is longer than the axis");
  const int64_t size = dims[axis];
  const int64_t outer = element_count(std::span(dims).first(axis));
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
  dims[axis] = std::count(flags.begin(), flags.end(), true);
  std::vector<int64_t> sources;
  for (int64_t o = 0; o < outer; ++o)
    for (size_t i = 0; i < flags.size(); ++i)
      for (int64_t k = 0; k < inner && flags[i]; ++k)
        sources.push_back((o * size + static_cast<int64_t>(i)) * inner + k);
  ctx.set_output(0, pick(x, std::move(dims), sources));
}

void eval_reverse_sequence(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t time_axis = ctx.node.integer("time_axis", 0), batch_axis = ctx.node.integer("batch_axis", 1);
  if (x.rank() < 2 || std::min(time_axis, batch_axis) != 0 || std::max(time_axis, batch_axis) != 1)
    ctx.reject("its time and batch axes must be 0 and 1");
  const std::vector<int64_t> lengths = to_ints(ctx.input(1));
  const int64_t times = x.dims()[static_cast<size_t>(time_axis)], batches = x.dims()[static_cast<size_t>(batch_axis)];
  if (static_cast<int64_t>(lengths.size()) != batches) ctx.reject("it takes one length per batch entry");
  for (int64_t length : lengths)
    if (length < 0 || length > times) ctx.reject(fmt::format("a length lies outside the time axis: {}", length));
  const int64_t inner = element_count(std::span(x.dims()).subspan(2));
  std::vector<int64_t> sources;
  for (int64_t i = 0; i < x.dims()[0]; ++i)
    for (int64_t j = 0; j < x.dims()[1]; ++j) {
      const int64_t time = time_axis == 0 ? i : j, batch = time_axis == 0 ? j : i;
      const int64_t length = lengths[static_cast<size_t>(batch)];
      const int64_t from = time < length ? length - 1 - time : time;
      const int64_t row = time_axis == 0 ? from * batches + batch : batch * times + from;
      for (int64_t k = 0; k < inner; ++k) sources.push_back(row * inner + k);
    }
  ctx.set_output(0, pick(x, x.dims(), sources));
}

void eval_trilu(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() < 2) ctx.reject("it takes matrices");
  constexpr int64_t kFar = int64_t{1} << 48;
  const std::vector<int64_t> given = ctx.has_input(1) ? to_ints(ctx.input(1)) : std::vector<int64_t>{0};
  if (given.size() != 1) ctx.reject("its diagonal is not one number");
  const int64_t k = std::clamp(given[0], -kFar, kFar);
  const bool upper = ctx.node.integer("upper", 1) != 0;
  const int64_t columns = x.dims().back(), rows = x.dims()[x.dims().size() - 2];
  const Tensor zero(x.dtype(), {1});
  std::vector<int64_t> sources(static_cast<size_t>(x.elements()));
  for (int64_t i = 0; i < x.elements(); ++i) {
    const int64_t row = i / columns % rows, column = i % columns;
    const bool keep = upper ? column >= row + k : column <= row + k;
    sources[static_cast<size_t>(i)] = keep ? i : source_of(1, 0);
  }
  const std::array<const Tensor*, 2> pools = {&x, &zero};
  ctx.set_output(0, pick(pools, x.dims(), sources));
}

size_t gather_axis(const RowsContext& ctx) {
  return static_cast<size_t>(
      normalize_axis(ctx.node().integer("axis", 0), static_cast<int64_t>(ctx.rank(0)), ctx.node().label()));
}

// One of data and indices holds the rows: indices give their axes to the result at the place of the gathered axis.
void rows_of_gather(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const RowFacts &data = ctx.rows(0), &indices = ctx.rows(1);
  const size_t axis = gather_axis(ctx);
  if (ctx.is_along(0) && ctx.is_independent(1) && ctx.in.shape(1).has_rank()) {
    if (data.axis == axis) return ctx.mixes("it gathers along the rows");
    return ctx.set_along(data.axis < axis ? data.axis : data.axis + ctx.rank(1) - 1, data.block);
  }
  if (!ctx.is_independent(0) || !ctx.in.shape(0).has_rank())
    return ctx.mixes("its data and its indices both depend on the rows");
  ctx.set_along(axis + indices.axis, indices.block);
}

bool share_rows(const RowsContext& ctx) {
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (!ctx.is_along(i) || ctx.rows(i).axis != ctx.rows(0).axis || ctx.rows(i).block != ctx.rows(0).block)
      return false;
  return true;
}

// Elements name places along one axis; in all others they keep their own.
void rows_of_elements(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  if (!share_rows(ctx)) return ctx.mixes("its inputs do not all hold the rows along one axis");
  if (ctx.rows(0).axis == gather_axis(ctx)) return ctx.mixes("it indexes the rows");
  ctx.set_along(ctx.rows(0).axis, ctx.rows(0).block);
}

// How many axes of the data the last axis of the indices names; nullopt when unknown.
std::optional<size_t> depth_of(const RowsContext& ctx) {
  const Shape& indices = ctx.in.shape(1);
  if (indices.rank() == 0 || !indices.dims().back().is_known() || !ctx.in.shape(0).has_rank()) return std::nullopt;
  return static_cast<size_t>(indices.dims().back().value());
}

void rows_of_gather_nd(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const auto shared = static_cast<size_t>(std::max<int64_t>(ctx.node().integer("batch_dims", 0), 0));
  const std::optional<size_t> depth = depth_of(ctx);
  const RowFacts &data = ctx.rows(0), &indices = ctx.rows(1);
  if (depth && share_rows(ctx) && data.axis < shared) return ctx.set_along(data.axis, data.block);
  if (depth && shared == 0 && ctx.is_independent(0) && ctx.is_along(1) && indices.axis + 1 < ctx.rank(1))
    return ctx.set_along(indices.axis, indices.block);
  if (depth && shared == 0 && ctx.is_independent(1) && ctx.is_along(0) && data.axis >= *depth)
    return ctx.set_along(ctx.rank(1) - 1 + data.axis - *depth, data.block);
  ctx.mixes("it indexes the rows");
}

// Indices that are the same for every row name places in axes before the rows.
void rows_of_scatter_nd(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const std::optional<size_t> depth = depth_of(ctx);
  const RowFacts &data = ctx.rows(0), &updates = ctx.rows(2);
  if (!depth || !ctx.is_along(0) || !ctx.is_independent(1) || data.axis < *depth)
    return ctx.mixes("it indexes the rows");
  const bool goes_along =
      ctx.is_along(2) && updates.axis == ctx.rank(1) - 1 + data.axis - *depth && updates.block == data.block;
  if (!goes_along && !ctx.repeats(2, ctx.rank(0) - data.axis))
    return ctx.mixes("what it writes is not the same for every row");
  ctx.set_along(data.axis, data.block);
}

void rows_of_one_hot(RowsContext& ctx) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  const int64_t axis =
      normalize_axis(ctx.node().integer("axis", -1), static_cast<int64_t>(ctx.rank(0)) + 1, ctx.node().label());
  ctx.set_along(x->axis + (static_cast<int64_t>(x->axis) >= axis ? 1 : 0), x->block);
}

void rows_of_compress(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext& c, size_t axis) { return !c.node().has("axis") || gather_axis(c) == axis; });
}

void rows_of_reverse_sequence(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const RowFacts &x = ctx.rows(0), &lengths = ctx.rows(1);
  const bool fits = ctx.is_along(0) && static_cast<int64_t>(x.axis) == ctx.node().integer("batch_axis", 1);
  if (!fits || !(ctx.is_along(1) && lengths.block == x.block))
    return ctx.mixes("it takes rows along its batch axis only");
  ctx.set_along(x.axis, x.block);
}

void rows_of_trilu(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext& c, size_t axis) { return axis + 2 >= c.rank(0); });
}

constexpr OpSpec indexed(std::string_view name, int since, int min_inputs, int max_inputs, void (*infer)(InferContext&),
                         void (*eval)(EvalContext&), void (*rows)(RowsContext&), uint32_t traits = kMovesOnly) {
  return {.name = name,
          .since = since,
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .infer = infer,
          .eval = eval,
          .rows = rows,
          .traits = traits};
}

constexpr OpSpec kIndexingOps[] = {
    indexed("Gather", 1, 2, 2, infer_gather, eval_gather, rows_of_gather),
    indexed("GatherElements", 11, 2, 2, infer_gather_elements, eval_gather_elements, rows_of_elements),
    indexed("GatherND", 11, 2, 2, infer_gather_nd, eval_gather_nd, rows_of_gather_nd),
    indexed("Scatter", 9, 3, 3, infer_same_as_first, eval_scatter_elements, rows_of_elements, 0),
    indexed("ScatterElements", 11, 3, 3, infer_same_as_first, eval_scatter_elements, rows_of_elements, 0),
    indexed("ScatterND", 11, 3, 3, infer_same_as_first, eval_scatter_nd, rows_of_scatter_nd, 0),
    indexed("OneHot", 9, 3, 3, infer_one_hot, eval_one_hot, rows_of_one_hot, 0),
    indexed("Compress", 9, 2, 2, infer_compress, eval_compress, rows_of_compress),
    indexed("ReverseSequence", 10, 2, 2, infer_same_as_first, eval_reverse_sequence, rows_of_reverse_sequence),
    indexed("Trilu", 14, 1, 2, infer_same_as_first, eval_trilu, rows_of_trilu, 0),
};

}  // namespace

std::span<const OpSpec> indexing_ops() { return kIndexingOps; }

}  // namespace slipway
