#include "quantize/ptq/opset.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

/// Raised to opset 13 and 21, the graph computes exactly what it did; returns the last one.
Graph raise_and_compare(const std::string& statements, int opset) {
  Graph graph = graph_of(statements, opset);
  Random random(5);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    Tensor t(DType::kFloat32, graph.value(id).shape.to_dims());
    for (float& x : t.mutable_values<float>()) x = static_cast<float>(random.normal());
    inputs.push_back(std::move(t));
  }
  const std::vector<Tensor> expected = evaluate(graph, inputs);
  for (const int64_t target : {int64_t{13}, int64_t{21}}) {
    raise_opset(graph, target);
    EXPECT_EQ(graph.opset(), std::max<int64_t>(opset, target));
    verify(graph);
    infer_shapes(graph);
    const std::vector<Tensor> outputs = evaluate(graph, inputs);
    EXPECT_EQ(outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) EXPECT_TRUE(outputs[i].identical(expected[i])) << statements << i;
  }
  return graph;
}

TEST(RaiseOpset, AttributesBecomeInputs) {
  raise_and_compare(R"(
  input %x : f32[2,3,4,5]
  %a = Clip(%x) {min = -0.5, max = 0.75}
  %b = Clip(%x) {max = 0.25}
  %c = Pad(%x) {pads = [0, 0, 1, 2, 0, 0, 3, 4], value = 2.5}
  %d = Slice(%x) {starts = [1, 0], ends = [3, 4], axes = [1, 3]}
  %e = Slice(%x) {starts = [0, 1], ends = [1, 9]}
  output %a, %b, %c, %d, %e)",
                    9);
}

TEST(RaiseOpset, AxesBecomeInputs) {
  raise_and_compare(R"(
  input %x : f32[2,1,4,5]
  %a = Squeeze(%x) {axes = [1]}
  %b = Unsqueeze(%x) {axes = [0, 3]}
  %c = ReduceSum(%x) {axes = [2, 3], keepdims = 0}
  %d = ReduceMean(%x) {axes = [2, 3]}
  %e = ReduceMax(%x)
  %f, %g = Split(%x) {axis = 2, split = [1, 3]}
  %h, %i = Split(%x) {axis = 2}
  output %a, %b, %c, %d, %e, %f, %g, %h, %i)",
                    11);
}

TEST(RaiseOpset, SoftmaxOverAllTrailingAxes) {
  const Graph graph = raise_and_compare(R"(
  input %x : f32[2,3,4]
  input %z : f32[2,5,1,1]
  %a = Softmax(%x)
  %b = Softmax(%x) {axis = 2}
  %c = LogSoftmax(%z) {axis = 1}
  output %a, %b, %c)",
                                        11);
  EXPECT_EQ(graph.node_count(), 6u);  // only the first needs Flatten, Shape and Reshape
}

TEST(RaiseOpset, UpsampleBecomesResize) {
  const Graph graph = raise_and_compare(R"(
  input %x : f32[1,2,3,3]
  %a = Upsample(%x) {mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]}
  output %a)",
                                        7);
  EXPECT_EQ(graph.producer(graph.outputs()[0])->op_type, "Resize");
}

TEST(RaiseOpset, LaterModelsStayAsTheyAre) {
  Graph graph = graph_of("input %x : f32[2]\n%y = Relu(%x)\noutput %y", 17);
  const std::string before = to_text(graph);
  raise_opset(graph, 13);
  EXPECT_EQ(to_text(graph), before);
}

}  // namespace
}  // namespace slipway
