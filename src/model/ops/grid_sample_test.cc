#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall affine_grid(bool align_corners) {
  return {.op = "AffineGrid", .opset = 20, .attributes = {{"align_corners", int64_t{align_corners}}}};
}

const Tensor kIdentity = Tensor::of<float>({1, 2, 3}, {1, 0, 0, 0, 1, 0});

TEST(AffineGrid, IdentityRunsFromEdgeToEdgeOrMiddleToMiddle) {
  const Tensor size = int64s({1, 1, 1, 2});
  expect_near(affine_grid(false).run({kIdentity, size})[0], {1, 1, 2, 2}, {-0.5, 0, 0.5, 0});
  expect_near(affine_grid(true).run({kIdentity, size})[0], {1, 1, 2, 2}, {-1, 0, 1, 0});
}

TEST(AffineGrid, MatrixMovesPlaces) {
  const Tensor theta = Tensor::of<float>({1, 3, 4}, {0, 0, 1, 10, 0, 1, 0, 20, 1, 0, 0, 30});
  // Two planes of one place: z is −1/2 and 1/2, and becomes x.
  expect_near(affine_grid(false).run({theta, int64s({1, 1, 2, 1, 1})})[0], {1, 2, 1, 1, 3},
              {9.5, 20, 30, 10.5, 20, 30});
  EXPECT_THROW(affine_grid(false).run({theta, int64s({1, 1, 2, 2})}), Error);
  EXPECT_THROW(affine_grid(false).run({kIdentity, int64s({1, 1, -2, 2})}), Error);
  EXPECT_THROW(affine_grid(false).run({kIdentity, int64s({2, 1, 2, 2})}), Error);
}

TEST(AffineGrid, IdentitySamplesThePictureItself) {
  const Tensor x = counting({1, 2, 3, 4});
  for (bool align_corners : {false, true}) {
    const Tensor grid = affine_grid(align_corners).run({kIdentity, int64s({1, 2, 3, 4})})[0];
    const OpCall sampled{.op = "GridSample", .opset = 20, .attributes = {{"align_corners", int64_t{align_corners}}}};
    expect_near(sampled.run({x, grid})[0], {1, 2, 3, 4}, to_doubles(x), 1e-4);
  }
}

}  // namespace
}  // namespace slipway
