// Graphs with 4-bit weights on the engine: the integer kernels get them as 8-bit codes, so the results are those of the
// same graph with 8-bit weights of equal codes, bit for bit, and of the reference evaluation of the fused graph.
#include <algorithm>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

struct WeightedOp {
  const char* name;
  const char* input;   ///< dimensions after the batch
  const char* weight;  ///< dimensions
  int channels, axis;
  const char* node;
  bool is_integer = true;  ///< the engine has an integer kernel
};

constexpr WeightedOp kOps[] = {
    {"conv, odd channels", "5,7,6", "7,5,3,3", 7, 0, "Conv(%x, %w, %w_b) {pads = [1, 1, 1, 1]}"},
    {"conv, whole vectors", "32,8,8", "64,32,3,3", 64, 0, "Conv(%x, %w, %w_b) {pads = [1, 1, 1, 1], strides = [2, 2]}"},
    {"1x1", "17,5,5", "3,17,1,1", 3, 0, "Conv(%x, %w, %w_b)"},
    {"1x1, strided", "16,6,6", "33,16,1,1", 33, 0, "Conv(%x, %w, %w_b) {strides = [2, 2]}"},
    {"grouped", "6,7,7", "9,2,3,3", 9, 0, "Conv(%x, %w, %w_b) {group = 3}"},
    {"depthwise, odd", "5,7,7", "5,1,3,3", 5, 0, "Conv(%x, %w, %w_b) {group = 5, pads = [1, 1, 1, 1]}"},
    {"depthwise", "32,9,9", "32,1,3,3", 32, 0,
     "Conv(%x, %w, %w_b) {group = 32, pads = [1, 1, 1, 1], strides = [2, 2]}"},
    {"Gemm, rows", "9", "5,9", 5, 0, "Gemm(%x, %w, %w_b) {transB = 1}"},
    {"Gemm, columns", "9", "9,5", 5, 1, "Gemm(%x, %w, %w_b)"},
    {"MatMul", "33", "33,17", 17, 1, "MatMul(%x, %w)"},
    {"MatMul of three dimensions", "3,9", "9,5", 5, 1, "MatMul(%x, %w)"},
    {"ConvTranspose", "5,4,4", "5,3,3,3", 3, 1, "ConvTranspose(%x, %w, %w_b) {strides = [2, 2]}", false},
};

struct Activations {
  const char* type;
  int zero_point;
};
constexpr Activations kActivationKinds[] = {{"i8", 0}, {"u8", 100}};  // the profiles portable and cpu

Graph graph_of(const WeightedOp& op, const Activations& x, Random& random) {
  return random_graph(
      fmt::format(R"(graph "four bits" ir 10 opset {{"": 21}} {{
  input %q : {0}[N,{1}]
  input %w_codes : i4[{2}]
  input %s_w : f32[{3}]
  input %w_b : f32[{3}]
  const %zeros : i4[{3}] = {{{4}}}
  const %xs : f32[] = {{0.03}}
  const %ys : f32[] = {{0.04}}
  const %z : {0}[] = {{{5}}}
  %x = DequantizeLinear(%q, %xs, %z)
  %w = DequantizeLinear(%w_codes, %s_w, %zeros) {{axis = {6}}}
  %c = {7} "op"
  %y = QuantizeLinear(%c, %ys, %z)
  output %y
}})",
                  x.type, op.input, op.weight, op.channels,
                  fmt::format("{}", fmt::join(std::vector<int>(static_cast<size_t>(op.channels)), ", ")), x.zero_point,
                  op.axis, op.node),
      random);
}

Graph with_8_bit_weights(Graph graph) {
  for (ValueId id = 0; id < graph.value_limit(); ++id)
    if (const Tensor* constant = graph.constant(id); constant != nullptr && constant->dtype() == DType::kInt4)
      graph.set_constant(id, cast(*constant, DType::kInt8));
  infer_shapes(graph);
  return graph;
}

int64_t count(const Graph& graph, bool (*wanted)(const Node&)) {
  int64_t n = 0;
  for (const NodeId id : graph.topological_order()) n += wanted(graph.node(id));
  return n;
}

TEST(FourBitWeights, RunOnIntegersBitForBit) {
  Random random(20);
  for (const WeightedOp& op : kOps)
    for (const Activations& activations : kActivationKinds) {
      SCOPED_TRACE(fmt::format("{} on {}", op.name, activations.type));
      const Graph graph = graph_of(op, activations, random);
      Graph fused = graph;
      bind_batch(fused, 3);
      const std::vector<Tensor> inputs = random_inputs(fused, random);
      run_passes(fused);
      const bool is_integer =
          count(fused, [](const Node& n) { return n.op_type == "QConv" || n.op_type == "QGemm"; }) == 1;
      EXPECT_EQ(is_integer, op.is_integer);
      const auto plan = Plan::build(graph, {.batch = 3, .tune = false});
      EXPECT_EQ(plan->precision() == "int8", op.is_integer);
      const Tensor output = run_plan(plan, inputs)[0], expected = evaluate(fused, inputs)[0];
      const Tensor wide = run_plan(Plan::build(with_8_bit_weights(graph), {.batch = 3, .tune = false}), inputs)[0];
      EXPECT_TRUE(output.identical(wide));
      EXPECT_TRUE(!op.is_integer || output.identical(expected));
      // The graph as it was loaded rounds once more; a tie may fall the other way.
      const std::vector<int64_t> a = to_ints(output), b = to_ints(evaluate(graph, inputs)[0]);
      int64_t differ = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_LE(std::abs(a[i] - b[i]), 1);
        differ += a[i] != b[i];
      }
      EXPECT_LE(differ, static_cast<int64_t>(a.size()) / 50);
      EXPECT_GT(*std::max_element(a.begin(), a.end()), *std::min_element(a.begin(), a.end()) + 20);
    }
}

TEST(FourBitWeights, NeedNoPasses) {
  Random random(21);
  for (const WeightedOp& op : kOps) {
    SCOPED_TRACE(op.name);
    const Graph graph = graph_of(op, kActivationKinds[0], random);
    Graph bound = graph;
    bind_batch(bound, 1);
    const std::vector<Tensor> inputs = random_inputs(bound, random);
    const Tensor output = run_plan(Plan::build(graph, {.tune = false, .optimize = false}), inputs)[0];
    const std::vector<int64_t> a = to_ints(output), b = to_ints(evaluate(graph, inputs)[0]);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_LE(std::abs(a[i] - b[i]), 1);
  }
}

TEST(FourBitWeights, PlansCarryThemPacked) {
  Random random(22);
  const Graph graph = graph_of(kOps[1], kActivationKinds[0], random);
  const std::string path = testing::TempDir() + "slipway_four_bits.plan";
  const auto plan = Plan::build(graph, {.tune = false});
  plan->save(path);
  const Graph carried = Plan::graph_of(path);
  uint64_t bytes = 0;
  for (ValueId id = 0; id < carried.value_limit(); ++id)
    if (const Tensor* constant = carried.constant(id); constant != nullptr && constant->elements() == 64 * 32 * 9) {
      EXPECT_EQ(constant->dtype(), DType::kInt4);
      bytes = constant->bytes();
    }
  EXPECT_EQ(bytes, 64u * 32 * 9 / 2);
  Graph bound = graph;
  bind_batch(bound, 1);
  const std::vector<Tensor> inputs = random_inputs(bound, random);
  EXPECT_TRUE(run_plan(Plan::open(path), inputs)[0].identical(run_plan(plan, inputs)[0]));
}

}  // namespace
}  // namespace slipway
