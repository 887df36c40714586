// ai.onnx.ml's TreeEnsemble and its predecessors TreeEnsembleRegressor and TreeEnsembleClassifier (forest.h). Where the
// standard is vague about two classes with weights for the first of them alone, this follows ONNX Runtime, which
// scikit-learn's converter writes for: the score is the second class's. It is compared with 0.5 where all weights are
// probabilities, as far as their sign says, else with 0.
#include <algorithm>
#include <array>
#include <functional>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/forest.h"
#include "model/ops/row_rules.h"
#include "model/ops/scores.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

void require_features(const EvalContext& ctx, const Forest& forest) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 2 || x.dims()[1] < forest.features)
    ctx.reject(fmt::format("{} holds no rows of {} features", to_string(x.dims()), forest.features));
}

// Every row's scores, [N, targets].
std::vector<double> forest_scores(const EvalContext& ctx, const Forest& forest, ForestAggregate aggregate,
                                  const std::function<void(std::span<double>, std::vector<bool>&)>& finish) {
  require_features(ctx, forest);
  const FeatureRows x(ctx);
  const Dims dims = {x.rows, forest.targets};
  std::vector<double> scores(static_cast<size_t>(bounded_count(dims)));
  std::vector<bool> seen;
  for (int64_t i = 0; i < x.rows; ++i) {
    const auto own =
        std::span(scores).subspan(static_cast<size_t>(i * forest.targets), static_cast<size_t>(forest.targets));
    run_forest(ctx, forest, aggregate, x.row(i), own, seen);
    finish(own, seen);
  }
  return scores;
}

// One for each target, or one for all; none is 0.
std::vector<double> base_values(const EvalContext& ctx, int64_t targets) {
  std::vector<double> values = reals_or_tensor(ctx.node, "base_values");
  if (values.empty()) values.assign(1, 0.0);
  if (values.size() == 1) values.assign(static_cast<size_t>(targets), values[0]);
  if (static_cast<int64_t>(values.size()) != targets)
    ctx.reject(fmt::format("{} base values for {} targets", values.size(), targets));
  return values;
}

void eval_tree_ensemble(EvalContext& ctx) {
  const Forest forest = read_forest(ctx.node);
  const int64_t aggregate = ctx.node.integer("aggregate_function", 1);
  if (aggregate < 0 || aggregate > 3) ctx.reject(fmt::format("aggregate_function {} is unknown", aggregate));
  const ScoreTransform transform = score_transform(ctx.node);
  const std::vector<double> y =
      forest_scores(ctx, forest, static_cast<ForestAggregate>(aggregate),
                    [&](std::span<double> row, std::vector<bool>&) { transform_scores(row, transform); });
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), {ctx.input(0).dims()[0], forest.targets}, y));
}

void infer_tree_ensemble(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape({x.rank() == 2 ? x[0] : Dim(), Dim(forest_targets(ctx.node))}));
}

int64_t regressor_targets(const Node& node) {
  const int64_t targets = node.integer("n_targets", 1);
  if (targets < 1) reject(node, fmt::format("it has {} targets", targets));
  return targets;
}

void eval_tree_regressor(EvalContext& ctx) {
  constexpr std::array<std::string_view, 4> kAggregates = {"AVERAGE", "SUM", "MIN", "MAX"};
  const Forest forest = read_listed_forest(ctx.node, "target", regressor_targets(ctx.node));
  const std::string name = ctx.node.text("aggregate_function", "SUM");
  const auto aggregate = std::find(kAggregates.begin(), kAggregates.end(), name);
  if (aggregate == kAggregates.end()) ctx.reject(fmt::format("its aggregate_function is unknown: {}", name));
  const std::vector<double> base = base_values(ctx, forest.targets);
  const ScoreTransform transform = score_transform(ctx.node);
  const std::vector<double> y =
      forest_scores(ctx, forest, static_cast<ForestAggregate>(aggregate - kAggregates.begin()),
                    [&](std::span<double> row, std::vector<bool>&) {
                      for (size_t k = 0; k < row.size(); ++k) row[k] += base[k];
                      transform_scores(row, transform);
                    });
  ctx.set_output(0, from_doubles(DType::kFloat32, {ctx.input(0).dims()[0], forest.targets}, y));
}

void infer_tree_regressor(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  ctx.set_output(0, DType::kFloat32, Shape({x.rank() == 2 ? x[0] : Dim(), Dim(regressor_targets(ctx.node))}));
}

// The class whose weights are the only ones, of two; −1 where there is none.
int64_t single_column(const Forest& forest) {
  if (forest.targets != 2) return -1;
  int64_t found = -1;
  for (const auto& votes : forest.leaves)
    for (const ForestVote& vote : votes) {
      if (found >= 0 && vote.target != found) return -1;
      found = vote.target;
    }
  return found;
}

void eval_tree_classifier(EvalContext& ctx) {
  const ClassLabels labels(ctx.node, "classlabels_int64s");
  const Forest forest = read_listed_forest(ctx.node, "class", labels.count());
  const std::vector<double> base = base_values(ctx, forest.targets);
  const bool has_base = !reals_or_tensor(ctx.node, "base_values").empty();
  const ScoreTransform transform = score_transform(ctx.node);
  const int64_t column = single_column(forest);
  bool probabilities = true;
  for (const auto& votes : forest.leaves)
    for (const ForestVote& vote : votes) probabilities &= vote.weight >= 0;
  std::vector<int64_t> classes;
  const auto finish = [&](std::span<double> row, std::vector<bool>& seen) {
    for (size_t k = 0; k < row.size(); ++k) row[k] += base[k];
    if (column >= 0) {
      const double score = row[static_cast<size_t>(column)];
      const auto rounded = static_cast<float>(score);  // as it is given: 0.3 and 0.2 are not above 0.5
      classes.push_back(rounded > (probabilities ? 0.5f : 0.0f) ? 1 : 0);
      if (column == 0) return transform_second_class(row, score, probabilities, transform);
      return transform_scores(row, transform);
    }
    int64_t best = -1;  // of those that a tree voted for, or that have a base value
    for (size_t k = 0; k < row.size(); ++k)
      if ((seen[k] || has_base) && (best < 0 || row[k] > row[static_cast<size_t>(best)]))
        best = static_cast<int64_t>(k);
    classes.push_back(std::max<int64_t>(best, 0));
    transform_scores(row, transform);
  };
  const std::vector<double> scores = forest_scores(ctx, forest, ForestAggregate::kSum, finish);
  set_classes(ctx, labels.named(classes), forest.targets, scores);
}

void infer_tree_classifier(InferContext& ctx) {
  const ClassLabels labels(ctx.node, "classlabels_int64s");
  infer_classes(ctx, labels, Dim(labels.count()));
}

constexpr OpSpec kTreeEnsembleOps[] = {
    {.name = "TreeEnsemble",
     .since = 5,
     .min_inputs = 1,
     .infer = infer_tree_ensemble,
     .eval = eval_tree_ensemble,
     .rows = rows_of_features,
     .domain = "ai.onnx.ml"},
    {.name = "TreeEnsembleRegressor",
     .min_inputs = 1,
     .infer = infer_tree_regressor,
     .eval = eval_tree_regressor,
     .rows = rows_of_features,
     .domain = "ai.onnx.ml"},
    {.name = "TreeEnsembleClassifier",
     .min_inputs = 1,
     .min_outputs = 1,
     .max_outputs = 2,
     .infer = infer_tree_classifier,
     .eval = eval_tree_classifier,
     .rows = rows_of_features,
     .domain = "ai.onnx.ml"},
};

}  // namespace

std::span<const OpSpec> tree_ensemble_ops() { return kTreeEnsembleOps; }

}  // namespace slipway
