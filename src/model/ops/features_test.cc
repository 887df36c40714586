#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Reals = std::vector<float>;
using Numbers = std::vector<int64_t>;
using Texts = std::vector<std::string>;

OpCall feature_call(const std::string& op, Attributes attributes = {}) {
  return {.op = op, .opset = 1, .attributes = std::move(attributes), .domain = "ai.onnx.ml"};
}

TEST(Features, ScalerSubtractsThenMultiplies) {
  const Tensor x = Tensor::of<float>({2, 2}, {1, -4, 0, 0});
  const Attributes each = {{"offset", Reals{1, 2}}, {"scale", Reals{2, 3}}};
  expect_near(feature_call("Scaler", each).run({x})[0], {2, 2}, {0, -18, -2, -6});
  expect_near(feature_call("Scaler", {{"offset", Reals{1}}}).run({x})[0], {2, 2}, {0, -5, -1, -1});
  const Tensor whole = feature_call("Scaler", each).run({Tensor::of<int64_t>({1, 2}, {3, 4})})[0];
  EXPECT_EQ(whole.dtype(), DType::kFloat32);
  expect_near(whole, {1, 2}, {4, 6});
  EXPECT_THROW(feature_call("Scaler", {{"offset", Reals{1, 2, 3}}}).run({x}), Error);
}

TEST(Features, NormalizerDividesEachRow) {
  const Tensor x = Tensor::of<float>({3, 2}, {1, -4, 0, 0, -2, -1});
  const auto of = [](const char* norm) { return feature_call("Normalizer", {{"norm", std::string(norm)}}); };
  expect_near(feature_call("Normalizer").run({x})[0], {3, 2}, {1, -4, 0, 0, 2, 1});
  expect_near(of("L1").run({x})[0], {3, 2}, {0.2, -0.8, 0, 0, -2.0 / 3, -1.0 / 3});
  const double a = std::sqrt(17.0), b = std::sqrt(5.0);
  expect_near(of("L2").run({x})[0], {3, 2}, {1 / a, -4 / a, 0, 0, -2 / b, -1 / b});
  expect_near(of("L1").run({Tensor(DType::kFloat32, {2, 0})})[0], {2, 0}, {});
  EXPECT_THROW(of("L3").run({x}), Error);
}

TEST(Features, ImputerReplacesOneValue) {
  const Attributes holes = {{"imputed_value_floats", Reals{5, 6}}, {"replaced_value_float", NAN}};
  expect_near(feature_call("Imputer", holes).run({Tensor::of<float>({2, 2}, {1, NAN, NAN, 0})})[0], {2, 2},
              {1, 6, 5, 0});
  const Attributes zeros = {{"imputed_value_int64s", Numbers{9}}};
  const Tensor whole = feature_call("Imputer", zeros).run({int64s({0, 1, 0})})[0];
  EXPECT_EQ(to_ints(whole), (Numbers{9, 1, 9}));
  EXPECT_THROW(feature_call("Imputer", zeros).run({Tensor::of<float>({1}, {0})}), Error);
}

TEST(Features, OneHotEncoderAddsAnAxis) {
  const Attributes numbers = {{"cats_int64s", Numbers{1, 2, 3}}};
  expect_near(feature_call("OneHotEncoder", numbers).run({Tensor::of<float>({1, 2}, {3, 2.7f})})[0], {1, 2, 3},
              {0, 0, 1, 0, 1, 0});
  expect_near(feature_call("OneHotEncoder", numbers).run({int64s({5})})[0], {1, 3}, {0, 0, 0});
  Attributes strict = numbers;
  strict["zeros"] = int64_t{0};
  EXPECT_THROW(feature_call("OneHotEncoder", strict).run({int64s({5})}), Error);
  const Attributes texts = {{"cats_strings", Texts{"a", "b"}}};
  expect_near(feature_call("OneHotEncoder", texts).run({Tensor::of_strings({2}, {"b", "c"})})[0], {2, 2}, {0, 1, 0, 0});
  EXPECT_THROW(feature_call("OneHotEncoder", texts).run({int64s({5})}), Error);
  EXPECT_THROW(feature_call("OneHotEncoder").run({int64s({5})}), Error);
  EXPECT_EQ(feature_call("OneHotEncoder", texts).infer({facts(DType::kString, Shape({Dim("N"), Dim(1)}))})[0].shape,
            Shape({Dim("N"), Dim(1), Dim(2)}));
}

TEST(Features, CategoryMapperGoesBothWays) {
  const Attributes a = {{"cats_int64s", Numbers{4, 5}}, {"cats_strings", Texts{"x", "y"}}};
  EXPECT_EQ(to_ints(feature_call("CategoryMapper", a).run({Tensor::of_strings({2}, {"y", "z"})})[0]), (Numbers{5, -1}));
  EXPECT_EQ(feature_call("CategoryMapper", a).run({int64s({4, 6})})[0].strings(), (Texts{"x", "_Unused"}));
  Attributes uneven = a;
  uneven["cats_int64s"] = Numbers{4};
  EXPECT_THROW(feature_call("CategoryMapper", uneven).run({int64s({4})}), Error);
}

TEST(Features, VectorizerJoinsColumns) {
  const Tensor a = counting({2, 2}), b = Tensor::of<int64_t>({2, 1}, {7, 8});
  expect_near(feature_call("FeatureVectorizer", {{"inputdimensions", Numbers{2, 1}}}).run({a, b})[0], {2, 3},
              {1, 2, 7, 3, 4, 8});
  expect_near(feature_call("FeatureVectorizer").run({int64s({1, 2}), int64s({3})})[0], {1, 3}, {1, 2, 3});
  EXPECT_THROW(feature_call("FeatureVectorizer", {{"inputdimensions", Numbers{1, 1}}}).run({a, b}), Error);
  EXPECT_THROW(feature_call("FeatureVectorizer").run({a, counting({3, 1})}), Error);
}

}  // namespace
}  // namespace slipway
