// Labels and scores of ai.onnx.ml's classifiers and regressors.
#include "model/ops/scores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "model/ops/row_rules.h"

namespace slipway {
namespace {

// The quantile of the normal distribution: Newton's method on its distribution function.
double probit(double p) {
  if (!(p > 0 && p < 1)) return p == 0 ? -INFINITY : p == 1 ? INFINITY : std::numeric_limits<double>::quiet_NaN();
  double x = 0;
  for (int i = 0; i < 100; ++i) {
    const double off = 0.5 * std::erfc(-x / std::numbers::sqrt2) - p;
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double step = std::clamp(off / density, -1.0, 1.0);
    x -= step;
    if (std::fabs(step) < 1e-15 * std::max(1.0, std::fabs(x))) break;
  }
  return x;
}

void softmax_scores(std::span<double> scores, bool keep_zeros) {
  if (scores.empty()) return;
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& v : scores)
    if (!keep_zeros || v != 0) sum += v = std::exp(v - most);
  for (double& v : scores)
    if (sum != 0) v /= sum;
}

}  // namespace

ScoreTransform score_transform(const Node& node) {
  constexpr std::array<std::string_view, 5> kNames = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const auto it = node.attributes.find("post_transform");
  if (it == node.attributes.end()) return ScoreTransform::kNone;
  const auto* name = std::get_if<std::string>(&it->second);
  const int64_t kind = name != nullptr ? std::find(kNames.begin(), kNames.end(), *name) - kNames.begin()
                                       : node.integer("post_transform", 0);
  if (kind < 0 || kind >= static_cast<int64_t>(kNames.size()))
    reject(node, fmt::format("its post_transform is unknown: {}", name != nullptr ? *name : std::to_string(kind)));
  return static_cast<ScoreTransform>(kind);
}

void transform_scores(std::span<double> scores, ScoreTransform kind) {
  if (kind == ScoreTransform::kSoftmax || kind == ScoreTransform::kSoftmaxZero)
    return softmax_scores(scores, kind == ScoreTransform::kSoftmaxZero);
  for (double& v : scores)
    v = kind == ScoreTransform::kLogistic ? 1 / (1 + std::exp(-v)) : kind == ScoreTransform::kProbit ? probit(v) : v;
}

void transform_second_class(std::span<double> row, double score, bool probabilities, ScoreTransform kind) {
  const bool logistic = kind == ScoreTransform::kLogistic;
  row[0] = probabilities && !logistic ? 1 - score : -score;
  row[1] = score;
  if (logistic || kind == ScoreTransform::kProbit) transform_scores(row, kind);
}

ClassLabels::ClassLabels(const Node& node, std::string_view ints) : numbers_(node.integers(ints)) {
  if (const auto it = node.attributes.find("classlabels_strings"); it != node.attributes.end())
    if (const auto* texts = std::get_if<std::vector<std::string>>(&it->second)) texts_ = *texts;
  if (numbers_.empty() == texts_.empty()) reject(node, fmt::format("it needs either classlabels_strings or {}", ints));
}

int64_t ClassLabels::count() const { return static_cast<int64_t>(std::max(numbers_.size(), texts_.size())); }

Tensor ClassLabels::named(const std::vector<int64_t>& classes) const {
  const Dims dims = {static_cast<int64_t>(classes.size())};
  std::vector<int64_t> numbers;
  std::vector<std::string> texts;
  for (int64_t c : classes) {
    if (texts_.empty())
      numbers.push_back(numbers_.at(static_cast<size_t>(c)));
    else
      texts.push_back(texts_.at(static_cast<size_t>(c)));
  }
  return texts_.empty() ? Tensor::of<int64_t>(dims, numbers) : Tensor::of_strings(dims, std::move(texts));
}

FeatureRows::FeatureRows(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 1 && x.rank() != 2) ctx.reject(fmt::format("{} holds no rows of features", to_string(x.dims())));
  rows = x.rank() == 1 ? 1 : x.dims()[0];
  features = x.dims().back();
  values = to_doubles(x);
}

Dim feature_rows(const InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  return x.rank() == 2 ? x[0] : x.rank() == 1 ? Dim(1) : Dim();
}

void rows_of_features(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext& c, size_t axis) { return axis != 0 || c.rank(0) != 2; });
}

int64_t largest_score(std::span<const double> scores) {
  return std::max_element(scores.begin(), scores.end()) - scores.begin();
}

void set_classes(EvalContext& ctx, const Tensor& labels, int64_t columns, std::span<const double> scores) {
  ctx.set_output(0, labels);
  ctx.set_output(1, from_doubles(DType::kFloat32, {labels.elements(), columns}, scores));
}

void infer_classes(InferContext& ctx, const ClassLabels& labels, const Dim& columns) {
  const Dim rows = feature_rows(ctx);
  ctx.set_output(0, labels.dtype(), Shape({rows}));
  ctx.set_output(1, DType::kFloat32, Shape({rows, columns}));
}

}  // namespace slipway
