// Reductions, selection and generators where ONNX's own cases say nothing.
#include <cmath>
#include <limits>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

TEST(Reduce, TakesAxesAsInputFromOpset18) {
  const Tensor x = counting({2, 3});
  expect_near(OpCall{.op = "ReduceMax", .opset = 18}.run({x, int64s({-1})})[0], {2, 1}, {3, 6});
  expect_near(OpCall{.op = "ReduceMean", .opset = 13, .attributes = {{"axes", Ints{0}}}}.run({x})[0], {1, 3},
              {2.5, 3.5, 4.5});
  EXPECT_THROW((OpCall{.op = "ReduceMax", .opset = 18}.run({x, int64s({2})})), Error);
  EXPECT_THROW((OpCall{.op = "ReduceMax", .opset = 18}.run({x, int64s({0, -2})})), Error);
}

TEST(Reduce, AccumulatesInDouble) {
  const std::vector<float> values = {1e8f, 1.0f, -1e8f, 1.0f};
  expect_near(OpCall{.op = "ReduceSum"}.run({Tensor::of<float>({4}, values)})[0], {1}, {2}, 0);
  const Tensor large = Tensor::of<float>({2}, {1000, 1000});
  expect_near(OpCall{.op = "ReduceLogSumExp"}.run({large})[0], {1}, {1000 + std::log(2.0)}, 1e-3);
}

TEST(Reduce, IntegersAreExact) {
  const Tensor u = Tensor::of<uint64_t>({2}, {~uint64_t{0}, 1});
  EXPECT_TRUE(OpCall{.op = "ReduceMax"}.run({u})[0].identical(Tensor::of<uint64_t>({1}, {~uint64_t{0}})));
  EXPECT_TRUE(OpCall{.op = "ReduceMin"}.run({u})[0].identical(Tensor::of<uint64_t>({1}, {1})));
  EXPECT_TRUE(OpCall{.op = "ReduceSum"}.run({u})[0].identical(Tensor::of<uint64_t>({1}, {0})));
}

TEST(Reduce, BooleansHaveMaximaAndMinima) {
  const auto reduced = [](const char* op, Dims dims, const std::vector<bool>& values) {
    const Tensor x =
        cast(Tensor::of<int64_t>(std::move(dims), std::vector<int64_t>(values.begin(), values.end())), DType::kBool);
    return to_ints(OpCall{.op = op, .opset = 20}.run({x, int64s({1})})[0]);
  };
  const std::vector<bool> values = {false, false, true, false, true, true};
  EXPECT_EQ(reduced("ReduceMax", {3, 2}, values), (Ints{0, 1, 1}));
  EXPECT_EQ(reduced("ReduceMin", {3, 2}, values), (Ints{0, 0, 1}));
  EXPECT_EQ(reduced("ReduceMax", {1, 0}, {}), (Ints{0}));
  EXPECT_EQ(reduced("ReduceMin", {1, 0}, {}), (Ints{1}));
}

TEST(Reduce, NoAxesAreAllAxesUnlessTheNodeSaysNone) {
  const Tensor x = counting({2, 2}), no_axes(DType::kInt64, {0});
  for (const std::vector<Tensor>& inputs : {std::vector<Tensor>{x, no_axes}, std::vector<Tensor>{x}}) {
    expect_near(OpCall{.op = "ReduceMax", .opset = 18}.run(inputs)[0], {1, 1}, {4});
    expect_near(
        OpCall{.op = "ReduceMax", .opset = 18, .attributes = {{"noop_with_empty_axes", int64_t{1}}}}.run(inputs)[0],
        {2, 2}, {1, 2, 3, 4});
  }
}

TEST(Reduce, EmptyGivesTheNeutralValue) {
  const Tensor x(DType::kFloat32, {2, 0});
  expect_near(OpCall{.op = "ReduceSum"}.run({x, int64s({1})})[0], {2, 1}, {0, 0});
  expect_near(OpCall{.op = "ReduceProd", .opset = 18}.run({x, int64s({1})})[0], {2, 1}, {1, 1});
  const Tensor lowest = OpCall{.op = "ReduceMax", .opset = 20}.run({Tensor(DType::kInt32, {0})})[0];
  EXPECT_TRUE(lowest.identical(Tensor::of<int32_t>({1}, {std::numeric_limits<int32_t>::min()})));
  EXPECT_THROW(OpCall{.op = "ArgMax"}.run({Tensor(DType::kFloat32, {0, 2})}), Error);
}

TEST(Reduce, NanIsFoundAndStays) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::of<float>({5}, {3, nan, 9, nan, 1});
  for (const char* op : {"ReduceMax", "ReduceMin", "ReduceSum", "ReduceLogSumExp"})
    EXPECT_TRUE(std::isnan(to_doubles(OpCall{.op = op}.run({x})[0])[0])) << op;
  for (const char* op : {"ArgMax", "ArgMin"}) {
    EXPECT_EQ(to_ints(OpCall{.op = op}.run({x})[0]), Ints{1}) << op;
    EXPECT_EQ(to_ints(OpCall{.op = op, .attributes = {{"select_last_index", int64_t{1}}}}.run({x})[0]), Ints{3}) << op;
  }
  const auto unique = OpCall{.op = "Unique", .outputs = 4}.run({x});
  EXPECT_EQ(unique[0].dims(), (Dims{4}));
  EXPECT_TRUE(std::isnan(to_doubles(unique[0])[3]));
  EXPECT_EQ(to_ints(unique[2]), (Ints{1, 3, 2, 3, 0}));
  for (const char* how : {"max", "min"}) {
    const OpCall scatter{.op = "ScatterElements", .opset = 18, .attributes = {{"reduction", std::string(how)}}};
    const Tensor y = scatter.run({x, int64s({0, 1}), Tensor::of<float>({2}, {nan, 7})})[0];
    EXPECT_TRUE(std::isnan(to_doubles(y)[0]) && std::isnan(to_doubles(y)[1])) << how;
  }
}

TEST(TopK, TakesKAsAttributeOrInput) {
  const Tensor x = Tensor::of<int32_t>({4}, {3, 9, 3, 1});
  const OpCall old{.op = "TopK", .opset = 9, .attributes = {{"k", int64_t{3}}}, .outputs = 2};
  const auto best = old.run({x});
  EXPECT_TRUE(best[0].identical(Tensor::of<int32_t>({3}, {9, 3, 3})));
  EXPECT_TRUE(best[1].identical(int64s({1, 0, 2})));
  const OpCall now{.op = "TopK", .attributes = {{"largest", int64_t{0}}}, .outputs = 2};
  EXPECT_TRUE(now.run({x, int64s({1})})[1].identical(int64s({3})));
  for (int64_t k : {int64_t{5}, int64_t{-1}, std::numeric_limits<int64_t>::max()})
    EXPECT_THROW(now.run({x, int64s({k})}), Error);
}

TEST(TopK, OrdersNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::of<float>({4}, {1, nan, 2, nan});
  EXPECT_TRUE((OpCall{.op = "TopK", .outputs = 2}.run({x, int64s({3})})[1].identical(int64s({1, 3, 2}))));
}

TEST(Range, CountsAndRefuses) {
  const OpCall range{.op = "Range"};
  const auto number = [](int64_t v) { return Tensor::scalar(v); };
  EXPECT_TRUE(range.run({number(5), number(0), number(-2)})[0].identical(int64s({5, 3, 1})));
  EXPECT_EQ(range.run({number(5), number(5), number(1)})[0].elements(), 0);
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  EXPECT_THROW(range.run({number(0), number(1), number(0)}), Error);
  EXPECT_THROW(range.run({number(kLeast), number(kMost), number(1)}), Error);
  EXPECT_TRUE(range.run({number(kLeast), number(kMost), number(kMost)})[0].identical(int64s({kLeast, -1, kMost - 1})));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(range.run({Tensor::scalar(0.0f), Tensor::scalar(nan), Tensor::scalar(1.0f)}), Error);
}

TEST(Random, RepeatsAndDiffersBySeed) {
  const OpCall normal{.op = "RandomNormal", .attributes = {{"shape", Ints{1000}}, {"mean", 3.0f}, {"seed", 1.0f}}};
  OpCall other = normal;
  other.attributes["seed"] = 2.0f;
  EXPECT_TRUE(normal.run({})[0].identical(normal.run({})[0]));
  EXPECT_FALSE(normal.run({})[0].identical(other.run({})[0]));
  EXPECT_NEAR(to_doubles(OpCall{.op = "ReduceMean"}.run({normal.run({})[0]})[0])[0], 3.0, 0.2);
  EXPECT_TRUE(find_op("", "RandomNormal", 17)->has(kNondeterministic));
  const OpCall absurd{.op = "RandomNormal", .attributes = {{"shape", Ints{int64_t{1} << 45}}}};
  EXPECT_THROW(absurd.run({}), Error);
}

TEST(Random, MultinomialFollowsTheWeights) {
  const OpCall draw{.op = "Multinomial", .attributes = {{"sample_size", int64_t{4000}}, {"seed", 1.0f}}};
  const Tensor logs = Tensor::of<float>({2, 3}, {0, std::log(3.0f), -INFINITY, -INFINITY, 5, -INFINITY});
  const Tensor y = draw.run({logs})[0];
  EXPECT_EQ(y.dims(), (Dims{2, 4000}));
  EXPECT_EQ(y.dtype(), DType::kInt32);
  const std::vector<int64_t> classes = to_ints(y);
  int64_t ones = 0;
  for (size_t i = 0; i < 4000; ++i) ones += classes[i];
  EXPECT_NEAR(static_cast<double>(ones), 3000, 150);
  for (size_t i = 4000; i < 8000; ++i) EXPECT_EQ(classes[i], 1);
  EXPECT_THROW(draw.run({counting({3})}), Error);
}

TEST(ConstantOfShape, RefusesAbsurdShapes) {
  const OpCall fill{.op = "ConstantOfShape"};
  expect_near(fill.run({int64s({2})})[0], {2}, {0, 0});
  EXPECT_THROW(fill.run({int64s({-1})}), Error);
  EXPECT_THROW(fill.run({int64s({int64_t{1} << 40})}), Error);
  EXPECT_THROW(fill.run({int64s(Ints(1000, 1))}), Error);
}

TEST(CumProd, BothWaysWithAndWithoutItself) {
  const auto products = [](int64_t exclusive, int64_t reverse) {
    return OpCall{.op = "CumProd", .opset = 26, .attributes = {{"exclusive", exclusive}, {"reverse", reverse}}}.run(
        {counting({3}), Tensor::scalar<int64_t>(0)})[0];
  };
  expect_near(products(0, 0), {3}, {1, 2, 6});
  expect_near(products(1, 0), {3}, {1, 1, 2});
  expect_near(products(0, 1), {3}, {6, 6, 3});
  expect_near(products(1, 1), {3}, {6, 3, 1});
  const Tensor wide = Tensor::of<int32_t>({2}, {1 << 16, 1 << 16});
  EXPECT_EQ(to_ints(OpCall{"CumProd", 26}.run({wide, Tensor::scalar<int64_t>(0)})[0])[1], 0);
}

}  // namespace
}  // namespace slipway
