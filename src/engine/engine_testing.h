#pragma once
// What the engine's tests share: graphs from text with random weights, random inputs, and comparison with the
// reference.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/infer.h"

namespace slipway {

/// Floats are normal, integers of 4 and 8 bits take every code, others 0 … 9.
inline Tensor random_tensor(DType dtype, const Dims& dims, Random& random) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values)
    v = is_float(dtype)          ? random.normal()
        : dtype == DType::kBool  ? static_cast<double>(random.below(2))
        : dtype == DType::kInt8  ? static_cast<double>(random.below(256)) - 128
        : dtype == DType::kUint8 ? static_cast<double>(random.below(256))
        : dtype == DType::kInt4  ? static_cast<double>(random.below(16)) - 8
                                 : static_cast<double>(random.below(10));
  return from_doubles(dtype, dims, values);
}

/// The graph of a text; inputs named w_… become random constants, those named s_… random scales in [0.002, 0.01).
inline Graph random_graph(const std::string& text, Random& random) {
  Graph graph = parse_text(text);
  for (ValueId id : std::vector<ValueId>(graph.inputs())) {
    const Value v = graph.value(id);
    const bool scale = v.name.starts_with("s_");
    if (!scale && !v.name.starts_with("w_")) continue;
    Tensor t = random_tensor(v.dtype, v.shape.to_dims(), random);
    if (scale)
      for (float& f : t.mutable_values<float>()) f = 0.002f + 0.008f * static_cast<float>(random.uniform());
    graph.replace_uses(id, graph.add_constant(v.name + "_constant", std::move(t)));
    graph.erase_value(id);
  }
  infer_shapes(graph);
  return graph;
}

/// Of the graph's own shapes, which must be static.
inline std::vector<Tensor> random_inputs(const Graph& graph, Random& random) {
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs())
    inputs.push_back(random_tensor(graph.value(id).dtype, graph.value(id).shape.to_dims(), random));
  return inputs;
}

/// Empty when both agree: integers, NaN and infinities exactly, other floats within 1e-4 of the value plus 2e-6 of the
/// tensor's largest (sums of up to some thousand products in another order).
inline std::string difference(const Tensor& actual, const Tensor& expected) {
  if (is_sequence(actual.dtype()) && actual.dtype() == expected.dtype()) {
    if (actual.items().size() != expected.items().size()) return "another number of items";
    for (size_t i = 0; i < expected.items().size(); ++i)
      if (std::string text = difference(actual.items()[i], expected.items()[i]); !text.empty()) return text;
    return "";
  }
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims())
    return fmt::format("{}{} instead of {}{}", to_string(actual.dtype()), to_string(actual.dims()),
                       to_string(expected.dtype()), to_string(expected.dims()));
  if (!is_float(expected.dtype())) return actual.identical(expected) ? "" : "other values";
  const std::vector<double> a = to_doubles(actual), e = to_doubles(expected);
  double largest = 0;
  for (double v : e)
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < e.size(); ++i) {
    if (a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]))) continue;
    if (!std::isfinite(e[i]) || !(std::abs(a[i] - e[i]) <= 1e-4 * std::abs(e[i]) + 2e-6 * largest + 5e-7))
      return fmt::format("element {} is {} instead of {}", i, a[i], e[i]);
  }
  return "";
}

inline std::vector<Tensor> run_plan(const std::shared_ptr<const Plan>& plan, std::span<const Tensor> inputs) {
  Session session(plan);
  return session.run(inputs);
}

/// A residual network in FP32 on [N,3,size,size]: Conv + BatchNorm + Relu, a residual block, pools, Gemm, Softmax.
inline std::string residual_network_text(int channels, int size) {
  return fmt::format(R"(graph "residual" ir 8 opset {{"": 13}} {{
  input %x : f32[N,3,{1},{1}]
  input %w_a : f32[{0},3,3,3]
  input %w_ab : f32[{0}]
  input %w_b : f32[{0},{0},3,3]
  input %w_bb : f32[{0}]
  input %w_c : f32[{0},1,3,3]
  input %w_f : f32[10,{0}]
  input %w_fb : f32[10]
  %a = Conv(%x, %w_a, %w_ab) {{pads = [1, 1, 1, 1]}} "conv1"
  %r = Relu(%a) "relu1"
  %b = Conv(%r, %w_b, %w_bb) {{pads = [1, 1, 1, 1]}} "conv2"
  %s = Add(%b, %r) "add"
  %t = Relu(%s) "relu2"
  %c = Conv(%t, %w_c) {{pads = [1, 1, 1, 1], strides = [2, 2], group = {0}}} "depthwise"
  %m = MaxPool(%c) {{kernel_shape = [2, 2], strides = [2, 2]}} "maxpool"
  %g = GlobalAveragePool(%m) "pool"
  %v = Flatten(%g) "flatten"
  %f = Gemm(%v, %w_f, %w_fb) {{transB = 1}} "head"
  %y = Softmax(%f) "softmax"
  output %y
}})",
                     channels, size);
}

struct IntegerNetwork {
  const char* type;  ///< "u8" or "s8"
  int zero_point, channels, size;
  bool quantized_input;  ///< the input is 8-bit itself
};

/// A QDQ network with per-channel weights: convolutions (plain, depthwise, strided), a residual addition, a table
/// (Sigmoid), both pools, a concatenation and a Gemm.
inline std::string integer_network_text(const IntegerNetwork& n) {
  const std::string type = n.type == std::string("u8") ? "u8" : "i8";
  std::string body;
  const auto weight = [&](const std::string& name, const std::string& dims, int channels) {
    body += fmt::format("  input %w_{0} : i8[{1}]\n  input %s_{0} : f32[{2}]\n", name, dims, channels);
    return fmt::format("  %{0}_weights = DequantizeLinear(%w_{0}, %s_{0}) {{axis = 0}}\n", name);
  };
  const int c = n.channels;
  std::string nodes = weight("a", fmt::format("{},3,3,3", c), c) + weight("b", fmt::format("{0},{0},3,3", c), c) +
                      weight("c", fmt::format("{},1,3,3", c), c) + weight("f", fmt::format("10,{}", 2 * c), 10);
  const auto pair = [&](const std::string& name, const std::string& from, const std::string& scale, bool only_d) {
    if (!only_d) nodes += fmt::format("  %{0}_q = QuantizeLinear(%{1}, %{2}, %zero)\n", name, from, scale);
    nodes += fmt::format("  %{0} = DequantizeLinear(%{1}, %{2}, %zero)\n", name, only_d ? from : name + "_q", scale);
  };
  pair("x0", "x", "scale_x", n.quantized_input);
  nodes += "  %a = Conv(%x0, %a_weights, %w_bias) {pads = [1, 1, 1, 1]} \"conv1\"\n  %ar = Relu(%a) \"relu1\"\n";
  pair("a0", "ar", "scale_a", false);
  nodes += "  %b = Conv(%a0, %b_weights) {pads = [1, 1, 1, 1]} \"conv2\"\n  %ba = Add(%b, %a0) \"add\"\n";
  nodes += "  %br = Relu(%ba) \"relu2\"\n";
  pair("b0", "br", "scale_b", false);
  nodes += fmt::format(
      "  %c = Conv(%b0, %c_weights) {{pads = [1, 1, 1, 1], strides = [2, 2], group = {}}} \"depthwise\"\n", c);
  pair("c0", "c", "scale_b", false);
  nodes += "  %cs = Sigmoid(%c0) \"sigmoid\"\n";
  pair("d0", "cs", "scale_d", false);
  nodes += "  %m = MaxPool(%d0) {kernel_shape = [3, 3], pads = [1, 1, 1, 1]} \"maxpool\"\n";
  pair("m0", "m", "scale_d", false);
  nodes += "  %p = AveragePool(%d0) {kernel_shape = [3, 3], pads = [1, 1, 1, 1]} \"average\"\n";
  pair("p0", "p", "scale_d", false);
  nodes += "  %k = Concat(%m0, %p0) {axis = 1} \"concat\"\n";
  pair("k0", "k", "scale_d", false);
  nodes += "  %g = GlobalAveragePool(%k0) \"pool\"\n";
  pair("g0", "g", "scale_d", false);
  nodes += "  %v = Flatten(%g0) \"flatten\"\n";
  pair("v0", "v", "scale_d", false);
  nodes += "  %f = Gemm(%v0, %f_weights) {transB = 1} \"head\"\n";
  pair("y", "f", "scale_f", false);
  return fmt::format(R"(graph "integer" ir 8 opset {{"": 13}} {{
  input %x : {0}[N,3,{1},{1}]
  input %w_bias : f32[{2}]
  const %zero : {3}[] = {{{4}}}
  const %scale_x : f32[] = {{0.03}}
  const %scale_a : f32[] = {{0.04}}
  const %scale_b : f32[] = {{0.3}}
  const %scale_d : f32[] = {{0.0078}}
  const %scale_f : f32[] = {{0.02}}
{5}{6}  output %y, %b0, %k0_q
}})",
                     n.quantized_input ? type : "f32", n.size, c, type, n.zero_point, body, nodes);
}

inline constexpr IntegerNetwork kIntegerNetworks[] = {
    {"u8", 128, 16, 9, false}, {"u8", 0, 5, 8, true},   {"s8", 0, 16, 8, false}, {"s8", 0, 3, 7, false},
    {"u8", 100, 17, 6, true},  {"s8", -7, 32, 6, true}, {"u8", 3, 8, 12, false},
};

}  // namespace slipway
