// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear. Division and multiplication are in float32, as ONNX's own
// reference and every runtime do it, so that ties fall the same way everywhere; rounding is to nearest even. A scale is
// one number, one a slice of `axis`, or, from opset 21, one a block of `block_size` elements along `axis`.
#include "model/ops/quantization.h"

#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"

namespace slipway {
namespace {

// Which parameter an element of x takes: x seen as [outer, size, inner] about the axis, parameters as [outer, blocks,
// inner] (blocked), [blocks] (per axis) or one.
struct Grid {
  size_t size = 1, inner = 1, block = 1, blocks = 1;
  enum class Kind { kOne, kPerAxis, kBlocked } kind = Kind::kOne;
  size_t parameter(size_t i) const {
    if (kind == Kind::kOne) return 0;
    const size_t at = i / inner % size;
    if (kind == Kind::kPerAxis) return at;
    return (i / inner / size * blocks + at / block) * inner + i % inner;
  }
};

Grid grid_of(const EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &scale = ctx.input(1);
  if (ctx.has_input(2) && ctx.input(2).elements() != scale.elements())
    ctx.reject("the zero points are not as many as the scales");
  Grid grid;
  const int64_t block = ctx.opset >= 21 ? ctx.node.integer("block_size", 0) : 0;
  if (block < 0) ctx.reject(fmt::format("block_size is negative: {}", block));
  if (block == 0 && scale.elements() == 1) return grid;
  if (ctx.opset < 13) ctx.reject("before opset 13 the scale must be a scalar");
  const int64_t axis = normalize_axis(ctx.node.integer("axis", 1), x.rank(), ctx.node.label());
  const int64_t size = x.dims()[static_cast<size_t>(axis)];
  grid.size = static_cast<size_t>(size);
  grid.inner = static_cast<size_t>(strides_of(x.dims())[static_cast<size_t>(axis)]);
  grid.kind = block == 0 ? Grid::Kind::kPerAxis : Grid::Kind::kBlocked;
  if (block == 0) {
    if (scale.rank() != 1 || scale.elements() != size)
      ctx.reject(
          fmt::format("the scale {} does not fit axis {} of {}", to_string(scale.dims()), axis, to_string(x.dims())));
    return grid;
  }
  Dims expected = x.dims();
  expected[static_cast<size_t>(axis)] = size / block + (size % block != 0);
  if (scale.dims() != expected)
    ctx.reject(fmt::format("the scale {} is not {}, one a block", to_string(scale.dims()), to_string(expected)));
  grid.block = static_cast<size_t>(block);
  grid.blocks = static_cast<size_t>(expected[static_cast<size_t>(axis)]);
  return grid;
}

// The type of the zero point, or without one what output_dtype says.
template <typename Context>
DType asked_type(const Context& ctx) {
  const int64_t asked = ctx.opset >= 21 ? ctx.node.integer("output_dtype", 0) : 0;
  if (asked < 0 || asked >= kDTypeCount) ctx.reject(fmt::format("output_dtype is unknown: {}", asked));
  return asked == 0 ? DType::kUint8 : static_cast<DType>(asked);
}

void require_codes(const EvalContext& ctx, DType type) {
  if (!is_small_float(type) && (!is_integer(type) || bits_of(type) > 32))
    fail(ErrorCode::kUnsupported,
         "Quantisation to this element type is not supported; use integers of up to 32 bits or small floats: {} at {}",
         to_string(type), ctx.node.label());
}

void quantize_to_floats(EvalContext& ctx, const Grid& grid, DType type) {
  const Tensor& x = ctx.input(0);
  std::vector<float> y = to_floats(x);
  const std::vector<float> scales = to_floats(ctx.input(1));
  const std::vector<float> zeros = ctx.has_input(2) ? to_floats(ctx.input(2)) : std::vector<float>(scales.size(), 0.0f);
  for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] / scales[grid.parameter(i)] + zeros[grid.parameter(i)];
  const bool saturate = ctx.opset < 19 || ctx.node.integer("saturate", 1) != 0;
  ctx.set_output(0, cast(Tensor::of<float>(x.dims(), y), type, {.saturate = saturate}));
}

void eval_quantize(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Grid grid = grid_of(ctx);
  const DType type = ctx.has_input(2) ? ctx.input(2).dtype() : asked_type(ctx);
  require_codes(ctx, type);
  if (is_small_float(type)) return quantize_to_floats(ctx, grid, type);
  const IntegerRange range = integer_range(type);
  const std::vector<float> values = to_floats(x), scales = to_floats(ctx.input(1));
  const std::vector<int64_t> zeros = ctx.has_input(2) ? to_ints(ctx.input(2)) : std::vector<int64_t>(scales.size(), 0);
  std::vector<double> y(values.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t p = grid.parameter(i);
    y[i] = saturating_round(values[i] / scales[p], zeros[p], range);
  }
  ctx.set_output(0, from_doubles(type, x.dims(), y));
}

template <typename Context>
DType dequantized_type(const Context& ctx, DType scale) {
  const int64_t asked = ctx.opset >= 23 ? ctx.node.integer("output_dtype", 0) : 0;
  if (asked < 0 || asked >= kDTypeCount || (asked != 0 && !is_float(static_cast<DType>(asked))))
    ctx.reject(fmt::format("output_dtype is no float type: {}", asked));
  return asked == 0 ? scale : static_cast<DType>(asked);
}

void eval_dequantize(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &scale = ctx.input(1);
  const Grid grid = grid_of(ctx);
  const std::vector<double> values = to_doubles(x);
  const std::vector<float> scales = to_floats(scale);
  const std::vector<double> zeros =
      ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(scales.size(), 0.0);
  Tensor y(DType::kFloat32, x.dims());
  const auto out = y.mutable_values<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t p = grid.parameter(i);
    out[i] = static_cast<float>(values[i] - zeros[p]) * scales[p];
  }
  ctx.set_output(0, cast(y, dequantized_type(ctx, scale.dtype())));
}

void infer_quantize(InferContext& ctx) {
  ctx.set_output(0, ctx.has_input(2) ? ctx.dtype(2) : asked_type(ctx), ctx.shape(0));
}
void infer_dequantize(InferContext& ctx) { ctx.set_output(0, dequantized_type(ctx, ctx.dtype(1)), ctx.shape(0)); }

// y_scale = (max(0, max x) − min(0, min x)) / 255; the zero point is where 0 falls.
void eval_dynamic_quantize(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::vector<float> values = to_floats(x);
  float low = 0, high = 0;
  for (float v : values) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const float spread = (high - low) / 255.0f, scale = spread > 0 ? spread : 1.0f;
  const IntegerRange range = integer_range(DType::kUint8);
  const double zero = saturating_round(-low / scale, 0, range);
  std::vector<double> y(values.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = saturating_round(values[i] / scale, static_cast<int64_t>(zero), range);
  ctx.set_output(0, from_doubles(DType::kUint8, x.dims(), y));
  ctx.set_output(1, Tensor::scalar<float>(scale));
  ctx.set_output(2, Tensor::scalar<uint8_t>(static_cast<uint8_t>(zero)));
}

void infer_dynamic_quantize(InferContext& ctx) {
  ctx.set_output(0, DType::kUint8, ctx.shape(0));
  ctx.set_output(1, DType::kFloat32, Shape(std::vector<Dim>{}));
  ctx.set_output(2, DType::kUint8, Shape(std::vector<Dim>{}));
}

// One scale for all, or one a slice of another axis.
void rows_of_grid(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext& c, size_t axis) {
    const Shape& scale = c.in.shape(1);
    if (!scale.has_rank() || c.node().integer("block_size", 0) != 0) return true;
    if (scale.rank() == 0 || scale == Shape({Dim(1)})) return false;
    const int64_t own = normalize_axis(c.node().integer("axis", 1), static_cast<int64_t>(c.rank(0)), c.node().label());
    return scale.rank() > 1 || own == static_cast<int64_t>(axis);
  });
}

}  // namespace

std::span<const OpSpec> quantization_ops() {
  static constexpr OpSpec kQuantizationOps[] = {
      {.name = "QuantizeLinear",
       .since = 10,
       .min_inputs = 2,
       .max_inputs = 3,
       .infer = infer_quantize,
       .eval = eval_quantize,
       .flops = flops_each<2>,
       .rows = rows_of_grid},
      {.name = "DequantizeLinear",
       .since = 10,
       .min_inputs = 2,
       .max_inputs = 3,
       .infer = infer_dequantize,
       .eval = eval_dequantize,
       .flops = flops_each<2>,
       .rows = rows_of_grid},
      {.name = "DynamicQuantizeLinear",
       .since = 11,
       .min_inputs = 1,
       .min_outputs = 3,
       .max_outputs = 3,
       .infer = infer_dynamic_quantize,
       .eval = eval_dynamic_quantize,
       .flops = flops_each<4>},
  };
  return kQuantizationOps;
}

}  // namespace slipway
