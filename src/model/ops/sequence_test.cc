#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

Tensor floats(const std::vector<float>& values) {
  return Tensor::of<float>({static_cast<int64_t>(values.size())}, values);
}

Tensor sequence(const std::vector<Tensor>& items) { return Tensor::sequence(DType::kFloat32, items); }

void expect_items(const Tensor& got, const std::vector<Tensor>& expected) {
  ASSERT_TRUE(is_sequence(got.dtype())) << to_string(got.dtype());
  ASSERT_EQ(got.items().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(got.items()[i].identical(expected[i])) << "item " << i;
}

TEST(Sequence, IsBuiltReadAndChangedByPlaces) {
  const Tensor a = floats({1}), b = floats({2, 3}), c = Tensor::scalar(4.0f);
  const Tensor ab = OpCall{"SequenceConstruct"}.run({a, b})[0];
  expect_items(ab, {a, b});
  const OpCall at{"SequenceAt"}, insert{"SequenceInsert"}, erase{"SequenceErase"};
  EXPECT_TRUE(at.run({ab, Tensor::scalar<int64_t>(-2)})[0].identical(a));
  EXPECT_TRUE(at.run({ab, Tensor::scalar<int32_t>(1)})[0].identical(b));
  EXPECT_THROW(at.run({ab, Tensor::scalar<int64_t>(2)}), Error);
  EXPECT_THROW(at.run({ab, Tensor::scalar<int64_t>(-3)}), Error);
  EXPECT_THROW(at.run({a, Tensor::scalar<int64_t>(0)}), Error);
  expect_items(insert.run({ab, c})[0], {a, b, c});
  expect_items(insert.run({ab, c, Tensor::scalar<int64_t>(2)})[0], {a, b, c});
  expect_items(insert.run({ab, c, Tensor::scalar<int64_t>(-2)})[0], {c, a, b});
  EXPECT_THROW(insert.run({ab, c, Tensor::scalar<int64_t>(3)}), Error);
  EXPECT_THROW(insert.run({ab, int64s({1})}), Error);
  expect_items(erase.run({ab})[0], {a});
  expect_items(erase.run({ab, Tensor::scalar<int64_t>(0)})[0], {b});
  EXPECT_THROW(erase.run({sequence({})}), Error);
  EXPECT_EQ(to_ints(OpCall{"SequenceLength"}.run({ab})[0]), (std::vector<int64_t>{2}));
  EXPECT_THROW(OpCall{"SequenceConstruct"}.run({a, int64s({1})}), Error);
}

TEST(Sequence, EmptyOnesHaveAType) {
  EXPECT_EQ(OpCall{"SequenceEmpty"}.run({})[0].dtype(), sequence_of(DType::kFloat32));
  const OpCall ints{.op = "SequenceEmpty", .attributes = {{"dtype", int64_t{7}}}};
  const Tensor empty = ints.run({})[0];
  EXPECT_EQ(empty.dtype(), sequence_of(DType::kInt64));
  expect_items(OpCall{"SequenceInsert"}.run({empty, int64s({5})})[0], {int64s({5})});
  EXPECT_THROW(OpCall{"SequenceInsert"}.run({empty, floats({5})}), Error);
  const OpCall unknown{.op = "SequenceEmpty", .attributes = {{"dtype", int64_t{99}}}};
  EXPECT_THROW(unknown.run({}), Error);
}

TEST(Sequence, SplitsBySizeByListAndIntoSlices) {
  const Tensor x = counting({3, 2});
  const auto split = [](Attributes attributes) {
    return OpCall{.op = "SplitToSequence", .attributes = std::move(attributes)};
  };
  const Tensor row0 = Tensor::of<float>({1, 2}, {1, 2}), row2 = Tensor::of<float>({1, 2}, {5, 6});
  expect_items(split({}).run({x})[0], {row0, Tensor::of<float>({1, 2}, {3, 4}), row2});
  expect_items(split({{"keepdims", int64_t{0}}, {"axis", int64_t{-1}}}).run({x})[0],
               {floats({1, 3, 5}), floats({2, 4, 6})});
  expect_items(split({{"keepdims", int64_t{0}}}).run({x, Tensor::scalar<int64_t>(2)})[0],
               {Tensor::of<float>({2, 2}, {1, 2, 3, 4}), row2});
  expect_items(split({}).run({x, int64s({0, 3})})[0], {Tensor(DType::kFloat32, {0, 2}), x});
  EXPECT_THROW(split({}).run({x, int64s({1, 1})}), Error);
  EXPECT_THROW(split({}).run({x, int64s({4, -1})}), Error);
  EXPECT_THROW(split({}).run({x, Tensor::scalar<int64_t>(0)}), Error);
  EXPECT_THROW(split({{"axis", int64_t{2}}}).run({x}), Error);
}

TEST(Sequence, ConcatenatesAndStacks) {
  const auto concat = [](int64_t axis, int64_t fresh) {
    return OpCall{.op = "ConcatFromSequence", .attributes = {{"axis", axis}, {"new_axis", fresh}}};
  };
  const Tensor a = counting({2, 1}), b = counting({2, 2});
  expect_near(concat(1, 0).run({sequence({a, b})})[0], {2, 3}, {1, 1, 2, 2, 3, 4});
  expect_near(concat(-1, 1).run({sequence({a, a})})[0], {2, 1, 2}, {1, 1, 2, 2});
  expect_near(concat(0, 1).run({sequence({Tensor::scalar(7.0f), Tensor::scalar(8.0f)})})[0], {2}, {7, 8});
  const Tensor texts =
      Tensor::sequence(DType::kString, {Tensor::of_strings({1}, {"a"}), Tensor::of_strings({1}, {"b"})});
  EXPECT_EQ(concat(0, 0).run({texts})[0].strings(), (std::vector<std::string>{"a", "b"}));
  EXPECT_THROW(concat(0, 0).run({sequence({a, b})}), Error);
  EXPECT_THROW(concat(0, 1).run({sequence({a, b})}), Error);
  EXPECT_THROW(concat(0, 0).run({sequence({a, floats({1})})}), Error);
  EXPECT_THROW(concat(0, 0).run({sequence({})}), Error);
  EXPECT_THROW(OpCall{"ConcatFromSequence"}.run({sequence({a})}), Error);
}

TEST(Optional, IsAbsentOrWhatItHolds) {
  const OpCall none{.op = "Optional", .attributes = {{"type", sequence_of(DType::kInt64)}}};
  const Tensor absent = none.run({})[0], x = floats({1});
  EXPECT_EQ(absent.dtype(), optional_of(sequence_of(DType::kInt64)));
  EXPECT_TRUE(OpCall{"Optional"}.run({x})[0].identical(x));
  EXPECT_THROW(OpCall{"Optional"}.run({}), Error);
  const auto has = [](const std::vector<Tensor>& inputs) {
    return OpCall{.op = "OptionalHasElement", .opset = 18}.run(inputs)[0].values<bool>()[0];
  };
  EXPECT_FALSE(has({}));
  EXPECT_FALSE(has({absent}));
  EXPECT_TRUE(has({x}));
  EXPECT_TRUE(has({sequence({})}));
  const OpCall get{.op = "OptionalGetElement", .opset = 18};
  EXPECT_TRUE(get.run({x})[0].identical(x));
  EXPECT_THROW(get.run({absent}), Error);
  EXPECT_EQ(get.infer({facts(optional_of(DType::kInt8), Shape())})[0].dtype, DType::kInt8);
}

TEST(Optional, TypesMergeWhereOneMayBeAbsent) {
  const DType f = DType::kFloat32, unknown = DType::kUndefined;
  EXPECT_EQ(merge_types(optional_of(f), f), optional_of(f));
  EXPECT_EQ(merge_types(sequence_of(f), optional_of(sequence_of(f))), sequence_of(f));
  EXPECT_EQ(merge_types(sequence_of(unknown), sequence_of(f)), sequence_of(f));
  EXPECT_EQ(merge_types(optional_of(unknown), sequence_of(f)), optional_of(sequence_of(f)));
  EXPECT_EQ(merge_types(unknown, optional_of(f)), optional_of(f));
  EXPECT_EQ(merge_types(sequence_of(f), f), std::nullopt);
  EXPECT_EQ(merge_types(optional_of(f), DType::kInt8), std::nullopt);
  EXPECT_EQ(merge_types(optional_of(f), sequence_of(f)), std::nullopt);
  EXPECT_EQ(parse_dtype("optional.sequence.f32"), optional_of(sequence_of(f)));
}

// Inputs and outputs of every kind, and a loop whose state is a sequence that grows.
constexpr std::string_view kListModel = R"(graph "g" ir 8 opset {"": 17} {
  input %xs : sequence.f32*
  input %maybe : optional.f32*
  input %count : i64[]
  const %yes : bool[] = {true}
  %has : bool[] = OptionalHasElement(%maybe)
  %chosen : f32* = If(%has) captures (%maybe, %xs) {else_branch = graph "else" {
    capture 1 %xs
    const %first : i64[] = {0}
    %e = SequenceAt(%xs, %first)
    output %e
  }, then_branch = graph "then" {
    capture 0 %maybe
    %t = OptionalGetElement(%maybe)
    output %t
  }}
  %all = Loop(%count, %yes, %xs) captures (%chosen) {body = graph "body" {
    input %i : i64[]
    input %go : bool[]
    input %list : sequence.f32*
    capture 0 %chosen
    %longer = SequenceInsert(%list, %chosen)
    output %go, %longer
  }}
  %doubled = SequenceMap(%all, %chosen) {body = graph "map" {
    input %item : f32*
    input %with : f32*
    %sum = Add(%item, %with)
    output %sum
  }}
  %none = Optional() {type = type sequence.f32}
  output %doubled, %none, %chosen
}
)";

Graph list_model() {
  Graph g = parse_text(kListModel);
  verify(g);
  infer_shapes(g);
  return g;
}

void expect_lists(const Graph& g) {
  const Tensor a = floats({1}), b = floats({2}), count = Tensor::scalar<int64_t>(1);
  const Tensor absent = Tensor::absent(optional_of(DType::kFloat32));
  const std::vector<Tensor> with = evaluate(g, std::vector<Tensor>{sequence({a, b}), floats({5}), count});
  expect_items(with[0], {floats({6}), floats({7}), floats({10})});
  EXPECT_EQ(with[1].dtype(), optional_of(sequence_of(DType::kFloat32)));
  const std::vector<Tensor> without = evaluate(g, std::vector<Tensor>{sequence({a, b}), absent, count});
  expect_items(without[0], {floats({2}), floats({3}), floats({2})});
  EXPECT_TRUE(without[2].identical(a));
}

TEST(Sequence, GoThroughControlFlowAndPorts) {
  const Graph g = list_model();
  EXPECT_EQ(g.value(g.outputs()[0]).dtype, sequence_of(DType::kFloat32));
  EXPECT_EQ(g.value(g.outputs()[1]).dtype, optional_of(sequence_of(DType::kFloat32)));
  expect_lists(g);
  const Tensor wrong = Tensor::sequence(DType::kInt64, {int64s({1})}), count = Tensor::scalar<int64_t>(1);
  EXPECT_THROW(evaluate(g, std::vector<Tensor>{wrong, floats({5}), count}), Error);
  EXPECT_THROW(evaluate(g, std::vector<Tensor>{floats({1}), floats({5}), count}), Error);
  EXPECT_THROW(
      evaluate(g, std::vector<Tensor>{Tensor::absent(optional_of(sequence_of(DType::kFloat32))), floats({5}), count}),
      Error);
}

TEST(Sequence, AreWrittenAndReadAsTextAndOnnx) {
  const Graph g = list_model();
  const std::string text = to_text(g);
  EXPECT_EQ(to_text(parse_text(text)), text);
  const Graph read = parse_onnx(serialize_onnx(g));
  EXPECT_EQ(read.value(read.inputs()[1]).dtype, optional_of(DType::kFloat32));
  expect_lists(read);
}

TEST(Sequence, OperatorsOfTensorsRefuseThem) {
  const std::string text = R"(graph "g" ir 8 opset {"": 17} {
  input %x : sequence.f32*
  %y = Relu(%x)
  output %y
})";
  Graph g = parse_text(text);
  EXPECT_THROW(evaluate(g, std::vector<Tensor>{sequence({floats({1})})}), Error);
  EXPECT_THROW(infer_shapes(g), Error);
  EXPECT_THROW(parse_text("graph \"g\" { input %x : sequence.f32[2] output %x }"), Error);
  EXPECT_THROW(parse_text("graph \"g\" { const %x : sequence.f32* = {} output %x }"), Error);
}

}  // namespace
}  // namespace slipway
