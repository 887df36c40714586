// Elementwise, arithmetic and logic operators where ONNX's own cases say nothing: integers, narrow floats, bad input.
#include <cmath>
#include <limits>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

TEST(Elementwise, RoundsHalvesToEven) {
  const Tensor x = Tensor::of<float>({5}, {0.5f, 1.5f, 2.5f, -0.5f, -1.5f});
  expect_near(OpCall{.op = "Round"}.run({x})[0], {5}, {0, 2, 2, 0, -2}, 0);
}

TEST(Elementwise, SignOfZeroAndNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<double> y = to_doubles(OpCall{.op = "Sign"}.run({Tensor::of<float>({2}, {-0.0f, nan})})[0]);
  EXPECT_EQ(y[0], 0);
  EXPECT_FALSE(std::signbit(y[0]));
  EXPECT_TRUE(std::isnan(y[1]));
}

TEST(Elementwise, IntegersStayIntegers) {
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();
  const Tensor x = Tensor::of<int64_t>({3}, {kLeast, -3, (int64_t{1} << 53) + 1});
  EXPECT_TRUE(OpCall{.op = "Abs"}.run({x})[0].identical(Tensor::of<int64_t>({3}, {kLeast, 3, (int64_t{1} << 53) + 1})));
  EXPECT_TRUE(OpCall{.op = "Sign"}.run({x})[0].identical(Tensor::of<int64_t>({3}, {-1, -1, 1})));
  const Tensor u = Tensor::of<uint64_t>({2}, {0, std::numeric_limits<uint64_t>::max()});
  EXPECT_TRUE(OpCall{.op = "Sign"}.run({u})[0].identical(Tensor::of<uint64_t>({2}, {0, 1})));
  EXPECT_TRUE(OpCall{.op = "Abs"}.run({u})[0].identical(u));
}

TEST(Elementwise, HalfIsComputedWideAndRoundedOnce) {
  const Tensor x = from_doubles(DType::kFloat16, {2}, std::vector<double>{1.0, 1000.0});
  const Tensor y = OpCall{.op = "Exp"}.run({x})[0];
  EXPECT_EQ(y.dtype(), DType::kFloat16);
  EXPECT_NEAR(to_doubles(y)[0], 2.718, 1e-3);
  EXPECT_TRUE(std::isinf(to_doubles(y)[1]));
}

TEST(Elementwise, RefusesTypesWithoutMeaning) {
  EXPECT_THROW(OpCall{.op = "Sqrt"}.run({Tensor::of<int32_t>({1}, {4})}), Error);
  EXPECT_THROW(OpCall{.op = "Neg"}.run({Tensor(DType::kBool, {1})}), Error);
  EXPECT_THROW(OpCall{.op = "Add"}.run({Tensor::scalar(1.0f), Tensor::scalar(1.0)}), Error);
  EXPECT_THROW(OpCall{.op = "Add"}.run({Tensor(DType::kFloat32, {2}), Tensor(DType::kFloat32, {3})}), Error);
  EXPECT_THROW((OpCall{.op = "Cast", .attributes = {{"to", int64_t{1000}}}}.run({Tensor::scalar(1.0f)})), Error);
}

TEST(Arithmetic, IntegersWrapAndDivideTowardsZero) {
  const Tensor a = Tensor::of<int8_t>({4}, {100, -7, 7, -128}), b = Tensor::of<int8_t>({4}, {100, 2, -2, -1});
  EXPECT_TRUE(OpCall{.op = "Add"}.run({a, b})[0].identical(Tensor::of<int8_t>({4}, {-56, -5, 5, 127})));
  EXPECT_TRUE(OpCall{.op = "Div"}.run({a, b})[0].identical(Tensor::of<int8_t>({4}, {1, -3, -3, -128})));
  const Tensor zero = Tensor::scalar<int64_t>(0), lowest = Tensor::scalar(std::numeric_limits<int64_t>::min());
  for (const char* op : {"Div", "Mod"}) {
    EXPECT_EQ((OpCall{.op = op}.run({lowest, zero})[0].values<int64_t>()[0]), 0);
    OpCall{.op = op}.run({lowest, Tensor::scalar<int64_t>(-1)});
  }
  const Tensor big = Tensor::of<uint64_t>({1}, {std::numeric_limits<uint64_t>::max()});
  const Tensor two = Tensor::of<uint64_t>({1}, {2});
  EXPECT_EQ((OpCall{.op = "Div"}.run({big, two})[0].values<uint64_t>()[0]), (uint64_t{1} << 63) - 1);
  EXPECT_EQ((OpCall{.op = "Max"}.run({big, two})[0].values<uint64_t>()[0]), std::numeric_limits<uint64_t>::max());
}

TEST(Arithmetic, ModTakesTheSignItIsAskedFor) {
  const Tensor a = Tensor::of<int32_t>({4}, {-7, 7, -7, 7}), b = Tensor::of<int32_t>({4}, {3, -3, -3, 3});
  EXPECT_TRUE(OpCall{.op = "Mod"}.run({a, b})[0].identical(Tensor::of<int32_t>({4}, {2, -2, -1, 1})));
  const OpCall truncating{.op = "Mod", .attributes = {{"fmod", int64_t{1}}}};
  EXPECT_TRUE(truncating.run({a, b})[0].identical(Tensor::of<int32_t>({4}, {-1, 1, -1, 1})));
}

TEST(Arithmetic, PowOfIntegersIsExact) {
  const Tensor base = Tensor::of<int64_t>({3}, {3, -2, 2}), exponent = Tensor::of<int64_t>({3}, {39, 3, -1});
  EXPECT_TRUE(
      OpCall{.op = "Pow"}.run({base, exponent})[0].identical(Tensor::of<int64_t>({3}, {4052555153018976267, -8, 0})));
}

TEST(Arithmetic, MaxAndMinKeepNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor a = Tensor::of<float>({2}, {nan, 1}), b = Tensor::of<float>({2}, {1, nan});
  for (const char* op : {"Max", "Min"})
    for (double v : to_doubles(OpCall{.op = op}.run({a, b})[0])) EXPECT_TRUE(std::isnan(v));
}

TEST(Arithmetic, SumsInDouble) {
  const Tensor big = Tensor::scalar(1e8f), one = Tensor::scalar(1.0f), minus = Tensor::scalar(-1e8f);
  expect_near(OpCall{.op = "Sum"}.run({big, one, minus})[0], {}, {1}, 0);
  expect_near(OpCall{.op = "Mean"}.run({big, one, minus, one})[0], {}, {0.5}, 0);
}

TEST(Logic, BitwiseOperators) {
  const Tensor a = Tensor::of<int8_t>({2}, {12, -1}), b = Tensor::of<int8_t>({2}, {10, 5});
  EXPECT_TRUE((OpCall{.op = "BitwiseAnd", .opset = 18}.run({a, b})[0].identical(Tensor::of<int8_t>({2}, {8, 5}))));
  EXPECT_TRUE((OpCall{.op = "BitwiseOr", .opset = 18}.run({a, b})[0].identical(Tensor::of<int8_t>({2}, {14, -1}))));
  EXPECT_TRUE((OpCall{.op = "BitwiseXor", .opset = 18}.run({a, b})[0].identical(Tensor::of<int8_t>({2}, {6, -6}))));
  EXPECT_TRUE((OpCall{.op = "BitwiseNot", .opset = 18}.run({a})[0].identical(Tensor::of<int8_t>({2}, {-13, 0}))));
  EXPECT_EQ(find_op("", "BitwiseAnd", 17), nullptr);
}

TEST(Logic, ComparesWideIntegersExactly) {
  const Tensor a = Tensor::of<int64_t>({1}, {(int64_t{1} << 53) + 1}), b = Tensor::of<int64_t>({1}, {int64_t{1} << 53});
  EXPECT_FALSE((OpCall{.op = "Equal"}.run({a, b})[0].values<bool>()[0]));
  EXPECT_TRUE((OpCall{.op = "Greater"}.run({a, b})[0].values<bool>()[0]));
  const Tensor high = Tensor::of<uint64_t>({1}, {~uint64_t{0}}), low = Tensor::of<uint64_t>({1}, {1});
  EXPECT_TRUE((OpCall{.op = "Less"}.run({low, high})[0].values<bool>()[0]));
}

TEST(Logic, WhereTakesAnyType) {
  const Tensor c = Tensor::of<bool>({2, 1}, {true, false});
  const Tensor yes = Tensor::of_strings({1, 2}, {"a", "b"}), no = Tensor::of_strings({}, {"z"});
  EXPECT_TRUE(OpCall{.op = "Where"}.run({c, yes, no})[0].identical(Tensor::of_strings({2, 2}, {"a", "b", "z", "z"})));
  EXPECT_THROW(OpCall{.op = "Where"}.run({yes, yes, no}), Error);
}

TEST(Cast, SmallFloatsFollowTheirRules) {
  const auto cast_to = [](double v, DType to, const std::string& round, int64_t saturate) {
    const OpCall call{.op = "Cast",
                      .opset = 25,
                      .attributes = {{"to", static_cast<int64_t>(to)}, {"round_mode", round}, {"saturate", saturate}}};
    return to_doubles(call.run({Tensor::scalar(static_cast<float>(v))})[0])[0];
  };
  EXPECT_EQ(cast_to(300, DType::kFloat8E4M3FNUZ, "up", 1), 240);
  EXPECT_TRUE(std::isnan(cast_to(300, DType::kFloat8E4M3FNUZ, "up", 0)));
  EXPECT_EQ(cast_to(5, DType::kFloat8E8M0, "up", 1), 8);
  EXPECT_EQ(cast_to(5, DType::kFloat8E8M0, "down", 1), 4);
  EXPECT_EQ(cast_to(5, DType::kFloat8E8M0, "nearest", 1), 4);
  EXPECT_THROW(cast_to(5, DType::kFloat8E8M0, "sideways", 1), Error);
}

TEST(BitCast, KeepsBits) {
  const auto bits = [](const Tensor& x, DType to) {
    return OpCall{.op = "BitCast", .opset = 26, .attributes = {{"to", static_cast<int64_t>(to)}}}.run({x})[0];
  };
  EXPECT_EQ(to_ints(bits(Tensor::of<float>({2}, {1, -0.0f}), DType::kInt32)),
            (std::vector<int64_t>{0x3f800000, std::numeric_limits<int32_t>::min()}));
  EXPECT_TRUE(bits(bits(counting({3}), DType::kUint32), DType::kFloat32).identical(counting({3})));
  EXPECT_EQ(to_ints(bits(Tensor::of<uint8_t>({2}, {0, 7}), DType::kBool)), (std::vector<int64_t>{0, 1}));
  EXPECT_THROW(bits(counting({3}), DType::kInt64), Error);
  EXPECT_THROW(bits(Tensor::of_strings({1}, {"a"}), DType::kInt64), Error);
}

}  // namespace
}  // namespace slipway
