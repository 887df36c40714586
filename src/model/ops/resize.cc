// Resize and Upsample. Every output coordinate of an axis maps back to a real input coordinate (the modes of the ONNX
// specification) and becomes a few input indices with weights: one (nearest), two (linear), four (cubic: Keys, "Cubic
// convolution interpolation", 1981), more with antialiasing. Interpolation is separable: axis after axis, in double.
// Nearest copies values of any type.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

// One axis: its sizes, its scale, and for tf_crop_and_resize the part of the input that is shown.
struct AxisPlan {
  int64_t from = 0, to = 0;
  double scale = 1, roi_start = 0, roi_end = 1;
  bool touched = false;
};

struct ResizeTap {
  int64_t index;
  double weight;
};
struct Taps {
  std::vector<ResizeTap> taps;
  bool outside = false;  ///< beyond the cropped part: takes the extrapolation value
};

// What the node asks of each axis, where known: a scale (as float) or a size.
struct Request {
  bool known = false;
  bool by_size = false;
  std::vector<double> scales;
  std::vector<int64_t> sizes;
  std::vector<int64_t> axes;
};

std::vector<double> given_scales(const InferContext& ctx, size_t input) {
  return to_doubles(*ctx.input(input).constant);
}
std::vector<double> given_scales(const EvalContext& ctx, size_t input) { return to_doubles(ctx.input(input)); }
std::vector<int64_t> given_sizes(const InferContext& ctx, size_t input) { return *ctx.ints(input); }
std::vector<int64_t> given_sizes(const EvalContext& ctx, size_t input) { return to_ints(ctx.input(input)); }
bool is_known(const InferContext& ctx, size_t input) { return ctx.input(input).constant != nullptr; }
bool is_known(const EvalContext&, size_t) { return true; }
bool is_empty(const InferContext& ctx, size_t input) {
  const std::vector<Dim>& dims = ctx.shape(input).dims();
  return std::find(dims.begin(), dims.end(), Dim(0)) != dims.end();
}
bool is_empty(const EvalContext& ctx, size_t input) { return ctx.input(input).elements() == 0; }

template <typename Context>
Request request_of(const Context& ctx, int64_t rank) {
  Request request;
  const bool modern = ctx.node.op_type == "Resize" && ctx.opset >= 11;
  const size_t scales = modern ? 2 : 1;
  request.axes = ctx.node.integers("axes");
  if (request.axes.empty())
    for (int64_t i = 0; i < rank; ++i) request.axes.push_back(i);
  request.axes = normalize_axes(request.axes, rank, ctx.node);
  if (ctx.node.has("scales")) {
    for (float s : ctx.node.reals("scales")) request.scales.push_back(static_cast<double>(s));
  } else if (modern && ctx.has_input(3) && !is_empty(ctx, 3)) {
    request.by_size = true;
    if (!is_known(ctx, 3)) return request;
    request.sizes = given_sizes(ctx, 3);
  } else {
    if (!ctx.has_input(scales) || is_empty(ctx, scales)) ctx.reject("it has neither scales nor sizes");
    if (!is_known(ctx, scales)) return request;
    request.scales = given_scales(ctx, scales);
  }
  request.known = true;
  if ((request.by_size ? request.sizes.size() : request.scales.size()) != request.axes.size())
    ctx.reject("it takes one scale or size per axis");
  for (double s : request.scales)
    if (!(s > 0) || s > 1e6) ctx.reject(fmt::format("a scale is not a positive number of reason: {}", s));
  for (int64_t s : request.sizes)
    if (s < 1) ctx.reject(fmt::format("a size is not positive: {}", s));
  return request;
}

// As float, as the specification's own inference computes it.
int64_t scaled_size(int64_t size, double scale) {
  constexpr float kFar = 0x1p60f;
  return static_cast<int64_t>(std::min(kFar, std::floor(static_cast<float>(size) * static_cast<float>(scale))));
}

// keep_aspect_ratio_policy: one scale for all axes, the smallest or the largest that the sizes ask for.
template <typename Context>
void keep_aspect(const Context& ctx, std::vector<AxisPlan>& plans, const Request& request) {
  const std::string policy = ctx.node.text("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch" || !request.by_size) return;
  if (policy != "not_larger" && policy != "not_smaller")
    ctx.reject(fmt::format("attribute 'keep_aspect_ratio_policy' is not known: '{}'", policy));
  double scale = 0;
  for (size_t i = 0; i < request.axes.size(); ++i) {
    const double own = plans[static_cast<size_t>(request.axes[i])].scale;
    if (i == 0 || (policy == "not_larger" ? own < scale : own > scale)) scale = own;
  }
  for (int64_t axis : request.axes) {
    AxisPlan& plan = plans[static_cast<size_t>(axis)];
    plan.scale = scale;
    plan.to = static_cast<int64_t>(std::floor(scale * static_cast<double>(plan.from) + 0.5));
  }
}

template <typename Context>
std::vector<AxisPlan> plans_of(const Context& ctx, const Dims& from, const Request& request) {
  std::vector<AxisPlan> plans(from.size());
  for (size_t i = 0; i < from.size(); ++i) plans[i].from = plans[i].to = from[i];
  for (size_t i = 0; i < request.axes.size(); ++i) {
    AxisPlan& plan = plans[static_cast<size_t>(request.axes[i])];
    if (plan.from == 0) ctx.reject("it resizes an empty axis");
    plan.to = request.by_size ? request.sizes[i] : scaled_size(plan.from, request.scales[i]);
    plan.scale = request.by_size ? static_cast<double>(plan.to) / static_cast<double>(plan.from) : request.scales[i];
  }
  keep_aspect(ctx, plans, request);
  for (AxisPlan& plan : plans) plan.touched = plan.to != plan.from || plan.scale != 1;
  return plans;
}

void infer_resize(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!from.has_rank()) return;
  const auto rank = static_cast<int64_t>(from.rank());
  const Request request = request_of(ctx, rank);
  Shape shape = from;
  std::optional<std::vector<Dim>> symbolic;
  if (request.by_size) symbolic = contents(ctx, 3);
  if (from.is_static() && request.known) {
    const std::vector<AxisPlan> plans = plans_of(ctx, from.to_dims(), request);
    for (size_t i = 0; i < plans.size(); ++i) shape[i] = Dim(plans[i].to);
  } else {
    const bool stretch = ctx.node.text("keep_aspect_ratio_policy", "stretch") == "stretch";
    for (size_t i = 0; i < request.axes.size(); ++i) {
      Dim& dim = shape[static_cast<size_t>(request.axes[i])];
      if (request.by_size)
        dim = stretch && symbolic && symbolic->size() == request.axes.size() ? (*symbolic)[i] : Dim();
      else if (!request.known)
        dim = Dim();
      else if (request.scales[i] != 1)
        dim = dim.is_known() ? Dim(scaled_size(dim.value(), request.scales[i])) : Dim();
    }
  }
  ctx.set_output(0, ctx.dtype(0), shape);
}

// The input coordinate that output coordinate `at` shows.
double source_coordinate(const EvalContext& ctx, const std::string& mode, const AxisPlan& plan, double at) {
  const auto from = static_cast<double>(plan.from), to = static_cast<double>(plan.to);
  if (mode == "half_pixel") return (at + 0.5) / plan.scale - 0.5;
  if (mode == "asymmetric") return at / plan.scale;
  if (mode == "align_corners") return plan.to == 1 ? 0 : at * (from - 1) / (to - 1);
  if (mode == "pytorch_half_pixel") return plan.to > 1 ? (at + 0.5) / plan.scale - 0.5 : 0;
  if (mode == "tf_half_pixel_for_nn") return (at + 0.5) / plan.scale;
  if (mode == "half_pixel_symmetric") {
    const double adjustment = to / (plan.scale * from);
    return from / 2 * (1 - adjustment) + (at + 0.5) / plan.scale - 0.5;
  }
  if (mode == "tf_crop_and_resize") {
    if (plan.to == 1) return 0.5 * (plan.roi_start + plan.roi_end) * (from - 1);
    return plan.roi_start * (from - 1) + at * (plan.roi_end - plan.roi_start) * (from - 1) / (to - 1);
  }
  ctx.reject(fmt::format("attribute 'coordinate_transformation_mode' is not known: '{}'", mode));
}

double cubic_weight(double distance, double a) {
  const double d = std::fabs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

int64_t nearest_index(const EvalContext& ctx, const std::string& mode, double x) {
  if (mode == "round_prefer_floor") return static_cast<int64_t>(std::ceil(x - 0.5));
  if (mode == "round_prefer_ceil") return static_cast<int64_t>(std::floor(x + 0.5));
  if (mode == "floor") return static_cast<int64_t>(std::floor(x));
  if (mode == "ceil") return static_cast<int64_t>(std::ceil(x));
  ctx.reject(fmt::format("attribute 'nearest_mode' is not known: '{}'", mode));
}

struct Settings {
  std::string mode, coordinates, nearest;
  double cubic_a;
  bool exclude_outside, antialias;
};

Settings settings_of(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const bool modern = node.op_type == "Resize" && ctx.opset >= 11;
  Settings s{node.text("mode", "nearest"),
             node.text("coordinate_transformation_mode", modern ? "half_pixel" : "asymmetric"),
             node.text("nearest_mode", modern ? "round_prefer_floor" : "floor"),
             static_cast<double>(node.real("cubic_coeff_a", -0.75f)),
             node.integer("exclude_outside", 0) != 0,
             node.integer("antialias", 0) != 0};
  if (s.mode == "bilinear") s.mode = "linear";
  if (s.mode != "nearest" && s.mode != "linear" && s.mode != "cubic")
    ctx.reject(fmt::format("attribute 'mode' is nearest, linear or cubic, not '{}'", s.mode));
  return s;
}

std::vector<Taps> taps_of(const EvalContext& ctx, const Settings& s, const AxisPlan& plan) {
  std::vector<Taps> result(static_cast<size_t>(plan.to));
  const double squeeze = s.antialias ? std::min(plan.scale, 1.0) : 1.0;
  const double reach = (s.mode == "cubic" ? 2.0 : 1.0) / squeeze;
  for (size_t at = 0; at < result.size(); ++at) {
    if (!plan.touched) {  // whatever the mode makes of a scale of 1
      result[at].taps = {{static_cast<int64_t>(at), 1.0}};
      continue;
    }
    const double x = source_coordinate(ctx, s.coordinates, plan, static_cast<double>(at));
    Taps& taps = result[at];
    taps.outside = s.coordinates == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(plan.from - 1));
    if (taps.outside || !std::isfinite(x)) {
      taps.outside = true;
      continue;
    }
    const auto inside = [&](int64_t i) { return std::clamp<int64_t>(i, 0, plan.from - 1); };
    if (s.mode == "nearest") {
      taps.taps = {{inside(nearest_index(ctx, s.nearest, x)), 1.0}};
      continue;
    }
    double total = 0;
    for (auto i = static_cast<int64_t>(std::floor(x - reach)); static_cast<double>(i) <= x + reach; ++i) {
      const double distance = (static_cast<double>(i) - x) * squeeze;
      double weight = s.mode == "cubic" ? cubic_weight(distance, s.cubic_a) : std::max(0.0, 1 - std::fabs(distance));
      if (weight == 0 || (s.exclude_outside && i != inside(i))) continue;
      taps.taps.push_back({inside(i), weight});
      total += weight;
    }
    if ((s.exclude_outside || s.antialias) && total != 0)
      for (ResizeTap& tap : taps.taps) tap.weight /= total;
  }
  return result;
}

std::vector<double> resized_axis(const std::vector<double>& values, int64_t outer, int64_t from, int64_t inner,
                                 const std::vector<Taps>& taps) {
  std::vector<double> result(static_cast<size_t>(outer * inner) * taps.size(), 0.0);
  double* to = result.data();
  for (int64_t o = 0; o < outer; ++o)
    for (const Taps& at : taps) {
      for (const ResizeTap& tap : at.taps) {
        const double* row = values.data() + (o * from + tap.index) * inner;
        for (int64_t k = 0; k < inner; ++k) to[k] += tap.weight * row[k];
      }
      to += inner;
    }
  return result;
}

void read_roi(const EvalContext& ctx, const Request& request, std::vector<AxisPlan>& plans) {
  const std::vector<double> roi = ctx.has_input(1) ? to_doubles(ctx.input(1)) : std::vector<double>();
  const size_t count = request.axes.size();
  if (roi.size() != 2 * count) ctx.reject("it takes a region of interest with a start and an end per axis");
  for (size_t i = 0; i < count; ++i) {
    AxisPlan& plan = plans[static_cast<size_t>(request.axes[i])];
    plan.roi_start = roi[i];
    plan.roi_end = roi[i + count];
    plan.touched = true;
  }
}

void eval_resize(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Settings settings = settings_of(ctx);
  const Request request = request_of(ctx, x.rank());
  std::vector<AxisPlan> plans = plans_of(ctx, x.dims(), request);
  const bool crops = settings.coordinates == "tf_crop_and_resize";
  if (crops) read_roi(ctx, request, plans);
  Dims dims;
  for (const AxisPlan& plan : plans) dims.push_back(plan.to);
  const int64_t count = bounded_count(dims);
  const bool exact = settings.mode == "nearest" && !crops;
  std::vector<double> values = exact ? std::vector<double>() : to_doubles(x);
  std::vector<int64_t> sources(exact ? static_cast<size_t>(count) : 0, 0);
  std::vector<bool> outside(crops ? static_cast<size_t>(count) : 0, false);
  const Dims own = strides_of(x.dims());
  for (size_t axis = 0; axis < plans.size() && count > 0; ++axis) {
    const AxisPlan& plan = plans[axis];
    if (!plan.touched && !exact) continue;
    const std::vector<Taps> taps = taps_of(ctx, settings, plan);
    const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
    const int64_t outer = element_count(std::span(dims).first(axis));
    for (int64_t i = 0; i < static_cast<int64_t>(outside.size()); ++i)
      if (taps[static_cast<size_t>(i / inner % plan.to)].outside) outside[static_cast<size_t>(i)] = true;
    for (int64_t i = 0; i < static_cast<int64_t>(sources.size()); ++i)
      sources[static_cast<size_t>(i)] += taps[static_cast<size_t>(i / inner % plan.to)].taps[0].index * own[axis];
    if (!exact)
      values = resized_axis(values, outer, plan.from, element_count(std::span(x.dims()).subspan(axis + 1)), taps);
  }
  if (exact) return ctx.set_output(0, pick(x, dims, sources));
  if (count == 0) values.clear();
  const double beyond = static_cast<double>(ctx.node.real("extrapolation_value", 0.0f));
  for (size_t i = 0; i < outside.size(); ++i)
    if (outside[i]) values[i] = beyond;
  if (!is_float(x.dtype()))
    for (double& v : values) v = std::trunc(v);
  ctx.set_output(0, from_doubles(x.dtype(), dims, values));
}

double resize_flops(const CostContext& ctx) {
  const std::string mode = ctx.node.text("mode", "nearest");
  const double taps = mode == "nearest" ? 0 : mode == "cubic" ? 32 : 8;
  return taps * static_cast<double>(element_count(ctx.outputs[0]));
}

void rows_of_resize(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const RowFacts& x = ctx.rows(0);
  const Shape& to = ctx.output();
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (!ctx.is_independent(i) && (ctx.is_along(i) || i != 3)) return ctx.mixes("how it resizes follows from the rows");
  for (const Dim& d : to.dims())
    if (d.is_unknown() && !ctx.is_independent(3)) return ctx.mixes("its result's sizes are not known");
  const Request request = request_of(ctx.in, static_cast<int64_t>(ctx.rank(0)));
  for (size_t i = 0; i < request.axes.size(); ++i)
    if (request.axes[i] == static_cast<int64_t>(x.axis) && !request.by_size &&
        (!request.known || request.scales[i] != 1))
      return ctx.mixes("it resizes the axis of the rows");
  if (to.rank() <= x.axis || !to[x.axis].same_as(ctx.in.shape(0)[x.axis]) ||
      ctx.node().text("coordinate_transformation_mode", "") == "tf_crop_and_resize")
    return ctx.mixes("it resizes the axis of the rows");
  ctx.set_along(x.axis, x.block);
}

constexpr OpSpec kResizeOps[] = {
    {.name = "Resize",
     .since = 10,
     .min_inputs = 1,
     .max_inputs = 4,
     .infer = infer_resize,
     .eval = eval_resize,
     .flops = resize_flops,
     .rows = rows_of_resize},
    {.name = "Upsample",
     .since = 7,
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_resize,
     .eval = eval_resize,
     .flops = resize_flops,
     .rows = rows_of_resize},
};

}  // namespace

std::span<const OpSpec> resize_ops() { return kResizeOps; }

}  // namespace slipway
