#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using List = std::vector<int64_t>;

TEST(Unfold, Col2ImAddsOverlappingBlocks) {
  const OpCall call{.op = "Col2Im", .opset = 18};
  // Blocks of 1×2 in a row of 3 overlap in its middle.
  expect_near(call.run({Tensor::of<float>({1, 2, 2}, {1, 2, 10, 20}), int64s({1, 3}), int64s({1, 2})})[0], {1, 1, 1, 3},
              {1, 12, 20});
  const OpCall apart{.op = "Col2Im",
                     .opset = 18,
                     .attributes = {{"strides", List{1, 2}}, {"pads", List{0, 1, 0, 0}}, {"dilations", List{1, 2}}}};
  // Taps at −1, 1 and 1, 3 of a row of 4.
  expect_near(apart.run({Tensor::of<float>({1, 2, 2}, {1, 2, 10, 20}), int64s({1, 4}), int64s({1, 2})})[0],
              {1, 1, 1, 4}, {0, 12, 0, 20});
}

TEST(Unfold, Col2ImRefusesOtherNumbersOfBlocks) {
  const OpCall call{.op = "Col2Im", .opset = 18};
  EXPECT_THROW(call.run({counting({1, 2, 3}), int64s({1, 3}), int64s({1, 2})}), Error);
  EXPECT_THROW(call.run({counting({1, 3, 2}), int64s({1, 3}), int64s({1, 2})}), Error);
  EXPECT_THROW(call.run({counting({1, 2, 2}), int64s({1, 1}), int64s({1, 2})}), Error);
  EXPECT_THROW(call.run({counting({1, 2, 2}), int64s({1, -3}), int64s({1, 2})}), Error);
  ValueFacts image = facts(DType::kInt64, Shape({2})), block = image;
  image.constant = std::make_shared<const Tensor>(int64s({1, 3}));
  block.constant = std::make_shared<const Tensor>(int64s({1, 2}));
  EXPECT_EQ(call.infer({facts(DType::kFloat32, Shape({Dim("N"), 6, 2})), image, block})[0].shape,
            Shape({Dim("N"), 3, 1, 3}));
}

TEST(Unfold, UnpoolPutsMaximaBack) {
  const Attributes window = {{"kernel_shape", List{2, 2}}, {"strides", List{2, 2}}};
  const Tensor x = Tensor::of<float>({1, 1, 1, 2}, {5, 7}), places = Tensor::of<int64_t>({1, 1, 1, 2}, {1, 6});
  const OpCall call{.op = "MaxUnpool", .attributes = window};
  expect_near(call.run({x, places})[0], {1, 1, 2, 4}, {0, 5, 0, 0, 0, 0, 7, 0});
  expect_near(call.run({x, places, int64s({1, 1, 2, 5})})[0], {1, 1, 2, 5}, {0, 5, 0, 0, 0, 0, 0, 7, 0, 0});
  EXPECT_THROW(call.run({x, Tensor::of<int64_t>({1, 1, 1, 2}, {1, 8})}), Error);
  EXPECT_THROW(call.run({x, places, int64s({1, 1, 1, 4})}), Error);
  EXPECT_EQ(call.infer({facts(DType::kFloat32, Shape({Dim("N"), 3, 4, 5})), facts(DType::kInt64, Shape())})[0].shape,
            Shape({Dim("N"), 3, 8, 10}));
}

TEST(Unfold, UnpoolUndoesMaxPool) {
  const Attributes window = {{"kernel_shape", List{2}}, {"strides", List{2}}};
  const Tensor x = Tensor::of<float>({1, 2, 4}, {3, 1, 2, 4, 9, 8, 6, 7});
  const auto pooled = OpCall{.op = "MaxPool", .attributes = window, .outputs = 2}.run({x});
  expect_near(OpCall{.op = "MaxUnpool", .attributes = window}.run(pooled)[0], {1, 2, 4}, {3, 0, 0, 4, 9, 0, 0, 7});
}

}  // namespace
}  // namespace slipway
