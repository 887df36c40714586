#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

Tensor vec(std::initializer_list<float> values) {
  return Tensor::of<float>({static_cast<int64_t>(values.size())}, values);
}

TEST(Normalization, BatchInferenceAndTraining) {
  const Tensor x = Tensor::of<float>({1, 2, 2}, {1, 3, 10, 20});
  OpCall bn{.op = "BatchNormalization", .attributes = {{"epsilon", 0.0f}}};
  expect_near(bn.run({x, vec({2, 1}), vec({1, 0}), vec({1, 10}), vec({4, 25})})[0], {1, 2, 2}, {1, 3, 0, 2});
  EXPECT_THROW(bn.run({x, vec({2, 1, 3}), vec({1, 0}), vec({1, 10}), vec({4, 25})}), Error);
  bn.outputs = 3;
  bn.attributes["training_mode"] = int64_t{1};
  bn.attributes["momentum"] = 0.5f;
  const auto y = bn.run({x, vec({1, 1}), vec({0, 0}), vec({0, 5}), vec({3, 5})});
  expect_near(y[0], {1, 2, 2}, {-1, 1, -1, 1});
  expect_near(y[1], {2}, {1, 10});
  expect_near(y[2], {2}, {2, 15});
  bn.opset = 9;
  EXPECT_THROW(bn.run({x, vec({1, 1}), vec({0, 0}), vec({0, 5}), vec({3, 5})}), Error);
}

TEST(Normalization, BatchWithStatisticsForEveryElementBeforeOpset9) {
  const OpCall bn{.op = "BatchNormalization", .opset = 7, .attributes = {{"epsilon", 0.0f}, {"spatial", int64_t{0}}}};
  const Tensor x = counting({2, 1, 2}), one = Tensor::of<float>({1, 2}, {1, 1});
  expect_near(bn.run({x, one, one, Tensor::of<float>({1, 2}, {1, 2}), one})[0], {2, 1, 2}, {1, 1, 3, 3});
}

TEST(Normalization, InstanceGroupAndLayer) {
  const Tensor x = Tensor::of<float>({1, 2, 2}, {1, 3, 10, 30});
  const Attributes exact = {{"epsilon", 0.0f}};
  expect_near(OpCall{"InstanceNormalization", 17, exact}.run({x, vec({1, 2}), vec({0, 5})})[0], {1, 2, 2},
              {-1, 1, 3, 7});
  Attributes groups = exact;
  groups["num_groups"] = int64_t{2};
  expect_near(OpCall{"GroupNormalization", 21, groups}.run({x, vec({1, 2}), vec({0, 5})})[0], {1, 2, 2}, {-1, 1, 3, 7});
  groups["num_groups"] = int64_t{1};
  EXPECT_THROW((OpCall{"GroupNormalization", 18, groups}.run({x, vec({1, 2}), vec({0, 5})})), Error);
  EXPECT_NO_THROW((OpCall{"GroupNormalization", 18, groups}.run({x, vec({1}), vec({0})})));
  const Tensor none(DType::kFloat32, {1, 0, 2}), nothing(DType::kFloat32, {0});
  EXPECT_EQ((OpCall{"GroupNormalization", 21, groups}.run({none, nothing, nothing})[0].dims()), none.dims());
  const auto y = OpCall{"LayerNormalization", 17, exact, 3}.run({x, vec({1, 2}), vec({0, 5})});
  expect_near(y[0], {1, 2, 2}, {-1, 7, -1, 7});
  expect_near(y[1], {1, 2, 1}, {2, 20});
  expect_near(y[2], {1, 2, 1}, {1, 0.1});
  expect_near(OpCall{"RMSNormalization", 23, exact}.run({vec({3, 4}), vec({1, 2})})[0], {2},
              {3 / std::sqrt(12.5), 8 / std::sqrt(12.5)});
}

TEST(Normalization, AnInfinityMakesAnInfiniteMeanSquareAndZerosKeepTheirSign) {
  const OpCall rms{"RMSNormalization", 23};
  const std::vector<double> y = to_doubles(rms.run({vec({INFINITY, 2}), vec({1, 1})})[0]);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 0);
  EXPECT_TRUE(std::signbit(to_doubles(rms.run({vec({-0.0f, 2}), vec({1, 1})})[0])[0]));
}

TEST(Normalization, ALargeMeanCostsNoPrecision) {
  const Tensor x = Tensor::of<float>({1, 1, 2}, {16777214, 16777216});
  expect_near(OpCall{"InstanceNormalization", 17, {{"epsilon", 0.0f}}}.run({x, vec({1}), vec({0})})[0], {1, 1, 2},
              {-1, 1});
}

TEST(Normalization, LocalResponseAndLpAndMeanVariance) {
  const Tensor x = Tensor::of<float>({1, 3, 1}, {1, 2, 3});
  const OpCall lrn{.op = "LRN", .attributes = {{"size", int64_t{2}}, {"alpha", 2.0f}, {"beta", 1.0f}}};
  expect_near(lrn.run({x})[0], {1, 3, 1}, {1 / 6.0, 2 / 14.0, 3 / 10.0});
  const OpCall lp{.op = "LpNormalization", .attributes = {{"axis", int64_t{1}}, {"p", int64_t{1}}}};
  expect_near(lp.run({x})[0], {1, 3, 1}, {1 / 6.0, 2 / 6.0, 3 / 6.0});
  expect_near(lp.run({Tensor(DType::kFloat32, {1, 2})})[0], {1, 2}, {0, 0});
  const OpCall mvn{.op = "MeanVarianceNormalization", .attributes = {{"axes", Ints{0}}}};
  expect_near(mvn.run({Tensor::of<float>({2, 2}, {1, 10, 3, 30})})[0], {2, 2}, {-1, -1, 1, 1});
  EXPECT_THROW(OpCall{"LRN"}.run({x}), Error);
}

}  // namespace
}  // namespace slipway
