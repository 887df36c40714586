#include "base/random.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using List = std::vector<int64_t>;

Tensor normals(Dims dims, uint64_t seed) {
  Random random(seed);
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values) v = random.normal();
  return from_doubles(DType::kFloat64, std::move(dims), values);
}

TEST(DeformConv, WithoutOffsetsItIsAConvolution) {
  const Attributes attributes = {{"pads", List{1, 0, 0, 1}}, {"strides", List{2, 1}}, {"group", int64_t{2}}};
  const Tensor x = normals({2, 4, 5, 6}, 1), w = normals({6, 2, 3, 2}, 2), b = normals({6}, 3);
  const Tensor expected = OpCall{.op = "Conv", .attributes = attributes}.run({x, w, b})[0];
  Dims offsets = expected.dims();
  offsets[1] = 2 * 6;
  const Tensor y = OpCall{.op = "DeformConv", .opset = 19, .attributes = attributes}.run(
      {x, w, Tensor(DType::kFloat64, offsets), b})[0];
  expect_near(y, expected.dims(), to_doubles(expected), 1e-9);
}

TEST(DeformConv, OffsetsMoveTapsAndMasksWeighThem) {
  const Tensor x = Tensor::of<float>({1, 1, 2, 2}, {1, 2, 3, 4}), w = Tensor::of<float>({1, 1, 1, 1}, {1});
  const OpCall call{.op = "DeformConv", .opset = 19};
  // Down and to the right by a half: between all four; by one: the element there, or 0 outside.
  const Tensor half = Tensor::of<float>({1, 2, 2, 2}, {0.5, 0, 0, 0, 0.5, 1, 0, 2});
  expect_near(call.run({x, w, half})[0], {1, 1, 2, 2}, {2.5, 0, 3, 0});
  const Tensor mask = Tensor::of<float>({1, 1, 2, 2}, {2, 1, 0, 1});
  expect_near(call.run({x, w, half, Tensor(), mask})[0], {1, 1, 2, 2}, {5, 0, 0, 0});
  EXPECT_THROW(call.run({x, w, Tensor(DType::kFloat32, {1, 1, 2, 2})}), Error);
  EXPECT_THROW(call.run({x, w, half, Tensor(), half}), Error);
}

}  // namespace
}  // namespace slipway
