// What undoes a window: Col2Im adds the blocks of an unfolded image back to their places, MaxUnpool puts maxima back to
// where MaxPool found them.
#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr int64_t kMostSize = int64_t{1} << 31;

// An attribute of one entry an axis, or `each` for all.
Dims per_axis(const Node& node, std::string_view attribute, size_t axes, int64_t each, int64_t least) {
  Dims values = node.integers(attribute, Dims(axes, each));
  if (values.empty()) values.assign(axes, each);
  if (values.size() != axes) reject(node, fmt::format("{} has {} entries for {}", attribute, values.size(), axes));
  for (int64_t v : values)
    if (v < least || v > kMostSize) reject(node, fmt::format("{} is absurd: {}", attribute, v));
  return values;
}

Dims sizes_in(const EvalContext& ctx, size_t index) {
  Dims sizes = to_ints(ctx.input(index));
  for (int64_t size : sizes)
    if (size < 1 || size > kMostSize) ctx.reject(fmt::format("input {} holds an absurd size: {}", index, size));
  return sizes;
}

void eval_col2im(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Dims image = sizes_in(ctx, 1), block = sizes_in(ctx, 2);
  const size_t axes = image.size();
  if (axes == 0 || axes > kMaxRank || block.size() != axes)
    ctx.reject(fmt::format("blocks {} do not fit the image {}", to_string(block), to_string(image)));
  const Dims strides = per_axis(ctx.node, "strides", axes, 1, 1),
             dilations = per_axis(ctx.node, "dilations", axes, 1, 1), pads = per_axis(ctx.node, "pads", 2 * axes, 0, 0);
  Dims blocks(axes);
  for (size_t i = 0; i < axes; ++i) {
    const int64_t room = image[i] + pads[i] + pads[i + axes] - dilations[i] * (block[i] - 1) - 1;
    if (room < 0) ctx.reject(fmt::format("the block is larger than the image along axis {}", i));
    blocks[i] = room / strides[i] + 1;
  }
  const int64_t each = element_count(block), count = element_count(blocks);
  const Dims& d = x.dims();
  if (d.size() != 3 || d[1] % each != 0 || d[2] != count)
    ctx.reject(fmt::format("the columns {} are not [N, C·{}, {}]", to_string(d), each, count));
  Dims dims = {d[0], d[1] / each};
  dims.insert(dims.end(), image.begin(), image.end());
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  const std::vector<double> values = to_doubles(x);
  const int64_t plane = element_count(image);
  const Dims own = strides_of(image);
  size_t from = 0;
  for (int64_t c = 0; c < dims[0] * dims[1]; ++c) {
    Dims tap(axes, 0);
    do {
      Dims at(axes, 0);
      do {
        int64_t to = c * plane;
        bool inside = count > 0;
        for (size_t i = 0; i < axes; ++i) {
          const int64_t place = at[i] * strides[i] + tap[i] * dilations[i] - pads[i];
          inside = inside && place >= 0 && place < image[i];
          to += place * own[i];
        }
        if (inside) y[static_cast<size_t>(to)] += values[from];
        ++from;
      } while (next_index(at, blocks));
    } while (next_index(tap, block));
  }
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_col2im(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  const auto image = ctx.dims(1);
  const auto block = ctx.ints(2);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!image || image->size() > kMaxRank) return;
  std::vector<Dim> dims = {x.rank() == 3 ? x[0] : Dim(), Dim()};
  if (block && x.rank() == 3) {
    int64_t each = 1;
    for (int64_t size : *block) each = size > 0 && size <= kMostSize && each <= kMostSize ? each * size : kMostSize * 2;
    dims[1] = divide(x[1], Dim(each));
  }
  dims.insert(dims.end(), image->begin(), image->end());
  ctx.set_output(0, ctx.dtype(0), Shape(dims));
}

// The size that a MaxPool with these attributes would have made the input from.
std::vector<Dim> unpooled(const Node& node, std::span<const Dim> x) {
  if (x.size() < 3) reject(node, fmt::format("its input has rank {}, less than 3", x.size()));
  const size_t axes = x.size() - 2;
  const Dims kernel = per_axis(node, "kernel_shape", axes, 0, 1), strides = per_axis(node, "strides", axes, 1, 1),
             pads = per_axis(node, "pads", 2 * axes, 0, 0);
  std::vector<Dim> dims(x.begin(), x.end());
  for (size_t i = 0; i < axes; ++i) {
    if (!dims[i + 2].is_known()) {
      dims[i + 2] = Dim();
      continue;
    }
    const int64_t size = (dims[i + 2].value() - 1) * strides[i] + kernel[i] - pads[i] - pads[i + axes];
    if (size < 1) reject(node, fmt::format("axis {} would have {} elements", i + 2, size));
    dims[i + 2] = Dim(size);
  }
  return dims;
}

// With an output shape, the indices still count in what the attributes alone say; that lies in its first corner.
void eval_max_unpool(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &indices = ctx.input(1);
  if (indices.dims() != x.dims())
    ctx.reject(
        fmt::format("the indices {} are not one for each of {}", to_string(indices.dims()), to_string(x.dims())));
  const Dims inner = Shape(unpooled(ctx.node, Shape::of(x.dims()).dims())).to_dims();
  Dims dims = inner;
  if (ctx.has_input(2)) {
    dims = sizes_in(ctx, 2);
    bool fits = dims.size() == inner.size();
    for (size_t i = 0; fits && i < dims.size(); ++i) fits = dims[i] >= inner[i];
    if (!fits) ctx.reject(fmt::format("output_shape {} does not hold {}", to_string(dims), to_string(inner)));
  }
  bounded_count(dims);
  const std::vector<double> values = to_doubles(x);
  const std::vector<int64_t> places = to_ints(indices);
  std::vector<double> y(static_cast<size_t>(element_count(dims)));
  const Dims from = strides_of(inner), to = strides_of(dims);
  for (size_t i = 0; i < values.size(); ++i) {
    if (places[i] < 0 || places[i] >= element_count(inner))
      ctx.reject(fmt::format("index {} is outside {}", places[i], to_string(inner)));
    int64_t at = 0;
    for (size_t axis = 0; axis < dims.size(); ++axis) at += places[i] / from[axis] % inner[axis] * to[axis];
    y[static_cast<size_t>(at)] = values[i];
  }
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_max_unpool(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  Shape y;
  if (x.has_rank()) y = Shape(unpooled(ctx.node, x.dims()));
  if (ctx.has_input(2)) {
    const auto asked = ctx.dims(2);
    y = asked && asked->size() == x.rank() ? Shape(*asked) : x.has_rank() ? Shape::with_rank(x.rank()) : Shape();
  }
  ctx.set_output(0, ctx.dtype(0), y);
}

constexpr OpSpec kUnfoldOps[] = {
    {.name = "Col2Im", .since = 18, .min_inputs = 3, .max_inputs = 3, .infer = infer_col2im, .eval = eval_col2im},
    {.name = "MaxUnpool",
     .since = 9,
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_max_unpool,
     .eval = eval_max_unpool},
};

}  // namespace

std::span<const OpSpec> unfold_ops() { return kUnfoldOps; }

}  // namespace slipway
