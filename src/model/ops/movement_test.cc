// Shape, movement, padding and indexing operators where ONNX's own cases say nothing: older and newer forms, narrow
// types, strings, bad input.
#include <limits>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

constexpr int64_t kLowest = std::numeric_limits<int64_t>::min(), kHighest = std::numeric_limits<int64_t>::max();

TEST(Reshape, ZeroCopiesUnlessAllowed) {
  const Tensor x = counting({2, 3});
  EXPECT_EQ(OpCall{.op = "Reshape"}.run({x, int64s({0, -1, 1})})[0].dims(), (Dims{2, 3, 1}));
  const OpCall literal{.op = "Reshape", .attributes = {{"allowzero", int64_t{1}}}};
  EXPECT_EQ(literal.run({Tensor(DType::kFloat32, {0, 4}), int64s({3, 0})})[0].dims(), (Dims{3, 0}));
  for (const Ints& bad :
       {Ints{4, 2}, Ints{-1, -1}, Ints{-2, 3}, Ints{2, 3, 0}, Ints{kHighest, kHighest}, Ints{kLowest}})
    EXPECT_THROW(OpCall{.op = "Reshape"}.run({x, int64s(bad)}), Error);
}

TEST(Transpose, MovesFourBitValuesAndStrings) {
  const Tensor x = from_doubles(DType::kInt4, {2, 3}, std::vector<double>{-8, 1, 2, 3, 4, 7});
  const Tensor y = OpCall{.op = "Transpose", .opset = 21}.run({x})[0];
  EXPECT_EQ(to_ints(y), (Ints{-8, 3, 1, 4, 2, 7}));
  const Tensor s = Tensor::of_strings({1, 2}, {"a", "b"});
  EXPECT_TRUE(OpCall{.op = "Transpose"}.run({s})[0].identical(Tensor::of_strings({2, 1}, {"a", "b"})));
}

TEST(Concat, JoinsStringsAndEmptyParts) {
  const OpCall join{.op = "Concat", .attributes = {{"axis", int64_t{-1}}}};
  const Tensor a = Tensor::of_strings({2, 1}, {"a", "b"}), b = Tensor::of_strings({2, 1}, {"c", "d"});
  EXPECT_TRUE(join.run({a, b})[0].identical(Tensor::of_strings({2, 2}, {"a", "c", "b", "d"})));
  expect_near(join.run({counting({1, 2}), Tensor(DType::kFloat32, {1, 0})})[0], {1, 2}, {1, 2});
  EXPECT_THROW(join.run({counting({1, 2}), counting({2, 2})}), Error);
  EXPECT_THROW(join.run({counting({1, 2}), counting({2})}), Error);
}

TEST(Split, LastPartIsSmallerFromOpset18) {
  const OpCall split{.op = "Split", .opset = 18, .attributes = {{"num_outputs", int64_t{3}}}, .outputs = 3};
  const auto parts = split.run({counting({7})});
  expect_near(parts[1], {3}, {4, 5, 6});
  expect_near(parts[2], {1}, {7});
  const OpCall old{.op = "Split", .opset = 11, .attributes = {{"split", Ints{1, 2}}}, .outputs = 2};
  expect_near(old.run({counting({3})})[1], {2}, {2, 3});
  EXPECT_THROW(old.run({counting({4})}), Error);
  const OpCall given{.op = "Split", .outputs = 2};
  EXPECT_THROW(given.run({counting({4}), int64s({5, -1})}), Error);
  EXPECT_THROW(given.run({counting({4}), int64s({kHighest, kHighest})}), Error);
}

TEST(Slice, ClampsExtremesAndStepsBackwards) {
  const Tensor x = counting({5});
  const OpCall slice{.op = "Slice"};
  const auto cut = [&](int64_t start, int64_t end, int64_t step) {
    return to_ints(slice.run({x, int64s({start}), int64s({end}), int64s({0}), int64s({step})})[0]);
  };
  EXPECT_EQ(cut(kLowest, kHighest, 1), (Ints{1, 2, 3, 4, 5}));
  EXPECT_EQ(cut(kHighest, kLowest, -1), (Ints{5, 4, 3, 2, 1}));
  EXPECT_EQ(cut(-2, kHighest, 1), (Ints{4, 5}));
  EXPECT_EQ(cut(3, 0, -2), (Ints{4, 2}));
  EXPECT_EQ(cut(0, 5, kHighest), (Ints{1}));
  EXPECT_EQ(cut(4, kLowest, kLowest), (Ints{5}));
  EXPECT_EQ(cut(3, 1, 1), Ints{});
  EXPECT_THROW(cut(0, 1, 0), Error);
  EXPECT_THROW(slice.run({x, int64s({0}), int64s({1}), int64s({1})}), Error);
  EXPECT_THROW(slice.run({x, int64s({0}), int64s({1, 2})}), Error);
  const OpCall old{.op = "Slice", .opset = 9, .attributes = {{"starts", Ints{1}}, {"ends", Ints{-1}}}};
  expect_near(old.run({x})[0], {3}, {2, 3, 4});
  EXPECT_EQ(
      slice.run({Tensor(DType::kFloat32, {0}), int64s({-1}), int64s({kLowest}), int64s({0}), int64s({-1})})[0].dims(),
      Dims{0});
}

TEST(Tile, RefusesAbsurdRepeats) {
  const OpCall tile{.op = "Tile"};
  expect_near(tile.run({counting({2}), int64s({2})})[0], {4}, {1, 2, 1, 2});
  for (int64_t repeats : {kHighest, kLowest, int64_t{-1}, int64_t{1} << 40})
    EXPECT_THROW(tile.run({counting({2}), int64s({repeats})}), Error);
  EXPECT_THROW(tile.run({counting({2}), int64s({2, 2})}), Error);
}

TEST(Expand, RefusesAbsurdShapes) {
  const OpCall expand{.op = "Expand"};
  EXPECT_THROW(expand.run({counting({1}), int64s({int64_t{1} << 40})}), Error);
  EXPECT_THROW(expand.run({counting({3}), int64s({2})}), Error);
  EXPECT_THROW(expand.run({counting({1}), int64s(Ints(1000, 1))}), Error);
}

TEST(Pad, InAllItsForms) {
  const Tensor x = counting({1, 3});
  const OpCall old{.op = "Pad", .opset = 7, .attributes = {{"pads", Ints{0, 1, 0, 0}}, {"value", 9.0f}}};
  expect_near(old.run({x})[0], {1, 4}, {9, 1, 2, 3});
  const OpCall wrap{.op = "Pad", .opset = 19, .attributes = {{"mode", std::string("wrap")}}};
  expect_near(wrap.run({x, int64s({4, 1}), Tensor(), int64s({-1})})[0], {1, 8}, {3, 1, 2, 3, 1, 2, 3, 1});
  const OpCall reflect{.op = "Pad", .attributes = {{"mode", std::string("reflect")}}};
  expect_near(reflect.run({x, int64s({0, 3, 0, 3})})[0], {1, 9}, {2, 3, 2, 1, 2, 3, 2, 1, 2});
  const OpCall constant{.op = "Pad"};
  expect_near(constant.run({x, int64s({0, -1, 1, 1}), Tensor::scalar(5.0f)})[0], {2, 3}, {2, 3, 5, 5, 5, 5});
  EXPECT_THROW(constant.run({x, int64s({0, -4, 0, 0})}), Error);
  EXPECT_THROW(constant.run({x, int64s({0, kHighest, 0, kHighest})}), Error);
  EXPECT_THROW(constant.run({x, int64s({0, int64_t{1} << 39, 0, 0})}), Error);
  EXPECT_THROW(constant.run({x, int64s({1})}), Error);
  EXPECT_THROW(reflect.run({Tensor(DType::kFloat32, {1, 0}), int64s({0, 1, 0, 0})}), Error);
}

TEST(Gather, RefusesIndicesOutside) {
  const Tensor x = counting({2, 3});
  const OpCall gather{.op = "Gather", .attributes = {{"axis", int64_t{1}}}};
  expect_near(gather.run({x, int64s({-1, 0})})[0], {2, 2}, {3, 1, 6, 4});
  for (int64_t bad : {int64_t{3}, int64_t{-4}, kLowest, kHighest}) {
    EXPECT_THROW(gather.run({x, int64s({bad})}), Error);
    EXPECT_THROW(OpCall{.op = "GatherElements"}.run({counting({2}), int64s({bad})}), Error);
    EXPECT_THROW(OpCall{.op = "GatherND"}.run({x, int64s({bad})}), Error);
    EXPECT_THROW(OpCall{.op = "ScatterND"}.run({x, int64s({bad}), counting({3})}), Error);
    EXPECT_THROW(OpCall{.op = "ScatterElements"}.run({counting({2}), int64s({bad}), counting({1})}), Error);
  }
  EXPECT_THROW((OpCall{.op = "GatherND", .attributes = {{"batch_dims", int64_t{5}}}}.run({x, int64s({0})})), Error);
}

TEST(Scatter, ReducesInEveryWay) {
  const Tensor data = Tensor::of<uint64_t>({3}, {1, ~uint64_t{0}, 3}), at = int64s({1, 1, 2});
  const Tensor updates = Tensor::of<uint64_t>({3}, {5, 6, 2});
  const auto reduce = [&](const char* how) {
    const OpCall call{.op = "ScatterElements", .opset = 18, .attributes = {{"reduction", std::string(how)}}};
    return call.run({data, at, updates})[0];
  };
  EXPECT_TRUE(reduce("max").identical(Tensor::of<uint64_t>({3}, {1, ~uint64_t{0}, 3})));
  EXPECT_TRUE(reduce("min").identical(Tensor::of<uint64_t>({3}, {1, 5, 2})));
  EXPECT_TRUE(reduce("add").identical(Tensor::of<uint64_t>({3}, {1, 10, 5})));
  EXPECT_THROW(reduce("sub"), Error);
}

TEST(OneHot, RefusesAbsurdDepth) {
  const Tensor values = Tensor::of<float>({2}, {0, 1});
  const OpCall one_hot{.op = "OneHot"};
  expect_near(one_hot.run({int64s({1, 9}), int64s({2}), values})[0], {2, 2}, {0, 1, 0, 0});
  for (int64_t depth : {int64_t{0}, kLowest, kHighest, int64_t{1} << 45})
    EXPECT_THROW(one_hot.run({int64s({1}), int64s({depth}), values}), Error);
}

TEST(Trilu, TakesFarDiagonals) {
  const Tensor x = counting({2, 2});
  expect_near(OpCall{.op = "Trilu"}.run({x, Tensor::scalar(kHighest)})[0], {2, 2}, {0, 0, 0, 0});
  expect_near(OpCall{.op = "Trilu"}.run({x, Tensor::scalar(kLowest)})[0], {2, 2}, {1, 2, 3, 4});
}

TEST(CenterCropPad, CropsAndPadsAboutTheMiddle) {
  const auto centred = [](const Tensor& x, const std::vector<int64_t>& sizes, Attributes attributes = {}) {
    return OpCall{.op = "CenterCropPad", .opset = 18, .attributes = std::move(attributes)}.run({x, int64s(sizes)})[0];
  };
  expect_near(centred(counting({5}), {2}), {2}, {2, 3});
  expect_near(centred(counting({2}), {5}), {5}, {0, 1, 2, 0, 0});
  expect_near(centred(counting({2, 3}), {4, 1}), {4, 1}, {0, 2, 5, 0});
  expect_near(centred(counting({2, 3}), {2}, {{"axes", std::vector<int64_t>{-1}}}), {2, 2}, {1, 2, 4, 5});
  EXPECT_THROW(centred(counting({2, 3}), {2}), Error);
  EXPECT_THROW(centred(counting({2}), {-1}), Error);
  const OpCall call{.op = "CenterCropPad", .opset = 18, .attributes = {{"axes", std::vector<int64_t>{1}}}};
  EXPECT_EQ(call.infer({facts(DType::kInt4, Shape({Dim("N"), 3})), facts(DType::kInt64, Shape({1}))})[0].shape,
            Shape({Dim("N"), Dim()}));
}

}  // namespace
}  // namespace slipway
