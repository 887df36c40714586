#include "model/ops/op_testing.h"

namespace slipway {
namespace {

TEST(MatMul, VectorsMatricesAndBatches) {
  const Tensor v = counting({2}), m = counting({2, 2});
  expect_near(OpCall{"MatMul"}.run({v, v})[0], {}, {5});
  expect_near(OpCall{"MatMul"}.run({v, m})[0], {2}, {7, 10});
  expect_near(OpCall{"MatMul"}.run({m, v})[0], {2}, {5, 11});
  const Tensor a = counting({2, 1, 1, 2}), b = counting({2, 2, 1});
  expect_near(OpCall{"MatMul"}.run({a, b})[0], {2, 2, 1, 1}, {5, 11, 11, 25});
  EXPECT_THROW(OpCall{"MatMul"}.run({m, counting({3})}), Error);
  EXPECT_THROW(OpCall{"MatMul"}.run({m, Tensor::scalar(1.0f)}), Error);
  EXPECT_THROW(OpCall{"MatMul"}.run({counting({2, 2, 2}), counting({3, 2, 2})}), Error);
}

TEST(MatMul, IntegersWrap) {
  const Tensor big = Tensor::of<int32_t>({1, 1}, {1 << 30}), four = Tensor::of<int32_t>({1, 1}, {5});
  EXPECT_TRUE(OpCall{"MatMul"}.run({big, four})[0].identical(Tensor::of<int32_t>({1, 1}, {1 << 30})));
}

TEST(MatMul, GemmFlagsAndBroadcastBias) {
  const Tensor a = counting({3, 2}), b = counting({2, 3});
  const OpCall gemm{.op = "Gemm",
                    .attributes = {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 2.0f}, {"beta", 0.5f}}};
  expect_near(gemm.run({a, b, Tensor::of<float>({2, 1}, {2, 4})})[0], {2, 2}, {45, 99, 58, 130});
  expect_near(gemm.run({a, b})[0], {2, 2}, {44, 98, 56, 128});
  EXPECT_THROW(gemm.run({a, b, counting({3})}), Error);
  EXPECT_THROW(gemm.run({a, counting({3, 2})}), Error);
}

TEST(MatMul, QuantisedRowsAndColumns) {
  const Tensor a = Tensor::of<uint8_t>({2, 2}, {1, 2, 3, 4}), b = Tensor::of<int8_t>({2, 2}, {1, -1, 2, -2});
  const Tensor rows = Tensor::of<uint8_t>({2}, {1, 0}), columns = Tensor::of<int8_t>({2}, {0, -1});
  EXPECT_TRUE(
      OpCall{"MatMulInteger"}.run({a, b, rows, columns})[0].identical(Tensor::of<int32_t>({2, 2}, {2, -1, 11, -4})));
  const Tensor one = Tensor::scalar(1.0f), zero = Tensor::scalar<int8_t>(0);
  const Tensor y = OpCall{"QLinearMatMul"}.run(
      {a, one, Tensor::scalar<uint8_t>(0), b, Tensor::of<float>({2}, {0.5f, 100}), zero, one, zero})[0];
  EXPECT_TRUE(y.identical(Tensor::of<int8_t>({2, 2}, {2, -128, 6, -128})));  // 2.5 and 5.5 go to even
}

TEST(MatMul, Inference) {
  const auto product = [](Shape a, Shape b) {
    return OpCall{"MatMul"}
        .infer({facts(DType::kFloat32, std::move(a)), facts(DType::kFloat32, std::move(b))})[0]
        .shape;
  };
  EXPECT_EQ(product(Shape({Dim("N"), 4, 5}), Shape({5, 6})), Shape({Dim("N"), 4, 6}));
  EXPECT_EQ(product(Shape({Dim("N"), Dim("K")}), Shape({Dim("K")})), Shape({Dim("N")}));
  EXPECT_EQ(product(Shape({1, 2, 3, 4}), Shape({Dim("B"), 4, 7})), Shape({1, 2, 3, 7}));
  EXPECT_THROW(product(Shape({2, 3}), Shape({4, 5})), Error);
  const OpCall gemm{.op = "Gemm", .attributes = {{"transB", int64_t{1}}}};
  const auto y = gemm.infer({facts(DType::kFloat32, Shape({Dim("N"), 4})), facts(DType::kFloat32, Shape({10, 4}))});
  EXPECT_EQ(y[0].shape, Shape({Dim("N"), 10}));
}

TEST(MatMul, DeterminantsOfStackedMatrices) {
  const Tensor x = Tensor::of<float>({3, 2, 2}, {0, 2, 3, 4, 1, 2, 2, 4, 5, 0, 0, 7});
  expect_near(OpCall{"Det"}.run({x})[0], {3}, {-6, 0, 35});
  expect_near(OpCall{"Det"}.run({Tensor::of<float>({3, 3}, {2, 1, 0, 1, 3, 1, 0, 1, 4})})[0], {}, {18});
  EXPECT_THROW(OpCall{"Det"}.run({counting({2, 3})}), Error);
  EXPECT_EQ(OpCall{"Det"}.infer({facts(DType::kFloat32, Shape({Dim("N"), 2, 2}))})[0].shape, Shape({Dim("N")}));
}

}  // namespace
}  // namespace slipway
