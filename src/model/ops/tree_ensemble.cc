// ai.onnx.ml's TreeEnsemble: each row of features walks every tree from its root to a leaf, whose weight goes to the
// leaf's target. All indices are checked before the first walk; a walk longer than there are nodes goes in a circle.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

enum class Branch { kAtMost, kBelow, kAtLeast, kAbove, kEqual, kOther, kMember };

struct TreeNode {
  Branch branch;
  int64_t feature;
  double split;
  bool missing_is_true;
  bool leaf[2];       ///< of the false and the true side
  int64_t target[2];  ///< a node or a leaf
  std::vector<double> members;
};

struct Forest {
  std::vector<TreeNode> nodes;
  std::vector<int64_t> roots, leaf_targets;
  std::vector<double> leaf_weights;
  int64_t targets = 0, features = 0;
};

int64_t target_count(const Node& node) {
  const std::vector<int64_t> ids = node.integers("leaf_targetids");
  const int64_t most = ids.empty() ? 0 : *std::max_element(ids.begin(), ids.end());
  const int64_t count = node.has("n_targets") ? node.integer("n_targets", 0) : most + 1;
  if (count < 1 || most >= count || *std::min_element(ids.begin(), ids.end()) < 0)
    reject(node, fmt::format("its leaves have targets outside {}", count));
  return count;
}

const Tensor& tree_tensor(const Node& node, std::string_view attribute, int64_t count) {
  const Tensor* t = node.tensor(attribute);
  if (t == nullptr || t->elements() != count) reject(node, fmt::format("{} has not {} entries", attribute, count));
  return *t;
}

std::vector<int64_t> tree_integers(const Node& node, std::string_view attribute, size_t count, int64_t limit) {
  std::vector<int64_t> values = node.integers(attribute);
  if (values.size() != count) reject(node, fmt::format("{} has not {} entries", attribute, count));
  for (int64_t v : values)
    if (v < 0 || v >= limit) reject(node, fmt::format("{} has an entry outside {}: {}", attribute, limit, v));
  return values;
}

Forest read_forest(const Node& node) {
  Forest f;
  f.targets = target_count(node);
  f.leaf_targets = node.integers("leaf_targetids");
  f.leaf_weights = to_doubles(tree_tensor(node, "leaf_weights", static_cast<int64_t>(f.leaf_targets.size())));
  const size_t count = node.integers("nodes_featureids").size();
  const auto features = tree_integers(node, "nodes_featureids", count, std::numeric_limits<int64_t>::max());
  const std::vector<double> splits = to_doubles(tree_tensor(node, "nodes_splits", static_cast<int64_t>(count)));
  const std::vector<int64_t> modes = to_ints(tree_tensor(node, "nodes_modes", static_cast<int64_t>(count)));
  const std::vector<int64_t> sides[2] = {tree_integers(node, "nodes_falseleafs", count, 2),
                                         tree_integers(node, "nodes_trueleafs", count, 2)};
  const std::vector<int64_t> next[2] = {node.integers("nodes_falsenodeids"), node.integers("nodes_truenodeids")};
  std::vector<int64_t> missing(count, 0);
  if (node.has("nodes_missing_value_tracks_true"))
    missing = tree_integers(node, "nodes_missing_value_tracks_true", count, 2);
  std::vector<double> members;
  if (const Tensor* t = node.tensor("membership_values")) members = to_doubles(*t);
  auto member = members.begin();
  for (size_t i = 0; i < count; ++i) {
    if (modes[i] < 0 || modes[i] > static_cast<int64_t>(Branch::kMember))
      reject(node, fmt::format("nodes_modes has an entry outside 0 to 6: {}", modes[i]));
    TreeNode n{static_cast<Branch>(modes[i]), features[i], splits[i], missing[i] != 0, {}, {}, {}};
    f.features = std::max(f.features, features[i] + 1);
    for (size_t side = 0; side < 2; ++side) {
      const auto limit = static_cast<int64_t>(sides[side][i] != 0 ? f.leaf_weights.size() : count);
      n.leaf[side] = sides[side][i] != 0;
      if (next[side].size() != count || next[side][i] < 0 || next[side][i] >= limit)
        reject(node, "a branch leads to no node and no leaf");
      n.target[side] = next[side][i];
    }
    if (n.branch == Branch::kMember) {
      const auto end = std::find_if(member, members.end(), [](double v) { return std::isnan(v); });
      n.members.assign(member, end);
      member = end == members.end() ? end : end + 1;
    }
    f.nodes.push_back(std::move(n));
  }
  f.roots = tree_integers(node, "tree_roots", node.integers("tree_roots").size(), static_cast<int64_t>(count));
  return f;
}

bool takes_true(const TreeNode& n, double x) {
  if (std::isnan(x)) return n.missing_is_true;
  switch (n.branch) {
    case Branch::kAtMost:
      return x <= n.split;
    case Branch::kBelow:
      return x < n.split;
    case Branch::kAtLeast:
      return x >= n.split;
    case Branch::kAbove:
      return x > n.split;
    case Branch::kEqual:
      return x == n.split;
    case Branch::kOther:
      return x != n.split;
    case Branch::kMember:
      break;
  }
  return std::find(n.members.begin(), n.members.end(), x) != n.members.end();
}

int64_t leaf_of(const EvalContext& ctx, const Forest& f, int64_t root, const double* row) {
  int64_t at = root;
  for (size_t steps = 0; steps < f.nodes.size(); ++steps) {
    const TreeNode& n = f.nodes[static_cast<size_t>(at)];
    const size_t side = takes_true(n, row[n.feature]) ? 1 : 0;
    if (n.leaf[side]) return n.target[side];
    at = n.target[side];
  }
  ctx.reject("a tree goes in a circle");
}

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
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& v : scores)
    if (!keep_zeros || v != 0) sum += v = std::exp(v - most);
  for (double& v : scores)
    if (sum != 0) v /= sum;
}

void transform_scores(std::span<double> scores, int64_t kind) {
  if (kind == 1 || kind == 3) return softmax_scores(scores, kind == 3);
  for (double& v : scores) v = kind == 2 ? 1 / (1 + std::exp(-v)) : kind == 4 ? probit(v) : v;
}

void eval_tree_ensemble(EvalContext& ctx) {
  enum { kAverage, kSum, kMin, kMax };
  const Tensor& x = ctx.input(0);
  const Forest f = read_forest(ctx.node);
  const int64_t aggregate = ctx.node.integer("aggregate_function", kSum), kind = ctx.node.integer("post_transform", 0);
  if (aggregate < kAverage || aggregate > kMax || kind < 0 || kind > 4)
    ctx.reject(fmt::format("aggregate_function {} or post_transform {} is unknown", aggregate, kind));
  if (x.rank() != 2 || x.dims()[1] < f.features)
    ctx.reject(fmt::format("{} holds no rows of {} features", to_string(x.dims()), f.features));
  const Dims dims = {x.dims()[0], f.targets};
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)), 0.0);
  const std::vector<double> values = to_doubles(x);
  for (int64_t row = 0; row < dims[0]; ++row) {
    const auto scores = std::span(y).subspan(static_cast<size_t>(row * f.targets), static_cast<size_t>(f.targets));
    std::vector<bool> seen(scores.size(), false);
    for (int64_t root : f.roots) {
      const auto leaf = static_cast<size_t>(leaf_of(ctx, f, root, values.data() + row * x.dims()[1]));
      const auto target = static_cast<size_t>(f.leaf_targets[leaf]);
      const double weight = f.leaf_weights[leaf];
      double& score = scores[target];
      if (!seen[target])
        score = weight;
      else
        score = aggregate == kMin   ? std::min(score, weight)
                : aggregate == kMax ? std::max(score, weight)
                                    : score + weight;
      seen[target] = true;
    }
    for (double& score : scores)
      if (aggregate == kAverage && !f.roots.empty()) score /= static_cast<double>(f.roots.size());
    transform_scores(scores, kind);
  }
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_tree_ensemble(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape({x.rank() == 2 ? x[0] : Dim(), Dim(target_count(ctx.node))}));
}

constexpr OpSpec kTreeEnsembleOps[] = {
    {.name = "TreeEnsemble",
     .since = 5,
     .min_inputs = 1,
     .infer = infer_tree_ensemble,
     .eval = eval_tree_ensemble,
     .domain = "ai.onnx.ml"},
};

}  // namespace

std::span<const OpSpec> tree_ensemble_ops() { return kTreeEnsembleOps; }

}  // namespace slipway
