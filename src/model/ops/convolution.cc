// Conv, ConvTranspose, ConvInteger, QLinearConv. The reference walks output rows: for each one the kernel rows that
// meet the input are listed once, then every tap adds a scaled input row to the output row, so the innermost loop is
// long and plain. Floats accumulate in double; integers modulo 2^32, which is exact for ONNX's int32 results.
#include "model/ops/convolution.h"

#include <algorithm>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/quantization.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

int64_t read_group(const Node& node, int64_t channels) {
  const int64_t group = node.integer("group", 1);
  if (group < 1 || channels % group != 0)
    reject(node, fmt::format("the group {} does not divide {} channels", group, channels));
  return group;
}

// The leading spatial axes: all but the last.
std::span<const int64_t> outer(const Dims& dims) { return std::span(dims).first(dims.size() - 1); }

void require_bias(const EvalContext& ctx, size_t index, int64_t channels) {
  if (ctx.has_input(index) && ctx.input(index).elements() != channels)
    ctx.reject(fmt::format("the bias has {} elements, not {}", ctx.input(index).elements(), channels));
}

void eval_conv(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  const ConvGeometry g = conv_geometry(ctx.node, x.dims(), w.dims());
  require_bias(ctx, 2, g.out_channels);
  const std::vector<double> bias = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>();
  ctx.set_output(0, from_doubles(x.dtype(), g.output(), convolve<double>(g, to_doubles(x), to_doubles(w), bias)));
}

void eval_conv_transpose(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  const Window win = conv_transpose_window(ctx.node, x.dims(), w.dims());
  const int64_t batch = x.dims()[0], in_channels = x.dims()[1], per_group = w.dims()[1];
  const int64_t group = read_group(ctx.node, in_channels), group_in = in_channels / group;
  if (w.dims()[0] != in_channels) ctx.reject("the weights' first dimension is not the input's channels");
  Dims dims = {batch, per_group * group};
  dims.insert(dims.end(), win.output.begin(), win.output.end());
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  if (y.empty()) return ctx.set_output(0, Tensor(x.dtype(), dims));
  require_bias(ctx, 2, dims[1]);
  const std::vector<double> source = to_doubles(x), weights = to_doubles(w);
  const size_t last = win.rank() - 1;
  const int64_t in_width = win.input[last], out_width = win.output[last], width = win.kernel[last];
  const int64_t in_plane = element_count(win.input), out_plane = element_count(win.output),
                taps_all = element_count(win.kernel);

  if (ctx.has_input(2) && out_plane > 0) {
    const std::vector<double> bias = to_doubles(ctx.input(2));
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = bias[i / static_cast<size_t>(out_plane) % static_cast<size_t>(dims[1])];
  }
  std::vector<Tap> taps;
  Dims at(last, 0);
  int64_t row = 0;
  do {
    taps_at(win, outer(win.output), at, taps);
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t c = 0; c < in_channels; ++c) {
        const double* in = &source[static_cast<size_t>((n * in_channels + c) * in_plane + row * in_width)];
        for (int64_t m = 0; m < per_group; ++m) {
          double* out = &y[static_cast<size_t>((n * dims[1] + c / group_in * per_group + m) * out_plane)];
          const double* kernel = &weights[static_cast<size_t>((c * per_group + m) * taps_all)];
          for (const Tap& tap : taps)
            for (int64_t k = 0; k < width; ++k) {
              const Range range = tap_range(win, last, k, in_width, out_width);
              double* to = out + tap.source * out_width + k * win.dilations[last] - win.pads_begin[last];
              const double weight = kernel[tap.kernel * width + k];
              for (int64_t i = range.first; i < range.last; ++i) to[i * win.strides[last]] += weight * in[i];
            }
        }
      }
    ++row;
  } while (next_index(at, outer(win.input)));
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

std::vector<int64_t> zero_points(const EvalContext& ctx, size_t index, int64_t channels) {
  if (!ctx.has_input(index)) return {0};
  std::vector<int64_t> values = to_ints(ctx.input(index));
  if (values.size() != 1 && static_cast<int64_t>(values.size()) != channels)
    ctx.reject(fmt::format("input {} has {} elements, not 1 or {}", index, values.size(), channels));
  return values;
}

std::vector<uint32_t> integer_convolution(const EvalContext& ctx, const ConvGeometry& g, size_t x, size_t x_zero,
                                          size_t w, size_t w_zero, std::span<const uint32_t> bias) {
  const auto xs = centred(ctx.input(x), zero_points(ctx, x_zero, 1), 1);
  const auto ws = centred(ctx.input(w), zero_points(ctx, w_zero, g.out_channels), g.out_channels);
  return convolve<uint32_t>(g, xs, ws, bias);
}

void eval_conv_integer(EvalContext& ctx) {
  const ConvGeometry g = conv_geometry(ctx.node, ctx.input(0).dims(), ctx.input(1).dims());
  const std::vector<uint32_t> sums = integer_convolution(ctx, g, 0, 2, 1, 3, {});
  ctx.set_output(0, Tensor::of<int32_t>(g.output(), std::vector<int32_t>(sums.begin(), sums.end())));
}

// Inputs: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias.
void eval_qlinear_conv(EvalContext& ctx) {
  const ConvGeometry g = conv_geometry(ctx.node, ctx.input(0).dims(), ctx.input(3).dims());
  require_bias(ctx, 8, g.out_channels);
  std::vector<uint32_t> bias;
  if (ctx.has_input(8))
    for (int64_t b : to_ints(ctx.input(8))) bias.push_back(static_cast<uint32_t>(b));
  const std::vector<uint32_t> sums = integer_convolution(ctx, g, 0, 2, 3, 5, bias);
  const std::vector<double> w_scale = to_doubles(ctx.input(4));
  const Tensor &x_scale = ctx.input(1), &y_scale = ctx.input(6), &y_zero = ctx.input(7);
  if (x_scale.elements() != 1 || y_scale.elements() != 1 || y_zero.elements() != 1)
    ctx.reject("the scale or zero point of an activation is not a scalar");
  if (w_scale.size() != 1 && static_cast<int64_t>(w_scale.size()) != g.out_channels)
    ctx.reject(fmt::format("the weights have {} scales, not 1 or {}", w_scale.size(), g.out_channels));
  const double ratio = to_doubles(x_scale)[0] / to_doubles(y_scale)[0];
  const int64_t zero = to_ints(y_zero)[0];
  const IntegerRange range = integer_range(y_zero.dtype());
  const size_t plane = static_cast<size_t>(element_count(g.window.output)),
               channels = static_cast<size_t>(g.out_channels);
  std::vector<double> y(sums.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const double scale = ratio * w_scale[w_scale.size() == 1 ? 0 : i / plane % channels];
    y[i] = saturating_round(static_cast<int32_t>(sums[i]) * scale, zero, range);
  }
  ctx.set_output(0, from_doubles(y_zero.dtype(), g.output(), y));
}

// The weights' spatial dims or kernel_shape, when known.
std::optional<WindowAttributes> known_window(const InferContext& ctx, const Shape& w) {
  Dims kernel;
  if (w.has_rank() && w.rank() < 3) ctx.reject(fmt::format("the weights have rank {}, less than 3", w.rank()));
  for (size_t i = 2; i < w.rank(); ++i)
    if (w[i].is_known()) kernel.push_back(w[i].value());
  if (w.has_rank() && kernel.size() + 2 == w.rank()) return read_window(ctx.node, kernel);
  if (ctx.node.has("kernel_shape")) return read_window(ctx.node);
  return std::nullopt;
}

template <bool kTransposed>
void infer_convolution(InferContext& ctx, size_t x_index, size_t w_index, DType dtype) {
  const Shape &x = ctx.shape(x_index), &w = ctx.shape(w_index);
  if (!x.has_rank()) {
    ctx.set_output(0, dtype, w.has_rank() ? Shape::with_rank(w.rank()) : Shape());
    return;
  }
  if (x.rank() < 3) ctx.reject(fmt::format("the input has rank {}, less than 3", x.rank()));
  if (w.has_rank() && w.rank() != x.rank())
    ctx.reject(fmt::format("the weights have rank {}, the input {}", w.rank(), x.rank()));
  Shape y = Shape::with_rank(x.rank());
  y[0] = x[0];
  if (w.has_rank() && x[1].is_known()) {
    const int64_t group = read_group(ctx.node, x[1].value());
    const Dim& seen = kTransposed ? w[0] : w[1];
    const int64_t expected = kTransposed ? x[1].value() : x[1].value() / group;
    if (seen.is_known() && seen.value() != expected)
      ctx.reject(fmt::format("the weights {} do not fit {} channels in {} groups", to_string(w), x[1].value(), group));
  }
  if (w.has_rank() && !kTransposed) y[1] = w[0];
  if (w.has_rank() && kTransposed && w[1].is_known()) {
    const int64_t group = ctx.node.integer("group", 1);
    if (group < 1 || group > int64_t{1} << 32 || w[1].value() > int64_t{1} << 30)
      ctx.reject(fmt::format("the group is out of range: {}", group));
    y[1] = w[1].value() * group;
  }
  if (const auto window = known_window(ctx, w)) {
    const std::span<const Dim> spatial = std::span(x.dims()).subspan(2);
    const std::vector<Dim> sizes =
        kTransposed ? transposed_window_output(ctx.node, *window, spatial) : window_output(ctx.node, *window, spatial);
    for (size_t i = 0; i < sizes.size(); ++i) y[i + 2] = sizes[i];
  }
  ctx.set_output(0, dtype, y);
}

void infer_conv(InferContext& ctx) { infer_convolution<false>(ctx, 0, 1, ctx.dtype(0)); }
void infer_conv_transpose(InferContext& ctx) { infer_convolution<true>(ctx, 0, 1, ctx.dtype(0)); }
void infer_conv_integer(InferContext& ctx) { infer_convolution<false>(ctx, 0, 1, DType::kInt32); }
void infer_qlinear_conv(InferContext& ctx) { infer_convolution<false>(ctx, 0, 3, ctx.dtype(7)); }

// Two a multiply-add: each output element meets one filter (conv), each input element one kernel per output channel.
template <size_t kWeights>
double conv_flops(const CostContext& ctx) {
  const Dims& w = ctx.inputs[kWeights];
  return w.empty() ? 0.0
                   : 2.0 * static_cast<double>(element_count(ctx.outputs[0])) * static_cast<double>(element_count(w)) /
                         static_cast<double>(std::max<int64_t>(w[0], 1));
}
double conv_transpose_flops(const CostContext& ctx) {
  const Dims& w = ctx.inputs[1];
  return w.empty() ? 0.0
                   : 2.0 * static_cast<double>(element_count(ctx.inputs[0])) * static_cast<double>(element_count(w)) /
                         static_cast<double>(std::max<int64_t>(w[0], 1));
}

}  // namespace

Dims ConvGeometry::output() const {
  Dims dims = {batch, out_channels};
  dims.insert(dims.end(), window.output.begin(), window.output.end());
  return dims;
}

ConvGeometry conv_geometry(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w) {
  ConvGeometry g{.window = conv_window(node, x, w)};
  g.batch = x[0];
  g.in_channels = x[1];
  g.out_channels = w[0];
  g.group = read_group(node, x[1]);
  if (w[1] != x[1] / g.group)
    reject(node, fmt::format("the weights {} do not fit {} channels in {} groups", to_string(w), x[1], g.group));
  if (g.out_channels % g.group != 0)
    reject(node, fmt::format("the group {} does not divide {} output channels", g.group, g.out_channels));
  return g;
}

template <typename T>
std::vector<T> convolve(const ConvGeometry& g, std::span<const T> x, std::span<const T> w, std::span<const T> bias) {
  const Window& win = g.window;
  std::vector<T> y(static_cast<size_t>(bounded_count(g.output())));
  if (y.empty()) return y;
  const size_t last = win.rank() - 1;
  const int64_t in_width = win.input[last], out_width = win.output[last], width = win.kernel[last];
  const int64_t in_plane = element_count(win.input), out_plane = element_count(win.output),
                taps_all = element_count(win.kernel);
  const int64_t group_in = g.in_channels / g.group, group_out = g.out_channels / g.group;
  const int64_t stride = win.strides[last];
  struct Column {
    int64_t k, shift;
    Range range;
  };
  std::vector<Column> columns;
  for (int64_t k = 0; k < width; ++k) {
    const Range range = tap_range(win, last, k, out_width, in_width);
    if (range.first < range.last) columns.push_back({k, k * win.dilations[last] - win.pads_begin[last], range});
  }
  std::vector<Tap> taps;
  Dims at(last, 0);
  int64_t row = 0;
  do {
    taps_at(win, outer(win.input), at, taps);
    for (int64_t n = 0; n < g.batch; ++n)
      for (int64_t m = 0; m < g.out_channels; ++m) {
        T* out = &y[static_cast<size_t>((n * g.out_channels + m) * out_plane + row * out_width)];
        std::fill_n(out, out_width, bias.empty() ? T{0} : bias[static_cast<size_t>(m)]);
        for (int64_t c = 0; c < group_in; ++c) {
          const T* in = x.data() + (n * g.in_channels + m / group_out * group_in + c) * in_plane;
          const T* kernel = w.data() + (m * group_in + c) * taps_all;
          for (const Tap& tap : taps)
            for (const Column& column : columns) {
              const T weight = kernel[tap.kernel * width + column.k];
              const T* from = in + tap.source * in_width + column.shift;
              if (stride == 1)
                for (int64_t i = column.range.first; i < column.range.last; ++i) out[i] += weight * from[i];
              else
                for (int64_t i = column.range.first; i < column.range.last; ++i) out[i] += weight * from[i * stride];
            }
        }
      }
    ++row;
  } while (next_index(at, outer(win.output)));
  return y;
}
template std::vector<double> convolve(const ConvGeometry&, std::span<const double>, std::span<const double>,
                                      std::span<const double>);
template std::vector<uint32_t> convolve(const ConvGeometry&, std::span<const uint32_t>, std::span<const uint32_t>,
                                        std::span<const uint32_t>);

std::vector<uint32_t> centred(const Tensor& x, std::span<const int64_t> zero_points, int64_t channels) {
  const std::vector<int64_t> values = to_ints(x);
  const size_t part = values.size() / static_cast<size_t>(std::max<int64_t>(channels, 1));
  std::vector<uint32_t> out(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    out[i] =
        static_cast<uint32_t>(values[i]) - static_cast<uint32_t>(zero_points[zero_points.size() == 1 ? 0 : i / part]);
  return out;
}

std::span<const OpSpec> convolution_ops() {
  static constexpr OpSpec kConvolutionOps[] = {
      {.name = "Conv",
       .min_inputs = 2,
       .max_inputs = 3,
       .infer = infer_conv,
       .eval = eval_conv,
       .flops = conv_flops<1>,
       .rows = rows_first_axis,
       .traits = kWeighted},
      {.name = "ConvTranspose",
       .min_inputs = 2,
       .max_inputs = 3,
       .infer = infer_conv_transpose,
       .eval = eval_conv_transpose,
       .flops = conv_transpose_flops,
       .rows = rows_first_axis,
       .traits = kWeighted},
      {.name = "ConvInteger",
       .since = 10,
       .min_inputs = 2,
       .max_inputs = 4,
       .infer = infer_conv_integer,
       .eval = eval_conv_integer,
       .flops = conv_flops<1>,
       .rows = rows_first_axis,
       .traits = kWeighted},
      {.name = "QLinearConv",
       .since = 10,
       .min_inputs = 8,
       .max_inputs = 9,
       .infer = infer_qlinear_conv,
       .eval = eval_qlinear_conv,
       .flops = conv_flops<3>,
       .rows = rows_first_axis,
       .traits = kWeighted},
  };
  return kConvolutionOps;
}

}  // namespace slipway
