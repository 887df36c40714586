// Plans of If, Loop and Scan: bodies read inputs, constants and computed values of the graph around them, inside one
// another too; trip counts and conditions may be left out. Right as built, as saved and opened, and in every layout
// that the captured values may have.
#include "base/file.h"
#include "engine/engine_testing.h"

namespace slipway {
namespace {

void expect_plans(const std::string& text, int64_t batch = 1) {
  Random random(5);
  const Graph graph = random_graph(text, random);
  const std::vector<Tensor> inputs = random_inputs(graph, random), expected = evaluate(graph, inputs);
  const std::string path = testing::TempDir() + "control_flow.plan";
  for (uint64_t seed = 0; seed < 8; ++seed)
    for (const bool optimize : {true, false}) {
      const auto plan = Plan::build(graph, {.batch = batch, .optimize = optimize, .choice_seed = seed});
      plan->save(path);
      for (const auto& way : {plan, Plan::open(path)}) {
        const std::vector<Tensor> actual = run_plan(way, inputs);
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_EQ(difference(actual[i], expected[i]), "") << "seed " << seed << ", output " << i;
      }
    }
}

TEST(ControlFlowPlan, IfReadsInputsConstantsAndComputedValues) {
  expect_plans(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[1,4,3,3]
  input %c : bool[]
  input %d : bool[]
  input %w_conv : f32[4,4,1,1]
  input %w_k : f32[1,4,3,3]
  %v = Conv(%x, %w_conv)
  %y = If(%c) captures (%v, %w_k, %x, %d) {else_branch = graph "else" {
    capture 0 %v
    capture 1 %k
    const %three : f32[] = {3}
    %s = Mul(%v, %three)
    %e = Add(%s, %k)
    output %e
  }, then_branch = graph "then" {
    capture 2 %x
    capture 3 %d
    capture 0 %v
    %i = If(%d) captures (%x, %v) {else_branch = graph "inner else" {
      capture 0 %x
      output %x
    }, then_branch = graph "inner then" {
      capture 1 %v
      %n = Neg(%v)
      output %n
    }}
    output %i
  }}
  %z = Relu(%y)
  output %z, %y
})");
}

TEST(ControlFlowPlan, LoopRunsWithoutTripCountAndReadsAroundItself) {
  expect_plans(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[2]
  input %w_k : f32[2]
  const %go : bool[] = {true}
  const %limit : f32[] = {1000}
  %step = Abs(%w_k)
  %y = Loop(_, %go, %x) captures (%step, %w_k, %limit) {body = graph "body" {
    input %i : i64[]
    input %c : bool[]
    input %s : f32[2]
    capture 0 %step
    capture 1 %k
    capture 2 %limit
    const %hundred : f32[] = {100}
    %a = Add(%s, %step)
    %b = Add(%a, %hundred)
    %m = ReduceMax(%b) {keepdims = 0}
    %n = Less(%m, %limit)
    output %n, %b
  }}
  output %y
})",
               2);
  expect_plans(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[2]
  const %trips : i64[] = {3}
  %y = Loop(%trips, _, %x) {body = graph "body" {
    input %i : i64[]
    input %c : bool[]
    input %s : f32[2]
    %a = Add(%s, %s)
    output %c, %a
  }}
  output %y
})",
               2);
}

TEST(ControlFlowPlan, ScanReadsAroundItself) {
  expect_plans(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[3,2]
  input %s : f32[2]
  input %w_k : f32[2]
  %v = Neg(%s)
  %last, %all = Scan(%v, %x) captures (%w_k, %s) {body = graph "body" {
    input %state
    input %row
    capture 0 %k
    capture 1 %s
    %a = Add(%state, %row)
    %b = Mul(%a, %k)
    %d = Sub(%b, %s)
    output %b, %d
  }, num_scan_inputs = 1}
  output %last, %all
})",
               3);
}

TEST(ControlFlowPlan, BranchesOfDifferentShapesAreRefusedInOneSentence) {
  const Graph graph = parse_text(R"(graph "g" ir 8 opset {"": 17} {
  input %c : bool[]
  input %x : f32[2]
  const %k : f32[3] = {1, 2, 3}
  %y = If(%c) captures (%x, %k) {else_branch = graph "else" {
    capture 0 %x
    output %x
  }, then_branch = graph "then" {
    capture 1 %k
    output %k
  }} "choice"
  output %y
})");
  try {
    Plan::build(graph, {.batch = 2});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("slipway run and serve"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("'choice'"), std::string::npos) << error.what();
  }
  const std::vector<Tensor> inputs = {Tensor::scalar(true), Tensor::of<float>({2}, std::vector<float>{1, 2})};
  EXPECT_EQ(evaluate(graph, inputs)[0].dims(), Dims{3});
}

}  // namespace
}  // namespace slipway
