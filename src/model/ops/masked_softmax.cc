// The internal domain's Softmax, which attention is made of: softmax(x·scale + mask) along the last axis, each step in
// single precision as by Mul, Add and Softmax. `scale` is 1 when absent. A mask of floats is added; one of booleans
// keeps x·scale where it is `keeps` (0 or 1, 1 when absent) and puts `fill` elsewhere. It broadcasts to x's shape,
// never beyond. With `guard` NaN gives 0: of a distribution that is masked all over.
#include <cmath>

#include "model/op.h"
#include "model/ops/expand.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"

namespace slipway {
namespace {

constexpr int64_t kSoftmaxOpset = 13;

void infer_masked_softmax(InferContext& ctx) {
  if (ctx.shape(0).has_rank() && ctx.shape(0).rank() == 0) ctx.reject("there is no axis");
  ctx.set_output(0, DType::kFloat32, ctx.shape(0));
}

std::vector<float> scores_of(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  std::vector<float> v = to_floats(x);
  const float scale = ctx.node.real("scale", 1);
  for (float& each : v) each *= scale;
  if (!ctx.has_input(1)) return v;
  const Tensor& mask = ctx.input(1);
  if (mask.dtype() == DType::kBool) {
    const std::vector<double> kept = expand(ctx.node, mask.dims(), to_doubles(mask), x.dims());
    const auto keeps = static_cast<double>(ctx.node.integer("keeps", 1));
    const float fill = ctx.node.real("fill", 0);
    for (size_t i = 0; i < v.size(); ++i)
      if (kept[i] != keeps) v[i] = fill;
  } else {
    const std::vector<float> added = expand(ctx.node, mask.dims(), to_floats(mask), x.dims());
    for (size_t i = 0; i < v.size(); ++i) v[i] += added[i];
  }
  return v;
}

void eval_masked_softmax(EvalContext& ctx) {
  const Dims dims = ctx.input(0).dims();
  if (dims.empty()) ctx.reject("there is no axis");
  const Tensor scores = Tensor::of<float>(dims, scores_of(ctx));
  Node softmax = ctx.node;
  softmax.attributes = {{"axis", int64_t{-1}}};
  EvalContext standard(softmax, kSoftmaxOpset, {&scores});
  find_op("", "Softmax", kSoftmaxOpset)->eval(standard);
  Tensor y = std::move(standard.results()[0]);
  if (ctx.node.integer("guard", 0) != 0)
    for (float& v : y.mutable_values<float>())
      if (std::isnan(v)) v = 0;
  ctx.set_output(0, std::move(y));
}

void rows_of_masked_softmax(RowsContext& ctx) {
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (ctx.is_along(i) && ctx.rows(i).axis + 1 == ctx.rank(i))
      return ctx.mixes("it works along the axis that holds the rows");
  rows_by_broadcast(ctx);
}

constexpr OpSpec kMaskedSoftmax[] = {
    {.name = "Softmax",
     .min_inputs = 1,
     .max_inputs = 2,
     .infer = infer_masked_softmax,
     .eval = eval_masked_softmax,
     .flops = flops_each<6>,
     .rows = rows_of_masked_softmax,
     .domain = kFusedDomain},
};

}  // namespace

std::span<const OpSpec> masked_softmax_ops() { return kMaskedSoftmax; }

}  // namespace slipway
