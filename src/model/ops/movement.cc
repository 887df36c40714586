// Operators that put whole blocks of values elsewhere: transposing, joining, cutting, repeating, folding depth into
// space. Each is a strided walk over its input.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

std::vector<int64_t> permutation(const Node& node, size_t rank) {
  std::vector<int64_t> reversed(rank);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const std::vector<int64_t> perm = normalize_axes(node.integers("perm", reversed), static_cast<int64_t>(rank), node);
  if (perm.size() != rank)
    fail(ErrorCode::kInvalidModel, "A permutation's length is not its input's rank {} at {}: {}", rank, node.label(),
         perm.size());
  return perm;
}

void infer_transpose(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  if (!from.has_rank()) return ctx.set_output(0, ctx.dtype(0), Shape());
  std::vector<Dim> dims;
  for (int64_t axis : permutation(ctx.node, from.rank())) dims.push_back(from[static_cast<size_t>(axis)]);
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

void eval_transpose(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Dims own = strides_of(x.dims());
  Dims dims, strides;
  for (int64_t axis : permutation(ctx.node, x.dims().size())) {
    dims.push_back(x.dims()[static_cast<size_t>(axis)]);
    strides.push_back(own[static_cast<size_t>(axis)]);
  }
  ctx.set_output(0, copy_strided(x, dims, dims, strides));
}

void infer_concat(InferContext& ctx) {
  if (!ctx.node.has("axis")) ctx.reject("attribute 'axis' is missing");
  std::optional<Shape> joined;
  std::optional<std::vector<Dim>> content = std::vector<Dim>();
  size_t axis = 0;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const Shape& shape = ctx.shape(i);
    if (!shape.has_rank()) return ctx.set_output(0, ctx.dtype(0), Shape());
    auto part = contents(ctx, i);
    if (!part || shape.rank() != 1) content.reset();
    if (content) content->insert(content->end(), part->begin(), part->end());
    if (!joined) {
      joined = shape;
      axis = static_cast<size_t>(
          normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(shape.rank()), ctx.node.label()));
      continue;
    }
    if (shape.rank() != joined->rank()) ctx.reject("its inputs' ranks differ");
    const Dim a = (*joined)[axis], b = shape[axis];
    Shape rest = shape;
    rest[axis] = (*joined)[axis] = Dim();
    joined = merge_shapes(*joined, rest, ctx.node.label());
    (*joined)[axis] = add(a, b);
  }
  ctx.set_output(0, ctx.dtype(0), *joined);
  if (content) set_contents(ctx, 0, std::move(*content));
}

void eval_concat(EvalContext& ctx) {
  if (!ctx.node.has("axis")) ctx.reject("attribute 'axis' is missing");
  const Tensor& first = ctx.input(0);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", 0), first.rank(), ctx.node.label()));
  Dims dims = first.dims();
  dims[axis] = 0;
  std::vector<const Tensor*> pools;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const Tensor& part = ctx.input(i);
    Dims expected = dims;
    if (part.rank() == first.rank()) expected[axis] = part.dims()[axis];
    if (part.dims() != expected || part.dtype() != first.dtype())
      ctx.reject(fmt::format("input {} of shape {} does not join the others", i, to_string(part.dims())));
    dims[axis] += part.dims()[axis];
    pools.push_back(&part);
  }
  const int64_t outer = element_count(std::span(dims).first(axis));
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
  if (first.dtype() == DType::kString || bits_of(first.dtype()) < 8) {
    if (pools.size() > 32767) ctx.reject("it joins more than 32,767 inputs");
    std::vector<int64_t> sources;
    for (int64_t o = 0; o < outer; ++o)
      for (size_t p = 0; p < pools.size(); ++p)
        for (int64_t i = 0, n = pools[p]->dims()[axis] * inner; i < n; ++i)
          sources.push_back(source_of(static_cast<int64_t>(p), o * n + i));
    return ctx.set_output(0, pick(pools, std::move(dims), sources));
  }
  Tensor y(first.dtype(), dims);
  std::byte* to = y.mutable_raw();
  for (int64_t o = 0; o < outer; ++o)
    for (const Tensor* part : pools) {
      const size_t block = bytes_of(first.dtype(), part->dims()[axis] * inner);
      if (block > 0) std::memcpy(to, part->raw() + static_cast<size_t>(o) * block, block);
      to += block;
    }
  ctx.set_output(0, std::move(y));
}

// Sizes of the parts along the axis: as given, or `count` near-equal ones, the last the smallest.
std::vector<int64_t> split_sizes(const Node& node, const Axes& given, int64_t size, size_t count) {
  std::vector<int64_t> sizes = given.values;
  if (!given.given) {
    const auto parts = static_cast<int64_t>(count);
    const int64_t chunk = (size + parts - 1) / parts;
    for (int64_t i = 0; i < parts; ++i) sizes.push_back(std::clamp<int64_t>(size - i * chunk, 0, chunk));
  }
  int64_t total = 0;
  for (int64_t s : sizes) {
    if (s < 0 || s > size) total = -1;
    if (total >= 0) total += s;
  }
  if (sizes.size() != count || total != size)
    fail(ErrorCode::kInvalidModel, "A split does not add up to its input's {} at {}", size, node.label());
  return sizes;
}

void infer_split(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  const size_t count = ctx.output_count();
  const Axes given = axes_of(ctx, "split", 1);
  Shape part;
  if (from.has_rank()) {
    part = from;
    const auto axis = static_cast<size_t>(
        normalize_axis(ctx.node.integer("axis", 0), static_cast<int64_t>(from.rank()), ctx.node.label()));
    std::optional<std::vector<int64_t>> sizes;
    if (from[axis].is_known() && given.known) sizes = split_sizes(ctx.node, given, from[axis].value(), count);
    const auto content = contents(ctx, 0);
    int64_t start = 0;
    for (size_t i = 0; i < count; ++i) {
      part[axis] = sizes                                                   ? Dim((*sizes)[i])
                   : given.given && given.known && i < given.values.size() ? Dim(given.values[i])
                   : count == 1                                            ? from[axis]
                                                                           : Dim();
      ctx.set_output(i, ctx.dtype(0), part);
      if (!sizes || from.rank() != 1 || !content) continue;
      set_contents(ctx, i, {content->begin() + start, content->begin() + start + (*sizes)[i]});
      start += (*sizes)[i];
    }
    return;
  }
  for (size_t i = 0; i < count; ++i) ctx.set_output(i, ctx.dtype(0), part);
}

void eval_split(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", 0), x.rank(), ctx.node.label()));
  const auto sizes = split_sizes(ctx.node, axes_of(ctx, "split", 1), x.dims()[axis], ctx.output_count());
  const Dims strides = strides_of(x.dims());
  Dims dims = x.dims();
  int64_t start = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    dims[axis] = sizes[i];
    ctx.set_output(i, copy_strided(x, dims, dims, strides, start * strides[axis]));
    start += sizes[i];
  }
}

struct Cut {
  int64_t start = 0, step = 1, size = 0;
};

// The elements start, start + step, … before `end` of an axis; both count from the end when negative and are clamped.
Cut cut(int64_t start, int64_t end, int64_t step, int64_t size) {
  constexpr int64_t kFar = int64_t{1} << 48;
  step = std::clamp(step, -kFar, kFar);
  const auto place = [&](int64_t at) { return std::clamp(at, -kFar, kFar) + (at < 0 ? size : 0); };
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const int64_t first = std::clamp(place(start), std::min(std::max<int64_t>(low, 0), high), std::max(high, low));
  const int64_t last = std::clamp(place(end), low, high);
  const int64_t span = step > 0 ? last - first : first - last;
  const int64_t stride = step > 0 ? step : -step;
  return {first, step, size == 0 || span <= 0 ? 0 : (span + stride - 1) / stride};
}

constexpr int64_t kToTheEnd = (int64_t{1} << 31) - 1;

struct SliceSpec {
  Axes starts, ends, axes, steps;
};

template <typename Context>
SliceSpec slice_spec(const Context& ctx) {
  SliceSpec spec{axes_of(ctx, "starts", 1), axes_of(ctx, "ends", 2), axes_of(ctx, "axes", 3), axes_of(ctx, "steps", 4)};
  if (!spec.starts.given || !spec.ends.given) ctx.reject("its starts or ends are missing");
  const size_t count = spec.starts.known ? spec.starts.values.size() : spec.ends.values.size();
  if (!spec.axes.given) {
    spec.axes.values.resize(count);
    std::iota(spec.axes.values.begin(), spec.axes.values.end(), 0);
    spec.axes.known = spec.starts.known || spec.ends.known;
  }
  if (!spec.steps.given) spec.steps.values.assign(std::max(count, spec.axes.values.size()), 1);
  for (const Axes* list : {&spec.starts, &spec.ends, &spec.steps})
    if (list->known && spec.axes.known && list->values.size() != spec.axes.values.size())
      ctx.reject("its starts, ends, axes and steps differ in length");
  for (int64_t step : spec.steps.values)
    if (step == 0) ctx.reject("a step is 0");
  return spec;
}

void infer_slice(InferContext& ctx) {
  Shape shape = ctx.shape(0);
  const SliceSpec spec = slice_spec(ctx);
  if (!spec.axes.known && shape.has_rank()) shape = Shape::with_rank(shape.rank());
  ctx.set_output(0, ctx.dtype(0), shape);
  if (!shape.has_rank() || !spec.axes.known) return;
  const auto axes = normalize_axes(spec.axes.values, static_cast<int64_t>(shape.rank()), ctx.node);
  const bool known = spec.starts.known && spec.ends.known && spec.steps.known;
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& dim = shape[static_cast<size_t>(axes[i])];
    if (!known) {
      dim = Dim();
    } else if (dim.is_known()) {
      dim = Dim(cut(spec.starts.values[i], spec.ends.values[i], spec.steps.values[i], dim.value()).size);
    } else {
      const bool whole = spec.starts.values[i] == 0 && spec.ends.values[i] >= kToTheEnd && spec.steps.values[i] == 1;
      if (!whole) dim = Dim();
    }
  }
  ctx.set_output(0, ctx.dtype(0), shape);
  const auto content = contents(ctx, 0);
  if (!content || shape.rank() != 1 || !known || axes.size() != 1) return;
  const Cut c =
      cut(spec.starts.values[0], spec.ends.values[0], spec.steps.values[0], static_cast<int64_t>(content->size()));
  std::vector<Dim> part;
  for (int64_t i = 0; i < c.size; ++i) part.push_back((*content)[static_cast<size_t>(c.start + i * c.step)]);
  set_contents(ctx, 0, std::move(part));
}

void eval_slice(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const SliceSpec spec = slice_spec(ctx);
  const auto axes = normalize_axes(spec.axes.values, x.rank(), ctx.node);
  Dims dims = x.dims(), strides = strides_of(x.dims());
  int64_t base = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(axes[i]);
    const Cut c = cut(spec.starts.values[i], spec.ends.values[i], spec.steps.values[i], dims[axis]);
    base += c.start * strides[axis];
    strides[axis] *= c.size > 1 ? c.step : 1;
    dims[axis] = c.size;
  }
  ctx.set_output(0, copy_strided(x, dims, dims, strides, element_count(dims) == 0 ? 0 : base));
}

void infer_tile(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  if (!from.has_rank()) return ctx.set_output(0, ctx.dtype(0), Shape());
  const auto repeats = contents(ctx, 1);
  if (repeats && repeats->size() != from.rank()) ctx.reject("it takes one repeat per axis");
  std::vector<Dim> dims(from.rank());
  for (size_t i = 0; i < dims.size() && repeats; ++i) dims[i] = multiply(from[i], (*repeats)[i]);
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

void eval_tile(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::vector<int64_t> repeats = to_ints(ctx.input(1));
  if (repeats.size() != x.dims().size()) ctx.reject("it takes one repeat per axis");
  const Dims own = strides_of(x.dims());
  Dims dims, box, strides;
  for (size_t i = 0; i < repeats.size(); ++i) {
    if (repeats[i] < 0) ctx.reject(fmt::format("a repeat is negative: {}", repeats[i]));
    box.insert(box.end(), {repeats[i], x.dims()[i]});
    strides.insert(strides.end(), {0, own[i]});
  }
  bounded_count(box);
  for (size_t i = 0; i < repeats.size(); ++i)
    dims.push_back(x.dims()[i] == 0 || repeats[i] == 0 ? 0 : repeats[i] * x.dims()[i]);
  ctx.set_output(0, copy_strided(x, dims, box, strides));
}

int64_t block_size(const Node& node) {
  const int64_t size = node.integer("blocksize", 0);
  if (size < 1 || size > 65536)
    fail(ErrorCode::kInvalidModel, "A block size must be from 1 to 65536 at {}: {}", node.label(), size);
  return size;
}

void infer_depth_to_space(InferContext& ctx) {
  const int64_t b = block_size(ctx.node);
  if (!ctx.shape(0).has_rank()) return ctx.set_output(0, ctx.dtype(0), Shape::with_rank(4));
  Shape shape = ctx.shape(0);
  if (shape.rank() != 4) ctx.reject("it takes four dimensions");
  const bool deep = ctx.node.op_type == "DepthToSpace";
  if (deep && shape[1].is_known() && shape[1].value() % (b * b) != 0) ctx.reject("its blocks do not divide the depth");
  shape[1] = deep ? divide(shape[1], Dim(b * b)) : multiply(shape[1], Dim(b * b));
  for (size_t axis : {2, 3}) shape[axis] = deep ? multiply(shape[axis], Dim(b)) : divide(shape[axis], Dim(b));
  ctx.set_output(0, ctx.dtype(0), shape);
}

void eval_depth_to_space(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t b = block_size(ctx.node);
  if (x.rank() != 4 || x.dims()[1] % (b * b) != 0) ctx.reject("its blocks do not divide the depth");
  const int64_t n = x.dims()[0], c = x.dims()[1] / (b * b), h = x.dims()[2], w = x.dims()[3];
  const std::string mode = ctx.node.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") ctx.reject(fmt::format("attribute 'mode' is DCR or CRD, not '{}'", mode));
  const int64_t plane = h * w;
  const bool depth_first = mode == "DCR";
  const int64_t row = depth_first ? b * c * plane : b * plane, column = depth_first ? c * plane : plane;
  const int64_t channel = depth_first ? plane : b * b * plane;
  ctx.set_output(
      0, copy_strided(x, {n, c, h * b, w * b}, {n, c, h, b, w, b}, {b * b * c * plane, channel, w, row, 1, column}));
}

void eval_space_to_depth(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t b = block_size(ctx.node);
  if (x.rank() != 4 || x.dims()[2] % b != 0 || x.dims()[3] % b != 0) ctx.reject("its blocks do not divide the space");
  const int64_t n = x.dims()[0], c = x.dims()[1], h = x.dims()[2], w = x.dims()[3];
  ctx.set_output(
      0, copy_strided(x, {n, c * b * b, h / b, w / b}, {n, b, b, c, h / b, w / b}, {c * h * w, w, 1, h * w, b * w, b}));
}

void rows_of_transpose(RowsContext& ctx) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  const std::vector<int64_t> perm = permutation(ctx.node(), ctx.rank(0));
  ctx.set_along(static_cast<size_t>(std::find(perm.begin(), perm.end(), static_cast<int64_t>(x->axis)) - perm.begin()),
                x->block);
}

bool is_axis(const RowsContext& ctx, size_t axis) {
  return normalize_axis(ctx.node().integer("axis", 0), static_cast<int64_t>(ctx.rank(0)), ctx.node().label()) ==
         static_cast<int64_t>(axis);
}

void rows_of_concat(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  rows_by_broadcast(ctx);  // all parts have one rank, so this finds whether their rows lie along one axis
  const RowFacts joined = ctx.results()[0];
  if (joined.kind == RowFacts::Kind::kAlong && is_axis(ctx, joined.axis)) ctx.mixes("it joins along the rows");
}

// Whole along the axis of the rows, as exporters write it.
bool cuts_rows(const RowsContext& ctx, size_t axis) {
  const SliceSpec spec = slice_spec(ctx.in);
  if (!spec.axes.known) return true;
  const auto axes = normalize_axes(spec.axes.values, static_cast<int64_t>(ctx.rank(0)), ctx.node());
  const auto at = static_cast<size_t>(std::find(axes.begin(), axes.end(), static_cast<int64_t>(axis)) - axes.begin());
  if (at == axes.size()) return false;
  const bool known = spec.starts.known && spec.ends.known && spec.steps.known;
  return !known || spec.starts.values[at] != 0 || spec.ends.values[at] < kToTheEnd || spec.steps.values[at] != 1;
}

void rows_of_tile(RowsContext& ctx) {
  if (!ctx.any_along()) {
    if (ctx.is_independent(0)) rows_filled(ctx);
    return;
  }
  rows_unless(ctx, [](const RowsContext& c, size_t axis) {
    const auto repeats = contents(c.in, 1);
    return !repeats || repeats->size() <= axis || (*repeats)[axis] != Dim(1);
  });
}

constexpr OpSpec kMovementOps[] = {
    {.name = "Transpose",
     .since = 1,
     .min_inputs = 1,
     .infer = infer_transpose,
     .eval = eval_transpose,
     .rows = rows_of_transpose,
     .traits = kMovesOnly},
    {.name = "Concat",
     .since = 4,
     .min_inputs = 1,
     .max_inputs = -1,
     .infer = infer_concat,
     .eval = eval_concat,
     .rows = rows_of_concat,
     .traits = kMovesOnly},
    {.name = "Split",
     .since = 2,
     .min_inputs = 1,
     .max_inputs = 2,
     .max_outputs = -1,
     .infer = infer_split,
     .eval = eval_split,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, is_axis); },
     .traits = kMovesOnly},
    {.name = "Slice",
     .since = 1,
     .min_inputs = 1,
     .max_inputs = 5,
     .infer = infer_slice,
     .eval = eval_slice,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, cuts_rows); },
     .traits = kMovesOnly},
    {.name = "Tile",
     .since = 6,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_tile,
     .eval = eval_tile,
     .rows = rows_of_tile,
     .traits = kMovesOnly},
    {.name = "DepthToSpace",
     .since = 1,
     .min_inputs = 1,
     .infer = infer_depth_to_space,
     .eval = eval_depth_to_space,
     .rows = rows_first_axis,
     .traits = kMovesOnly},
    {.name = "SpaceToDepth",
     .since = 1,
     .min_inputs = 1,
     .infer = infer_depth_to_space,
     .eval = eval_space_to_depth,
     .rows = rows_first_axis,
     .traits = kMovesOnly},
};

}  // namespace

std::span<const OpSpec> movement_ops() { return kMovementOps; }

}  // namespace slipway
