#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall ml(const std::string& op, Attributes attributes, int64_t opset = 4) {
  return {.op = op, .opset = opset, .attributes = std::move(attributes), .domain = "ai.onnx.ml"};
}

TEST(Labels, EncoderMapsKeysAndDefaults) {
  const OpCall names = ml("LabelEncoder", {{"keys_strings", std::vector<std::string>{"a", "b", "a"}},
                                           {"values_int64s", std::vector<int64_t>{5, 6, 7}},
                                           {"default_int64", int64_t{42}}});
  EXPECT_EQ(to_ints(names.run({Tensor::of_strings({4}, {"b", "a", "", "c"})})[0]),
            (std::vector<int64_t>{6, 7, 42, 42}));
  EXPECT_THROW(names.run({int64s({1})}), Error);
  const OpCall numbers = ml("LabelEncoder", {{"keys_floats", std::vector<float>{0.0f, NAN}},
                                             {"values_tensor", Tensor::of<int16_t>({2}, {3, 4})}});
  EXPECT_EQ(to_ints(numbers.run({Tensor::of<float>({3}, {-0.0f, -NAN, 1})})[0]), (std::vector<int64_t>{3, 4, -1}));
  EXPECT_EQ(numbers.infer({facts(DType::kFloat32, Shape({Dim("N")}))})[0].dtype, DType::kInt16);
  EXPECT_THROW(ml("LabelEncoder", {{"keys_floats", std::vector<float>{1}}}).run({counting({1})}), Error);
}

TEST(Labels, ExtractorPicksColumns) {
  const OpCall pick_columns = ml("ArrayFeatureExtractor", {}, 1);
  expect_near(pick_columns.run({counting({2, 3}), int64s({2, 0})})[0], {2, 2}, {3, 1, 6, 4});
  expect_near(pick_columns.run({counting({3}), int64s({1})})[0], {1, 1}, {2});
  EXPECT_THROW(pick_columns.run({counting({3}), int64s({3})}), Error);
}

TEST(Labels, BinarizerIsAboveTheThreshold) {
  expect_near(ml("Binarizer", {{"threshold", 1.0f}}, 1).run({Tensor::of<float>({4}, {0, 1, 1.5, NAN})})[0], {4},
              {0, 0, 1, 0});
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
  expect_near(ml("TreeEnsemble", small_tree(), 5).run({x})[0], {5, 2}, {10, 0, 0, 20, 0, 30, 0, 30, 10, 0});
}

TEST(TreeEnsemble, AddsTreesAndTransforms) {
  Attributes twice = small_tree();
  twice["tree_roots"] = List{0, 1};
  const Tensor x = Tensor::of<float>({1, 2}, {2, 5});
  expect_near(ml("TreeEnsemble", twice, 5).run({x})[0], {1, 2}, {0, 50});
  twice["aggregate_function"] = int64_t{2};
  expect_near(ml("TreeEnsemble", twice, 5).run({x})[0], {1, 2}, {0, 20});
  twice["leaf_weights"] = Tensor::of<float>({3}, {0, 0, 0.975f});
  twice["aggregate_function"] = int64_t{3};
  twice["post_transform"] = int64_t{4};
  const double probit = to_doubles(ml("TreeEnsemble", twice, 5).run({x})[0])[1];
  EXPECT_NEAR(probit, 1.959964, 1e-5);
}

TEST(TreeEnsemble, RefusesCirclesAndPlacesOutside) {
  const Tensor x = counting({1, 2});
  Attributes circle = small_tree();
  circle["nodes_truenodeids"] = List{0, 0};
  EXPECT_THROW(ml("TreeEnsemble", circle, 5).run({x}), Error);
  Attributes outside = small_tree();
  outside["nodes_falsenodeids"] = List{3, 1};
  EXPECT_THROW(ml("TreeEnsemble", outside, 5).run({x}), Error);
  Attributes target = small_tree();
  target["n_targets"] = int64_t{1};
  EXPECT_THROW(ml("TreeEnsemble", target, 5).run({x}), Error);
  EXPECT_THROW(ml("TreeEnsemble", small_tree(), 5).run({counting({1, 1})}), Error);
}

}  // namespace
}  // namespace slipway
