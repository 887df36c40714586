#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall roi_align(Attributes attributes = {}, int64_t opset = 16) {
  return {.op = "RoiAlign", .opset = opset, .attributes = std::move(attributes)};
}

const Tensor kRamp = Tensor::of<float>({1, 1, 2, 4}, {0, 1, 2, 3, 10, 11, 12, 13});
const Tensor kFirst = int64s({0});

TEST(Region, AlignSamplesBetweenElements) {
  const auto at = [&](std::vector<float> box, Attributes attributes) {
    return to_doubles(roi_align(std::move(attributes)).run({kRamp, Tensor::of<float>({1, 4}, box), kFirst})[0]);
  };
  // One point in the middle of the box: (1.5, 0.5) once half an element is taken off.
  EXPECT_NEAR(at({1, 0, 3, 2}, {{"sampling_ratio", int64_t{1}}})[0], 6.5, 1e-6);
  // A plane is its own mean, however many points.
  EXPECT_NEAR(at({1, 0, 3, 2}, {{"sampling_ratio", int64_t{2}}})[0], 6.5, 1e-6);
  EXPECT_NEAR(at({100, 100, 104, 104}, {})[0], 0, 0);
  const Tensor bins = roi_align({{"output_width", int64_t{2}}, {"sampling_ratio", int64_t{1}}})
                          .run({kRamp, Tensor::of<float>({1, 4}, {1, 0, 3, 2}), kFirst})[0];
  expect_near(bins, {1, 1, 1, 2}, {6, 7});
}

TEST(Region, AlignOfEarlyOpsetsTakesNothingOff) {
  const Tensor box = Tensor::of<float>({1, 4}, {1, 0, 3, 1});
  const Attributes one = {{"sampling_ratio", int64_t{1}}};
  expect_near(roi_align(one, 10).run({kRamp, box, kFirst})[0], {1, 1, 1, 1}, {7});
  Attributes old = one;
  old["coordinate_transformation_mode"] = "output_half_pixel";
  expect_near(roi_align(old).run({kRamp, box, kFirst})[0], {1, 1, 1, 1}, {7});
}

TEST(Region, AlignRefusesWhatIsAbsurd) {
  const Tensor box = Tensor::of<float>({1, 4}, {0, 0, 1, 1});
  EXPECT_THROW(roi_align().run({kRamp, box, int64s({1})}), Error);
  EXPECT_THROW(roi_align({{"output_width", int64_t{1} << 40}}).run({kRamp, box, kFirst}), Error);
  EXPECT_THROW(roi_align().run({kRamp, Tensor::of<float>({1, 4}, {0, 0, 1e9f, 1e9f}), kFirst}), Error);
  EXPECT_THROW(roi_align({{"mode", "sum"}}).run({kRamp, box, kFirst}), Error);
}

TEST(Region, MaxPoolTakesWholeElements) {
  const OpCall pool{.op = "MaxRoiPool", .attributes = {{"pooled_shape", std::vector<int64_t>{1, 2}}}};
  const Tensor rois = Tensor::of<float>({2, 5}, {0, 0, 0, 3, 1, 0, 1, 0, 1, 0});
  expect_near(pool.run({kRamp, rois})[0], {2, 1, 1, 2}, {11, 13, 1, 1});
  EXPECT_THROW(pool.run({kRamp, Tensor::of<float>({1, 5}, {1, 0, 0, 1, 1})}), Error);
  EXPECT_EQ(
      pool.infer({facts(DType::kFloat32, Shape({1, 3, 2, 4})), facts(DType::kFloat32, Shape({Dim("R"), 5}))})[0].shape,
      Shape({Dim("R"), 3, 1, 2}));
}

}  // namespace
}  // namespace slipway
