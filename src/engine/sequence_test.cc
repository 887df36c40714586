// Sequences between the tensors of a compiled model, and as its inputs and outputs: what reads them is interpreted, all
// else is planned, and the reference says what is right.
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"
#include "engine/program.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

void expect_same(const Graph& graph, const std::vector<std::vector<Tensor>>& runs) {
  Graph optimised = graph;
  run_passes(optimised, {.standard_onnx = true});
  const Graph read = parse_onnx(serialize_onnx(optimised));
  const auto session = backend_named("slipway").make(graph, {})->open();
  for (int pass = 0; pass < 2; ++pass)
    for (const std::vector<Tensor>& inputs : runs) {
      const std::vector<Tensor> expected = evaluate(graph, inputs), actual = session->run(inputs),
                                written = evaluate(read, inputs);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(difference(actual[i], expected[i]), "") << "pass " << pass << ", output " << i;
        EXPECT_EQ(difference(written[i], expected[i]), "") << "written, output " << i;
      }
    }
}

// As detectors are exported: rows are split off, each is computed by itself, and the results are joined.
const char* const kListModel = R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N,8]
  input %w_m : f32[8,4]
  const %zero : i64[] = {0}
  const %go : bool[] = {true}
  %h = MatMul(%x, %w_m)
  %r = Relu(%h)
  %rows = SplitToSequence(%r) {axis = 0}
  %count = SequenceLength(%rows)
  %none = SequenceEmpty()
  %results = Loop(%count, %go, %none) captures (%rows) {body = graph "body" {
    input %i : i64[]
    input %c : bool[]
    input %list : sequence.f32*
    capture 0 %rows
    %row = SequenceAt(%rows, %i)
    %soft = Softmax(%row) {axis = -1}
    %longer = SequenceInsert(%list, %soft)
    output %c, %longer
  }}
  %joined = ConcatFromSequence(%results) {axis = 0}
  %y = Add(%joined, %r)
  %first = SequenceAt(%rows, %zero)
  output %y, %first
})";

TEST(SequenceProgram, JoinsWhatItSplit) {
  Random random(4);
  const Graph graph = random_graph(kListModel, random);
  std::vector<std::vector<Tensor>> runs;
  for (const int64_t rows : {3, 1, 5}) runs.push_back({random_tensor(DType::kFloat32, {rows, 8}, random)});
  expect_same(graph, runs);
  const auto session = backend_named("slipway").make(graph, {})->open();
  EXPECT_THROW(session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {0, 8})}), Error);
}

const char* const kPorts = R"(graph "g" ir 8 opset {"": 17} {
  input %xs : sequence.f32*
  input %maybe : optional.f32*
  input %w_m : f32[4,4]
  const %last : i64[] = {-1}
  %x = SequenceAt(%xs, %last)
  %h = MatMul(%x, %w_m)
  %there = OptionalHasElement(%maybe)
  %y = If(%there) captures (%maybe, %h) {else_branch = graph "else" {
    capture 1 %h
    %e = Identity(%h)
    output %e
  }, then_branch = graph "then" {
    capture 0 %maybe
    capture 1 %h
    %t = OptionalGetElement(%maybe)
    %s = Mul(%h, %t)
    output %s
  }}
  %ys = SequenceConstruct(%y, %h)
  %zs = SequenceMap(%xs, %h) {body = graph "map" {
    input %a : f32*
    input %b : f32*
    %d = MatMul(%a, %b)
    output %d
  }}
  %same = Identity(%maybe)
  output %ys, %zs, %same
})";

TEST(SequenceProgram, TakesAndGivesThem) {
  Random random(6);
  const Graph graph = random_graph(kPorts, random);
  const auto square = [&] { return random_tensor(DType::kFloat32, {4, 4}, random); };
  const Tensor xs = Tensor::sequence(DType::kFloat32, {square(), square(), square()});
  expect_same(graph, {{xs, square()}, {xs, Tensor::absent(optional_of(DType::kFloat32))}});
}

TEST(SequenceProgram, HasNoPlan) {
  Random random(6);
  const Graph graph = random_graph(kPorts, random);
  EXPECT_THROW(Plan::build(graph, {}), Error);
}

}  // namespace
}  // namespace slipway
