// Programs: any shapes, shapes that follow from the data, bodies that run compiled, axes of length 0. The reference
// says what is right.
#include "engine/program.h"

#include <thread>

#include "base/error.h"
#include "engine/engine_testing.h"
#include "engine/partition.h"
#include "engine/program_models.h"
#include "engine/weight_pool.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

/// Runs the inputs through one session, twice each, against the reference.
void expect_agreement(const Graph& graph, const std::vector<std::vector<Tensor>>& runs, ProgramOptions options = {}) {
  const auto program = backend_named("slipway").make(graph, options);
  const auto session = program->open();
  for (int pass = 0; pass < 2; ++pass)
    for (const std::vector<Tensor>& inputs : runs) {
      const std::vector<Tensor> expected = evaluate(graph, inputs), actual = session->run(inputs);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_EQ(difference(actual[i], expected[i]), "") << "pass " << pass << ", output " << i;
    }
}

Graph parsed(const std::string& text) {
  Graph graph = parse_text(text);
  infer_shapes(graph);
  return graph;
}

TEST(Program, RunsAtWhateverShapesCome) {
  Random random(3);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  std::vector<std::vector<Tensor>> runs;
  for (const Dims& dims : {Dims{1, 1, 8}, Dims{2, 7, 8}, Dims{1, 40, 8}, Dims{0, 3, 8}, Dims{2, 0, 8}, Dims{3, 5, 8}})
    runs.push_back({random_tensor(DType::kFloat32, dims, random)});
  expect_agreement(graph, runs);
  expect_agreement(graph, runs, {.max_shapes = 2});
  expect_agreement(graph, runs, {.optimize = false});
}

TEST(Program, GoesOnWhereShapesFollowFromTheData) {
  Random random(4);
  const Graph graph = parsed(kSelecting);
  std::vector<std::vector<Tensor>> runs;
  for (const int64_t rows : {1, 3, 64})
    for (int i = 0; i < 3; ++i) runs.push_back({random_tensor(DType::kFloat32, {rows, 4}, random)});
  runs.push_back({Tensor(DType::kFloat32, {5, 4})});  // nothing is selected
  expect_agreement(graph, runs);
}

TEST(Program, IsCutAtTheDataAloneAndIntoFewStages) {
  Graph graph = parsed(kSelecting);
  bind_dims(graph, {{"R", 3}});
  std::vector<GraphStage::Kind> kinds;
  for (const GraphStage& stage : cut_into_stages(graph)) kinds.push_back(stage.kind);
  EXPECT_EQ(kinds, (std::vector<GraphStage::Kind>{GraphStage::kPlan, GraphStage::kNode, GraphStage::kRemainder}));
  Random random(3);
  Graph whole = random_graph(kTwoFreeAxes, random);
  bind_dims(whole, {{"N", 2}, {"L", 3}});
  const std::vector<GraphStage> one = cut_into_stages(whole);
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].kind, GraphStage::kPlan);
}

TEST(Program, RunsBodiesCompiled) {
  Random random(5);
  Graph graph = random_graph(kBodies, random);
  std::vector<std::vector<Tensor>> runs;
  for (const bool go : {true, false})
    for (const int64_t trips : {0, 1, 3})
      runs.push_back({random_tensor(DType::kFloat32, {64, 64}, random), Tensor::scalar(go), Tensor::scalar(trips)});
  expect_agreement(graph, runs);
}

TEST(Program, GivesALoopWithoutTurnsTheShapeThatItsBodyDeclares) {
  const Graph graph = parsed(R"(graph "g" ir 8 opset {"": 17} {
  input %trips : i64[]
  input %x : f32[1]
  %last, %all = Loop(%trips, _, %x) {body = graph "body" {
    input %i : i64[]
    input %on : bool[]
    input %s : f32[1]
    %a : f32[1] = Add(%s, %s)
    %b : f32[1] = Identity(%a)
    output %on, %a, %b
  }}
  output %last, %all
})");
  std::vector<std::vector<Tensor>> runs;
  for (const int64_t trips : {0, 2, -1}) runs.push_back({Tensor::scalar(trips), Tensor::of<float>({1}, {3})});
  EXPECT_EQ(evaluate(graph, runs[0])[1].dims(), (Dims{0, 1}));
  expect_agreement(graph, runs);
}

TEST(Program, KeepsItsShapesWhenOthersCanNotBePrepared) {
  const Graph graph = parsed(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N]
  const %four : f32[4] = {1, 2, 3, 4}
  %y = Add(%x, %four)
  output %y
})");
  const auto program = backend_named("slipway").make(graph, {.max_shapes = 2});
  const auto session = program->open();
  for (const int64_t size : {1, 4}) session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {size})});
  for (const int64_t size : {2, 3, 5, 6})
    EXPECT_THROW(session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {size})}), Error);
  EXPECT_EQ(program->info().shapes, 2);
}

TEST(Program, TakesStringsAndBranchesOfDifferentShapes) {
  const Graph graph = parsed(R"(graph "g" ir 8 opset {"": 17} {
  input %c : bool[]
  input %x : f32[2]
  input %s : string[N]
  const %k : f32[3] = {1, 2, 3}
  %y = If(%c) captures (%x, %k) {else_branch = graph "else" {
    capture 0 %x
    output %x
  }, then_branch = graph "then" {
    capture 1 %k
    output %k
  }} "choice"
  %z = Neg(%y)
  %t = Identity(%s)
  output %z, %t, %k, %x
})");
  std::vector<std::vector<Tensor>> runs;
  for (const bool c : {true, false})
    runs.push_back({Tensor::scalar(c), Tensor::of<float>({2}, {1, -2}), Tensor::of_strings({2}, {"a", ""})});
  const auto session = backend_named("slipway").make(graph, {})->open();
  for (const auto& inputs : runs) {
    const std::vector<Tensor> expected = evaluate(graph, inputs), actual = session->run(inputs);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(actual.at(i).identical(expected[i])) << i;
  }
}

TEST(Program, KeepsPackedWeightsOnceForAllShapes) {
  Random random(8);
  const Graph graph = random_graph(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N,64,H,H]
  input %w_a : f32[128,64,3,3]
  input %w_t : f32[128,100]
  %c = Conv(%x, %w_a) {pads = [1, 1, 1, 1]}
  %r = Relu(%c)
  %p = GlobalAveragePool(%r)
  %f = Flatten(%p)
  %i = ArgMax(%f) {axis = -1, keepdims = 0}
  %e = Gather(%w_t, %i)
  output %f, %e
})",
                                   random);
  const auto program = backend_named("slipway").make(graph, {});
  const auto session = program->open();
  uint64_t first = 0;
  for (const int64_t size : {8, 9, 10, 11, 12, 8}) {
    session->run(std::vector<Tensor>{random_tensor(DType::kFloat32, {1, 64, size, size}, random)});
    if (first == 0) first = program->info().weight_bytes;
  }
  const ProgramInfo info = program->info();
  EXPECT_EQ(info.shapes, 5);
  EXPECT_GE(first, (128 * 64 * 9 + 100 * 128) * 4u);
  EXPECT_LT(info.weight_bytes, 4 * first) << "five plans, some of which take the same layout";
}

TEST(WeightPool, KeepsEqualBytesOnceAsLongAsTheyAreUsed) {
  const std::vector<float> values(1000, 1.5f);
  const auto blob = [&] { return copy_blob(values.data(), values.size() * sizeof(float)); };
  WeightPool pool;
  Blob first = blob(), second = blob();
  pool.share(first);
  pool.share(second);
  EXPECT_EQ(first.data, second.data);
  std::vector<float> other = values;
  other[777] = -1.5f;  // where no sample is taken
  Blob unlike = copy_blob(other.data(), other.size() * sizeof(float));
  pool.share(unlike);
  EXPECT_NE(unlike.data, first.data);
  EXPECT_EQ(reinterpret_cast<const float*>(unlike.data.get())[777], -1.5f);
  const std::weak_ptr<const std::byte[]> watched = first.data;
  first = second = Blob();
  EXPECT_TRUE(watched.expired());
  Blob again = blob();
  pool.share(again);
  EXPECT_EQ(reinterpret_cast<const float*>(again.data.get())[0], 1.5f);
}

TEST(Program, IsSharedByThreadsThatBringOtherShapes) {
  Random random(6);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  const auto program = backend_named("slipway").make(graph, {.max_shapes = 3});
  std::vector<Tensor> inputs, expected;
  for (int64_t i = 0; i < 6; ++i) {
    inputs.push_back(random_tensor(DType::kFloat32, {1 + i % 2, 1 + i, 8}, random));
    expected.push_back(evaluate(graph, std::vector<Tensor>{inputs.back()})[0]);
  }
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const auto session = program->open();
      for (size_t i = 0; i < 24; ++i) {
        const size_t at = (i * (t + 1) + t) % inputs.size();
        EXPECT_EQ(difference(session->run(std::vector<Tensor>{inputs[at]})[0], expected[at]), "");
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(Program, IsHeldToTheLimitsOfItsThread) {
  Random random(3);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  const auto session = backend_named("slipway").make(graph, {})->open();
  const Tensor x(DType::kFloat32, {1, 3000, 8});
  {
    const ScopedRunLimits limits({.value_bytes = 1 << 20});
    EXPECT_THROW(session->run(std::span(&x, 1)), Error) << "a product of 3000 x 3000";
  }
  {
    const ScopedRunLimits limits({.deadline_ns = 1});
    EXPECT_THROW(evaluate(graph, std::span(&x, 1)), Error);
  }
  EXPECT_EQ(session->run(std::span(&x, 1))[0].dims(), (Dims{1, 3000, 3000}));
  Graph loop = random_graph(kBodies, random);
  const std::vector<Tensor> inputs = {Tensor(DType::kFloat32, {64, 64}), Tensor::scalar(true),
                                      Tensor::scalar(int64_t{5})};
  const auto looping = backend_named("slipway").make(loop, {})->open();
  const ScopedRunLimits limits({.iterations = 4});
  EXPECT_THROW(looping->run(inputs), Error);
}

TEST(Program, RefusesWhatDoesNotFitInOneSentence) {
  Random random(3);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  const auto session = backend_named("slipway").make(graph, {})->open();
  EXPECT_THROW(session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {1, 2, 7})}), Error);
  EXPECT_THROW(backend_named("magic"), Error);
}

}  // namespace
}  // namespace slipway
