#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/op.h"

namespace slipway {

/// How a node compares a feature with its split; numbered as TreeEnsemble's nodes_modes.
enum class Branch { kAtMost, kBelow, kAtLeast, kAbove, kEqual, kOther, kMember };
/// Numbered as TreeEnsemble's aggregate_function.
enum class ForestAggregate { kAverage, kSum, kMin, kMax };

/// Where a walk goes on: at a node, or at a leaf, where it ends.
struct ForestStep {
  bool is_leaf = false;
  int64_t index = 0;
};

struct ForestNode {
  Branch branch = Branch::kAtMost;
  int64_t feature = 0;
  double split = 0;
  bool missing_is_true = false;  ///< where NaN goes
  ForestStep next[2];            ///< of the false and the true side
  std::vector<double> members;   ///< of kMember: the set that the true side's values are in
};

/// What a leaf gives to one target.
struct ForestVote {
  int64_t target = 0;
  double weight = 0;
};

/// Trees, whatever form an operator wrote them in. All indices are in range.
struct Forest {
  std::vector<ForestNode> nodes;
  std::vector<ForestStep> roots;
  std::vector<std::vector<ForestVote>> leaves;
  int64_t targets = 0;
  int64_t features = 0;  ///< as many as the nodes read
};

/// TreeEnsemble's form. Rejects indices outside and lists that do not fit each other.
Forest read_forest(const Node& node);
/// The form of TreeEnsembleRegressor and TreeEnsembleClassifier, whose votes are in attributes named `kind`_ids,
/// `kind`_weights and so on. Rejects as read_forest() does.
Forest read_listed_forest(const Node& node, const std::string& kind, int64_t targets);
/// A list of floats, or, under the name with _as_tensor, a tensor; empty when neither is there.
std::vector<double> reals_or_tensor(const Node& node, const std::string& attribute);
/// The number of TreeEnsemble's targets.
int64_t forest_targets(const Node& node);

/// Walks every tree with one row of features. Targets without a vote have the score 0 and stay unmarked in `seen`.
/// Rejects a tree that goes in a circle.
void run_forest(const EvalContext& ctx, const Forest& forest, ForestAggregate aggregate, std::span<const double> row,
                std::span<double> scores, std::vector<bool>& seen);

}  // namespace slipway
