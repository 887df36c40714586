// Resize, Upsample and GridSample where ONNX's own cases say nothing: older and newer forms, bad input.
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

Tensor reals(const std::vector<float>& values) {
  return Tensor::of<float>({static_cast<int64_t>(values.size())}, values);
}

TEST(Resize, OlderFormsFloorWithoutOffset) {
  const OpCall ten{.op = "Resize", .opset = 10};
  expect_near(ten.run({counting({1, 2}), reals({1, 2})})[0], {1, 4}, {1, 1, 2, 2});
  const OpCall seven{.op = "Upsample", .opset = 7, .attributes = {{"scales", std::vector<float>{1.0f, 1.5f}}}};
  expect_near(seven.run({counting({1, 2})})[0], {1, 3}, {1, 1, 2});
  const OpCall linear{.op = "Upsample", .opset = 9, .attributes = {{"mode", std::string("linear")}}};
  expect_near(linear.run({counting({1, 2}), reals({1, 2})})[0], {1, 4}, {1, 1.5, 2, 2});
}

TEST(Resize, NearestKeepsAnyType) {
  const OpCall resize{.op = "Resize"};
  const Tensor x = Tensor::of<uint8_t>({2}, {7, 255});
  EXPECT_TRUE(resize.run({x, Tensor(), reals({2})})[0].identical(Tensor::of<uint8_t>({4}, {7, 7, 255, 255})));
}

TEST(Resize, TakesAxesAndPolicyFromOpset18) {
  const Tensor x = counting({1, 1, 2, 4});
  OpCall resize{.op = "Resize", .opset = 18, .attributes = {{"axes", Ints{3}}}};
  EXPECT_EQ(resize.run({x, Tensor(), Tensor(), int64s({2})})[0].dims(), (Dims{1, 1, 2, 2}));
  resize.attributes = {{"axes", Ints{2, 3}}, {"keep_aspect_ratio_policy", std::string("not_larger")}};
  EXPECT_EQ(resize.run({x, Tensor(), Tensor(), int64s({8, 8})})[0].dims(), (Dims{1, 1, 4, 8}));
  resize.attributes["keep_aspect_ratio_policy"] = std::string("not_smaller");
  EXPECT_EQ(resize.run({x, Tensor(), Tensor(), int64s({8, 8})})[0].dims(), (Dims{1, 1, 8, 16}));
}

TEST(Resize, AntialiasAveragesWhatItShrinks) {
  const OpCall resize{
      .op = "Resize", .opset = 18, .attributes = {{"mode", std::string("linear")}, {"antialias", int64_t{1}}}};
  const Tensor x = Tensor::of<float>({8}, {0, 0, 8, 8, 8, 8, 0, 0});
  const Tensor y = resize.run({x, Tensor(), reals({0.25f})})[0];
  // Triangles four wide to each side: weights 1 3 5 7 7 5 3 1, of 32, edges repeated.
  expect_near(y, {2}, {8.0 * (7 + 5 + 3 + 1) / 32, 8.0 * (7 + 5 + 3 + 1) / 32}, 1e-5);
}

TEST(Resize, SymmetricHalfPixelCentresWhatIsCutOff) {
  OpCall resize{.op = "Resize",
                .opset = 19,
                .attributes = {{"mode", std::string("linear")},
                               {"coordinate_transformation_mode", std::string("half_pixel_symmetric")}}};
  const Tensor y = resize.run({counting({5}), Tensor(), reals({0.5f})})[0];
  expect_near(y, {2}, {2, 4}, 1e-5);
}

TEST(Resize, RefusesNonsense) {
  const OpCall resize{.op = "Resize"};
  const Tensor x = counting({1, 2});
  EXPECT_THROW(resize.run({x}), Error);
  EXPECT_THROW(resize.run({x, Tensor(), reals({1})}), Error);
  EXPECT_THROW(resize.run({x, Tensor(), reals({1, -1})}), Error);
  EXPECT_THROW(resize.run({x, Tensor(), reals({1, 1e30f})}), Error);
  EXPECT_THROW(resize.run({x, Tensor(), Tensor(), int64s({1, int64_t{1} << 40})}), Error);
  EXPECT_THROW(resize.run({x, Tensor(), Tensor(), int64s({1, 0})}), Error);
  EXPECT_THROW(resize.run({Tensor(DType::kFloat32, {1, 0}), Tensor(), reals({1, 2})}), Error);
  EXPECT_THROW((OpCall{.op = "Resize", .attributes = {{"mode", std::string("odd")}}}.run({x, Tensor(), reals({1, 2})})),
               Error);
}

TEST(GridSample, TakesFiveDimensionsAndStrayPlaces) {
  const OpCall sample{.op = "GridSample", .opset = 20, .attributes = {{"align_corners", int64_t{1}}}};
  const Tensor x = counting({1, 1, 2, 2, 2});
  const Tensor corners = Tensor::of<float>({1, 1, 1, 2, 3}, {1, -1, -1, 0, 0, 0});
  expect_near(sample.run({x, corners})[0], {1, 1, 1, 1, 2}, {2, 4.5});
  const float far = 1e30f, nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor stray = Tensor::of<float>({1, 1, 1, 2, 3}, {far, far, far, nan, nan, nan});
  expect_near(sample.run({x, stray})[0], {1, 1, 1, 1, 2}, {0, 0});
  EXPECT_THROW(sample.run({x, counting({1, 1, 1, 2, 2})}), Error);
  EXPECT_THROW(sample.run({counting({2}), corners}), Error);
}

TEST(Resize, AxesThatAreNotResizedStayWhateverTheMode) {
  const Tensor x = counting({2, 3});
  for (const char* mode : {"half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn", "pytorch_half_pixel"})
    for (const char* nearest : {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"}) {
      const OpCall call{.op = "Resize",
                        .attributes = {{"coordinate_transformation_mode", std::string(mode)},
                                       {"nearest_mode", std::string(nearest)}}};
      const Tensor same = call.run({x, {}, Tensor::of<float>({2}, std::vector<float>{1, 1})})[0];
      EXPECT_TRUE(same.identical(x)) << mode << ", " << nearest;
      const std::vector<double> wide =
          to_doubles(call.run({x, {}, Tensor::of<float>({2}, std::vector<float>{1, 2})})[0]);
      for (size_t i = 0; i < 6; ++i) EXPECT_EQ(wide[i] + 3, wide[i + 6]) << mode << ", " << nearest;
    }
}

}  // namespace
}  // namespace slipway
