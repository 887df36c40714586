// Each rule's composition against the operator's definition, written out here in plain loops.
#include <cmath>

#include "model/onnx/rewrites/rewrite_testing.h"
#include "model/op.h"

namespace slipway {
namespace {

Tensor scalar8(uint8_t v) { return Tensor::scalar(v); }
Tensor bytes(Dims dims, const std::vector<uint8_t>& values) { return Tensor::of(std::move(dims), values); }
const Tensor kAbsent;

TEST(Rewrites, HaveOneRuleForAnOperatorThatIsNotThere) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const RewriteRule* rule : all_rewrites()) {
    EXPECT_TRUE(seen.emplace(rule->domain, rule->op).second) << rule->op;
    EXPECT_EQ(find_op(rule->domain, rule->op, 1), nullptr) << rule->op;
  }
}

TEST(Rewrites, KeepNamesOfOutputsAndNodes) {
  const Graph g = ForeignCall{"QuickGelu"}.imported({counting({2})});
  EXPECT_EQ(g.value(g.outputs()[0]).name, "y0");
  EXPECT_EQ(g.node(g.value(g.outputs()[0]).producer).name, "foreign");
  for (NodeId id : g.topological_order()) EXPECT_EQ(g.node(id).domain, "");
}

TEST(Rewrites, LookForARankInACircleOnlySoFar) {
  Graph g;
  g.opsets = {{"", 17}, {"com.microsoft", 1}};
  const ValueId x = g.add_input("x", DType::kFloat32, Shape());
  const ValueId a = g.add_node({.op_type = "Cast", .inputs = {x}, .attributes = {{"to", int64_t{1}}}}, "a");
  const ValueId b = g.add_node({.op_type = "Cast", .inputs = {a}, .attributes = {{"to", int64_t{1}}}}, "b");
  g.set_input(g.value(a).producer, 0, b);
  g.add_output(g.add_node(
      {.op_type = "FusedMatMul", .domain = "com.microsoft", .inputs = {x, b}, .attributes = {{"transB", int64_t{1}}}},
      "y"));
  rewrite_foreign(g);
  EXPECT_TRUE(g.producer(g.producer(g.outputs()[0])->input(1))->is("Einsum"));
  EXPECT_THROW(verify(g), Error);
}

TEST(Rewrites, ReadWhatIsMadeInBodiesToo) {
  const auto run = [](bool condition) {
    Graph g = parse_text(R"(graph "g" ir 8 opset {"": 17, "com.microsoft": 1} {
  input %c : bool[]
  input %x : f32[2]
  %s = "com.microsoft"."QuickGelu"(%x) {alpha = 0.0}
  %y = If(%c) captures (%s) {else_branch = graph "else" {
    capture 0 %s
    %e = "com.microsoft"."BiasGelu"(%s, %s)
    output %e
  }, then_branch = graph "then" {
    capture 0 %s
    output %s
  }}
  output %y
})");
    const Graph read = parse_onnx(serialize_onnx(g));
    return evaluate(read, std::vector<Tensor>{Tensor::scalar(condition), Tensor::of<float>({2}, {2, -4})})[0];
  };
  expect_near(run(true), {2}, {1, -2});
  const auto gelu = [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); };
  expect_near(run(false), {2}, {gelu(2), gelu(-4)});
}

TEST(QuantizedRewrites, AddAndMultiply) {
  const ForeignCall add{.op = "QLinearAdd"};
  // a = 0.5·(x − 10), b = 0.25·(x − 2): (−5 + 0.5, 5 + 1) / 0.5 + 100
  const std::vector<Tensor> operands = {bytes({2}, {0, 20}),  Tensor::scalar(0.5f),  scalar8(10),
                                        bytes({2}, {4, 6}),   Tensor::scalar(0.25f), scalar8(2),
                                        Tensor::scalar(0.5f), scalar8(100)};
  EXPECT_EQ(to_ints(add.run(operands)[0]), (std::vector<int64_t>{91, 112}));
  ForeignCall multiply = add;
  multiply.op = "QLinearMul";
  EXPECT_EQ(to_ints(multiply.run(operands)[0]), (std::vector<int64_t>{95, 110})) << "−2.5 and 5 in halves";
}

TEST(QuantizedRewrites, ConcatBringsAllToOneScale) {
  const ForeignCall concat{.op = "QLinearConcat", .attributes = {{"axis", int64_t{0}}}, .first_constant = 0};
  const Tensor y = concat.run({Tensor::scalar(0.5f), scalar8(10), bytes({1}, {8}), Tensor::scalar(1.0f), scalar8(4),
                               bytes({2}, {1, 3}), Tensor::scalar(0.25f), scalar8(1)})[0];
  EXPECT_EQ(to_ints(y), (std::vector<int64_t>{18, 10, 11}));
}

TEST(QuantizedRewrites, PoolsOfEitherLayout) {
  const std::vector<Tensor> parameters = {Tensor::scalar(1.0f), scalar8(0), Tensor::scalar(0.5f), scalar8(1)};
  const auto with = [&](const Tensor& x) {
    std::vector<Tensor> all = {x};
    all.insert(all.end(), parameters.begin(), parameters.end());
    return all;
  };
  ForeignCall pool{.op = "QLinearAveragePool", .attributes = {{"kernel_shape", std::vector<int64_t>{2, 2}}}};
  const Tensor first = pool.run(with(bytes({1, 1, 2, 2}, {1, 2, 3, 6})))[0];
  EXPECT_EQ(to_ints(first), (std::vector<int64_t>{7}));
  pool.attributes["channels_last"] = int64_t{1};
  const Tensor last = pool.run(with(bytes({1, 2, 2, 2}, {1, 10, 2, 10, 3, 10, 6, 10})))[0];
  EXPECT_EQ(last.dims(), (Dims{1, 1, 1, 2}));
  EXPECT_EQ(to_ints(last), (std::vector<int64_t>{7, 21}));
  const ForeignCall global{.op = "QLinearGlobalAveragePool"};
  EXPECT_EQ(to_ints(global.run(with(bytes({1, 1, 2, 2}, {1, 2, 3, 6})))[0]), (std::vector<int64_t>{7}));
  ForeignCall global_last = global;
  global_last.attributes = {{"channels_last", int64_t{1}}};
  EXPECT_EQ(to_ints(global_last.run(with(bytes({1, 2, 2, 2}, {1, 10, 2, 10, 3, 10, 6, 10})))[0]),
            (std::vector<int64_t>{7, 21}));
}

TEST(QuantizedRewrites, FunctionsOfOneOperand) {
  const std::vector<Tensor> operand = {bytes({2}, {0, 4}), Tensor::scalar(1.0f), scalar8(2), Tensor::scalar(0.01f),
                                       scalar8(100)};
  const ForeignCall leaky{.op = "QLinearLeakyRelu", .attributes = {{"alpha", 0.25f}}};
  EXPECT_EQ(to_ints(leaky.run(operand)[0]), (std::vector<int64_t>{50, 255})) << "−0.5 and 2";
  const ForeignCall sigmoid{.op = "QLinearSigmoid"};
  const double s = 1 / (1 + std::exp(-2.0));
  EXPECT_EQ(to_ints(sigmoid.run(operand)[0]),
            (std::vector<int64_t>{std::lround(100 + 100 * (1 - s)), std::lround(100 + 100 * s)}));
  ForeignCall softmax{.op = "QLinearSoftmax", .attributes = {{"opset", int64_t{13}}, {"axis", int64_t{-1}}}};
  const double low = 1 / (1 + std::exp(4.0));
  EXPECT_EQ(to_ints(softmax.run(operand)[0]),
            (std::vector<int64_t>{std::lround(100 + 100 * low), std::lround(200 - 100 * low)}));
  softmax.attributes = {{"opset", int64_t{12}}, {"axis", int64_t{0}}};
  EXPECT_THROW(softmax.run(operand), Error) << "another opset's meaning";
}

TEST(QuantizedRewrites, GemmAddsSums) {
  // (x − 1)·0.5 by (w)·(0.5, 2) and sums (4, 8) in steps of 0.25 and 1.
  std::vector<Tensor> operands = {bytes({1, 2}, {3, 5}),
                                  Tensor::scalar(0.5f),
                                  scalar8(1),
                                  Tensor::of<int8_t>({2, 2}, {1, 2, 3, -1}),
                                  Tensor::of<float>({2}, {0.5f, 2}),
                                  Tensor::of<int8_t>({2}, {0, 0}),
                                  Tensor::of<int32_t>({2}, {4, 8})};
  const ForeignCall gemm{.op = "QGemm"};
  expect_near(gemm.run(operands)[0], {1, 2}, {0.25 * (2 + 12) + 1, 1 * (4 - 4) + 8});
  operands.push_back(Tensor::scalar(0.5f));
  operands.push_back(scalar8(10));
  EXPECT_EQ(to_ints(gemm.run(operands)[0]), (std::vector<int64_t>{19, 26}));
  ForeignCall turned = gemm;
  turned.attributes = {{"transB", int64_t{1}}, {"alpha", 2.0f}};
  operands.resize(6);
  expect_near(turned.run(operands)[0], {1, 2}, {2 * 0.25 * (2 + 8), 2 * 1 * (6 - 4)});
}

TEST(QuantizedRewrites, ProductsOfIntegersBecomeFloats) {
  const Tensor w = Tensor::of<int8_t>({2, 2}, {1, 2, 3, 4}), scale = Tensor::of<float>({2}, {0.5f, 1});
  const ForeignCall product{.op = "MatMulIntegerToFloat"};
  expect_near(product.run({bytes({1, 2}, {3, 5}), w, Tensor::scalar(2.0f), scale, scalar8(1), Tensor::scalar<int8_t>(0),
                           Tensor::of<float>({2}, {1, -1})})[0],
              {1, 2}, {1.0 * (2 + 12) + 1, 2.0 * (4 + 16) - 1});
  // −1 … 1.55 in 255 steps of 0.01: exact for these two.
  const ForeignCall dynamic{.op = "DynamicQuantizeMatMul"};
  expect_near(dynamic.run({Tensor::of<float>({1, 2}, {-1, 1.55f}), w, scale})[0], {1, 2},
              {0.5 * (-1 + 3 * 1.55), -2 + 4 * 1.55}, 1e-4);
}

TEST(QuantizedRewrites, PackedWeightsAreUnpacked) {
  // N 2, K 3 in blocks of 2: rows (1, 2, 3) and (15, 0, 8); the last code is padding.
  ForeignCall product{
      .op = "MatMulNBits",
      .attributes = {{"N", int64_t{2}}, {"K", int64_t{3}}, {"bits", int64_t{4}}, {"block_size", int64_t{2}}}};
  const Tensor packed = bytes({2, 2, 1}, {0x21, 0x73, 0x0f, 0x78}), scales = Tensor::of<float>({4}, {1, 2, 0.5f, 1});
  const Tensor x = Tensor::of<float>({1, 3}, {1, 10, 100});
  expect_near(product.run({x, packed, scales})[0], {1, 2},
              {(1 - 8) + 10 * (2 - 8) + 100 * 2 * (3 - 8), 0.5 * (15 - 8) + 10 * 0.5 * (0 - 8) + 100 * (8 - 8)});
  const Tensor zeros = bytes({2, 1}, {0x31, 0x02}), bias = Tensor::of<float>({2}, {5, 6});
  const double first = (1 - 1) + 10 * (2 - 1) + 100 * 2 * (3 - 3);
  const double second = 0.5 * (15 - 2) + 10 * 0.5 * (0 - 2) + 100 * (8 - 0);
  expect_near(product.run({x, packed, scales, zeros, kAbsent, bias})[0], {1, 2}, {first + 5, second + 6});
  EXPECT_THROW(product.run({x, packed, Tensor::of<float>({3}, {1, 2, 3})}), Error);
  EXPECT_THROW(product.run({x, bytes({2, 2}, {1, 2, 3, 4}), scales, bytes({3}, {1, 2, 3})}), Error);
  product.attributes["bits"] = int64_t{3};
  EXPECT_THROW(product.run({x, packed, scales}), Error);
  product.attributes = {
      {"N", int64_t{1} << 40}, {"K", int64_t{1} << 40}, {"bits", int64_t{4}}, {"block_size", int64_t{2}}};
  EXPECT_THROW(product.run({x, packed, scales}), Error);
}

TEST(QuantizedRewrites, RecurrentWeightsAreDequantised) {
  Tensor w(DType::kInt8, {1, 1, 4}), r(DType::kInt8, {1, 1, 4});
  for (int64_t i = 0; i < 4; ++i) w.mutable_values<int8_t>()[static_cast<size_t>(i)] = static_cast<int8_t>(10 * i + 12);
  const auto one = [](float v) { return Tensor::of<float>({1}, {v}); };
  const Tensor zero = Tensor::of<int8_t>({1}, {2});
  ForeignCall lstm{.op = "DynamicQuantizeLSTM", .attributes = {{"hidden_size", int64_t{1}}}};
  const Tensor y = lstm.run({Tensor::of<float>({1, 1, 1}, {2}), w, r, kAbsent, kAbsent, kAbsent, kAbsent, kAbsent,
                             one(0.1f), zero, one(0.1f), zero})[0];
  // Gates i, o, f, c of 2·(1, 2, 3, 4).
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  expect_near(y, {1, 1, 1, 1}, {sigmoid(4) * std::tanh(sigmoid(2) * std::tanh(8))});
}

TEST(FusedRewrites, ConvAndGemmWithActivations) {
  ForeignCall conv{
      .op = "FusedConv",
      .attributes = {{"activation", std::string("LeakyRelu")}, {"activation_params", std::vector<float>{0.5f}}}};
  const Tensor x = Tensor::of<float>({1, 1, 1, 2}, {1, -3}), w = Tensor::of<float>({1, 1, 1, 1}, {2});
  const Tensor bias = Tensor::of<float>({1}, {1}), other = Tensor::of<float>({1, 1, 1, 2}, {-7, 1});
  expect_near(conv.run({x, w, bias})[0], {1, 1, 1, 2}, {3, -2.5});
  expect_near(conv.run({x, w, bias, other})[0], {1, 1, 1, 2}, {-2, -2});  // the sum is activated
  conv.attributes = {{"activation", std::string("Clip")}, {"activation_params", std::vector<float>{-1, 2}}};
  for (const int64_t opset : {9, 17}) {
    conv.opset = opset;
    expect_near(conv.run({x, w, bias})[0], {1, 1, 1, 2}, {2, -1});
  }
  conv.attributes["activation"] = std::string("Snake");
  EXPECT_THROW(conv.run({x, w}), Error);
  const ForeignCall gemm{
      .op = "FusedGemm",
      .attributes = {{"activation", std::string("LeakyRelu")}, {"activation_alpha", 0.1f}, {"alpha", 2.0f}}};
  expect_near(gemm.run({Tensor::of<float>({1, 2}, {1, -2}), Tensor::of<float>({2, 1}, {3, 4})})[0], {1, 1}, {-1});
  const ForeignCall last{.op = "NhwcConv"};
  expect_near(last.run({counting({1, 1, 2, 2}), Tensor::of<float>({1, 2, 1, 1}, {1, 10})})[0], {1, 1, 2, 1}, {21, 43});
}

TEST(FusedRewrites, MatMulTransposesAndScales) {
  ForeignCall product{.op = "FusedMatMul",
                      .attributes = {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.5f}}};
  const Tensor a = Tensor::of<float>({1, 2, 1}, {1, 2}), b = Tensor::of<float>({1, 1, 2}, {3, 4});
  expect_near(product.run({a, b})[0], {1, 1, 1}, {5.5});
  product.attributes["transBatchA"] = int64_t{1};
  EXPECT_THROW(product.run({a, b}), Error);
}

TEST(FusedRewrites, GelusOfEveryOpset) {
  const std::vector<float> points = {-3, -0.5f, 0, 1, 2.5f};
  const Tensor x = Tensor::of<float>({5}, points), bias = Tensor::of<float>({1}, {0.25f});
  std::vector<double> exact, fast, shifted, quick;
  const auto by_tanh = [](double v) { return 0.5 * v * (1 + std::tanh(0.7978845608 * (v + 0.044715 * v * v * v))); };
  for (const double v : points) {
    exact.push_back(0.5 * v * std::erfc(-v / std::sqrt(2.0)));
    fast.push_back(by_tanh(v + 0.25));
    shifted.push_back(0.5 * (v + 0.25) * std::erfc(-(v + 0.25) / std::sqrt(2.0)));
    quick.push_back(v / (1 + std::exp(-1.702 * v)));
  }
  for (const int64_t opset : {12, 17, 20}) {
    const auto run = [&](const char* op, const std::vector<Tensor>& inputs) {
      return ForeignCall{.op = op, .opset = opset}.run(inputs)[0];
    };
    expect_near(run("Gelu", {x}), {5}, exact);
    expect_near(run("FastGelu", {x, bias}), {5}, fast);
    expect_near(run("BiasGelu", {x, bias}), {5}, shifted);
    expect_near(run("QuickGelu", {x}), {5}, quick);
  }
  const Tensor half = ForeignCall{.op = "Gelu"}.run({cast(x, DType::kFloat16)})[0];
  EXPECT_EQ(half.dtype(), DType::kFloat16);
  expect_near(half, {5}, exact, 2e-3);
}

TEST(EarlyRewrites, ComputeAsTheyDid) {
  const auto early = [](const std::string& op, Attributes attributes) {
    return ForeignCall{.op = op, .attributes = std::move(attributes), .opset = 7, .domain = ""};
  };
  const Tensor x = Tensor::of<float>({2}, {-1, 2});
  expect_near(early("Affine", {{"alpha", 2.0f}, {"beta", 0.5f}}).run({x})[0], {2}, {-1.5, 4.5});
  const Attributes both = {{"alpha", 2.0f}, {"beta", 0.5f}};
  expect_near(early("ScaledTanh", both).run({x})[0], {2}, {2 * std::tanh(-0.5), 2 * std::tanh(1.0)});
  expect_near(early("ParametricSoftplus", both).run({x})[0], {2},
              {2 * std::log1p(std::exp(-0.5)), 2 * std::log1p(std::exp(1.0))});
  EXPECT_THROW(early("ScaledTanh", {{"alpha", 2.0f}}).run({x}), Error);
  expect_near(early("ThresholdedRelu", {{"alpha", 1.5f}}).run({x})[0], {2}, {0, 2});
  const Tensor picture = counting({1, 2, 1, 2});
  expect_near(early("ImageScaler", {{"scale", 2.0f}, {"bias", std::vector<float>{10, 20}}}).run({picture})[0],
              {1, 2, 1, 2}, {12, 14, 26, 28});
  using Border = std::vector<int64_t>;
  const Tensor large = counting({1, 1, 3, 4});
  expect_near(early("Crop", {{"border", Border{1, 0, 2, 1}}}).run({large})[0], {1, 1, 2, 1}, {2, 6});
  expect_near(early("Crop", {{"border", Border{1, 1, 0, 0}}, {"scale", Border{1, 2}}}).run({large})[0], {1, 1, 1, 2},
              {6, 7});
  EXPECT_THROW(early("Crop", {{"border", Border{1}}}).run({large}), Error);
}

}  // namespace
}  // namespace slipway
