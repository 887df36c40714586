#include "model/ops/op_testing.h"

#include <cmath>
#include <limits>

namespace slipway {
namespace {

TEST(Quantization, RoundsToEvenSaturatesAndTakesNanToTheLowest) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::of<float>({6}, {0.5f, 1.5f, -2.5f, inf, -inf, nan});
  const Tensor y = OpCall{"QuantizeLinear"}.run({x, Tensor::scalar(1.0f), Tensor::scalar<int8_t>(1)})[0];
  EXPECT_TRUE(y.identical(Tensor::of<int8_t>({6}, {1, 3, -1, 127, -128, -128})));
  EXPECT_EQ(OpCall{"QuantizeLinear"}.run({x, Tensor::scalar(1.0f)})[0].dtype(), DType::kUint8);
}

TEST(Quantization, PerAxisFromOpset13) {
  const Tensor x = counting({2, 2}), scale = Tensor::of<float>({2}, {1, 2}), zero = Tensor::of<uint8_t>({2}, {0, 10});
  const Tensor y = OpCall{"QuantizeLinear", 13, {{"axis", int64_t{0}}}}.run({x, scale, zero})[0];
  EXPECT_TRUE(y.identical(Tensor::of<uint8_t>({2, 2}, {1, 2, 12, 12})));  // 1.5 goes to 2
  expect_near(OpCall{"DequantizeLinear", 13, {{"axis", int64_t{0}}}}.run({y, scale, zero})[0], {2, 2}, {1, 2, 4, 4});
  expect_near(OpCall{"DequantizeLinear", 13}.run({y, scale, zero})[0], {2, 2}, {1, -16, 12, 4});
  EXPECT_THROW((OpCall{"QuantizeLinear", 10}.run({x, scale, zero})), Error);
  EXPECT_THROW((OpCall{"QuantizeLinear", 13, {{"axis", int64_t{2}}}}.run({x, scale, zero})), Error);
  EXPECT_THROW((OpCall{"QuantizeLinear", 13}.run({x, counting({3})})), Error);
  EXPECT_THROW((OpCall{"QuantizeLinear", 13}.run({x, scale, Tensor::scalar<uint8_t>(0)})), Error);
}

TEST(Quantization, BlocksWithATailFromOpset21) {
  const Tensor codes = Tensor::of<int8_t>({3, 2}, {1, 2, 3, 4, 5, 6});
  const Tensor scale = Tensor::of<float>({2, 2}, {1, 10, 100, 1000});
  const OpCall call{
      .op = "DequantizeLinear", .opset = 21, .attributes = {{"axis", int64_t{0}}, {"block_size", int64_t{2}}}};
  expect_near(call.run({codes, scale})[0], {3, 2}, {1, 20, 3, 40, 500, 6000});
  EXPECT_THROW(call.run({codes, Tensor::of<float>({1, 2}, {1, 1})}), Error);
}

TEST(Quantization, FourAndSixteenBits) {
  const Tensor x = Tensor::of<float>({3}, {-9, 3, 70000});
  const Tensor one = Tensor::scalar(1.0f);
  const auto quantize = [&](DType type) {
    return OpCall{"QuantizeLinear", 21, {{"output_dtype", static_cast<int64_t>(type)}}}.run({x, one})[0];
  };
  EXPECT_EQ(to_ints(quantize(DType::kInt4)), (std::vector<int64_t>{-8, 3, 7}));
  EXPECT_EQ(to_ints(quantize(DType::kUint4)), (std::vector<int64_t>{0, 3, 15}));
  EXPECT_EQ(to_ints(quantize(DType::kInt16)), (std::vector<int64_t>{-9, 3, 32767}));
  EXPECT_EQ(to_ints(quantize(DType::kUint16)), (std::vector<int64_t>{0, 3, 65535}));
  EXPECT_THROW(quantize(DType::kInt64), Error);
  EXPECT_THROW(quantize(DType::kFloat32), Error);
  expect_near(OpCall{"DequantizeLinear", 21}.run({quantize(DType::kInt4), one})[0], {3}, {-8, 3, 7});
}

TEST(Quantization, HalfScalesGiveHalves) {
  const Tensor scale = cast(Tensor::scalar(0.5f), DType::kFloat16), codes = Tensor::of<uint8_t>({2}, {3, 4});
  const Tensor y = OpCall{"DequantizeLinear", 19}.run({codes, scale})[0];
  EXPECT_EQ(y.dtype(), DType::kFloat16);
  expect_near(y, {2}, {1.5, 2});
}

TEST(Quantization, DynamicRangeHoldsZero) {
  const auto y = OpCall{.op = "DynamicQuantizeLinear", .outputs = 3}.run({Tensor::of<float>({3}, {-1, 0, 4.1f})});
  expect_near(y[1], {}, {5.1 / 255});
  EXPECT_EQ(to_ints(y[2])[0], 50);
  EXPECT_TRUE(y[0].identical(Tensor::of<uint8_t>({3}, {0, 50, 255})));
  const auto flat = OpCall{.op = "DynamicQuantizeLinear", .outputs = 3}.run({Tensor(DType::kFloat32, {2})});
  EXPECT_EQ(to_ints(flat[0]), (std::vector<int64_t>{0, 0}));
}

TEST(Quantization, SmallFloatsRoundAndSaturate) {
  const Tensor x = Tensor::of<float>({4}, {-3, 0.4f, 1.7f, 2000}), scale = Tensor::scalar(2.0f);
  const auto quantized = [&](DType type, int64_t saturate) {
    return OpCall{.op = "QuantizeLinear", .opset = 25, .attributes = {{"saturate", saturate}}}.run(
        {x, scale, Tensor(type, {})})[0];
  };
  expect_near(quantized(DType::kFloat8E4M3FN, 1), {4}, {-1.5, 0.203125, 0.875, 448});
  EXPECT_TRUE(std::isnan(to_doubles(quantized(DType::kFloat8E4M3FN, 0))[3]));
  expect_near(quantized(DType::kFloat4E2M1, 1), {4}, {-1.5, 0, 1, 6});
  expect_near(quantized(DType::kInt2, 1), {4}, {-2, 0, 1, 1});
  expect_near(OpCall{"DequantizeLinear", 25}.run({quantized(DType::kFloat4E2M1, 1), scale})[0], {4}, {-3, 0, 2, 12});
}

}  // namespace
}  // namespace slipway
