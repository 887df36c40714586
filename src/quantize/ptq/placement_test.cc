#include "quantize/ptq/placement.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

constexpr const char* kWeights = R"(
  const %w : f32[2,2,1,1] = {1, 2, 3, 4}
  const %v : f32[2,2,1,1] = {1, -2, 3, -4}
  const %b : f32[2] = {0.5, -0.5}
)";

/// Groups as "a b | c", members in order; a source has a star.
std::string groups_of(const Graph& graph, const QuantizeOptions& options = {}) {
  std::string text;
  for (const Placement::Group& group : place_quantizers(graph, options).groups) {
    text += text.empty() ? "" : "| ";
    for (const ValueId id : group.members) {
      const bool is_source = std::find(group.sources.begin(), group.sources.end(), id) != group.sources.end();
      text += graph.value(id).name + (is_source ? "* " : " ");
    }
  }
  return text;
}

std::string reason_of(const Graph& graph, const std::string& output, const QuantizeOptions& options = {}) {
  for (const auto& decision : place_quantizers(graph, options).decisions)
    if (graph.value(graph.node(decision.node).outputs[0]).name == output)
      return decision.quantized ? "quantized" : decision.reason;
  return "no such node";
}

TEST(Placement, NothingBetweenConvAndActivation) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  input %x : f32[N,2,4,4]
  %c = Conv(%x, %w, %b)
  %r = Relu(%c)
  %d = Conv(%r, %v)
  output %d)");
  EXPECT_EQ(groups_of(graph), "x* | r* ");
  EXPECT_EQ(reason_of(graph, "c"), "quantized");
  EXPECT_EQ(reason_of(graph, "r"), "quantized");
  EXPECT_EQ(nodes_of(quantize_static(graph, calibration_of(graph)).graph),
            R"(x_quantized = QuantizeLinear(x, x_scale, x_zero_point)
x_DequantizeLinear = DequantizeLinear(x_quantized, x_scale, x_zero_point)
c = Conv(x_DequantizeLinear, w_quantized, b_quantized)
r = Relu(c)
r_quantized = QuantizeLinear(r, r_scale, r_zero_point)
r_DequantizeLinear = DequantizeLinear(r_quantized, r_scale, r_zero_point)
d = Conv(r_DequantizeLinear, v_quantized)
)");
}

constexpr const char* kResidual = R"(
  input %x : f32[N,2,4,4]
  %c = Conv(%x, %w, %b)
  %r = Relu(%c)
  %d = Conv(%r, %v)
  %s = Add(%d, %x)
  %t = Relu(%s)
  %e = Conv(%t, %w)
  output %e)";

TEST(Placement, ResidualBranchIsQuantizedAndTheConvolutionIsNot) {
  const Graph graph = graph_of(std::string(kWeights) + kResidual);
  EXPECT_EQ(groups_of(graph), "x* | r* | t* ");
  EXPECT_EQ(reason_of(graph, "s"), "quantized");
  EXPECT_EQ(nodes_of(quantize_static(graph, calibration_of(graph)).graph),
            R"(x_quantized = QuantizeLinear(x, x_scale, x_zero_point)
x_DequantizeLinear = DequantizeLinear(x_quantized, x_scale, x_zero_point)
c = Conv(x_DequantizeLinear, w_quantized, b_quantized)
r = Relu(c)
r_quantized = QuantizeLinear(r, r_scale, r_zero_point)
r_DequantizeLinear = DequantizeLinear(r_quantized, r_scale, r_zero_point)
d = Conv(r_DequantizeLinear, v_quantized)
s = Add(d, x_DequantizeLinear)
t = Relu(s)
t_quantized = QuantizeLinear(t, t_scale, t_zero_point)
t_DequantizeLinear = DequantizeLinear(t_quantized, t_scale, t_zero_point)
e = Conv(t_DequantizeLinear, w_quantized)
)");
  EXPECT_EQ(groups_of(graph, {.quantize_both_add_inputs = true}), "x* | r* | d* | t* ");
}

TEST(Placement, OfTwoConvolutionsTheLaterTakesTheAdd) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  input %x : f32[N,2,4,4]
  %a = Conv(%x, %w)
  %b2 = Conv(%x, %v)
  %s = Add(%b2, %a)
  %e = Conv(%s, %w)
  output %e)");
  EXPECT_EQ(groups_of(graph), "x* | a* | s* ");
  // Read elsewhere too, it can't be fused away.
  const Graph twice = graph_of(std::string(kWeights) + R"(
  input %x : f32[N,2,4,4]
  %a = Conv(%x, %w)
  %s = Add(%a, %x)
  %e = Conv(%s, %w)
  output %e, %a)");
  EXPECT_EQ(groups_of(twice), "x* | a* | s* ");
}

TEST(Placement, OneScaleAcrossConcatAndMovement) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  const %u : f32[2,4,1,1] = {1, 2, 3, 4, 5, 6, 7, 8}
  input %x : f32[N,2,4,4]
  %a = Conv(%x, %w)
  %r = Relu(%a)
  %b2 = Conv(%x, %v)
  %k = Concat(%r, %b2) {axis = 1}
  %p = MaxPool(%k) {kernel_shape = [2, 2], strides = [2, 2]}
  %t = Transpose(%p) {perm = [0, 1, 3, 2]}
  %e = Conv(%t, %u)
  output %e)");
  EXPECT_EQ(groups_of(graph), "x* | r* b2* k p t ");
  EXPECT_EQ(tensors_to_calibrate(graph), (std::vector<std::string>{"x", "r", "b2"}));
  Calibration calibration = calibration_of(graph);
  calibration.tensors["b2"].observe(std::vector<float>{-4.0f, 2.0f});
  const QuantizedModel model = quantize_static(graph, calibration, {.range = {.method = RangeMethod::kMinMax}});
  EXPECT_EQ(model.report.tensors.size(), 6u);
  for (const QuantizedTensor& tensor : model.report.tensors)
    EXPECT_EQ(tensor.params.scale, (tensor.name == "x" ? 1.0f : 4.0f) / 127) << tensor.name;
}

TEST(Placement, PoolingAndFlattenReachTheClassifier) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  const %g : f32[2,2] = {1, 2, 3, 4}
  input %x : f32[N,2,4,4]
  %a = Conv(%x, %w)
  %r = Relu(%a)
  %p = GlobalAveragePool(%r)
  %f = Flatten(%p)
  %y = Gemm(%f, %g, %b) {transB = 1}
  output %y)");
  EXPECT_EQ(groups_of(graph), "x* | r* | p* f ");
  EXPECT_EQ(reason_of(graph, "p"), "quantized");
}

TEST(Placement, LayoutChangesAtTheBorderStayFloat) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  input %x : f32[N,4,4,2]
  %t = Transpose(%x) {perm = [0, 3, 1, 2]}
  %a = Conv(%t, %w)
  %s = Softmax(%a) {axis = 1}
  %y = Transpose(%s) {perm = [0, 2, 3, 1]}
  output %y)");
  EXPECT_EQ(groups_of(graph), "x* t ");  // the codes are moved, a quarter of the bytes
  EXPECT_EQ(reason_of(graph, "y"), "its result is not needed in integers");
}

TEST(Placement, PadsWithZeroOnly) {
  const std::string head = std::string(kWeights) + "const %pads : i64[8] = {0, 0, 1, 1, 0, 0, 1, 1}\n";
  const std::string body = R"(
  input %x : f32[N,2,4,4]
  %a = Conv(%x, %w)
  %p = Pad(%a, %pads, %z)
  %e = Conv(%p, %w)
  output %e)";
  EXPECT_EQ(groups_of(graph_of(head + "const %z : f32[] = {0}" + body)), "x* | a* p ");
  EXPECT_EQ(groups_of(graph_of(head + "const %z : f32[] = {-1e30}" + body)), "x* | p* ");
}

TEST(Placement, WhatStaysFloatSaysWhy) {
  const Graph graph = graph_of(std::string(kWeights) + R"(
  const %m : f32[4,4] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}
  input %x : f32[N,2,4,4]
  input %dynamic : f32[2,2,1,1]
  %a = Conv(%x, %w) "first"
  %c = Conv(%a, %dynamic)
  %q = MatMul(%c, %m)
  %s = Sigmoid(%q)
  output %s)");
  EXPECT_EQ(reason_of(graph, "c"), "its weights are computed");
  EXPECT_EQ(reason_of(graph, "s"), "no integer form");
  EXPECT_EQ(reason_of(graph, "q"), "quantized");
  EXPECT_EQ(reason_of(graph, "q", {.op_types = {"Conv"}}), "operator type not selected");
  EXPECT_EQ(reason_of(graph, "a", {.exclude = {"first"}}), "excluded");
  EXPECT_EQ(reason_of(graph, "a", {.exclude = {"a"}}), "excluded");
  EXPECT_EQ(reason_of(graph, "a", {.exclude_regex = {"fir.*"}}), "excluded");
  EXPECT_EQ(reason_of(graph, "a", {.exclude_regex = {"ir"}}), "quantized");
  EXPECT_THROW(reason_of(graph, "a", {.exclude = {"none"}}), Error);
  EXPECT_THROW(reason_of(graph, "a", {.exclude_regex = {"("}}), Error);
}

}  // namespace
}  // namespace slipway
