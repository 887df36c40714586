// Programs in plan files: what is opened again gives the same and prepares what it does not hold.
// plan_test.cc damages them.
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/program.h"
#include "engine/program_models.h"

namespace slipway {
namespace {

class ProgramFile : public ::testing::Test {
 protected:
  ProgramFile() : folder_(::testing::TempDir() + "slipway-program-XXXXXX") {
    SLIPWAY_CHECK(::mkdtemp(folder_.data()) != nullptr);
  }
  ~ProgramFile() override { remove_folder(folder_); }
  std::string path(const std::string& name) const { return join_path(folder_, name); }

  /// A program that has seen the inputs, twice each.
  std::shared_ptr<const Program> seen(const Graph& graph, const std::vector<std::vector<Tensor>>& runs) const {
    const auto program = compiled_backend().make(graph, {});
    const auto session = program->open();
    for (int pass = 0; pass < 2; ++pass)
      for (const std::vector<Tensor>& inputs : runs) session->run(inputs);
    return program;
  }

  void expect_kept(const Graph& graph, const std::vector<std::vector<Tensor>>& runs) const {
    const auto program = seen(graph, runs);
    save_program(*program, path("a.plan"));
    const auto opened = open_program(path("a.plan"));
    EXPECT_EQ(opened->info().shapes, program->info().shapes);
    EXPECT_EQ(opened->info().weight_bytes, program->info().weight_bytes);
    EXPECT_EQ(opened->prepared().size(), program->prepared().size());
    ASSERT_EQ(opened->ports().inputs.size(), graph.inputs().size());
    const auto a = program->open(), b = opened->open();
    for (const std::vector<Tensor>& inputs : runs) {
      const std::vector<Tensor> expected = a->run(inputs), actual = b->run(inputs);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(actual[i].identical(expected[i])) << i;
    }
    EXPECT_EQ(opened->info().shapes, program->info().shapes) << "nothing was prepared anew";
    save_program(*program, path("b.plan"));
    EXPECT_EQ(read_text_file(path("a.plan")).size(), read_text_file(path("b.plan")).size());
    EXPECT_THROW(save_program(*opened, path("b.plan")), Error);
  }

  std::string folder_;
};

std::vector<std::vector<Tensor>> attention_runs(Random& random) {
  std::vector<std::vector<Tensor>> runs;
  for (const Dims& dims : {Dims{1, 5, 8}, Dims{2, 7, 8}, Dims{2, 0, 8}})
    runs.push_back({random_tensor(DType::kFloat32, dims, random)});
  return runs;
}

std::vector<std::vector<Tensor>> body_runs(Random& random) {
  std::vector<std::vector<Tensor>> runs;
  for (const bool go : {true, false})
    runs.push_back({random_tensor(DType::kFloat32, {64, 64}, random), Tensor::scalar(go), Tensor::scalar(int64_t{3})});
  return runs;
}

TEST_F(ProgramFile, KeepsEveryShape) {
  Random random(51);
  expect_kept(random_graph(kTwoFreeAxes, random), attention_runs(random));
}

TEST_F(ProgramFile, KeepsWhatIsCutAtTheData) {
  Random random(52);
  std::vector<std::vector<Tensor>> runs;
  for (const int64_t rows : {3, 64}) runs.push_back({random_tensor(DType::kFloat32, {rows, 4}, random)});
  expect_kept(random_graph(kSelecting, random), runs);
}

TEST_F(ProgramFile, KeepsBodies) {
  Random random(53);
  expect_kept(random_graph(kBodies, random), body_runs(random));
}

// A model for two lengths, a branch for each: the other one is no model at this length.
TEST_F(ProgramFile, KeepsABodyThatMakesNoSenseForTheShapes) {
  Graph graph = parse_text(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[L]
  input %long : bool[]
  %y = If(%long) captures (%x) {else_branch = graph "else" {
    capture 0 %x
    const %to : i64[2] = {2, 3}
    %a = Reshape(%x, %to)
    output %a
  }, then_branch = graph "then" {
    capture 0 %x
    const %to : i64[2] = {2, 5}
    %b = Reshape(%x, %to)
    output %b
  }}
  output %y
})");
  infer_shapes(graph);
  expect_kept(graph, {{Tensor(DType::kFloat32, {6}), Tensor::scalar(false)},
                      {Tensor(DType::kFloat32, {10}), Tensor::scalar(true)}});
}

TEST_F(ProgramFile, KeepsWhatNoPlanHolds) {
  Random random(54);
  const Graph graph = random_graph(R"(graph "g" ir 8 opset {"": 17} {
  input %s : string[N]
  input %x : f32[2]
  const %many : f32[40] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
                           27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40}
  const %words : string[2] = {"a", "b\n"}
  %q = SequenceConstruct(%x, %many)
  %i = Identity(%s)
  %both = Concat(%i, %words) {axis = 0}
  %c = ConcatFromSequence(%q) {axis = 0}
  output %both, %words, %c, %x, %many
})",
                                   random);
  expect_kept(graph, {{Tensor::of_strings({2}, {"x", ""}), Tensor::of<float>({2}, {1, 2})}});
}

TEST_F(ProgramFile, PreparesOtherShapesFromTheModelInIt) {
  Random random(55);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  save_program(*seen(graph, attention_runs(random)), path("a.plan"));
  const auto program = open_program(path("a.plan"), 2);
  const auto session = program->open();
  const std::vector<Tensor> other = {random_tensor(DType::kFloat32, {1, 9, 8}, random)};
  EXPECT_EQ(difference(session->run(other)[0], evaluate(graph, other)[0]), "");
  EXPECT_EQ(program->info().shapes, 3) << "as many as the file holds";
  EXPECT_THROW(session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {1, 9, 7})}), Error);
}

// What is ready needs nothing of the file; what is not says that it is gone.
TEST_F(ProgramFile, RunsWhatIsReadyWithoutTheFile) {
  Random random(56);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  const auto runs = attention_runs(random);
  save_program(*seen(graph, runs), path("a.plan"));
  const auto session = open_program(path("a.plan"))->open();
  ASSERT_EQ(::truncate(path("a.plan").c_str(), 0), 0);
  for (const auto& inputs : runs) EXPECT_EQ(difference(session->run(inputs)[0], evaluate(graph, inputs)[0]), "");
  EXPECT_THROW(session->run(std::vector<Tensor>{Tensor(DType::kFloat32, {4, 4, 8})}), Error);
}

TEST_F(ProgramFile, HoldsWeightsOnce) {
  Random random(57);
  const Graph graph = random_graph(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N,L,256]
  input %w_a : f32[256,256]
  %y = MatMul(%x, %w_a)
  output %y
})",
                                   random);
  uint64_t one = 0;
  for (const int64_t shapes : {1, 4}) {
    std::vector<std::vector<Tensor>> runs;
    for (int64_t i = 1; i <= shapes; ++i) runs.push_back({Tensor(DType::kFloat32, {1, 32 * i, 256})});
    const auto program = seen(graph, runs);
    save_program(*program, path("a.plan"));
    if (shapes == 1) one = file_bytes(path("a.plan"));
    EXPECT_EQ(open_program(path("a.plan"))->info().weight_bytes, program->info().weight_bytes);
  }
  EXPECT_GT(one, 2 * 256 * 256 * 4u) << "the model's and the packed ones";
  EXPECT_LT(file_bytes(path("a.plan")), 2 * one);
}

TEST_F(ProgramFile, LendsItsShapesToAProgramAtWork) {
  Random random(59);
  const Graph graph = random_graph(kTwoFreeAxes, random);
  const auto runs = attention_runs(random);
  const auto lender = seen(graph, runs);
  save_program(*lender, path("a.plan"));
  const auto program = seen(graph, {runs[1]});
  const auto session = program->open();
  session->run(runs[1]);
  EXPECT_FALSE(program->prepared().at(0).from_file);
  EXPECT_GT(program->prepared().at(0).run_ns, 0);
  EXPECT_NE(adopt_shapes(*program, path("a.plan")), "");
  ASSERT_EQ(program->info().shapes, static_cast<int64_t>(runs.size()));
  for (const PreparedShape& shape : program->prepared()) {
    EXPECT_TRUE(shape.from_file);
    EXPECT_EQ(shape.run_ns, 0);
  }
  EXPECT_EQ(program->info().weight_bytes, lender->info().weight_bytes) << "those that are alike are there once";
  for (const auto& inputs : runs) EXPECT_EQ(difference(session->run(inputs)[0], evaluate(graph, inputs)[0]), "");

  const auto few = compiled_backend().make(graph, {.max_shapes = 2});
  adopt_shapes(*few, path("a.plan"));
  EXPECT_EQ(few->info().shapes, 2);
  EXPECT_THROW(adopt_shapes(*compiled_backend().make(graph, {.threads = 2}), path("a.plan")), Error);
  EXPECT_THROW(adopt_shapes(*reference_backend().make(graph, {}), path("a.plan")), Error);
  const Graph other = random_graph(kSelecting, random);
  EXPECT_THROW(adopt_shapes(*compiled_backend().make(other, {}), path("a.plan")), Error);
}

TEST_F(ProgramFile, IsNoSinglePlan) {
  Random random(58);
  save_program(*seen(random_graph(kTwoFreeAxes, random), attention_runs(random)), path("a.plan"));
  try {
    Plan::open(path("a.plan"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
  }
  Plan::build(random_graph(residual_network_text(8, 8), random), {.tune = false})->save(path("b.plan"));
  EXPECT_EQ(open_program(path("b.plan"))->prepared().size(), 1u) << "but a plan is a program of one";
}

}  // namespace
}  // namespace slipway
