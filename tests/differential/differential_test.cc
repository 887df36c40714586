// Some hundred random graphs in every way to run them, and the parts that find and explain a fault.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include "base/error.h"
#include "isolated.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "oracle.h"
#include "random_graph.h"
#include "reduce.h"
#include "ways.h"

namespace slipway {
namespace {

constexpr uint64_t kSeeds = 120;

Graph graph_of(const std::string& statements) {
  Graph graph = parse_text("graph \"test\" ir 8 opset {\"\": 17} {\n" + statements + "\n}");
  infer_shapes(graph);
  return graph;
}

TEST(Differential, EveryWayToRunAGraphAgrees) {
  uint64_t done = 0;
  check_seeds({.first = 1, .count = kSeeds, .jobs = 2, .seconds_each = 120}, {}, [&](const SeedResult& result) {
    ++done;
    for (const Finding& f : result.findings)
      ADD_FAILURE() << "seed " << result.seed << ": " << f.way << ": " << f.kind << ": " << f.message
                    << "\nreduce it: differential --from " << result.seed << " --seeds 1";
  });
  EXPECT_EQ(done, kSeeds);
}

TEST(Differential, GraphsCoverTheRegistry) {
  std::set<std::string> written;
  for (uint64_t seed = 1; seed <= 5000; ++seed) {
    const Graph graph = random_graph(seed).graph;
    for (const NodeId id : graph.topological_order()) written.insert(graph.node(id).op_type);
  }
  std::set<std::string_view> missing;
  size_t wanted = 0;
  for (const OpSpec* spec : all_ops()) {
    if (!spec->domain.empty() || spec->has(kNondeterministic) || spec->eval == nullptr) continue;
    const std::string_view name = spec->name;  // random graphs hold tensors alone
    if (name.starts_with("Optional") || (name.find("Sequence") != name.npos && name != "ReverseSequence")) continue;
    ++wanted;
    if (!written.contains(std::string(spec->name))) missing.insert(spec->name);
  }
  std::string names;
  for (const std::string_view name : missing) names += std::string(name) + " ";
  EXPECT_LE(missing.size() * 20, wanted) << "never written: " << names;
}

TEST(Differential, ASeedGivesTheSameGraph) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const RandomGraph a = random_graph(seed), b = random_graph(seed);
    EXPECT_EQ(to_text(a.graph), to_text(b.graph));
    ASSERT_EQ(a.inputs.size(), b.inputs.size());
    for (size_t i = 0; i < a.inputs.size(); ++i) EXPECT_TRUE(a.inputs[i].identical(b.inputs[i]));
  }
}

TEST(Oracle, AllowsRoundingAndNothingElse) {
  const Graph graph = graph_of(R"(input %x : f32[4]
    %y = Exp(%x)
    output %y)");
  Oracle oracle(graph, {Tensor::of<float>({4}, {0.0f, 1.0f, -1.0f, 5.0f})});
  const std::vector<float> right = to_floats(oracle.outputs()[0]);
  const auto off = [&](size_t i, float factor) {
    std::vector<float> values = right;
    values[i] *= factor;
    return oracle.difference(std::vector<Tensor>{Tensor::of<float>({4}, values)});
  };
  EXPECT_EQ(off(1, 1 + 4e-7f), "");
  EXPECT_NE(off(1, 1 + 1e-4f), "");
  EXPECT_NE(off(3, std::numeric_limits<float>::quiet_NaN()), "");
  EXPECT_NE(oracle.difference(std::vector<Tensor>{Tensor(DType::kFloat32, {3})}), "");
}

TEST(Oracle, AllowsTheErrorOfACancellingSum) {
  const Graph graph = graph_of(R"(input %x : f32[1,3]
    const %w : f32[3,1] = {1, 1, 1}
    %y = MatMul(%x, %w)
    output %y)");
  Oracle oracle(graph, {Tensor::of<float>({1, 3}, {1e6f, 0.25f, -1e6f})});
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<float>({1, 1}, {0.3125f})}), "");
  EXPECT_NE(oracle.difference(std::vector<Tensor>{Tensor::of<float>({1, 1}, {1000.0f})}), "");
}

TEST(Oracle, LetsATieFallEitherWayAndNoOtherCode) {
  const Graph graph = graph_of(R"(input %x : f32[2]
    const %half : f32[] = {0.5}
    const %scale : f32[] = {1}
    %h = Mul(%x, %half)
    %y = QuantizeLinear(%h, %scale)
    output %y)");
  Oracle oracle(graph, {Tensor::of<float>({2}, {5.0f, 8.0f})});
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<uint8_t>({2}, {3, 4})}), "");
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<uint8_t>({2}, {2, 4})}), "");
  EXPECT_NE(oracle.difference(std::vector<Tensor>{Tensor::of<uint8_t>({2}, {2, 5})}), "");
}

TEST(Oracle, LetsAShapeFollowFromWhatIsRounded) {
  const Graph graph = graph_of(R"(input %x : f32[2]
    %h = Exp(%x)
    %y = Unique(%h)
    output %y)");
  Oracle oracle(graph, {Tensor::of<float>({2}, {1.0f, 1.0f})});
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<float>({2}, {2.7182817f, 2.7182820f})}), "");
  const Graph exact = graph_of(R"(input %x : f32[2]
    %y = Unique(%x)
    output %y)");
  Oracle strict(exact, {Tensor::of<float>({2}, {1.0f, 1.0f})});
  EXPECT_NE(strict.difference(std::vector<Tensor>{Tensor::of<float>({2}, {1.0f, 1.0f})}), "");
}

TEST(Oracle, StaysWithinAFunctionsDomain) {
  const Graph graph = graph_of(R"(input %x : f32[2]
    const %one : f32[] = {1}
    %p = Pow(%x, %one)
    %t = Tanh(%p)
    %y = Cast(%t) {to = 6}
    output %y)");
  Oracle oracle(graph, {Tensor::of<float>({2}, {-8.9556f, -1.0f})});
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<int32_t>({2}, {0, 0})}), "");
  EXPECT_EQ(oracle.difference(std::vector<Tensor>{Tensor::of<int32_t>({2}, {-1, 0})}), "");
  EXPECT_NE(oracle.difference(std::vector<Tensor>{Tensor::of<int32_t>({2}, {0, -1})}), "");
}

TEST(Reduce, KeepsWhatTheFailureNeeds) {
  const Graph graph = graph_of(R"(input %x : f32[2,3,4,4]
    input %z : f32[2,3,4,4]
    %a = Relu(%x)
    %b = Add(%a, %z)
    %c = Sigmoid(%b)
    %d = Tanh(%c)
    %e = Neg(%d)
    output %e, %a)");
  const SmallCase small = reduce(
      {graph, {Tensor(DType::kFloat32, {2, 3, 4, 4}), Tensor(DType::kFloat32, {2, 3, 4, 4})}}, [](const SmallCase& c) {
        const auto order = c.graph.topological_order();
        return std::any_of(order.begin(), order.end(), [&](NodeId n) { return c.graph.node(n).is("Tanh"); });
      });
  EXPECT_EQ(small.graph.node_count(), 1u) << to_text(small.graph);
  EXPECT_EQ(small.graph.value(small.graph.outputs()[0]).shape.to_dims(), (Dims{1, 1, 1, 1}));
}

}  // namespace
}  // namespace slipway
