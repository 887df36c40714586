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

}  // namespace
}  // namespace slipway
