#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

TEST(Pooling, MaxWithIndicesInBothOrders) {
  const Tensor x = Tensor::of<float>({1, 1, 2, 3}, {1, 5, 2, 4, 3, 6});
  OpCall pool{.op = "MaxPool", .attributes = {{"kernel_shape", Ints{2, 2}}}, .outputs = 2};
  auto y = pool.run({x});
  expect_near(y[0], {1, 1, 1, 2}, {5, 6});
  EXPECT_TRUE(y[1].identical(Tensor::of<int64_t>({1, 1, 1, 2}, {1, 5})));
  pool.attributes["storage_order"] = int64_t{1};
  EXPECT_TRUE(pool.run({x})[1].identical(Tensor::of<int64_t>({1, 1, 1, 2}, {2, 5})));
  const Tensor codes = Tensor::of<int8_t>({1, 1, 3}, {-128, -5, -7});
  const OpCall line{.op = "MaxPool", .attributes = {{"kernel_shape", Ints{2}}, {"pads", Ints{1, 0}}}};
  EXPECT_TRUE(line.run({codes})[0].identical(Tensor::of<int8_t>({1, 1, 3}, {-128, -5, -5})));
}

TEST(Pooling, AverageCountsPaddingOnlyWhenAsked) {
  const Tensor x = counting({1, 1, 4});
  OpCall pool{.op = "AveragePool",
              .attributes = {{"kernel_shape", Ints{3}}, {"strides", Ints{2}}, {"pads", Ints{1, 1}}}};
  expect_near(pool.run({x})[0], {1, 1, 2}, {1.5, 3});
  pool.attributes["count_include_pad"] = int64_t{1};
  expect_near(pool.run({x})[0], {1, 1, 2}, {1, 3});
  // What ceil_mode adds beyond the padding never counts: the third window holds 4, one pad and one such place.
  pool.attributes["ceil_mode"] = int64_t{1};
  expect_near(pool.run({x})[0], {1, 1, 3}, {1, 3, 2});
}

TEST(Pooling, DilatedAverage) {
  const OpCall pool{
      .op = "AveragePool", .opset = 19, .attributes = {{"kernel_shape", Ints{2}}, {"dilations", Ints{3}}}};
  expect_near(pool.run({counting({1, 1, 5})})[0], {1, 1, 2}, {2.5, 3.5});
}

TEST(Pooling, LpAndGlobal) {
  const Tensor x = Tensor::of<float>({1, 2, 2}, {3, -4, 0, -2});
  const OpCall pool{.op = "LpPool", .attributes = {{"kernel_shape", Ints{2}}}};
  expect_near(pool.run({x})[0], {1, 2, 1}, {5, 2});
  expect_near(OpCall{"GlobalLpPool"}.run({x})[0], {1, 2, 1}, {5, 2});
  expect_near(OpCall{"GlobalAveragePool"}.run({x})[0], {1, 2, 1}, {-0.5, -1});
  expect_near(OpCall{"GlobalMaxPool"}.run({x})[0], {1, 2, 1}, {3, 0});
}

TEST(Pooling, InferenceAndRefusals) {
  const Shape x({Dim("N"), 8, Dim("H"), 7});
  const OpCall pool{
      .op = "MaxPool", .attributes = {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}, .outputs = 2};
  const auto y = pool.infer({facts(DType::kFloat32, x)});
  EXPECT_EQ(y[0].shape, Shape({Dim("N"), 8, Dim(), 3}));
  EXPECT_EQ(y[1].dtype, DType::kInt64);
  EXPECT_EQ(OpCall{"GlobalAveragePool"}.infer({facts(DType::kFloat32, x)})[0].shape, Shape({Dim("N"), 8, 1, 1}));
  EXPECT_THROW(pool.run({counting({1, 1, 4})}), Error);
  EXPECT_THROW(pool.run({counting({1, 1, 1, 4})}), Error);
  EXPECT_THROW(OpCall{"MaxPool"}.run({counting({1, 1, 4})}), Error);
  EXPECT_THROW(OpCall{"GlobalMaxPool"}.run({counting({2, 3})}), Error);
  const Tensor nothing(DType::kFloat32, {1, 1, 0});  // as of the reductions
  EXPECT_TRUE(std::isnan(OpCall{"GlobalAveragePool"}.run({nothing})[0].values<float>()[0]));
  EXPECT_EQ(OpCall{"GlobalMaxPool"}.run({nothing})[0].values<float>()[0], -INFINITY);
  expect_near(OpCall{"GlobalLpPool"}.run({nothing})[0], {1, 1, 1}, {0});
}

}  // namespace
}  // namespace slipway
