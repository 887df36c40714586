// Pooling of regions of interest. RoiAlign samples each bin at a regular grid of points, bilinearly, and takes their
// mean or maximum; a point more than one element outside the picture counts as 0, one closer as the edge's. MaxRoiPool
// rounds regions and bins to whole elements.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

constexpr int64_t kMostPooled = 1 << 16;  // height or width of an output
constexpr double kMostSamples = 1 << 12;  // of a bin, along an axis

struct RegionSizes {
  int64_t batch = 0, channels = 0, height = 0, width = 0, regions = 0;
};

RegionSizes region_sizes(const EvalContext& ctx, int64_t columns) {
  const Dims &x = ctx.input(0).dims(), &rois = ctx.input(1).dims();
  if (x.size() != 4) ctx.reject(fmt::format("its input {} has not 4 axes", to_string(x)));
  if (rois.size() != 2 || rois[1] != columns)
    ctx.reject(fmt::format("the regions {} are not [regions,{}]", to_string(rois), columns));
  return {x[0], x[1], x[2], x[3], rois[0]};
}

int64_t pooled_size(const Node& node, std::string_view attribute, int64_t size) {
  if (size < 1 || size > kMostPooled) reject(node, fmt::format("{} is absurd: {}", attribute, size));
  return size;
}

// The two elements that a coordinate lies between, and their weights; both weights 0 outside.
struct Between {
  int64_t low = 0, high = 0;
  double low_weight = 0, high_weight = 0;
};

Between between(double place, int64_t size) {
  if (!(place >= -1 && place <= static_cast<double>(size)) || size == 0) return {};
  place = std::max(place, 0.0);
  const auto low = static_cast<int64_t>(place);
  if (low >= size - 1) return {size - 1, size - 1, 1, 0};
  const double fraction = place - static_cast<double>(low);
  return {low, low + 1, 1 - fraction, fraction};
}

// The sample points of all bins along one axis, bin after bin.
struct SampleLine {
  int64_t each = 0;
  std::vector<Between> points;
};

SampleLine sample_line(const EvalContext& ctx, double start, double extent, int64_t bins, int64_t ratio, int64_t size) {
  const double bin = extent / static_cast<double>(bins);
  const double each = ratio > 0 ? static_cast<double>(ratio) : std::ceil(bin);
  if (!(each <= kMostSamples)) ctx.reject(fmt::format("a bin takes {} samples along an axis", each));
  SampleLine line{std::max<int64_t>(static_cast<int64_t>(each), 0), {}};
  for (int64_t b = 0; b < bins; ++b)
    for (int64_t i = 0; i < line.each; ++i)
      line.points.push_back(between(
          start + static_cast<double>(b) * bin + (static_cast<double>(i) + 0.5) * bin / static_cast<double>(line.each),
          size));
  return line;
}

void eval_roi_align(EvalContext& ctx) {
  const RegionSizes n = region_sizes(ctx, 4);
  const int64_t out_height = pooled_size(ctx.node, "output_height", ctx.node.integer("output_height", 1));
  const int64_t out_width = pooled_size(ctx.node, "output_width", ctx.node.integer("output_width", 1));
  const std::string mode = ctx.node.text("mode", "avg");
  if (mode != "avg" && mode != "max") ctx.reject(fmt::format("mode is neither avg nor max: {}", mode));
  const std::string transform =
      ctx.opset < 16 ? "output_half_pixel" : ctx.node.text("coordinate_transformation_mode", "half_pixel");
  if (transform != "half_pixel" && transform != "output_half_pixel")
    ctx.reject(fmt::format("coordinate_transformation_mode is unknown: {}", transform));
  const bool half_pixel = transform == "half_pixel";
  const int64_t ratio = ctx.node.integer("sampling_ratio", 0);
  const double scale = ctx.node.real("spatial_scale", 1.0f), shift = half_pixel ? 0.5 : 0.0;
  const std::vector<double> x = to_doubles(ctx.input(0)), rois = to_doubles(ctx.input(1));
  const std::vector<int64_t> pictures = to_ints(ctx.input(2));
  if (static_cast<int64_t>(pictures.size()) != n.regions)
    ctx.reject(fmt::format("{} batch indices for {} regions", pictures.size(), n.regions));
  const Dims dims = {n.regions, n.channels, out_height, out_width};
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  size_t to = 0;
  for (int64_t r = 0; r < n.regions; ++r) {
    const int64_t picture = pictures[static_cast<size_t>(r)];
    if (picture < 0 || picture >= n.batch) ctx.reject(fmt::format("batch index {} is outside {}", picture, n.batch));
    const double* roi = rois.data() + r * 4;
    const double left = roi[0] * scale - shift, top = roi[1] * scale - shift;
    double width = roi[2] * scale - shift - left, height = roi[3] * scale - shift - top;
    if (!half_pixel) {
      width = std::max(width, 1.0);
      height = std::max(height, 1.0);
    }
    const SampleLine rows = sample_line(ctx, top, height, out_height, ratio, n.height);
    const SampleLine columns = sample_line(ctx, left, width, out_width, ratio, n.width);
    for (int64_t c = 0; c < n.channels; ++c) {
      const double* plane = x.data() + (picture * n.channels + c) * n.height * n.width;
      for (int64_t row = 0; row < out_height; ++row)
        for (int64_t column = 0; column < out_width; ++column) {
          double sum = 0, most = -INFINITY;
          for (int64_t i = 0; i < rows.each; ++i)
            for (int64_t k = 0; k < columns.each; ++k) {
              const Between& v = rows.points[static_cast<size_t>(row * rows.each + i)];
              const Between& h = columns.points[static_cast<size_t>(column * columns.each + k)];
              if (n.height * n.width == 0) continue;
              const double corners[] = {v.low_weight * h.low_weight * plane[v.low * n.width + h.low],
                                        v.low_weight * h.high_weight * plane[v.low * n.width + h.high],
                                        v.high_weight * h.low_weight * plane[v.high * n.width + h.low],
                                        v.high_weight * h.high_weight * plane[v.high * n.width + h.high]};
              for (double corner : corners) {
                sum += corner;
                most = std::max(most, corner);  // of the weighted corners, as the operator's definition has it
              }
            }
          const int64_t samples = rows.each * columns.each;
          y[to++] = samples == 0 ? 0 : mode == "max" ? most : sum / static_cast<double>(samples);
        }
    }
  }
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), dims, y));
}

Dim regions_of(const InferContext& ctx) { return ctx.shape(1).rank() == 2 ? ctx.shape(1)[0] : Dim(); }
Dim channels_of(const InferContext& ctx) { return ctx.shape(0).rank() == 4 ? ctx.shape(0)[1] : Dim(); }

void infer_roi_align(InferContext& ctx) {
  const int64_t height = pooled_size(ctx.node, "output_height", ctx.node.integer("output_height", 1));
  const int64_t width = pooled_size(ctx.node, "output_width", ctx.node.integer("output_width", 1));
  ctx.set_output(0, ctx.dtype(0), Shape({regions_of(ctx), channels_of(ctx), Dim(height), Dim(width)}));
}

std::vector<int64_t> pooled_shape(const Node& node) {
  const std::vector<int64_t> shape = node.integers("pooled_shape");
  if (shape.size() != 2) reject(node, "pooled_shape is not a height and a width");
  for (int64_t size : shape) pooled_size(node, "pooled_shape", size);
  return shape;
}

// The whole elements that bin `i` of `bins` covers of a region.
struct Bin {
  int64_t first, last;
};
Bin bin_of(int64_t i, int64_t bins, double start, double extent, int64_t size) {
  const double step = extent / static_cast<double>(bins), limit = static_cast<double>(size);
  return {static_cast<int64_t>(std::clamp(std::floor(static_cast<double>(i) * step) + start, 0.0, limit)),
          static_cast<int64_t>(std::clamp(std::ceil(static_cast<double>(i + 1) * step) + start, 0.0, limit))};
}

void eval_max_roi_pool(EvalContext& ctx) {
  const RegionSizes n = region_sizes(ctx, 5);
  const std::vector<int64_t> pooled = pooled_shape(ctx.node);
  const double scale = ctx.node.real("spatial_scale", 1.0f);
  const std::vector<double> x = to_doubles(ctx.input(0)), rois = to_doubles(ctx.input(1));
  const Dims dims = {n.regions, n.channels, pooled[0], pooled[1]};
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  size_t to = 0;
  for (int64_t r = 0; r < n.regions; ++r) {
    const double* roi = rois.data() + r * 5;
    if (!(roi[0] >= 0 && roi[0] < static_cast<double>(n.batch)))
      ctx.reject(fmt::format("batch index {} is outside {}", roi[0], n.batch));
    for (int k = 1; k < 5; ++k)
      if (!std::isfinite(roi[k])) ctx.reject("a region's corner is not finite");
    const double left = std::round(roi[1] * scale), top = std::round(roi[2] * scale);
    const double width = std::max(std::round(roi[3] * scale) - left + 1, 1.0);
    const double height = std::max(std::round(roi[4] * scale) - top + 1, 1.0);
    for (int64_t c = 0; c < n.channels; ++c) {
      const double* plane = x.data() + (static_cast<int64_t>(roi[0]) * n.channels + c) * n.height * n.width;
      for (int64_t row = 0; row < pooled[0]; ++row)
        for (int64_t column = 0; column < pooled[1]; ++column) {
          const Bin rows = bin_of(row, pooled[0], top, height, n.height);
          const Bin columns = bin_of(column, pooled[1], left, width, n.width);
          const bool empty = rows.last <= rows.first || columns.last <= columns.first;
          double most = empty ? 0 : -INFINITY;
          for (int64_t i = rows.first; i < rows.last; ++i)
            for (int64_t k = columns.first; k < columns.last; ++k) most = std::max(most, plane[i * n.width + k]);
          y[to++] = most;
        }
    }
  }
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), dims, y));
}

void infer_max_roi_pool(InferContext& ctx) {
  const std::vector<int64_t> pooled = pooled_shape(ctx.node);
  ctx.set_output(0, ctx.dtype(0), Shape({regions_of(ctx), channels_of(ctx), Dim(pooled[0]), Dim(pooled[1])}));
}

constexpr OpSpec kRegionOps[] = {
    {.name = "RoiAlign",
     .since = 10,
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_roi_align,
     .eval = eval_roi_align,
     .flops = flops_each<16>},
    {.name = "MaxRoiPool",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_max_roi_pool,
     .eval = eval_max_roi_pool,
     .flops = flops_each<4>},
};

}  // namespace

std::span<const OpSpec> region_ops() { return kRegionOps; }

}  // namespace slipway
