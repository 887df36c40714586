// The compiled engine as a whole against the reference: float networks within a bound, quantised networks bit for bit
// (also under every smaller instruction set, by running this program again), and ONNX's own operator cases.
#include "engine/executor.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"
#include "model/onnx/case_folder.h"
#include "model/onnx/onnx.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr uint64_t kSeed = 20240517;
const std::string kNodeCases = "/usr/share/libonnx-testdata/data/node";
constexpr int kPassedFloor = 890;

TEST(Engine, FloatNetworksAgreeWithTheReference) {
  Random random(kSeed);
  for (int i = 0; i < 5; ++i) {
    const int channels = std::array{3, 5, 16, 17, 8}[static_cast<size_t>(i)];
    const Graph graph = random_graph(residual_network_text(channels, 8 + static_cast<int>(random.below(6))), random);
    for (const int64_t batch : {1, 3})
      for (const int threads : {1, 2})
        for (const bool optimize : {true, false}) {
          SCOPED_TRACE(fmt::format("seed {} channels {} batch {} threads {} passes {}", kSeed, channels, batch, threads,
                                   optimize));
          Graph bound = graph;
          bind_batch(bound, batch);
          const std::vector<Tensor> inputs = random_inputs(bound, random);
          const auto plan = Plan::build(graph, {.batch = batch,
                                                .threads = threads,
                                                .tune = i == 0 && batch * threads == 6 && optimize,
                                                .optimize = optimize});
          EXPECT_EQ(difference(run_plan(plan, inputs)[0], evaluate(graph, inputs)[0]), "");
          EXPECT_EQ(plan->precision(), "fp32");
        }
  }
}

// One line a network: the digest of all outputs. Every result is first compared with the reference of the fused
// operators.
std::string run_integer_suite() {
  Random random(kSeed);
  std::string lines;
  for (const IntegerNetwork& network : kIntegerNetworks) {
    SCOPED_TRACE(fmt::format("{} zero {} channels {}", network.type, network.zero_point, network.channels));
    const Graph graph = random_graph(integer_network_text(network), random);
    Sha256 hash;
    for (const int64_t batch : {1, 3}) {
      Graph fused = graph;
      bind_batch(fused, batch);
      const std::vector<Tensor> inputs = random_inputs(fused, random);
      run_passes(fused);
      const std::vector<Tensor> expected = evaluate(fused, inputs);
      const int threads = batch == 1 ? 1 : 2;
      const auto plan =
          Plan::build(graph, {.batch = batch, .threads = threads, .tune = network.channels == 17 && batch == 1});
      EXPECT_EQ(plan->precision(), "int8");
      const std::vector<Tensor> outputs = run_plan(plan, inputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        EXPECT_TRUE(outputs[i].identical(expected[i])) << "output " << i << " of " << outputs.size();
        hash.add(outputs[i].raw(), outputs[i].bytes());
      }
    }
    lines += "digest " + hash.hex() + "\n";
  }
  return lines;
}

TEST(Engine, IntegerSuite) { std::fputs(run_integer_suite().c_str(), stdout); }

TEST(Engine, FusedIntegersStayNearTheUnfusedGraph) {
  Random random(kSeed);
  const Graph graph = random_graph(integer_network_text(kIntegerNetworks[0]), random);
  Graph bound = graph;
  bind_batch(bound, 2);
  const std::vector<Tensor> inputs = random_inputs(bound, random);
  const Tensor unfused = evaluate(graph, inputs)[1], fused = run_plan(Plan::build(graph, {.batch = 2}), inputs)[1];
  const auto a = unfused.values<float>(), b = fused.values<float>();
  std::set<float> values(a.begin(), a.end());
  EXPECT_GT(values.size(), 20u) << "the network must not saturate";
  int64_t differ = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LE(std::abs(a[i] - b[i]), 0.3f * 1.01f) << "more than one step of the scale";
    differ += a[i] != b[i];
  }
  EXPECT_LE(differ, unfused.elements() / 100);
}

std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t n = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return n > 0 ? std::string(path.data(), static_cast<size_t>(n)) : "";
}

std::string digests_of(const std::string& text) {
  std::string lines;
  for (size_t at = text.find("digest "); at != std::string::npos; at = text.find("digest ", at + 1))
    lines += text.substr(at, text.find('\n', at) + 1 - at);
  return lines;
}

TEST(Engine, IntegersAreTheSameOnEveryInstructionSet) {
  const std::string expected = run_integer_suite();
  ASSERT_EQ(digests_of(expected), expected);
  for (const char* isa : {"SSE41", "AVX2", "AVX512_CORE"}) {
    FILE* child = ::popen(
        fmt::format("ONEDNN_MAX_CPU_ISA={} '{}' --gtest_filter=Engine.IntegerSuite 2>&1", isa, own_path()).c_str(),
        "r");
    ASSERT_NE(child, nullptr);
    std::string output;
    std::array<char, 4096> part{};
    while (const size_t n = std::fread(part.data(), 1, part.size(), child)) output.append(part.data(), n);
    EXPECT_EQ(::pclose(child), 0) << isa << "\n" << output;
    EXPECT_EQ(digests_of(output), expected) << isa;
  }
}

TEST(Engine, ExecutorCutsAnyNumberOfSamplesIntoBatches) {
  Random random(kSeed);
  const Graph graph = random_graph(residual_network_text(5, 9), random);
  const Tensor samples = random_tensor(DType::kFloat32, {7, 3, 9, 9}, random);
  const Tensor expected = evaluate(graph, std::vector<Tensor>{samples})[0];
  for (const int64_t batch : {1, 2, 4, 7, 16})
    for (const char* engine : {"slipway", "reference"}) {
      SCOPED_TRACE(fmt::format("{} batch {}", engine, batch));
      Executor executor(graph, {.engine = engine, .batch = batch});
      EXPECT_EQ(difference(executor.run_samples(std::vector<Tensor>{samples})[0], expected), "");
    }
  EXPECT_THROW(Executor(graph, {.engine = "magic"}), Error);
  EXPECT_THROW(Executor(graph).run(std::vector<Tensor>{}), Error);
}

// Whatever the shapes and rows of the requests, each gets what it would get alone, in its place; equal ones go
// together.
TEST(Engine, RequestsOfEqualShapesGoTogether) {
  Random random(kSeed);
  for (const int64_t step : {1, 2, 3, 5})
    for (const bool fill : {false, true}) {
      std::vector<std::vector<Tensor>> requests;
      for (int i = 0; i < 23; ++i) {
        const auto width = static_cast<int64_t>(1 + random.below(3)), rows = static_cast<int64_t>(random.below(3));
        requests.push_back({random_tensor(DType::kFloat32, {rows, width}, random),
                            random_tensor(DType::kFloat32, {random.below(8) == 0 ? 4 : rows, width}, random)});
      }
      int64_t runs = 0, most = 0;
      const auto doubled = [&](std::span<const Tensor> inputs) {
        ++runs;
        most = std::max(most, inputs[0].dims()[0]);
        std::vector<Tensor> outputs;
        for (const Tensor& t : inputs) {
          std::vector<double> values = to_doubles(t);
          for (double& v : values) v *= 2;
          outputs.push_back(from_doubles(t.dtype(), t.dims(), values));
        }
        return outputs;
      };
      const auto results = run_requests(requests, {.rows = step, .fill = fill}, doubled);
      EXPECT_LE(most, std::max<int64_t>(step, 2));
      EXPECT_EQ(runs<23, step> 1);
      for (size_t i = 0; i < requests.size(); ++i) {
        const std::vector<Tensor> alone = doubled(requests[i]);
        for (size_t k = 0; k < 2; ++k) EXPECT_TRUE(results[i][k].identical(alone[k])) << step << " " << i;
      }
    }
  const std::vector<std::vector<Tensor>> two(2, {Tensor(DType::kFloat32, {1, 2})});
  EXPECT_THROW(run_requests(two, {.rows = 2}, [](auto) { return std::vector<Tensor>{Tensor(DType::kFloat32, {})}; }),
               Error);
}

// x − mean over axis 0: what one row gives depends on the others.
Graph mixing_rows(const std::string& rows) {
  Graph graph = parse_text("graph \"g\" ir 8 opset {\"\": 17} {\ninput %x : f32[" + rows + R"(,3]
    %m = ReduceMean(%x) {axes = [0], keepdims = 1}
    %y = Sub(%x, %m)
    output %y
  })");
  infer_shapes(graph);
  return graph;
}

std::string refusal(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Engine, ExecutorRunsWhatItIsGivenInOnePiece) {
  const Graph graph = mixing_rows("N");
  const std::vector<Tensor> x = {Tensor::of<float>({2, 3}, {1, 2, 3, 3, 4, 7})};
  const Tensor whole = Tensor::of<float>({2, 3}, {-1, -1, -2, 1, 1, 2}), alone(DType::kFloat32, {2, 3});
  for (const char* engine : {"slipway", "reference"})
    for (const bool optimize : {true, false}) {
      Executor executor(graph, {.engine = engine, .batch = 2, .program = {.optimize = optimize}});
      EXPECT_EQ(difference(executor.run(x)[0], whole), "") << engine;
      EXPECT_EQ(difference(executor.run_samples(x)[0], alone), "") << engine << ": samples are requests of their own";
    }
}

TEST(Engine, ExecutorRefusesSamplesThatAFixedBatchWouldMix) {
  const Tensor x(DType::kFloat32, {4, 3});
  for (const char* engine : {"slipway", "reference"}) {
    Executor executor(mixing_rows("2"), {.engine = engine});
    EXPECT_NE(refusal([&] { executor.run_samples(std::span(&x, 1)); }).find("ReduceMean"), std::string::npos);
    EXPECT_NE(refusal([&] { executor.run(std::span(&x, 1)); }).find("wrong shape"), std::string::npos);
    EXPECT_EQ(executor.run(std::vector<Tensor>{Tensor(DType::kFloat32, {2, 3})})[0].dims(), (Dims{2, 3}));
  }
  const Tensor none(DType::kFloat32, {0, 3});
  Executor executor(mixing_rows("N"));
  EXPECT_EQ(executor.run(std::span(&none, 1))[0].dims(), (Dims{0, 3}));
  EXPECT_NE(refusal([&] { executor.run_samples(std::span(&none, 1)); }).find("at least one"), std::string::npos);
}

TEST(Engine, ExecutorTakesAScalarBeforeAVector) {
  Graph graph = parse_text(
      "graph \"g\" ir 8 opset {\"\": 17} {\ninput %s : f32[]\ninput %v : f32[4]\n%y = Mul(%s, %v)\noutput %y\n}");
  infer_shapes(graph);
  const std::vector<Tensor> inputs = {Tensor::scalar(2.0f), Tensor::of<float>({4}, {1, 2, 3, 4})};
  for (const char* engine : {"slipway", "reference"})
    EXPECT_EQ(difference(Executor(graph, {.engine = engine}).run(inputs)[0], Tensor::of<float>({4}, {2, 4, 6, 8})), "");
}

// Where the reference itself differs from the case (its own test lists why), the engine must do as the reference does.
std::string run_case(const std::string& folder) {
  const Graph graph = load_onnx(folder + "/model.onnx");
  if (is_random(graph)) fail(ErrorCode::kUnsupported, "The case is random: {}", folder);
  for (const auto& [inputs, expected] : load_case_data(folder, graph)) {
    std::vector<Tensor> reference;
    try {
      reference = evaluate(graph, inputs);
    } catch (const Error& error) {
      fail(ErrorCode::kUnsupported, "The reference refuses the case: {}", error.what());
    }
    const std::vector<Tensor> outputs = Executor(graph).run(inputs);
    if (outputs.size() != expected.size()) return fmt::format("{} outputs", outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i)
      if (!case_difference(outputs[i], expected[i]).empty() && !case_difference(outputs[i], reference[i]).empty())
        return difference(outputs[i], reference[i]);
  }
  return "";
}

TEST(Engine, AgreesWithOnnxTestCases) {
  if (!file_exists(kNodeCases + "/test_abs/model.onnx")) GTEST_SKIP() << "libonnx-testdata is not installed";
  int passed = 0, unsupported = 0;
  std::string failures;
  for (const std::string& name : list_folder(kNodeCases)) {
    std::string text;
    try {
      text = run_case(kNodeCases + "/" + name);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kUnsupported) {
        ++unsupported;
        continue;
      }
      text = error.what();
    }
    if (text.empty())
      ++passed;
    else
      failures += fmt::format("  {}: {}\n", name, text);
  }
  fmt::print("{} passed, {} unsupported\n", passed, unsupported);
  EXPECT_TRUE(failures.empty()) << failures;
  EXPECT_GE(passed, kPassedFloor);
}

TEST(Executor, RunsAModelWhoseOwnAxisIsEmpty) {
  Graph graph = parse_text(R"(graph "empty" ir 8 opset {"": 13} {
    input %x : f32[N,0,2]
    %y = Relu(%x)
    output %y
  })");
  infer_shapes(graph);
  const std::vector<Tensor> outputs = Executor(graph).run(std::vector<Tensor>{Tensor(DType::kFloat32, {3, 0, 2})});
  EXPECT_EQ(outputs.at(0).dims(), (Dims{3, 0, 2}));
}

}  // namespace
}  // namespace slipway
