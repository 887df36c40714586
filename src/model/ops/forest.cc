// Tree ensembles: both forms that ai.onnx.ml writes them in become nodes and leaves with checked indices; each row of
// features then walks every tree from its root to a leaf, which votes for targets. A walk longer than there are nodes
// goes in a circle.
#include "model/ops/forest.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"

namespace slipway {
namespace {

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

constexpr int64_t kAnyInteger = std::numeric_limits<int64_t>::max();

std::vector<double> tree_reals(const Node& node, const std::string& attribute, size_t count) {
  std::vector<double> values = reals_or_tensor(node, attribute);
  if (values.size() != count) reject(node, fmt::format("{} has not {} entries", attribute, count));
  return values;
}

std::vector<std::string> tree_texts(const Node& node, std::string_view attribute, size_t count) {
  const auto it = node.attributes.find(attribute);
  const auto* texts = it == node.attributes.end() ? nullptr : std::get_if<std::vector<std::string>>(&it->second);
  if (texts == nullptr || texts->size() != count) reject(node, fmt::format("{} has not {} entries", attribute, count));
  return *texts;
}

std::vector<int64_t> missing_sides(const Node& node, size_t count) {
  if (node.integers("nodes_missing_value_tracks_true").empty()) return std::vector<int64_t>(count, 0);
  return tree_integers(node, "nodes_missing_value_tracks_true", count, 2);
}

// Places of (tree, node) pairs, found by binary search.
class TreePlaces {
 public:
  TreePlaces(const Node& node, const std::vector<int64_t>& trees, const std::vector<int64_t>& ids) : node_(node) {
    for (size_t i = 0; i < ids.size(); ++i) places_.push_back({{trees[i], ids[i]}, static_cast<int64_t>(i)});
    if (!std::is_sorted(places_.begin(), places_.end())) std::sort(places_.begin(), places_.end());
    for (size_t i = 1; i < places_.size(); ++i)
      if (places_[i].first == places_[i - 1].first)
        reject(node, fmt::format("a tree has two nodes of one number: {}", places_[i].first.second));
  }
  int64_t at(int64_t tree, int64_t id) const {
    const std::pair key(tree, id);
    const auto it = std::lower_bound(places_.begin(), places_.end(), key,
                                     [](const auto& place, const auto& wanted) { return place.first < wanted; });
    if (it == places_.end() || it->first != key)
      reject(node_, fmt::format("tree {} has no node {}, which it names", tree, id));
    return it->second;
  }

 private:
  const Node& node_;
  std::vector<std::pair<std::pair<int64_t, int64_t>, int64_t>> places_;
};

constexpr std::array<std::string_view, 6> kBranchNames = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE",
                                                          "BRANCH_GT",  "BRANCH_EQ", "BRANCH_NEQ"};

bool takes_true(const ForestNode& n, double x) {
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

const std::vector<ForestVote>& leaf_of(const EvalContext& ctx, const Forest& f, ForestStep at, const double* row) {
  for (size_t steps = 0; steps <= f.nodes.size(); ++steps) {
    if (at.is_leaf) return f.leaves[static_cast<size_t>(at.index)];
    const ForestNode& n = f.nodes[static_cast<size_t>(at.index)];
    at = n.next[takes_true(n, row[n.feature]) ? 1 : 0];
  }
  ctx.reject("a tree goes in a circle");
}

}  // namespace

std::vector<double> reals_or_tensor(const Node& node, const std::string& attribute) {
  if (const Tensor* t = node.tensor(attribute + "_as_tensor")) return to_doubles(*t);
  const std::vector<float> reals = node.reals(attribute);
  return {reals.begin(), reals.end()};
}

int64_t forest_targets(const Node& node) {
  const std::vector<int64_t> ids = node.integers("leaf_targetids");
  const int64_t most = ids.empty() ? 0 : *std::max_element(ids.begin(), ids.end());
  const int64_t count = node.has("n_targets") ? node.integer("n_targets", 0) : most + 1;
  if (count < 1 || most >= count || *std::min_element(ids.begin(), ids.end()) < 0)
    reject(node, fmt::format("its leaves have targets outside {}", count));
  return count;
}

Forest read_forest(const Node& node) {
  Forest f;
  f.targets = forest_targets(node);
  const std::vector<int64_t> targets = node.integers("leaf_targetids");
  const std::vector<double> weights =
      to_doubles(tree_tensor(node, "leaf_weights", static_cast<int64_t>(targets.size())));
  for (size_t i = 0; i < targets.size(); ++i) f.leaves.push_back({{targets[i], weights[i]}});
  const size_t count = node.integers("nodes_featureids").size();
  const auto features = tree_integers(node, "nodes_featureids", count, kAnyInteger);
  const std::vector<double> splits = to_doubles(tree_tensor(node, "nodes_splits", static_cast<int64_t>(count)));
  const std::vector<int64_t> modes = to_ints(tree_tensor(node, "nodes_modes", static_cast<int64_t>(count)));
  const std::vector<int64_t> sides[2] = {tree_integers(node, "nodes_falseleafs", count, 2),
                                         tree_integers(node, "nodes_trueleafs", count, 2)};
  const std::vector<int64_t> next[2] = {node.integers("nodes_falsenodeids"), node.integers("nodes_truenodeids")};
  const std::vector<int64_t> missing = missing_sides(node, count);
  std::vector<double> members;
  if (const Tensor* t = node.tensor("membership_values")) members = to_doubles(*t);
  auto member = members.begin();
  for (size_t i = 0; i < count; ++i) {
    if (modes[i] < 0 || modes[i] > static_cast<int64_t>(Branch::kMember))
      reject(node, fmt::format("nodes_modes has an entry outside 0 to 6: {}", modes[i]));
    ForestNode n{static_cast<Branch>(modes[i]), features[i], splits[i], missing[i] != 0, {}, {}};
    f.features = std::max(f.features, features[i] + 1);
    for (size_t side = 0; side < 2; ++side) {
      const auto limit = static_cast<int64_t>(sides[side][i] != 0 ? f.leaves.size() : count);
      if (next[side].size() != count || next[side][i] < 0 || next[side][i] >= limit)
        reject(node, "a branch leads to no node and no leaf");
      n.next[side] = {sides[side][i] != 0, next[side][i]};
    }
    if (n.branch == Branch::kMember) {
      const auto end = std::find_if(member, members.end(), [](double v) { return std::isnan(v); });
      n.members.assign(member, end);
      member = end == members.end() ? end : end + 1;
    }
    f.nodes.push_back(std::move(n));
  }
  for (int64_t root :
       tree_integers(node, "tree_roots", node.integers("tree_roots").size(), static_cast<int64_t>(count)))
    f.roots.push_back({false, root});
  return f;
}

Forest read_listed_forest(const Node& node, const std::string& kind, int64_t targets) {
  Forest f;
  f.targets = targets;
  const std::vector<int64_t> trees = node.integers("nodes_treeids");
  const size_t count = trees.size();
  const auto ids = tree_integers(node, "nodes_nodeids", count, kAnyInteger);
  const auto features = tree_integers(node, "nodes_featureids", count, kAnyInteger);
  const std::vector<double> splits = tree_reals(node, "nodes_values", count);
  const std::vector<std::string> modes = tree_texts(node, "nodes_modes", count);
  const std::vector<int64_t> next[2] = {tree_integers(node, "nodes_falsenodeids", count, kAnyInteger),
                                        tree_integers(node, "nodes_truenodeids", count, kAnyInteger)};
  const std::vector<int64_t> missing = missing_sides(node, count);
  const TreePlaces places(node, trees, ids);
  std::vector<ForestStep> steps(count);  // what each listed node is: a leaf, or an inner node
  for (size_t i = 0; i < count; ++i) {
    const bool is_leaf = modes[i] == "LEAF";
    steps[i] = {is_leaf, static_cast<int64_t>(is_leaf ? f.leaves.size() : f.nodes.size())};
    if (is_leaf) {
      f.leaves.emplace_back();
      continue;
    }
    const auto branch = std::find(kBranchNames.begin(), kBranchNames.end(), modes[i]);
    if (branch == kBranchNames.end()) reject(node, fmt::format("nodes_modes has an unknown entry: {}", modes[i]));
    f.nodes.push_back(
        {static_cast<Branch>(branch - kBranchNames.begin()), features[i], splits[i], missing[i] != 0, {}, {}});
    f.features = std::max(f.features, features[i] + 1);
  }
  std::vector<bool> is_child(count, false);
  for (size_t i = 0; i < count; ++i)
    for (size_t side = 0; side < 2 && !steps[i].is_leaf; ++side) {
      const auto child = static_cast<size_t>(places.at(trees[i], next[side][i]));
      if (child == i) reject(node, "a tree goes in a circle");
      is_child[child] = true;
      f.nodes[static_cast<size_t>(steps[i].index)].next[side] = steps[child];
    }
  std::vector<int64_t> rooted;
  for (size_t i = 0; i < count; ++i)
    if (!is_child[i]) {
      f.roots.push_back(steps[i]);
      rooted.push_back(trees[i]);
    }
  std::sort(rooted.begin(), rooted.end());
  std::vector<int64_t> all = trees;
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (rooted != all) reject(node, "a tree has not one root: a single node that no other leads to");
  const std::vector<int64_t> voters = node.integers(kind + "_treeids");
  const auto voter_nodes = tree_integers(node, kind + "_nodeids", voters.size(), kAnyInteger);
  const auto voted = tree_integers(node, kind + "_ids", voters.size(), targets);
  const std::vector<double> weights = tree_reals(node, kind + "_weights", voters.size());
  for (size_t i = 0; i < voters.size(); ++i) {
    const ForestStep& leaf = steps[static_cast<size_t>(places.at(voters[i], voter_nodes[i]))];
    if (!leaf.is_leaf) reject(node, fmt::format("a weight is given to node {}, which is no leaf", voter_nodes[i]));
    f.leaves[static_cast<size_t>(leaf.index)].push_back({voted[i], weights[i]});
  }
  return f;
}

void run_forest(const EvalContext& ctx, const Forest& forest, ForestAggregate aggregate, std::span<const double> row,
                std::span<double> scores, std::vector<bool>& seen) {
  std::fill(scores.begin(), scores.end(), 0.0);
  seen.assign(scores.size(), false);
  for (const ForestStep& root : forest.roots)
    for (const ForestVote& vote : leaf_of(ctx, forest, root, row.data())) {
      double& score = scores[static_cast<size_t>(vote.target)];
      if (!seen[static_cast<size_t>(vote.target)])
        score = vote.weight;
      else
        score = aggregate == ForestAggregate::kMin   ? std::min(score, vote.weight)
                : aggregate == ForestAggregate::kMax ? std::max(score, vote.weight)
                                                     : score + vote.weight;
      seen[static_cast<size_t>(vote.target)] = true;
    }
  for (double& score : scores)
    if (aggregate == ForestAggregate::kAverage && !forest.roots.empty())
      score /= static_cast<double>(forest.roots.size());
}

}  // namespace slipway
