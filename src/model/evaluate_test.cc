#include "model/evaluate.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/infer.h"

namespace slipway {
namespace {

Graph graph_of(Shape x, Shape y) {
  Graph g;
  g.opsets[""] = 17;
  const ValueId a = g.add_input("a", DType::kFloat32, std::move(x));
  const ValueId b = g.add_input("b", DType::kFloat32, std::move(y));
  const ValueId sum = g.add_node({.op_type = "Add", .inputs = {a, b}}, "sum");
  g.add_output(g.add_node({.op_type = "Mul", .inputs = {sum, sum}}, "square"));
  g.add_output(a);
  return g;
}

void expect_refused(const Graph& g, const std::vector<Tensor>& inputs, std::string_view word) {
  try {
    evaluate(g, inputs);
    FAIL() << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string_view(error.what()).find(word), std::string_view::npos) << error.what();
  }
}

TEST(Evaluate, RunsInOrderAndShowsEveryValue) {
  const Graph g = graph_of(Shape({Dim(2)}), Shape(std::vector<Dim>{}));
  std::vector<std::string> seen;
  const std::vector<Tensor> inputs = {Tensor::of<float>({2}, {1, 2}), Tensor::scalar(3.0f)};
  const auto outputs = evaluate(g, inputs, [&](ValueId id, const Tensor&) { seen.push_back(g.value(id).name); });
  EXPECT_TRUE(outputs[0].identical(Tensor::of<float>({2}, {16, 25})));
  EXPECT_TRUE(outputs[1].identical(inputs[0]));
  EXPECT_EQ(seen, (std::vector<std::string>{"sum", "square"}));
}

TEST(Evaluate, RefusesInputsThatDoNotFit) {
  const Dim n{std::string("N")};
  const Graph g = graph_of(Shape({n, Dim(2)}), Shape({n, Dim(1)}));
  const Tensor two = Tensor(DType::kFloat32, {2, 2}), narrow = Tensor(DType::kFloat32, {2, 1});
  EXPECT_EQ(evaluate(g, std::vector<Tensor>{two, narrow}).size(), 2u);
  expect_refused(g, {two}, "number of inputs");
  expect_refused(g, {two, two}, "'b'");
  expect_refused(g, {two, Tensor(DType::kFloat32, {3, 1})}, "'N'");
  expect_refused(g, {two, Tensor(DType::kFloat64, {2, 1})}, "f64");
  expect_refused(g, {Tensor(DType::kFloat32, {2}), narrow}, "'a'");
}

GraphPtr loop_body(const Graph& outer) {
  auto body = std::make_shared<Graph>();
  body->opsets = outer.opsets;
  body->add_input("trip", DType::kInt64, Shape(std::vector<Dim>{}));
  const ValueId condition = body->add_input("go", DType::kBool, Shape(std::vector<Dim>{}));
  const ValueId state = body->add_input("state", DType::kFloat32, Shape());
  const ValueId step = body->add_capture("step", 0, DType::kFloat32, Shape());
  const ValueId next = body->add_node({.op_type = "Add", .inputs = {state, step}}, "next");
  body->add_output(body->add_node({.op_type = "Identity", .inputs = {condition}}, "go_on"));
  body->add_output(next);
  body->add_output(body->add_node({.op_type = "Mul", .inputs = {next, next}}, "square"));
  return body;
}

TEST(Evaluate, LoopCarriesStateAndStacksWhatItScans) {
  Graph g;
  g.opsets[""] = 17;
  const ValueId trips = g.add_input("trips", DType::kInt64, Shape(std::vector<Dim>{}));
  const ValueId step = g.add_input("step", DType::kFloat32, Shape({Dim(2)}));
  const ValueId start = g.add_constant("start", Tensor::of<float>({2}, {0, 10}));
  const NodeId loop =
      g.add_node({.op_type = "Loop", .inputs = {trips, kNoValue, start}, .attributes = {{"body", loop_body(g)}}},
                 std::vector<std::string>{"last", "squares"});
  g.set_captures(loop, {step});
  for (ValueId id : g.node(loop).outputs) g.add_output(id);
  infer_shapes(g);
  EXPECT_EQ(g.value(g.outputs()[1]).dtype, DType::kFloat32);
  const std::vector<Tensor> inputs = {Tensor::scalar<int64_t>(3), Tensor::of<float>({2}, {1, 2})};
  const auto outputs = evaluate(g, inputs);
  EXPECT_TRUE(outputs[0].identical(Tensor::of<float>({2}, {3, 16})));
  EXPECT_TRUE(outputs[1].identical(Tensor::of<float>({3, 2}, {1, 144, 4, 196, 9, 256})));
  const auto none = evaluate(g, std::vector<Tensor>{Tensor::scalar<int64_t>(0), inputs[1]});
  EXPECT_TRUE(none[0].identical(Tensor::of<float>({2}, {0, 10})));
  EXPECT_EQ(none[1].dims()[0], 0);
}

TEST(Evaluate, ScanOfOpset8TakesABatchOfSequences) {
  Graph g;
  g.opsets[""] = 8;
  auto body = std::make_shared<Graph>();
  body->opsets = g.opsets;
  const ValueId sum = body->add_input("sum", DType::kFloat32, Shape());
  const ValueId next = body->add_input("next", DType::kFloat32, Shape());
  const ValueId total = body->add_node({.op_type = "Add", .inputs = {sum, next}}, "total");
  body->add_output(total);
  body->add_output(body->add_node({.op_type = "Identity", .inputs = {total}}, "running"));
  const ValueId lengths = g.add_input("lengths", DType::kInt64, Shape({Dim("B")}));
  const ValueId start = g.add_input("start", DType::kFloat32, Shape({Dim("B"), 1}));
  const ValueId x = g.add_input("x", DType::kFloat32, Shape({Dim("B"), Dim("L"), 1}));
  const Attributes attributes = {
      {"body", GraphPtr(body)}, {"num_scan_inputs", int64_t{1}}, {"directions", std::vector<int64_t>{1}}};
  const NodeId scan = g.add_node({.op_type = "Scan", .inputs = {lengths, start, x}, .attributes = attributes},
                                 std::vector<std::string>{"sums", "running_sums"});
  for (ValueId id : g.node(scan).outputs) g.add_output(id);
  infer_shapes(g);
  EXPECT_EQ(g.value(g.outputs()[0]).shape, Shape({Dim("B"), 1}));
  EXPECT_EQ(g.value(g.outputs()[1]).shape, Shape({Dim("B"), Dim("L"), 1}));
  const Tensor values = Tensor::of<float>({2, 3, 1}, {1, 2, 3, 4, 5, 6}), zeros = Tensor::of<float>({2, 1}, {0, 100});
  const auto y = evaluate(g, std::vector<Tensor>{Tensor::of<int64_t>({2}, {3, 2}), zeros, values});
  EXPECT_TRUE(y[0].identical(Tensor::of<float>({2, 1}, {6, 109})));
  EXPECT_TRUE(y[1].identical(Tensor::of<float>({2, 3, 1}, {3, 5, 6, 105, 109, 0})));
  EXPECT_THROW(evaluate(g, std::vector<Tensor>{Tensor::of<int64_t>({2}, {3, 4}), zeros, values}), Error);
}

TEST(Evaluate, NestsOnlySoDeep) {
  Graph g;
  g.opsets[""] = 17;
  GraphPtr inner;
  for (int depth = 0; depth < 100; ++depth) {
    auto sub = std::make_shared<Graph>();
    sub->opsets = g.opsets;
    const ValueId yes = sub->add_constant("yes", Tensor::scalar(true));
    if (inner == nullptr) {
      sub->add_output(sub->add_node({.op_type = "Identity", .inputs = {yes}}, "out"));
    } else {
      sub->add_output(sub->add_node(
          {.op_type = "If", .inputs = {yes}, .attributes = {{"then_branch", inner}, {"else_branch", inner}}}, "out"));
    }
    inner = sub;
  }
  EXPECT_THROW(evaluate(*inner, {}), Error);
}

}  // namespace
}  // namespace slipway
