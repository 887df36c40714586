// GridSample over two or three spatial axes (Jaderberg et al., "Spatial transformer networks", 2015, §3.3). Each output
// point names a place in [-1, 1] per axis, last axis first; interpolation is separable: one, two or four taps an axis.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

enum class Padding { kZeros, kBorder, kReflection };

struct Sampler {
  std::string mode;
  Padding padding;
  bool align;
};

struct SampleTap {
  int64_t index;  ///< -1 reads zero
  double weight;
};

Sampler sampler_of(const EvalContext& ctx) {
  Sampler s{ctx.node.text("mode", "linear"), Padding::kZeros, ctx.node.integer("align_corners", 0) != 0};
  if (s.mode == "bilinear") s.mode = "linear";
  if (s.mode == "bicubic") s.mode = "cubic";
  if (s.mode != "linear" && s.mode != "nearest" && s.mode != "cubic")
    ctx.reject(fmt::format("attribute 'mode' is linear, nearest or cubic, not '{}'", s.mode));
  const std::string padding = ctx.node.text("padding_mode", "zeros");
  if (padding == "border")
    s.padding = Padding::kBorder;
  else if (padding == "reflection")
    s.padding = Padding::kReflection;
  else if (padding != "zeros")
    ctx.reject(fmt::format("attribute 'padding_mode' is zeros, border or reflection, not '{}'", padding));
  return s;
}

// Mirrors x at low and high until it lies between them.
double reflected(double x, double low, double high) {
  const double range = high - low;
  if (range <= 0) return low;
  const double phase = std::fmod(std::fabs(x - low), 2 * range);
  return low + (phase > range ? 2 * range - phase : phase);
}

double padded(const Sampler& s, double x, int64_t size) {
  const auto last = static_cast<double>(size - 1);
  if (s.padding == Padding::kBorder) return std::clamp(x, 0.0, last);
  if (s.padding == Padding::kZeros) return x;
  return std::clamp(s.align ? reflected(x, 0, last) : reflected(x, -0.5, last + 0.5), 0.0, last);
}

// Keys's kernel with a = -0.75.
double cubic_weight(double distance) {
  constexpr double a = -0.75;
  const double d = std::fabs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

std::vector<SampleTap> taps_of(const Sampler& s, double place, int64_t size) {
  constexpr double kFar = 1e9;
  if (std::isnan(place)) place = -kFar;
  place = std::clamp(place, -kFar, kFar);
  const auto length = static_cast<double>(size);
  double x = s.align ? (place + 1) / 2 * (length - 1) : ((place + 1) * length - 1) / 2;
  if (s.mode != "cubic") x = padded(s, x, size);
  const auto resolve = [&](double at) -> int64_t {
    at = padded(s, at, size);
    return at >= 0 && at <= length - 1 ? static_cast<int64_t>(std::nearbyint(at)) : -1;
  };
  if (s.mode == "nearest") return {{resolve(std::nearbyint(x)), 1.0}};
  const double base = std::floor(x);
  if (s.mode == "linear") return {{resolve(base), 1 - (x - base)}, {resolve(base + 1), x - base}};
  std::vector<SampleTap> taps;
  for (double at = base - 1; at <= base + 2; ++at) taps.push_back({resolve(at), cubic_weight(x - at)});
  return taps;
}

void infer_grid_sample(InferContext& ctx) {
  const Shape &x = ctx.shape(0), &grid = ctx.shape(1);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!x.has_rank() || !grid.has_rank()) return;
  if (x.rank() < 4 || x.rank() > 5 || grid.rank() != x.rank()) ctx.reject("it takes four or five dimensions");
  Shape shape = grid;
  shape[shape.rank() - 1] = Dim();
  for (size_t i = shape.rank() - 1; i > 1; --i) shape[i] = grid[i - 1];
  shape[0] = x[0];
  shape[1] = x[1];
  ctx.set_output(0, ctx.dtype(0), shape);
}

// The weighted sum over all combinations of the axes' taps.
double sample(const double* plane, const std::vector<std::vector<SampleTap>>& taps, const Dims& strides, size_t axis) {
  if (axis == taps.size()) return *plane;
  double total = 0;
  for (const SampleTap& tap : taps[axis])
    if (tap.index >= 0 && tap.weight != 0)
      total += tap.weight * sample(plane + tap.index * strides[axis], taps, strides, axis + 1);
  return total;
}

void eval_grid_sample(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &grid = ctx.input(1);
  const auto rank = static_cast<size_t>(x.rank());
  const size_t axes = rank - 2;
  if (rank < 4 || rank > 5 || grid.dims().size() != rank || grid.dims()[0] != x.dims()[0] ||
      grid.dims().back() != static_cast<int64_t>(axes))
    ctx.reject(fmt::format("its grid {} does not fit its input {}", to_string(grid.dims()), to_string(x.dims())));
  const Sampler sampler = sampler_of(ctx);
  const Dims space(x.dims().begin() + 2, x.dims().end());
  Dims dims = {x.dims()[0], x.dims()[1]};
  dims.insert(dims.end(), grid.dims().begin() + 1, grid.dims().end() - 1);
  const int64_t channels = dims[1], points = element_count(std::span(dims).subspan(2)), plane = element_count(space);
  if (bounded_count(dims) == 0) return ctx.set_output(0, Tensor(x.dtype(), dims));
  if (plane == 0) ctx.reject("it samples an empty input");
  const std::vector<double> values = to_doubles(x), places = to_doubles(grid);
  std::vector<double> out(static_cast<size_t>(element_count(dims)));
  const Dims strides = strides_of(space);
  std::vector<std::vector<SampleTap>> taps(axes);
  for (int64_t point = 0; point < dims[0] * points; ++point) {
    for (size_t axis = 0; axis < axes; ++axis)
      taps[axis] = taps_of(sampler, places[static_cast<size_t>(point) * axes + axes - 1 - axis], space[axis]);
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t from = point / points * channels + c;
      out[static_cast<size_t>(from * points + point % points)] = sample(values.data() + from * plane, taps, strides, 0);
    }
  }
  ctx.set_output(0, from_doubles(x.dtype(), dims, out));
}

double grid_sample_flops(const CostContext& ctx) { return 8 * static_cast<double>(element_count(ctx.outputs[0])); }

void rows_of_grid_sample(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  if (!ctx.is_along(0) || !ctx.is_along(1) || ctx.rows(0).axis != 0 || ctx.rows(1).axis != 0 ||
      ctx.rows(0).block != ctx.rows(1).block)
    return ctx.mixes("its grid and its input do not both hold the rows along axis 0");
  ctx.set_along(0, ctx.rows(0).block);
}

// The sizes of AffineGrid's output in space, from the picture's [N, C, …, H, W].
std::vector<Dim> affine_space(const Node& node, std::span<const Dim> size, const Shape& theta) {
  if (size.size() != 4 && size.size() != 5) reject(node, fmt::format("size has {} entries, not 4 or 5", size.size()));
  const auto axes = static_cast<int64_t>(size.size() - 2);
  const bool fits = !theta.has_rank() || (theta.rank() == 3 && (!theta[1].is_known() || theta[1] == Dim(axes)) &&
                                          (!theta[2].is_known() || theta[2] == Dim(axes + 1)));
  if (!fits) reject(node, fmt::format("theta {} is no matrix of {} axes", to_string(theta), axes));
  return {size.begin() + 2, size.end()};
}

void infer_affine_grid(InferContext& ctx) {
  const auto size = ctx.dims(1);
  const Shape& theta = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!size) return;
  std::vector<Dim> dims = affine_space(ctx.node, *size, theta);
  const auto axes = static_cast<int64_t>(dims.size());
  dims.insert(dims.begin(), theta.rank() == 3 && theta[0].is_known() ? theta[0] : (*size)[0]);
  dims.emplace_back(axes);
  ctx.set_output(0, ctx.dtype(0), Shape(std::move(dims)));
}

// Evenly from −1 to 1: between the middles of the outer elements, or between their edges.
double affine_place(int64_t i, int64_t size, bool align_corners) {
  if (align_corners) return size == 1 ? 0 : -1 + 2 * static_cast<double>(i) / static_cast<double>(size - 1);
  return (2 * static_cast<double>(i) + 1) / static_cast<double>(size) - 1;
}

void eval_affine_grid(EvalContext& ctx) {
  const Tensor& theta = ctx.input(0);
  const Dims size = to_ints(ctx.input(1));
  for (int64_t s : size)
    if (s < 0) ctx.reject(fmt::format("a size is negative: {}", s));
  const Dims space = Shape(affine_space(ctx.node, Shape::of(size).dims(), Shape::of(theta.dims()))).to_dims();
  const size_t axes = space.size();
  if (theta.dims()[0] != size[0]) ctx.reject(fmt::format("{} matrices for {} pictures", theta.dims()[0], size[0]));
  Dims dims = space;
  dims.insert(dims.begin(), size[0]);
  dims.push_back(static_cast<int64_t>(axes));
  std::vector<double> out(static_cast<size_t>(bounded_count(dims)));
  const std::vector<double> matrices = to_doubles(theta);
  const bool align_corners = ctx.node.integer("align_corners", 0) != 0;
  const int64_t points = element_count(space);
  const Dims strides = strides_of(space);
  size_t to = 0;
  for (int64_t n = 0; n < size[0]; ++n)
    for (int64_t point = 0; point < points; ++point)
      for (size_t row = 0; row < axes; ++row) {
        const double* factors = matrices.data() + (static_cast<size_t>(n) * axes + row) * (axes + 1);
        double sum = factors[axes];
        for (size_t k = 0; k < axes; ++k) {  // x comes first, and lies along the last axis
          const size_t axis = axes - 1 - k;
          sum += factors[k] * affine_place(point / strides[axis] % space[axis], space[axis], align_corners);
        }
        out[to++] = sum;
      }
  ctx.set_output(0, from_doubles(theta.dtype(), dims, out));
}

constexpr OpSpec kGridSampleOps[] = {
    {.name = "AffineGrid",
     .since = 20,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_affine_grid,
     .eval = eval_affine_grid,
     .flops = flops_each<6>},
    {.name = "GridSample",
     .since = 16,
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_grid_sample,
     .eval = eval_grid_sample,
     .flops = grid_sample_flops,
     .rows = rows_of_grid_sample},
};

}  // namespace

std::span<const OpSpec> grid_sample_ops() { return kGridSampleOps; }

}  // namespace slipway
