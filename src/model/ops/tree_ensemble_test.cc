#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall tree_call(const std::string& op, Attributes attributes) {
  const int64_t opset = op == "TreeEnsemble" ? 5 : 3;
  const size_t outputs = op.ends_with("Classifier") ? 2 : 1;
  return {.op = op, .opset = opset, .attributes = std::move(attributes), .outputs = outputs, .domain = "ai.onnx.ml"};
}

using List = std::vector<int64_t>;

// x0 ≤ 1 ? (x1 ∈ {2, 3} ? leaf 0 : leaf 1) : leaf 2
Attributes small_tree() {
  return {{"tree_roots", List{0}},
          {"nodes_featureids", List{0, 1}},
          {"nodes_modes", Tensor::of<uint8_t>({2}, {0, 6})},
          {"nodes_splits", Tensor::of<float>({2}, {1, 0})},
          {"nodes_truenodeids", List{1, 0}},
          {"nodes_trueleafs", List{0, 1}},
          {"nodes_falsenodeids", List{2, 1}},
          {"nodes_falseleafs", List{1, 1}},
          {"nodes_missing_value_tracks_true", List{0, 1}},
          {"membership_values", Tensor::of<float>({3}, {2, 3, NAN})},
          {"leaf_weights", Tensor::of<float>({3}, {10, 20, 30})},
          {"leaf_targetids", List{0, 1, 1}}};
}

TEST(TreeEnsemble, WalksToALeaf) {
  const Tensor x = Tensor::of<float>({5, 2}, {1, 2, 0, 5, 2, 2, NAN, 2, 0, NAN});
  expect_near(tree_call("TreeEnsemble", small_tree()).run({x})[0], {5, 2}, {10, 0, 0, 20, 0, 30, 0, 30, 10, 0});
}

TEST(TreeEnsemble, AddsTreesAndTransforms) {
  Attributes twice = small_tree();
  twice["tree_roots"] = List{0, 1};
  const Tensor x = Tensor::of<float>({1, 2}, {2, 5});
  expect_near(tree_call("TreeEnsemble", twice).run({x})[0], {1, 2}, {0, 50});
  twice["aggregate_function"] = int64_t{2};
  expect_near(tree_call("TreeEnsemble", twice).run({x})[0], {1, 2}, {0, 20});
  twice["leaf_weights"] = Tensor::of<float>({3}, {0, 0, 0.975f});
  twice["aggregate_function"] = int64_t{3};
  twice["post_transform"] = int64_t{4};
  const double probit = to_doubles(tree_call("TreeEnsemble", twice).run({x})[0])[1];
  EXPECT_NEAR(probit, 1.959964, 1e-5);
}

TEST(TreeEnsemble, RefusesCirclesAndPlacesOutside) {
  const Tensor x = counting({1, 2});
  Attributes circle = small_tree();
  circle["nodes_truenodeids"] = List{0, 0};
  EXPECT_THROW(tree_call("TreeEnsemble", circle).run({x}), Error);
  Attributes outside = small_tree();
  outside["nodes_falsenodeids"] = List{3, 1};
  EXPECT_THROW(tree_call("TreeEnsemble", outside).run({x}), Error);
  Attributes target = small_tree();
  target["n_targets"] = int64_t{1};
  EXPECT_THROW(tree_call("TreeEnsemble", target).run({x}), Error);
  EXPECT_THROW(tree_call("TreeEnsemble", small_tree()).run({counting({1, 1})}), Error);
}

using TreeReals = std::vector<float>;

// Two trees: x0 ≤ 0 ? leaf 1 : leaf 2, and x1 > 1 ? leaf 1 : leaf 2, where NaN is above 1.
Attributes two_trees(const std::string& kind, const List& ids, const TreeReals& weights) {
  return {{"nodes_treeids", List{0, 0, 0, 1, 1, 1}},
          {"nodes_nodeids", List{0, 1, 2, 0, 1, 2}},
          {"nodes_featureids", List{0, 0, 0, 1, 0, 0}},
          {"nodes_values", TreeReals{0, 0, 0, 1, 0, 0}},
          {"nodes_modes", std::vector<std::string>{"BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"}},
          {"nodes_truenodeids", List{1, 0, 0, 1, 0, 0}},
          {"nodes_falsenodeids", List{2, 0, 0, 2, 0, 0}},
          {"nodes_missing_value_tracks_true", List{0, 0, 0, 1, 0, 0}},
          {kind + "_treeids", List{0, 0, 1, 1}},
          {kind + "_nodeids", List{1, 2, 1, 2}},
          {kind + "_ids", ids},
          {kind + "_weights", weights}};
}

const Tensor kFeatures = Tensor::of<float>({3, 2}, {-1, 2, 1, 0, NAN, NAN});

TEST(TreeEnsembleRegressor, AggregatesAndAddsBaseValues) {
  Attributes a = two_trees("target", {0, 0, 0, 0}, {1, 2, 10, 20});
  const auto run = [&] { return tree_call("TreeEnsembleRegressor", a).run({kFeatures})[0]; };
  expect_near(run(), {3, 1}, {11, 22, 12});
  a["base_values"] = TreeReals{0.5f};
  a["aggregate_function"] = std::string("AVERAGE");
  expect_near(run(), {3, 1}, {6, 11.5, 6.5});
  a["aggregate_function"] = std::string("MIN");
  expect_near(run(), {3, 1}, {1.5, 2.5, 2.5});
  a["aggregate_function"] = std::string("MAX");
  expect_near(run(), {3, 1}, {10.5, 20.5, 10.5});
  a["aggregate_function"] = std::string("MEDIAN");
  EXPECT_THROW(run(), Error);
}

TEST(TreeEnsembleRegressor, LeavesVoteForSeveralTargets) {
  Attributes a = two_trees("target", {1, 0, 1, 1}, {1, 2, 10, 20});
  a["n_targets"] = int64_t{2};
  expect_near(tree_call("TreeEnsembleRegressor", a).run({kFeatures})[0], {3, 2}, {0, 11, 2, 20, 2, 10});
  a["target_nodeids"] = List{1, 1, 1, 2};
  expect_near(tree_call("TreeEnsembleRegressor", a).run({kFeatures})[0], {3, 2}, {2, 11, 0, 20, 0, 10});
  a["target_weights_as_tensor"] = Tensor::of<double>({4}, {0.1, 0.2, 0.3, 0.4});
  expect_near(tree_call("TreeEnsembleRegressor", a).run({kFeatures})[0], {3, 2}, {0.2, 0.4, 0, 0.4, 0, 0.3});
}

TEST(TreeEnsembleRegressor, RefusesWhatIsNoForest) {
  const auto refuses = [](const std::string& attribute, const Attribute& value) {
    Attributes a = two_trees("target", {0, 0, 0, 0}, {1, 2, 10, 20});
    a[attribute] = value;
    EXPECT_THROW(tree_call("TreeEnsembleRegressor", a).run({kFeatures}), Error) << attribute;
  };
  refuses("nodes_truenodeids", List{7, 0, 0, 1, 0, 0});
  refuses("nodes_truenodeids", List{0, 0, 0, 1, 0, 0});
  refuses("nodes_nodeids", List{0, 1, 1, 0, 1, 2});
  refuses("nodes_modes", std::vector<std::string>{"BRANCH_IN", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"});
  refuses("nodes_featureids", List{2, 0, 0, 1, 0, 0});
  refuses("nodes_values", TreeReals{0, 0});
  refuses("target_ids", List{0, 0, 1, 0});
  refuses("target_nodeids", List{0, 2, 1, 2});
}

TEST(TreeEnsembleClassifier, NamesTheClassOfTheLargestScore) {
  Attributes a = two_trees("class", {0, 1, 2, 1}, {1, 2, 3, 0.5f});
  a["classlabels_strings"] = std::vector<std::string>{"a", "b", "c"};
  std::vector<Tensor> got = tree_call("TreeEnsembleClassifier", a).run({kFeatures});
  EXPECT_EQ(got[0].strings(), (std::vector<std::string>{"c", "b", "c"}));
  expect_near(got[1], {3, 3}, {1, 0, 3, 0, 2.5, 0, 0, 2, 3});
  a["base_values"] = TreeReals{2.5f, 0, 0};
  EXPECT_EQ(tree_call("TreeEnsembleClassifier", a).run({kFeatures})[0].strings(),
            (std::vector<std::string>{"a", "a", "c"}));
  a["post_transform"] = std::string("SOFTMAX");
  const double sum = std::exp(3.5) + 1 + std::exp(3.0);
  got = tree_call("TreeEnsembleClassifier", a).run({kFeatures});
  EXPECT_NEAR(to_doubles(got[1])[0], std::exp(3.5) / sum, 1e-6);
  a.erase("base_values");
  a["post_transform"] = std::string("SOFTMAX_ZERO");
  const double ab = std::exp(1.0) + std::exp(3.0);
  const std::vector<double> zeros = to_doubles(tree_call("TreeEnsembleClassifier", a).run({kFeatures})[1]);
  EXPECT_NEAR(zeros[0], std::exp(1.0) / ab, 1e-6);
  EXPECT_EQ(zeros[1], 0);
}

TEST(TreeEnsembleClassifier, OneColumnDecidesBetweenTwoClasses) {
  const auto run = [](const TreeReals& weights, const std::string& transform) {
    Attributes a = two_trees("class", {0, 0, 0, 0}, weights);
    a["classlabels_int64s"] = List{10, 20};
    a["post_transform"] = transform;
    return tree_call("TreeEnsembleClassifier", a).run({kFeatures});
  };
  const auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
  std::vector<Tensor> got = run({0.125f, 0.25f, 0.25f, 0.5f}, "NONE");
  EXPECT_EQ(to_ints(got[0]), (List{10, 20, 10})) << "sums 0.375, 0.75 and 0.5 against 0.5";
  expect_near(got[1], {3, 2}, {0.625, 0.375, 0.25, 0.75, 0.5, 0.5});
  EXPECT_EQ(to_ints(run({0.1f, 0.3f, 0.2f, 0.4f}, "NONE")[0]), (List{10, 20, 10})) << "0.3 and 0.2 are a half";
  got = run({-0.1f, 0.3f, 0.2f, -0.4f}, "NONE");
  EXPECT_EQ(to_ints(got[0]), (List{20, 10, 20})) << "sums 0.1, −0.1 and 0.5 against 0";
  expect_near(got[1], {3, 2}, {-0.1, 0.1, 0.1, -0.1, -0.5, 0.5});
  expect_near(run({-0.1f, 0.3f, 0.2f, -0.4f}, "LOGISTIC")[1], {3, 2},
              {logistic(-0.1), logistic(0.1), logistic(0.1), logistic(-0.1), logistic(-0.5), logistic(0.5)});
}

}  // namespace
}  // namespace slipway
