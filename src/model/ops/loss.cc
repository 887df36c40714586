// Losses that a model may carry out of training: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss. Both take the
// class axis 1 of [N, C, d1, …] and labels [N, d1, …]; a label that is ignored has weight 0.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"

namespace slipway {
namespace {

// x seen as [N, C, inner].
struct Classes {
  int64_t samples = 0, classes = 0, inner = 1;
  size_t at(int64_t place, int64_t c) const {
    return static_cast<size_t>((place / inner * classes + c) * inner + place % inner);
  }
  int64_t places() const { return samples * inner; }
};

Classes classes_of(const EvalContext& ctx) {
  const Dims& dims = ctx.input(0).dims();
  if (dims.size() < 2) ctx.reject(fmt::format("its input has rank {}, less than 2", dims.size()));
  Dims expected = dims;
  expected.erase(expected.begin() + 1);
  if (ctx.input(1).dims() != expected)
    ctx.reject(fmt::format("the labels {} do not fit {}", to_string(ctx.input(1).dims()), to_string(dims)));
  return {dims[0], dims[1], element_count(std::span(dims).subspan(2))};
}

void log_softmax(std::vector<double>& values, const Classes& c) {
  for (int64_t place = 0; place < c.places(); ++place) {
    double most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < c.classes; ++k) most = std::max(most, values[c.at(place, k)]);
    for (int64_t k = 0; k < c.classes; ++k) sum += std::exp(values[c.at(place, k)] - most);
    for (int64_t k = 0; k < c.classes; ++k) values[c.at(place, k)] -= most + std::log(sum);
  }
}

void set_loss(EvalContext& ctx, const Classes& c, const std::vector<double>& log_probabilities) {
  const std::vector<int64_t> labels = to_ints(ctx.input(1));
  std::vector<double> weights;
  if (ctx.has_input(2)) {
    weights = to_doubles(ctx.input(2));
    if (static_cast<int64_t>(weights.size()) != c.classes)
      ctx.reject(fmt::format("{} weights for {} classes", weights.size(), c.classes));
  }
  const bool ignores = ctx.node.has("ignore_index");
  const int64_t ignored = ctx.node.integer("ignore_index", 0);
  std::vector<double> losses(labels.size());
  double total = 0, total_weight = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const int64_t label = labels[i];
    if (ignores && label == ignored) continue;
    if (label < 0 || label >= c.classes) ctx.reject(fmt::format("label {} is none of {} classes", label, c.classes));
    const double weight = weights.empty() ? 1.0 : weights[static_cast<size_t>(label)];
    losses[i] = -log_probabilities[c.at(static_cast<int64_t>(i), label)] * weight;
    total += losses[i];
    total_weight += weight;
  }
  const std::string reduction = ctx.node.text("reduction", "mean");
  const DType dtype = ctx.input(0).dtype();
  if (reduction == "none") return ctx.set_output(0, from_doubles(dtype, ctx.input(1).dims(), losses));
  if (reduction != "sum" && reduction != "mean")
    ctx.reject(fmt::format("reduction is none of none, sum and mean: {}", reduction));
  const double loss = reduction == "sum" ? total : total / total_weight;
  ctx.set_output(0, from_doubles(dtype, {}, std::span(&loss, 1)));
}

void eval_likelihood_loss(EvalContext& ctx) { set_loss(ctx, classes_of(ctx), to_doubles(ctx.input(0))); }

void eval_cross_entropy_loss(EvalContext& ctx) {
  const Classes c = classes_of(ctx);
  std::vector<double> values = to_doubles(ctx.input(0));
  log_softmax(values, c);
  set_loss(ctx, c, values);
  ctx.set_output(1, from_doubles(ctx.input(0).dtype(), ctx.input(0).dims(), values));
}

void infer_loss(InferContext& ctx) {
  const bool each = ctx.node.text("reduction", "mean") == "none";
  ctx.set_output(0, ctx.dtype(0), each ? ctx.shape(1) : Shape(std::vector<Dim>{}));
  ctx.set_output(1, ctx.dtype(0), ctx.shape(0));
}

double loss_flops(const CostContext& ctx) { return 3 * static_cast<double>(element_count(ctx.inputs[0])); }

constexpr OpSpec kLossOps[] = {
    {.name = "NegativeLogLikelihoodLoss",
     .since = 12,
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_loss,
     .eval = eval_likelihood_loss,
     .flops = loss_flops},
    {.name = "SoftmaxCrossEntropyLoss",
     .since = 12,
     .min_inputs = 2,
     .max_inputs = 3,
     .max_outputs = 2,
     .infer = infer_loss,
     .eval = eval_cross_entropy_loss,
     .flops = loss_flops},
};

}  // namespace

std::span<const OpSpec> loss_ops() { return kLossOps; }

}  // namespace slipway
