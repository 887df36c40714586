// Deformable convolution: each tap of the kernel reads the input at a place that is moved by its own offset, linearly
// between the elements around it, of which those outside are 0; a mask weighs what was read. Channels of one offset
// group share offsets and mask.
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr size_t kMostSampledAxes = 8;  // a sample reads 2 elements for each

// The value between the elements around a place, in a plane of these sizes.
double sample_plane(const double* plane, const Dims& sizes, const Dims& strides, const std::vector<double>& place) {
  double sum = 0;
  for (size_t corner = 0; corner < size_t{1} << sizes.size(); ++corner) {
    double weight = 1;
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size() && weight != 0; ++i) {
      const double floor = std::floor(place[i]), fraction = place[i] - floor;
      const bool high = (corner >> i & 1) != 0;
      const double index = floor + (high ? 1 : 0);
      weight *= high ? fraction : 1 - fraction;
      if (!(index >= 0 && index < static_cast<double>(sizes[i])))
        weight = 0;
      else
        at += static_cast<int64_t>(index) * strides[i];
    }
    if (weight != 0) sum += weight * plane[at];
  }
  return sum;
}

struct DeformGroups {
  int64_t channels, outputs, groups, offset_groups;
};

DeformGroups deform_groups(const EvalContext& ctx, const Dims& x, const Dims& w) {
  const DeformGroups g{x[1], w[0], ctx.node.integer("group", 1), ctx.node.integer("offset_group", 1)};
  if (g.groups < 1 || g.offset_groups < 1 || g.channels % g.groups != 0 || g.outputs % g.groups != 0 ||
      g.channels % g.offset_groups != 0 || w[1] != g.channels / g.groups)
    ctx.reject(fmt::format("{} groups and {} offset groups do not divide {} by {}", g.groups, g.offset_groups,
                           to_string(x), to_string(w)));
  return g;
}

void eval_deform_conv(EvalContext& ctx) {
  const Dims &x = ctx.input(0).dims(), &w = ctx.input(1).dims(), &offsets = ctx.input(2).dims();
  if (x.size() < 3 || x.size() > kMostSampledAxes + 2 || w.size() != x.size())
    ctx.reject(fmt::format("input {} and weights {} do not go together", to_string(x), to_string(w)));
  const DeformGroups g = deform_groups(ctx, x, w);
  const Window win = conv_window(ctx.node, x, w);
  const auto axes = static_cast<int64_t>(win.rank());
  const int64_t taps = element_count(win.kernel), places = element_count(win.output);
  Dims expected = {x[0], g.offset_groups * taps * axes};
  expected.insert(expected.end(), win.output.begin(), win.output.end());
  if (offsets != expected)
    ctx.reject(fmt::format("the offsets {} are not {}", to_string(offsets), to_string(expected)));
  expected[1] = g.offset_groups * taps;
  if (ctx.has_input(4) && ctx.input(4).dims() != expected)
    ctx.reject(fmt::format("the mask {} is not {}", to_string(ctx.input(4).dims()), to_string(expected)));
  if (ctx.has_input(3) && ctx.input(3).dims() != Dims{g.outputs}) ctx.reject("the bias is not one an output channel");
  const std::vector<double> input = to_doubles(ctx.input(0)), weights = to_doubles(ctx.input(1)),
                            moves = to_doubles(ctx.input(2));
  std::vector<double> bias(static_cast<size_t>(g.outputs), 0.0), mask;
  if (ctx.has_input(3)) bias = to_doubles(ctx.input(3));
  if (ctx.has_input(4)) mask = to_doubles(ctx.input(4));
  Dims dims = {x[0], g.outputs};
  dims.insert(dims.end(), win.output.begin(), win.output.end());
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  const Dims strides = strides_of(win.input);
  const int64_t plane = element_count(win.input), own = g.channels / g.groups, own_outputs = g.outputs / g.groups;
  const int64_t shared = g.channels / g.offset_groups;
  std::vector<double> read(static_cast<size_t>(g.channels * taps)), place(win.rank());
  for (int64_t n = 0; n < x[0]; ++n) {
    Dims at(win.rank(), 0);
    for (int64_t o = 0; o < places; ++o, next_index(at, win.output)) {
      Dims tap(win.rank(), 0);
      for (int64_t t = 0; t < taps; ++t, next_index(tap, win.kernel))
        for (int64_t group = 0; group < g.offset_groups; ++group) {
          const int64_t row = (n * g.offset_groups + group) * taps + t;
          for (int64_t i = 0; i < axes; ++i) {
            const auto axis = static_cast<size_t>(i);
            place[axis] = static_cast<double>(at[axis] * win.strides[axis] - win.pads_begin[axis] +
                                              tap[axis] * win.dilations[axis]) +
                          moves[static_cast<size_t>((row * axes + i) * places + o)];
          }
          const double weight = mask.empty() ? 1 : mask[static_cast<size_t>(row * places + o)];
          for (int64_t c = group * shared; c < (group + 1) * shared; ++c)
            read[static_cast<size_t>(c * taps + t)] =
                weight * sample_plane(input.data() + (n * g.channels + c) * plane, win.input, strides, place);
        }
      for (int64_t m = 0; m < g.outputs; ++m) {
        const double* from = read.data() + m / own_outputs * own * taps;
        const double* factors = weights.data() + m * own * taps;
        double sum = bias[static_cast<size_t>(m)];
        for (int64_t k = 0; k < own * taps; ++k) sum += from[k] * factors[k];
        y[static_cast<size_t>((n * g.outputs + m) * places + o)] = sum;
      }
    }
  }
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), dims, y));
}

// The offsets have the output's sizes.
void infer_deform_conv(InferContext& ctx) {
  const Shape &x = ctx.shape(0), &w = ctx.shape(1), &offsets = ctx.shape(2);
  Shape y = offsets.has_rank() ? offsets : x.has_rank() ? Shape::with_rank(x.rank()) : Shape();
  if (y.rank() >= 2) {
    y[0] = x.rank() == y.rank() ? x[0] : y[0];
    y[1] = w.rank() == y.rank() ? w[0] : Dim();
  }
  ctx.set_output(0, ctx.dtype(0), y);
}

double deform_conv_flops(const CostContext& ctx) {
  const Dims& w = ctx.inputs[1];
  if (w.empty()) return 0;
  return 2 * static_cast<double>(element_count(std::span(w).subspan(1))) *
         static_cast<double>(element_count(ctx.outputs[0]));
}

constexpr OpSpec kDeformConvOps[] = {
    {.name = "DeformConv",
     .since = 19,
     .min_inputs = 3,
     .max_inputs = 5,
     .infer = infer_deform_conv,
     .eval = eval_deform_conv,
     .flops = deform_conv_flops,
     .traits = kWeighted},
};

}  // namespace

std::span<const OpSpec> deform_conv_ops() { return kDeformConvOps; }

}  // namespace slipway
