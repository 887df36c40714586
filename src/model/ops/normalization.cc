// Normalisations. Statistics are taken in double, in two passes (mean, then squared distances from it), so that a large
// mean costs no precision. Each operator is a partition of the elements into groups plus a scale and bias an element.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/expand.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

struct Moments {
  double mean = 0, variance = 0;  ///< of the population
};

Moments moments_of(std::span<const double> values) {
  Moments m;
  const double count = static_cast<double>(std::max<size_t>(values.size(), 1));
  for (double v : values) m.mean += v;
  m.mean /= count;
  for (double v : values) m.variance += (v - m.mean) * (v - m.mean);
  m.variance /= count;
  return m;
}

double mean_square(std::span<const double> values) {
  double sum = 0;
  for (double v : values) sum += v * v;
  return sum / static_cast<double>(std::max<size_t>(values.size(), 1));
}

// One value a channel (or a group, or an element).
std::vector<double> parameters(const EvalContext& ctx, size_t index, int64_t count) {
  if (ctx.input(index).elements() != count)
    ctx.reject(fmt::format("input {} has {} elements, not {}", index, ctx.input(index).elements(), count));
  return to_doubles(ctx.input(index));
}

// Elements of one channel in one sample; the input needs a channel axis.
int64_t plane_of(const EvalContext& ctx, const Dims& dims) {
  if (dims.size() < 2) ctx.reject(fmt::format("the input has rank {}, less than 2", dims.size()));
  return element_count(std::span(dims).subspan(2));
}

constexpr float kDefaultEpsilon = 1e-5f;

void infer_batch_normalization(InferContext& ctx) {
  Shape x = ctx.shape(0);
  if (x.has_rank() && x.rank() >= 2 && ctx.shape(1).has_rank() && ctx.shape(1).rank() == 1) {
    const Dim& channels = ctx.shape(1)[0];
    if (x[1].is_known() && channels.is_known() && x[1] != channels)
      ctx.reject(fmt::format("the scale has {} elements for {} channels", channels.value(), x[1].value()));
    if (x[1].is_unknown()) x[1] = channels;
  }
  ctx.set_output(0, ctx.dtype(0), x);
  for (size_t i = 1; i < ctx.output_count(); ++i)
    ctx.set_output(i, ctx.dtype(i % 2 == 1 ? 3 : 4), ctx.shape(i % 2 == 1 ? 3 : 4));
}

// Below opset 9, spatial = 0 keeps statistics for every element of a sample. Below 14, further outputs mean training.
void eval_batch_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const bool training = ctx.opset >= 14 && ctx.node.integer("training_mode", 0) != 0;
  if (ctx.opset < 14 && (ctx.wants_output(1) || ctx.wants_output(2)))
    fail(ErrorCode::kUnsupported,
         "BatchNormalization in training mode is not run before opset 14; export the model in evaluation mode: {}",
         ctx.node.label());
  int64_t plane = plane_of(ctx, x.dims()), channels = x.dims()[1];
  if (ctx.opset < 9 && ctx.node.integer("spatial", 1) == 0) {
    channels *= plane;
    plane = 1;
  }
  const std::vector<double> scale = parameters(ctx, 1, channels), bias = parameters(ctx, 2, channels);
  std::vector<double> mean = parameters(ctx, 3, channels), variance = parameters(ctx, 4, channels);
  std::vector<double> y = to_doubles(x);
  const size_t width = static_cast<size_t>(plane), lanes = static_cast<size_t>(channels);
  if (training) {
    const double momentum = ctx.node.real("momentum", 0.9f);
    std::vector<double> running_mean = mean, running_variance = variance, lane;
    for (size_t c = 0; c < lanes; ++c) {
      lane.clear();
      for (size_t start = c * width; start < y.size(); start += lanes * width)
        lane.insert(lane.end(), y.begin() + static_cast<int64_t>(start),
                    y.begin() + static_cast<int64_t>(start + width));
      const Moments m = moments_of(lane);
      mean[c] = m.mean;
      variance[c] = m.variance;
      running_mean[c] = momentum * running_mean[c] + (1 - momentum) * m.mean;
      running_variance[c] = momentum * running_variance[c] + (1 - momentum) * m.variance;
    }
    ctx.set_output(1, from_doubles(ctx.input(3).dtype(), ctx.input(3).dims(), running_mean));
    ctx.set_output(2, from_doubles(ctx.input(4).dtype(), ctx.input(4).dims(), running_variance));
  }
  const double epsilon = ctx.node.real("epsilon", kDefaultEpsilon);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t c = i / width % lanes;
    y[i] = (y[i] - mean[c]) / std::sqrt(variance[c] + epsilon) * scale[c] + bias[c];
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

// Normalises `groups` equal consecutive parts of y to mean 0 and variance 1.
void normalize_groups(std::vector<double>& y, int64_t groups, double epsilon) {
  const size_t size = groups == 0 ? 0 : y.size() / static_cast<size_t>(groups);
  for (size_t start = 0; size > 0 && start < y.size(); start += size) {
    const auto part = std::span(y).subspan(start, size);
    const Moments m = moments_of(part);
    for (double& v : part) v = (v - m.mean) / std::sqrt(m.variance + epsilon);
  }
}

void scale_channels(std::vector<double>& y, int64_t plane, const std::vector<double>& scale,
                    const std::vector<double>& bias) {
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t c = i / static_cast<size_t>(plane) % scale.size();
    y[i] = y[i] * scale[c] + bias[c];
  }
}

void eval_instance_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t plane = plane_of(ctx, x.dims()), channels = x.dims()[1];
  const std::vector<double> scale = parameters(ctx, 1, channels), bias = parameters(ctx, 2, channels);
  std::vector<double> y = to_doubles(x);
  normalize_groups(y, x.dims()[0] * channels, ctx.node.real("epsilon", kDefaultEpsilon));
  scale_channels(y, plane, scale, bias);
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

// Scale and bias are one a group below opset 21, one a channel since.
void eval_group_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t plane = plane_of(ctx, x.dims()), channels = x.dims()[1];
  const int64_t groups = ctx.node.integer("num_groups", 0);
  if (groups < 1 || channels % groups != 0)
    ctx.reject(fmt::format("num_groups {} does not divide {} channels", groups, channels));
  const int64_t count = ctx.opset < 21 ? groups : channels;
  const std::vector<double> scale = parameters(ctx, 1, count), bias = parameters(ctx, 2, count);
  std::vector<double> y = to_doubles(x);
  normalize_groups(y, x.dims()[0] * groups, ctx.node.real("epsilon", kDefaultEpsilon));
  scale_channels(y, plane * (channels / std::max<int64_t>(count, 1)), scale, bias);
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

DType stash_type(int64_t type) { return type == 0 || type == 1 ? DType::kFloat32 : static_cast<DType>(type); }

void infer_layer_normalization(InferContext& ctx) {
  infer_same_as_first(ctx);
  const Shape& x = ctx.shape(0);
  const int64_t type = ctx.node.integer("stash_type", 1);
  if (type < 0 || type >= kDTypeCount || !is_float(stash_type(type))) ctx.reject("stash_type is no float type");
  Shape statistics = x;
  if (x.has_rank()) {
    const int64_t axis = normalize_axis(ctx.node.integer("axis", -1), static_cast<int64_t>(x.rank()), ctx.node.label());
    for (size_t i = static_cast<size_t>(axis); i < x.rank(); ++i) statistics[i] = 1;
  }
  ctx.set_output(1, stash_type(type), statistics);
  ctx.set_output(2, stash_type(type), statistics);
}

// LayerNormalization, and RMSNormalization when `kCentre` is false.
template <bool kCentre>
void eval_layer_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t axis = normalize_axis(ctx.node.integer("axis", -1), x.rank(), ctx.node.label());
  const int64_t type = ctx.node.integer("stash_type", 1);
  if (type < 0 || type >= kDTypeCount || !is_float(stash_type(type))) ctx.reject("stash_type is no float type");
  Dims statistics = x.dims();
  std::fill(statistics.begin() + axis, statistics.end(), 1);
  const size_t groups = static_cast<size_t>(element_count(statistics));
  const double epsilon = ctx.node.real("epsilon", kDefaultEpsilon);
  const std::vector<double> scale = expand(ctx.node, ctx.input(1).dims(), to_doubles(ctx.input(1)), x.dims());
  std::vector<double> bias;
  if (ctx.has_input(2)) bias = expand(ctx.node, ctx.input(2).dims(), to_doubles(ctx.input(2)), x.dims());
  std::vector<double> y = to_doubles(x), means(groups), inverses(groups);
  const size_t size = groups == 0 ? 0 : y.size() / groups;
  for (size_t g = 0; g < groups; ++g) {
    const auto group = std::span<const double>(y).subspan(g * size, size);
    const Moments m = kCentre ? moments_of(group) : Moments{.mean = 0, .variance = mean_square(group)};
    means[g] = m.mean;
    inverses[g] = 1 / std::sqrt(m.variance + epsilon);
    for (size_t i = g * size; i < (g + 1) * size; ++i) y[i] = (y[i] - m.mean) * inverses[g] * scale[i];
    for (size_t i = g * size; !bias.empty() && i < (g + 1) * size; ++i) y[i] += bias[i];
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
  if (ctx.wants_output(1)) ctx.set_output(1, from_doubles(stash_type(type), statistics, means));
  if (ctx.wants_output(2)) ctx.set_output(2, from_doubles(stash_type(type), statistics, inverses));
}

// Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional neural networks", section 3.3.
void eval_lrn(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const int64_t plane = plane_of(ctx, x.dims()), channels = x.dims()[1];
  const int64_t size = ctx.node.integer("size", 0);
  if (size < 1 || size > int64_t{1} << 31) ctx.reject(fmt::format("size is out of range: {}", size));
  const double alpha = ctx.node.real("alpha", 0.0001f), beta = ctx.node.real("beta", 0.75f);
  const double bias = ctx.node.real("bias", 1.0f);
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y = values;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const int64_t c = i / plane % channels, base = i - c * plane;
    const int64_t first = std::max<int64_t>(0, c - (size - 1) / 2), last = std::min(channels - 1, c + size / 2);
    double sum = 0;
    for (int64_t k = first; k <= last; ++k) {
      const double v = values[static_cast<size_t>(base + k * plane)];
      sum += v * v;
    }
    y[static_cast<size_t>(i)] /= std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

void eval_lp_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto axis = static_cast<size_t>(normalize_axis(ctx.node.integer("axis", -1), x.rank(), ctx.node.label()));
  const int64_t p = ctx.node.integer("p", 2);
  if (p != 1 && p != 2) ctx.reject(fmt::format("p is neither 1 nor 2: {}", p));
  const size_t step = static_cast<size_t>(strides_of(x.dims())[axis]), count = static_cast<size_t>(x.dims()[axis]);
  std::vector<double> y = to_doubles(x);
  for (size_t start = 0; start < y.size(); ++start) {
    if (start / step % count != 0) continue;
    double sum = 0;
    for (size_t k = 0; k < count; ++k) {
      const double v = y[start + k * step];
      sum += p == 1 ? std::abs(v) : v * v;
    }
    const double norm = p == 1 ? sum : std::sqrt(sum);
    for (size_t k = 0; k < count && norm != 0; ++k) y[start + k * step] /= norm;
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

// Groups run over the axes in `axes`; every other axis keeps its index.
void eval_mean_variance_normalization(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Dims kept = x.dims();
  for (int64_t axis : ctx.node.integers("axes", {0, 2, 3}))
    kept[static_cast<size_t>(normalize_axis(axis, x.rank(), ctx.node.label()))] = 1;
  std::vector<int64_t> group(static_cast<size_t>(element_count(kept)));
  for (size_t i = 0; i < group.size(); ++i) group[i] = static_cast<int64_t>(i);
  std::vector<std::vector<double>> members(group.size());
  if (x.elements() > 0) group = expand(ctx.node, kept, group, x.dims());
  std::vector<double> y = to_doubles(x);
  for (size_t i = 0; i < y.size(); ++i) members[static_cast<size_t>(group[i])].push_back(y[i]);
  std::vector<Moments> moments;
  for (const auto& values : members) moments.push_back(moments_of(values));
  for (size_t i = 0; i < y.size(); ++i) {
    const Moments& m = moments[static_cast<size_t>(group[i])];
    y[i] = (y[i] - m.mean) / (std::sqrt(m.variance) + 1e-9);
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
}

double lrn_flops(const CostContext& ctx) {
  return (2.0 * static_cast<double>(ctx.node.integer("size", 1)) + 3) *
         static_cast<double>(element_count(ctx.outputs[0]));
}

void rows_of_batch_normalization(RowsContext& ctx) {
  const bool training = ctx.node().integer("training_mode", 0) != 0 || ctx.in.output_count() > 1;
  if (training && ctx.any_along()) return ctx.mixes("in training mode it normalises over the batch");
  rows_first_axis(ctx);
}

void rows_of_layer_normalization(RowsContext& ctx) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  const auto rank = static_cast<int64_t>(ctx.rank(0));
  const int64_t first = normalize_axis(ctx.node().integer("axis", -1), rank, ctx.node().label());
  if (static_cast<int64_t>(x->axis) >= first) return ctx.mixes("it normalises over the rows");
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (!ctx.repeats(i, ctx.rank(0) - x->axis)) return ctx.mixes("its parameters are not the same for every row");
  ctx.set_along(x->axis, x->block);
}

bool lp_normalizes(const RowsContext& ctx, size_t axis) {
  return normalize_axis(ctx.node().integer("axis", -1), static_cast<int64_t>(ctx.rank(0)), ctx.node().label()) ==
         static_cast<int64_t>(axis);
}

bool variance_normalizes(const RowsContext& ctx, size_t axis) {
  for (int64_t a : ctx.node().integers("axes", {0, 2, 3}))
    if (normalize_axis(a, static_cast<int64_t>(ctx.rank(0)), ctx.node().label()) == static_cast<int64_t>(axis))
      return true;
  return false;
}

}  // namespace

std::span<const OpSpec> normalization_ops() {
  static constexpr OpSpec kNormalizationOps[] = {
      {.name = "BatchNormalization",
       .since = 7,
       .min_inputs = 5,
       .max_inputs = 5,
       .max_outputs = 5,
       .infer = infer_batch_normalization,
       .eval = eval_batch_normalization,
       .flops = flops_each<2>,
       .rows = rows_of_batch_normalization},
      {.name = "InstanceNormalization",
       .since = 6,
       .min_inputs = 3,
       .max_inputs = 3,
       .infer = infer_same_as_first,
       .eval = eval_instance_normalization,
       .flops = flops_each<7>,
       .rows = rows_first_axis},
      {.name = "GroupNormalization",
       .since = 18,
       .min_inputs = 3,
       .max_inputs = 3,
       .infer = infer_same_as_first,
       .eval = eval_group_normalization,
       .flops = flops_each<7>,
       .rows = rows_first_axis},
      {.name = "LayerNormalization",  // standard since opset 17; ONNX Runtime's optimiser writes it in earlier ones
       .min_inputs = 2,
       .max_inputs = 3,
       .max_outputs = 3,
       .infer = infer_layer_normalization,
       .eval = eval_layer_normalization<true>,
       .flops = flops_each<7>,
       .rows = rows_of_layer_normalization},
      {.name = "SimplifiedLayerNormalization",  // ONNX Runtime's name for what became RMSNormalization
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_layer_normalization,
       .eval = eval_layer_normalization<false>,
       .flops = flops_each<4>,
       .rows = rows_of_layer_normalization},
      {.name = "RMSNormalization",
       .since = 23,
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_layer_normalization,
       .eval = eval_layer_normalization<false>,
       .flops = flops_each<4>,
       .rows = rows_of_layer_normalization},
      {.name = "LRN",
       .min_inputs = 1,
       .infer = infer_same_as_first,
       .eval = eval_lrn,
       .flops = lrn_flops,
       .rows = [](RowsContext& ctx) { rows_unless(ctx, [](const RowsContext&, size_t axis) { return axis == 1; }); }},
      {.name = "LpNormalization",
       .min_inputs = 1,
       .infer = infer_same_as_first,
       .eval = eval_lp_normalization,
       .flops = flops_each<3>,
       .rows = [](RowsContext& ctx) { rows_unless(ctx, lp_normalizes); }},
      {.name = "MeanVarianceNormalization",
       .since = 9,
       .min_inputs = 1,
       .infer = infer_same_as_first,
       .eval = eval_mean_variance_normalization,
       .flops = flops_each<5>,
       .rows = [](RowsContext& ctx) { rows_unless(ctx, variance_normalizes); }},
  };
  return kNormalizationOps;
}

}  // namespace slipway
