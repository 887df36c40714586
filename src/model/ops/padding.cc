// Pad and CenterCropPad: each axis maps an output index to an input index, or to the constant; the axes then combine.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

using AxisPads = std::vector<std::pair<int64_t, int64_t>>;  // begin and end of every axis

// nullopt when not known yet.
template <typename Context>
std::optional<AxisPads> pads_of(const Context& ctx, int64_t rank) {
  const Axes pads = axes_of(ctx, "pads", 1);
  Axes axes = ctx.opset >= 18 ? axes_of(ctx, "axes", 3) : Axes();
  if (!pads.given) ctx.reject("its pads are missing");
  if (!pads.known || !axes.known) return std::nullopt;
  if (!axes.given)
    for (int64_t i = 0; i < rank; ++i) axes.values.push_back(i);
  const std::vector<int64_t> order = normalize_axes(axes.values, rank, ctx.node);
  if (pads.values.size() != 2 * order.size()) ctx.reject("it takes a begin and an end per axis");
  AxisPads result(static_cast<size_t>(rank));
  constexpr int64_t kFar = int64_t{1} << 40;
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t begin = pads.values[i], end = pads.values[i + order.size()];
    if (std::max(begin, end) > kFar || std::min(begin, end) < -kFar) ctx.reject("a pad is absurdly large");
    result[static_cast<size_t>(order[i])] = {begin, end};
  }
  return result;
}

void infer_pad(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), from.has_rank() ? Shape::with_rank(from.rank()) : Shape());
  if (!from.has_rank()) return;
  const auto pads = pads_of(ctx, static_cast<int64_t>(from.rank()));
  if (!pads) return;
  Shape shape = from;
  for (size_t i = 0; i < shape.rank(); ++i) {
    const auto [begin, end] = (*pads)[i];
    if (begin == 0 && end == 0) continue;
    constexpr int64_t kFar = int64_t{1} << 62;
    const bool known = from[i].is_known() && from[i].value() < kFar;
    if (known && from[i].value() + begin + end < 0) ctx.reject("it crops more than there is");
    shape[i] = known ? Dim(from[i].value() + begin + end) : Dim();
  }
  ctx.set_output(0, ctx.dtype(0), shape);
}

enum class Mode { kConstant, kReflect, kEdge, kWrap };

int64_t source_index(int64_t at, int64_t size, Mode mode) {
  if (at >= 0 && at < size) return at;
  switch (mode) {
    case Mode::kConstant:
      return -1;
    case Mode::kEdge:
      return at < 0 ? 0 : size - 1;
    case Mode::kWrap:
      return ((at % size) + size) % size;
    case Mode::kReflect:
      break;
  }
  if (size == 1) return 0;
  const int64_t period = 2 * (size - 1);
  const int64_t phase = ((at % period) + period) % period;
  return phase < size ? phase : period - phase;
}

Mode mode_of(const EvalContext& ctx) {
  const std::string name = ctx.node.text("mode", "constant");
  if (name == "constant") return Mode::kConstant;
  if (name == "reflect") return Mode::kReflect;
  if (name == "edge") return Mode::kEdge;
  if (name == "wrap") return Mode::kWrap;
  ctx.reject(fmt::format("attribute 'mode' is constant, reflect, edge or wrap, not '{}'", name));
}

// The tensor between its pads; `fill` is one element.
Tensor padded(const EvalContext& ctx, const Tensor& x, const AxisPads& pads, Mode mode, const Tensor& fill) {
  Dims dims = x.dims();
  for (size_t i = 0; i < dims.size(); ++i) {
    dims[i] += pads[i].first + pads[i].second;
    if (dims[i] < 0) ctx.reject("it crops more than there is");
    if (mode != Mode::kConstant && x.dims()[i] == 0 && dims[i] > 0) ctx.reject("it pads an empty axis with its values");
  }
  const int64_t count = bounded_count(dims);
  if (count == 0) return Tensor(x.dtype(), dims);
  std::vector<int64_t> sources(static_cast<size_t>(count), 0);
  const Dims own = strides_of(x.dims());
  int64_t inner = count;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    const int64_t outer = count / inner;
    inner /= dims[axis];
    for (int64_t i = 0; i < dims[axis]; ++i) {
      const int64_t at = source_index(i - pads[axis].first, x.dims()[axis], mode);
      for (int64_t o = 0; o < outer; ++o) {
        int64_t* block = sources.data() + (o * dims[axis] + i) * inner;
        for (int64_t k = 0; k < inner; ++k) block[k] = at < 0 || block[k] < 0 ? -1 : block[k] + at * own[axis];
      }
    }
  }
  for (int64_t& s : sources)
    if (s < 0) s = source_of(1, 0);
  const std::array<const Tensor*, 2> pools = {&x, &fill};
  return pick(pools, dims, sources);
}

void eval_pad(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Mode mode = mode_of(ctx);
  const auto pads = *pads_of(ctx, x.rank());
  Tensor fill(x.dtype(), {1});
  if (ctx.opset < 11 && is_float(x.dtype()))
    fill = from_doubles(x.dtype(), {1}, std::array{static_cast<double>(ctx.node.real("value", 0.0f))});
  if (ctx.has_input(2) && ctx.input(2).elements() > 0) {
    if (ctx.input(2).elements() != 1 || ctx.input(2).dtype() != x.dtype()) ctx.reject("its constant is not one value");
    fill = ctx.input(2);
  }
  ctx.set_output(0, padded(ctx, x, pads, mode, fill));
}

std::vector<int64_t> cropped_axes(const Node& node, size_t sizes, int64_t rank) {
  std::vector<int64_t> axes = node.integers("axes");
  if (!node.has("axes"))
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  axes = normalize_axes(axes, rank, node);
  if (axes.size() != sizes) reject(node, fmt::format("{} sizes for {} axes", sizes, axes.size()));
  return axes;
}

void infer_center_crop_pad(InferContext& ctx) {
  Shape shape = ctx.shape(0);
  const auto sizes = ctx.dims(1);
  if (shape.has_rank() && !sizes && !ctx.node.has("axes")) shape = Shape::with_rank(shape.rank());
  if (shape.has_rank() && !sizes && ctx.node.has("axes"))
    for (int64_t axis : normalize_axes(ctx.node.integers("axes"), static_cast<int64_t>(shape.rank()), ctx.node))
      shape[static_cast<size_t>(axis)] = Dim();
  if (shape.has_rank() && sizes) {
    const std::vector<int64_t> axes = cropped_axes(ctx.node, sizes->size(), static_cast<int64_t>(shape.rank()));
    for (size_t i = 0; i < axes.size(); ++i) shape[static_cast<size_t>(axes[i])] = (*sizes)[i];
  }
  ctx.set_output(0, ctx.dtype(0), shape);
}

// What is odd goes to the end when it pads, and comes off the end when it crops.
void eval_center_crop_pad(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::vector<int64_t> sizes = to_ints(ctx.input(1)), axes = cropped_axes(ctx.node, sizes.size(), x.rank());
  AxisPads pads(x.dims().size());
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0) ctx.reject(fmt::format("a size is negative: {}", sizes[i]));
    const int64_t more = sizes[i] - x.dims()[static_cast<size_t>(axes[i])];
    const int64_t before = more / 2;
    pads[static_cast<size_t>(axes[i])] = {before, more - before};
  }
  ctx.set_output(0, padded(ctx, x, pads, Mode::kConstant, Tensor(x.dtype(), {1})));
}

bool pads_rows(const RowsContext& ctx, size_t axis) {
  const auto pads = pads_of(ctx.in, static_cast<int64_t>(ctx.rank(0)));
  return !pads || (*pads)[axis] != std::pair<int64_t, int64_t>();
}

constexpr OpSpec kPaddingOps[] = {
    {.name = "Pad",
     .since = 2,
     .min_inputs = 1,
     .max_inputs = 4,
     .infer = infer_pad,
     .eval = eval_pad,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, pads_rows); },
     .traits = kMovesOnly},
    {.name = "CenterCropPad",
     .since = 18,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_center_crop_pad,
     .eval = eval_center_crop_pad},
};

}  // namespace

std::span<const OpSpec> padding_ops() { return kPaddingOps; }

}  // namespace slipway
