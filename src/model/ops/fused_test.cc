#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/evaluate.h"
#include "model/graph.h"
#include "model/infer.h"

namespace slipway {
namespace {

Tensor run(const std::string& body, const std::vector<Tensor>& inputs) {
  Graph graph = parse_text("graph \"\" ir 8 opset {\"\": 13} {\n" + body + "\n}\n");
  infer_shapes(graph);
  Tensor result = evaluate(graph, inputs)[0];
  EXPECT_EQ(to_string(graph.value(graph.outputs()[0]).shape), to_string(result.dims()));
  EXPECT_EQ(graph.value(graph.outputs()[0]).dtype, result.dtype());
  return result;
}

std::vector<int64_t> ints(const Tensor& tensor) { return to_ints(tensor); }

TEST(Fused, ConvAddsResidualBeforeTheActivation) {
  const Tensor y = run(R"(input %x : f32[1,1,1,3]
    input %r : f32[1,1,1,3]
    const %w : f32[1,1,1,1] = {2}
    const %b : f32[1] = {1}
    %y = slipway.Conv(%x, %w, %b, %r) {activation = "Clip", alpha = -2.0, beta = 4.0}
    output %y)",
                       {Tensor::of<float>({1, 1, 1, 3}, {-1, 0, 2}), Tensor::of<float>({1, 1, 1, 3}, {-5, 1, 3})});
  EXPECT_EQ(to_floats(y), (std::vector<float>{-2, 2, 4}));
}

TEST(Fused, ActivationsAreTheirDefinitions) {
  const auto apply = [](const std::string& attributes, float x) {
    return to_floats(
        run("input %x : f32[1,1]\nconst %w : f32[1,1] = {1}\n%y = slipway.Gemm(%x, %w) {" + attributes + "}\noutput %y",
            {Tensor::of<float>({1, 1}, {x})}))[0];
  };
  EXPECT_FLOAT_EQ(apply(R"(activation = "Relu")", -3), 0);
  EXPECT_FLOAT_EQ(apply(R"(activation = "LeakyRelu", alpha = 0.5)", -3), -1.5f);
  EXPECT_FLOAT_EQ(apply(R"(activation = "Tanh")", 1), std::tanh(1.0f));
  EXPECT_FLOAT_EQ(apply(R"(activation = "SiLU")", 2), 2 / (1 + std::exp(-2.0f)));
  EXPECT_FLOAT_EQ(apply(R"(activation = "HardSwish")", 1), 1 * (1 + 3) / 6.0f);
  EXPECT_FLOAT_EQ(apply(R"(activation = "HardSigmoid", alpha = 0.25, beta = 0.5)", 1), 0.75f);
  EXPECT_EQ(apply(R"(activation = "SiLU")", -17), static_cast<float>(-17 / (1 + std::exp(17.0))));
  EXPECT_EQ(apply(R"(activation = "HardSwish")", -2.99999f), static_cast<float>(-2.99999f * (-2.99999f / 6.0 + 0.5)));
  EXPECT_THROW(apply(R"(activation = "Nothing")", 1), Error);
}

TEST(Fused, GemmKeepsLeadingDimensions) {
  const Tensor y = run(R"(input %x : f32[2,1,2]
    const %w : f32[3,2] = {1, 0, 0, 1, 1, 1}
    const %b : f32[3] = {10, 20, 30}
    %y = slipway.Gemm(%x, %w, %b) {transB = 1}
    output %y)",
                       {Tensor::of<float>({2, 1, 2}, {1, 2, 3, 4})});
  EXPECT_EQ(y.dims(), (Dims{2, 1, 3}));
  EXPECT_EQ(to_floats(y), (std::vector<float>{11, 22, 33, 13, 24, 37}));
}

TEST(Fused, GemmOfNoInnerElementsIsItsBias) {
  const Tensor y = run(R"(input %x : f32[2,1,0]
    const %w : f32[0,2] = {}
    const %b : f32[2] = {10, 20}
    %y = slipway.Gemm(%x, %w, %b)
    output %y)",
                       {Tensor(DType::kFloat32, {2, 1, 0})});
  EXPECT_EQ(y.dims(), (Dims{2, 1, 2}));
  EXPECT_EQ(to_floats(y), (std::vector<float>{10, 20, 10, 20}));
}

TEST(Fused, QGemmOfNoInnerElementsIsItsZeroPoint) {
  const Tensor y = run(R"(input %x : u8[2,1,0]
    const %w : i8[2,0] = {}
    %y = slipway.QGemm(%x, %w) {multiplier = [1.0, 1.0], y_dtype = "u8", y_zero_point = 13}
    output %y)",
                       {Tensor(DType::kUint8, {2, 1, 0})});
  EXPECT_EQ(y.dims(), (Dims{2, 1, 2}));
  EXPECT_EQ(to_doubles(y), (std::vector<double>(4, 13)));
}

TEST(Fused, QConvRoundsHalfToEvenAndSaturates) {
  const Tensor y = run(R"(input %x : u8[1,1,1,6]
    const %w : i8[1,1,1,1] = {1}
    const %b : i32[1] = {0}
    %y = slipway.QConv(%x, %w, %b) {multiplier = [0.5], x_zero_point = 10, y_dtype = "u8", y_zero_point = 2, y_lo = 2, y_hi = 50}
    output %y)",
                       {Tensor::of<uint8_t>({1, 1, 1, 6}, {10, 11, 13, 15, 255, 0})});
  EXPECT_EQ(ints(y), (std::vector<int64_t>{2, 2, 4, 4, 50, 2}));  // 0, 0.5, 1.5, 2.5, 122.5, -5
}

TEST(Fused, QConvPadsWithTheZeroPointAndScalesByChannel) {
  const Tensor y = run(R"(input %x : i8[1,1,1,2]
    const %w : i8[2,1,1,3] = {1, 1, 1, -1, 0, 2}
    const %b : i32[2] = {0, 100}
    %y = slipway.QConv(%x, %w, %b) {pads = [0, 1, 0, 1], multiplier = [1.0, 0.25], x_zero_point = -5, y_dtype = "f32", f_hi = 28.0}
    output %y)",
                       {Tensor::of<int8_t>({1, 1, 1, 2}, {-4, 5})});
  // x less its zero point: 1, 10
  EXPECT_EQ(to_floats(y), (std::vector<float>{11, 11, 28, 24.75f}));
}

TEST(Fused, QConvQuantisesInTheMiddleBeforeTheResidual) {
  const Tensor y =
      run(R"(input %x : i8[1,1,1,3]
    input %r : u8[1,1,1,3]
    const %w : i8[1,1,1,1] = {1}
    %y = slipway.QConv(%x, %w, _, %r) {multiplier = [0.5], x_zero_point = 0, mid_multiplier = 2.0, mid_zero_point = 1, mid_lo = 1, mid_hi = 20, residual_multiplier = 0.25, residual_zero_point = 100, y_dtype = "i8", y_zero_point = -1, y_lo = -128, y_hi = 127}
    output %y)",
          {Tensor::of<int8_t>({1, 1, 1, 3}, {3, -8, 100}), Tensor::of<uint8_t>({1, 1, 1, 3}, {106, 100, 90})});
  // middle codes 3, 1 (clamped), 20 (clamped); reals 4, 0, 38; residual 1.5, 0, -2.5
  EXPECT_EQ(ints(y), (std::vector<int64_t>{5, -1, 35}));  // rne(5.5) = 6, 0, rne(35.5) = 36
}

TEST(Fused, QGemmTakesRowsOfWeights) {
  const Tensor y = run(R"(input %x : u8[2,3]
    const %w : i8[2,3] = {1, 2, 3, -1, -1, -1}
    const %b : i32[2] = {1, -2}
    %y = slipway.QGemm(%x, %w, %b) {multiplier = [1.0, 2.0], x_zero_point = 1, y_dtype = "i8", y_zero_point = 0, y_lo = -10, y_hi = 127}
    output %y)",
                       {Tensor::of<uint8_t>({2, 3}, {1, 2, 3, 4, 5, 6})});
  EXPECT_EQ(ints(y), (std::vector<int64_t>{9, -10, 27, -10}));
}

TEST(Fused, QAddAndQAveragePool) {
  const Tensor sum = run(R"(input %a : u8[3]
    input %b : i8[3]
    %y = slipway.QAdd(%a, %b) {a_multiplier = 0.5, a_zero_point = 1, b_multiplier = 2.0, b_zero_point = 0, y_dtype = "u8", y_zero_point = 3, y_lo = 0, y_hi = 255}
    output %y)",
                         {Tensor::of<uint8_t>({3}, {2, 4, 255}), Tensor::of<int8_t>({3}, {1, -10, 127})});
  EXPECT_EQ(ints(sum), (std::vector<int64_t>{5, 0, 255}));  // 2.5 → 2, −18.5 → clamped, 381
  const std::vector<Tensor> picture = {Tensor::of<uint8_t>({1, 1, 2, 2}, {2, 4, 6, 9})};
  const std::string output = R"(multiplier = 2.0, x_zero_point = 1, y_dtype = "u8", y_zero_point = 0})"
                             "\noutput %y";
  EXPECT_EQ(ints(run("input %x : u8[1,1,2,2]\n%y = slipway.QAveragePool(%x) {global = 1, " + output, picture)),
            (std::vector<int64_t>{8}));  // 17 · 2 / 4 = 8.5
  const std::string window = "kernel_shape = [2, 2], pads = [1, 1, 0, 0], strides = [2, 2], ";
  EXPECT_EQ(ints(run("input %x : u8[1,1,2,2]\n%y = slipway.QAveragePool(%x) {" + window + output, picture)),
            (std::vector<int64_t>{2}));
  EXPECT_EQ(ints(run("input %x : u8[1,1,2,2]\n%y = slipway.QAveragePool(%x) {count_include_pad = 1, " + window + output,
                     picture)),
            (std::vector<int64_t>{0}));  // 1 · 2 / 4 = 0.5
}

TEST(Fused, QLookupIsIndexedByTheLowestCode) {
  Tensor table(DType::kUint8, {256});
  for (int i = 0; i < 256; ++i) table.mutable_values<uint8_t>()[static_cast<size_t>(i)] = static_cast<uint8_t>(255 - i);
  const std::vector<Tensor> inputs = {Tensor::of<int8_t>({3}, {-128, 0, 127}), table};
  EXPECT_EQ(ints(run("input %x : i8[3]\ninput %t : u8[256]\n%y = slipway.QLookup(%x, %t)\noutput %y", inputs)),
            (std::vector<int64_t>{255, 127, 0}));
}

TEST(Fused, ContradictionsAreAnswered) {
  const std::vector<Tensor> x = {Tensor::of<uint8_t>({1, 2}, {1, 2})};
  const auto gemm = [](const std::string& attributes) {
    return "input %x : u8[1,2]\nconst %w : i8[2,2] = {1, 2, 3, 4}\n%y = slipway.QGemm(%x, %w) {" + attributes +
           "}\noutput %y";
  };
  EXPECT_THROW(run(gemm(R"(multiplier = [1.0], y_dtype = "u8")"), x), Error);
  EXPECT_THROW(run(gemm(R"(multiplier = [1.0, 1.0], y_dtype = "i32")"), x), Error);
  EXPECT_THROW(run(gemm(R"(multiplier = [1.0, 1.0], y_dtype = "u8", y_lo = 9, y_hi = 4)"), x), Error);
  EXPECT_THROW(run(gemm(R"(multiplier = [1.0, 1.0], y_dtype = "i8", y_hi = 255)"), x), Error);
}

}  // namespace
}  // namespace slipway
