#include <cmath>
#include <limits>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

void expect_values(const OpCall& call, std::initializer_list<float> x, const std::vector<double>& expected) {
  const auto n = static_cast<int64_t>(x.size());
  expect_near(call.run({Tensor::of<float>({n}, x)})[0], {n}, expected);
}

TEST(Activation, ClosedForms) {
  expect_values({"Relu"}, {-1, 0, 2}, {0, 0, 2});
  expect_values({"LeakyRelu", 17, {{"alpha", 0.5f}}}, {-2, 2}, {-1, 2});
  expect_values({"Elu", 17, {{"alpha", 2.0f}}}, {-1, 3}, {2 * std::expm1(-1.0), 3});
  expect_values({"Selu", 17, {{"alpha", 2.0f}, {"gamma", 3.0f}}}, {-1, 1}, {6 * std::expm1(-1.0), 3});
  expect_values({"Celu", 17, {{"alpha", 2.0f}}}, {-2, 1}, {2 * std::expm1(-1.0), 1});
  expect_values({"Sigmoid"}, {0, -1000, 1000}, {0.5, 0, 1});
  expect_values({"HardSigmoid"}, {-5, 0, 1, 5}, {0, 0.5, 0.7, 1});
  expect_values({"HardSwish"}, {-4, -3, 1, 4}, {0, 0, 2.0 / 3, 4});
  expect_values({"Softplus"}, {0, 1000, -1000}, {std::log(2.0), 1000, 0});
  expect_values({"Softsign"}, {-3, 1}, {-0.75, 0.5});
  expect_values({"ThresholdedRelu", 17, {{"alpha", 2.0f}}}, {1, 2, 3}, {0, 0, 3});
  expect_values({"Shrink", 17, {{"lambd", 1.5f}, {"bias", 1.5f}}}, {-2, 1, 2}, {-0.5, 0, 0.5});
  expect_values({"Gelu", 20}, {1}, {0.5 * (1 + std::erf(std::sqrt(0.5)))});
  expect_values({"Gelu", 20, {{"approximate", std::string("tanh")}}}, {1}, {0.8411919906});
  expect_values({"Mish", 18}, {1}, {std::tanh(std::log1p(std::exp(1.0)))});
  expect_values({"Erf"}, {0.5f}, {std::erf(0.5)});
}

TEST(Activation, NanPassesAndIntegersStayExact) {
  const Tensor nan = Tensor::scalar(std::numeric_limits<float>::quiet_NaN());
  for (const char* op : {"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu"})
    EXPECT_TRUE(std::isnan(to_doubles(OpCall{op}.run({nan})[0])[0])) << op;
  const Tensor big = Tensor::of<int64_t>({2}, {(int64_t{1} << 60) + 1, -5});
  EXPECT_TRUE(OpCall{"Relu"}.run({big})[0].identical(Tensor::of<int64_t>({2}, {(int64_t{1} << 60) + 1, 0})));
}

// As doubles, so that rounding to float hides nothing.
TEST(Activation, TailsKeepTheirDigits) {
  const auto of = [](const OpCall& call, double x) { return to_doubles(call.run({Tensor::scalar(x)})[0])[0]; };
  const auto near = [](double got, double expected) { EXPECT_NEAR(got / expected, 1, 1e-12) << got; };
  near(of({"Gelu", 20}, -10), -7.619853024160527e-23);
  near(of({"Gelu", 20, {{"approximate", std::string("tanh")}}}, -6), -6 / (1 + std::exp(24.987255044516038)));
  near(of({"Softplus"}, -50), std::exp(-50.0));
  const Tensor logits = Tensor::of<double>({2}, {0, -60});
  near(to_doubles(OpCall{"LogSoftmax", 13}.run({logits})[0])[0], -std::exp(-60.0));
}

TEST(Activation, ZeroKeepsItsSign) {
  for (const char* op : {"Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Tanh", "Gelu", "HardSwish", "Mish", "Clip"}) {
    EXPECT_TRUE(std::signbit(to_doubles(OpCall{op, 20}.run({Tensor::scalar(-0.0f)})[0])[0])) << op;
    EXPECT_FALSE(std::signbit(to_doubles(OpCall{op, 20}.run({Tensor::scalar(0.0f)})[0])[0])) << op;
  }
}

TEST(Activation, ClipBoundsAreAttributesBeforeOpset11) {
  const Tensor x = Tensor::of<float>({3}, {-2, 0, 9});
  expect_near(OpCall{"Clip", 10, {{"min", -1.0f}, {"max", 6.0f}}}.run({x})[0], {3}, {-1, 0, 6});
  expect_near(OpCall{"Clip", 11}.run({x, Tensor(), Tensor::scalar(6.0f)})[0], {3}, {-2, 0, 6});
  const Tensor crossed = OpCall{"Clip", 13}.run({x, Tensor::scalar(3.0f), Tensor::scalar(1.0f)})[0];
  expect_near(crossed, {3}, {1, 1, 1}, 0);  // the maximum, where the minimum is above it
  const Tensor codes = Tensor::of<int8_t>({2}, {-7, 7});
  const Tensor clipped = OpCall{"Clip", 12}.run({codes, Tensor::scalar<int8_t>(0)})[0];
  EXPECT_TRUE(clipped.identical(Tensor::of<int8_t>({2}, {0, 7})));
  EXPECT_THROW((OpCall{"Clip", 11}.run({x, x})), Error);
}

TEST(Activation, PReluBroadcastsItsSlope) {
  const Tensor x = Tensor::of<float>({1, 2, 2}, {-1, 1, -1, -2});
  expect_near(OpCall{"PRelu"}.run({x, Tensor::of<float>({2, 1}, {0.5f, 3})})[0], {1, 2, 2}, {-0.5, 1, -3, -6});
  EXPECT_THROW(OpCall{"PRelu"}.run({x, counting({3})}), Error);
}

TEST(Activation, SoftmaxFlattensBeforeOpset13) {
  const Tensor x = Tensor(DType::kFloat32, {2, 2, 2});
  expect_near(OpCall{"Softmax", 11}.run({x})[0], {2, 2, 2}, std::vector<double>(8, 0.25));
  expect_near(OpCall{"Softmax", 13}.run({x})[0], {2, 2, 2}, std::vector<double>(8, 0.5));
  const Tensor big = Tensor::of<float>({1, 2, 2}, {1000, 0, 1000, 1});
  const double e = 1 / (1 + std::exp(-1.0));
  expect_near(OpCall{"Softmax", 13, {{"axis", int64_t{1}}}}.run({big})[0], {1, 2, 2}, {0.5, 1 - e, 0.5, e});
  expect_near(OpCall{"LogSoftmax", 13}.run({big})[0], {1, 2, 2}, {0, -1000, 0, -999});
  expect_near(OpCall{"Hardmax", 13, {{"axis", int64_t{1}}}}.run({big})[0], {1, 2, 2}, {1, 0, 0, 1});
  EXPECT_THROW((OpCall{"Softmax", 13, {{"axis", int64_t{3}}}}.run({x})), Error);
}

TEST(Activation, DropoutIsTheIdentity) {
  const Tensor x = counting({3});
  auto y = OpCall{.op = "Dropout", .opset = 12, .outputs = 2}.run({x});
  EXPECT_TRUE(y[0].identical(x));
  EXPECT_TRUE(y[1].identical(Tensor::of<bool>({3}, {true, true, true})));
  EXPECT_EQ((OpCall{.op = "Dropout", .opset = 7, .outputs = 2}.run({x})[1].dtype()), DType::kFloat32);
  const Tensor yes = Tensor::scalar(true);
  EXPECT_THROW((OpCall{.op = "Dropout", .opset = 12}.run({x, Tensor::scalar(0.5f), yes})), Error);
}

TEST(Activation, DropoutWithASeedDropsTheSame) {
  const OpCall seeded{.op = "Dropout", .opset = 13, .attributes = {{"seed", int64_t{0}}}, .outputs = 2};
  const Tensor ratio = Tensor::scalar(0.75f), yes = Tensor::scalar(true);
  // numpy.random.seed(0); numpy.random.uniform(size=5): 0.549, 0.715, 0.603, 0.545, 0.424
  const Tensor x = counting({5});
  expect_near(seeded.run({x, Tensor::scalar(0.6f), yes})[0], {5}, {0, 5, 7.5, 0, 0}, 1e-5);
  EXPECT_TRUE(seeded.run({x, ratio, yes})[1].identical(Tensor(DType::kBool, {5})));
  EXPECT_THROW(seeded.run({x, Tensor::scalar(1.0f), yes}), Error);
  EXPECT_THROW(seeded.run({x, Tensor(DType::kFloat32, {0}), yes}), Error);
  const auto y = seeded.run({Tensor::of<float>({10000}, std::vector<float>(10000, 1.0f)), ratio, yes});
  EXPECT_NEAR(to_doubles(OpCall{.op = "ReduceMean"}.run({y[0]})[0])[0], 1, 0.1);
}

TEST(Activation, SwishHasItsSlope) {
  const Tensor x = Tensor::of<float>({3}, {-2, 0, 2});
  const double s = 1 / (1 + std::exp(-1.0));
  expect_near(OpCall{.op = "Swish", .opset = 24, .attributes = {{"alpha", 0.5f}}}.run({x})[0], {3},
              {-2 * (1 - s), 0, 2 * s});
}

}  // namespace
}  // namespace slipway
