#include "model/infer.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

// A graph under construction: nodes by operator and inputs, names made up.
struct Builder {
  Graph graph;
  explicit Builder(int64_t opset = 17) { graph.opsets[""] = opset; }
  ValueId input(std::string name, Shape shape, DType dtype = DType::kFloat32) {
    return graph.add_input(std::move(name), dtype, std::move(shape));
  }
  ValueId ints(const Ints& values) {
    return graph.add_constant("c", Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values));
  }
  ValueId number(int64_t value) { return graph.add_constant("c", Tensor::scalar(value)); }
  ValueId node(std::string op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return graph.add_node({.op_type = std::move(op), .inputs = std::move(inputs), .attributes = std::move(attributes)},
                          "v");
  }
  std::string shape_of(ValueId id) {
    infer_shapes(graph);
    return to_string(graph.value(id).shape);
  }
};

const Dim kBatch{std::string("N")};

ErrorCode code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Infer, ShapeChainKeepsTheBatch) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(64), Dim(7), Dim(7)}));
  const ValueId size = b.node("Gather", {b.node("Shape", {x}), b.number(0)}, {{"axis", int64_t{0}}});
  const ValueId row = b.node("Unsqueeze", {size, b.ints({0})});
  const ValueId target = b.node("Concat", {row, b.ints({-1})}, {{"axis", int64_t{0}}});
  EXPECT_EQ(b.shape_of(b.node("Reshape", {x, target})), "[N,3136]");
}

TEST(Infer, ArithmeticOnKnownSizesAndSymbols) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(6), Dim(8)}));
  const ValueId shape = b.node("Shape", {x});
  const ValueId tail = b.node("Slice", {shape, b.ints({1}), b.ints({INT64_MAX}), b.ints({0})});
  const ValueId halves = b.node("Div", {b.node("Mul", {tail, b.ints({3, 1})}), b.ints({9, 2})});
  const ValueId head = b.node("Cast", {b.node("Slice", {shape, b.ints({0}), b.ints({1})})}, {{"to", int64_t{7}}});
  const ValueId target = b.node("Concat", {head, halves, b.ints({6})}, {{"axis", int64_t{0}}});
  EXPECT_EQ(b.shape_of(b.node("Reshape", {x, target})), "[N,2,4,6]");
}

TEST(Infer, ExpandAfterTestForMinusOne) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(1)}));
  const ValueId like = b.input("like", Shape({kBatch, Dim(5)}));
  const ValueId shape = b.node("Shape", {like});
  const ValueId minus = b.node("Equal", {shape, b.ints({-1, -1})});
  const ValueId target = b.node("Where", {minus, b.ints({1, 1}), shape});
  EXPECT_EQ(b.shape_of(b.node("Expand", {x, target})), "[N,5]");
}

TEST(Infer, ReshapeCancelsSymbols) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(std::string("S")), Dim(12)}));
  EXPECT_EQ(b.shape_of(b.node("Reshape", {x, b.ints({0, 0, 3, 4})})), "[N,S,3,4]");
  EXPECT_EQ(b.shape_of(b.node("Reshape", {x, b.ints({0, 12, -1})})), "[N,12,S]");
  EXPECT_EQ(b.shape_of(b.node("Reshape", {x, b.ints({-1, 12})})), "[?,12]");
}

TEST(Infer, RangeAndConstantOfShapeFollowSymbols) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(4)}));
  const ValueId shape = b.node("Shape", {x});
  const ValueId count = b.node("Gather", {shape, b.number(0)});
  EXPECT_EQ(b.shape_of(b.node("Range", {b.number(0), count, b.number(1)})), "[N]");
  EXPECT_EQ(b.shape_of(b.node("ConstantOfShape", {shape})), "[N,4]");
}

TEST(Infer, ReadsAxesFromAttributeOrInput) {
  Builder old(11), now(13);
  const ValueId x = old.input("x", Shape({kBatch, Dim(1), Dim(3)}));
  EXPECT_EQ(old.shape_of(old.node("Squeeze", {x}, {{"axes", Ints{1}}})), "[N,3]");
  EXPECT_EQ(old.shape_of(old.node("ReduceSum", {x}, {{"axes", Ints{-1}}, {"keepdims", int64_t{0}}})), "[N,1]");
  const ValueId y = now.input("x", Shape({kBatch, Dim(1), Dim(3)}));
  EXPECT_EQ(now.shape_of(now.node("Squeeze", {y, now.ints({1})})), "[N,3]");
  EXPECT_EQ(now.shape_of(now.node("ReduceSum", {y, now.ints({-1})}, {{"keepdims", int64_t{0}}})), "[N,1]");
}

TEST(Infer, RefusesContradictions) {
  Builder b;
  const ValueId x = b.input("x", Shape({Dim(2), Dim(3)}));
  const ValueId y = b.node("Relu", {x});
  b.graph.set_type(y, DType::kFloat32, Shape({Dim(2), Dim(4)}));
  EXPECT_EQ(code_of([&] { infer_shapes(b.graph); }), ErrorCode::kInvalidModel);
  b.graph.set_type(y, DType::kInt8, Shape());
  EXPECT_EQ(code_of([&] { infer_shapes(b.graph); }), ErrorCode::kInvalidModel);
}

TEST(Infer, RefusesWhatCannotRun) {
  const auto refuses = [](const std::function<void(Builder&, ValueId)>& add) {
    Builder b;
    const ValueId x = b.input("x", Shape({Dim(2), Dim(3)}));
    add(b, x);
    EXPECT_EQ(code_of([&] { infer_shapes(b.graph); }), ErrorCode::kInvalidModel);
  };
  refuses([](Builder& b, ValueId x) { b.node("Reshape", {x, b.ints({4, -1})}); });
  refuses([](Builder& b, ValueId x) { b.node("Reshape", {x, b.ints({2, 2})}); });
  refuses([](Builder& b, ValueId x) { b.node("Transpose", {x}, {{"perm", Ints{0, 0}}}); });
  refuses([](Builder& b, ValueId x) { b.node("Concat", {x, x}, {{"axis", int64_t{2}}}); });
  refuses([](Builder& b, ValueId x) { b.node("Add", {x, b.ints({1, 2})}); });
  refuses([](Builder& b, ValueId x) { b.node("Squeeze", {x, b.ints({0})}); });
  refuses([](Builder& b, ValueId x) { b.node("Split", {x, b.ints({3})}); });
  refuses([](Builder& b, ValueId x) { b.node("Cast", {x}, {{"to", int64_t{99}}}); });
}

TEST(Infer, UnknownOperatorIsNamed) {
  Builder b;
  b.node("Frobnicate", {b.input("x", Shape())});
  EXPECT_EQ(code_of([&] { infer_shapes(b.graph); }), ErrorCode::kUnsupported);
}

TEST(BindDims, SetsSymbolsEverywhere) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(3), Dim()}));
  const ValueId y = b.node("Relu", {x});
  b.graph.add_output(y);
  infer_shapes(b.graph);
  bind_dims(b.graph, {{"N", 4}, {"x.2", 9}});
  EXPECT_EQ(to_string(b.graph.value(y).shape), "[4,3,9]");
  EXPECT_EQ(code_of([&] { bind_dims(b.graph, {{"M", 1}}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { bind_dims(b.graph, {{"x.1", 5}}); }), ErrorCode::kInvalidArgument);
}

TEST(BindBatch, SetsTheFirstDimension) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(std::string("T"))}));
  Graph copy = b.graph;
  EXPECT_EQ(code_of([&] { bind_batch(copy, 2); }), ErrorCode::kInvalidArgument);  // T is free
  bind_batch(b.graph, 2, {{"T", 16}});
  EXPECT_EQ(to_string(b.graph.value(x).shape), "[2,16]");
  bind_batch(b.graph, 2);
  EXPECT_EQ(code_of([&] { bind_batch(b.graph, 3); }), ErrorCode::kInvalidArgument);
}

TEST(Infer, SubgraphsSeeCapturesAndImpossibleBranchesAreForgiven) {
  Builder b;
  const ValueId x = b.input("x", Shape({kBatch, Dim(3)}));
  const ValueId condition = b.input("c", Shape(std::vector<Dim>{}), DType::kBool);
  const auto branch = [&](bool squeeze) {
    auto sub = std::make_shared<Graph>();
    sub->opsets = b.graph.opsets;
    const ValueId captured = sub->add_capture("captured", 0, DType::kUndefined, Shape());
    NodeSpec spec{.op_type = squeeze ? "Squeeze" : "Identity", .inputs = {captured}};
    if (squeeze) spec.inputs.push_back(sub->add_constant("axes", Tensor::of<int64_t>({1}, {1})));
    sub->add_output(sub->add_node(std::move(spec), "out"));
    return sub;
  };
  const NodeId node = b.graph.add_node({.op_type = "If",
                                        .inputs = {condition},
                                        .attributes = {{"then_branch", branch(true)}, {"else_branch", branch(false)}}},
                                       std::vector<std::string>{"y"});
  b.graph.set_captures(node, {x});
  b.graph.add_output(b.graph.node(node).outputs[0]);
  infer_shapes(b.graph);
  const auto& sub = std::get<GraphPtr>(b.graph.node(node).attributes.at("else_branch"));
  EXPECT_EQ(to_string(sub->value(sub->outputs()[0]).shape), "[N,3]");
  EXPECT_EQ(b.graph.value(b.graph.outputs()[0]).dtype, DType::kFloat32);
}

TEST(Infer, CompressByAConstantConditionHasAFixedShape) {
  Graph g = parse_text(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[2,3,4]
  const %keep : bool[3] = {true, false, true}
  %a = Compress(%x, %keep) {axis = 1}
  %b = Compress(%x, %keep) {axis = -2}
  %c = Compress(%x, %keep)
  output %a, %b, %c
})");
  infer_shapes(g);
  EXPECT_EQ(to_string(g.value(g.find("a")).shape), "[2,2,4]");
  EXPECT_EQ(to_string(g.value(g.find("b")).shape), "[2,2,4]");
  EXPECT_EQ(to_string(g.value(g.find("c")).shape), "[2]");
}

}  // namespace
}  // namespace slipway
