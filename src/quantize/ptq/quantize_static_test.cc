#include "quantize/ptq/quantize_static.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

Tensor random_tensor(Dims dims, uint64_t seed, double scale = 1.0) {
  Random random(seed);
  Tensor t(DType::kFloat32, std::move(dims));
  for (float& x : t.mutable_values<float>()) x = static_cast<float>(scale * random.normal());
  return t;
}

/// Conv-Relu, a residual block, depthwise Conv, pooling, Gemm: random weights, scales that differ by channel.
Graph small_network() {
  Graph graph;
  graph.name = "small";
  graph.opsets[""] = 13;
  const auto constant = [&](const char* name, Dims dims, uint64_t seed) {
    Tensor t = random_tensor(std::move(dims), seed, 0.3);
    auto values = t.mutable_values<float>();
    const size_t row = values.size() / static_cast<size_t>(t.dims()[0]);
    for (size_t i = 0; i < values.size(); ++i) values[i] *= static_cast<float>(1 + i / row % 5);
    return graph.add_constant(name, std::move(t));
  };
  const std::vector<int64_t> same = {1, 1, 1, 1};
  const ValueId x = graph.add_input("x", DType::kFloat32, Shape({Dim(std::string("N")), 3, 8, 8}));
  const ValueId w1 = constant("w1", {8, 3, 3, 3}, 1), b1 = constant("b1", {8}, 2);
  const ValueId w2 = constant("w2", {8, 8, 3, 3}, 3), b2 = constant("b2", {8}, 4);
  const ValueId w3 = constant("w3", {8, 1, 3, 3}, 5);
  const ValueId w4 = constant("w4", {5, 8}, 6), b4 = constant("b4", {5}, 7);
  const auto add = [&](const char* op, std::vector<ValueId> inputs, Attributes attributes, const char* name) {
    return graph.add_node({.op_type = op, .name = name, .inputs = std::move(inputs), .attributes = attributes}, name);
  };
  const ValueId c1 = add("Conv", {x, w1, b1}, {{"pads", same}}, "c1");
  const ValueId r1 = add("Relu", {c1}, {}, "r1");
  const ValueId c2 = add("Conv", {r1, w2, b2}, {{"pads", same}}, "c2");
  const ValueId s = add("Add", {c2, r1}, {}, "s");
  const ValueId r2 = add("Relu", {s}, {}, "r2");
  const ValueId d = add("Conv", {r2, w3}, {{"pads", same}, {"group", int64_t{8}}}, "d");
  const ValueId p = add("MaxPool", {d}, {{"kernel_shape", std::vector<int64_t>{2, 2}}}, "p");
  const ValueId g = add("GlobalAveragePool", {p}, {}, "g");
  const ValueId f = add("Flatten", {g}, {}, "f");
  const ValueId y = add("Gemm", {f, w4, b4}, {{"transB", int64_t{1}}}, "y");
  graph.add_output(y);
  infer_shapes(graph);
  verify(graph);
  return graph;
}

/// Ranges of the graph's own values on `input`.
Calibration calibrate_on(const Graph& graph, const Tensor& input, const QuantizeOptions& options) {
  Calibration calibration{.samples = input.dims()[0], .data_digest = "d1", .tensors = {}};
  for (const std::string& name : tensors_to_calibrate(graph, options)) calibration.tensors[name];
  const auto observe = [&](ValueId id, const Tensor& value) {
    if (const auto it = calibration.tensors.find(graph.value(id).name); it != calibration.tensors.end())
      it->second.observe(value.values<float>());
  };
  observe(graph.inputs()[0], input);
  evaluate(graph, std::span(&input, 1), observe);
  return calibration;
}

double sqnr_db(const Tensor& reference, const Tensor& other) {
  double signal = 0, noise = 0;
  for (int64_t i = 0; i < reference.elements(); ++i) {
    const double a = reference.values<float>()[static_cast<size_t>(i)];
    const double b = other.values<float>()[static_cast<size_t>(i)];
    signal += a * a;
    noise += (a - b) * (a - b);
  }
  return 10 * std::log10(signal / noise);
}

std::string error_of(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options = {}) {
  try {
    quantize_static(graph, calibration, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct PlacementCase {
  QuantizeOptions options;
  double least_db;
};

TEST(QuantizeStatic, StaysCloseToTheFloatModel) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({16, 3, 8, 8}, 11);
  const Tensor expected = evaluate(graph, std::span(&input, 1))[0];
  const std::vector<PlacementCase> cases = {
      {{}, 28},
      {{.range = {.method = RangeMethod::kMinMax}}, 28},
      {{.range = {.method = RangeMethod::kPercentile}}, 26},
      {{.range = {.method = RangeMethod::kEntropy}}, 24},
      {{.profile = QuantizeProfile::kCpu}, 31},
      {{.quantize_both_add_inputs = true}, 26},
      {{.integer_bias = false}, 28},
      {{.activation_bits = 16}, 33},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const QuantizedModel model = quantize_static(graph, calibrate_on(graph, input, cases[i].options), cases[i].options);
    verify(model.graph);
    const Tensor output = evaluate(model.graph, std::span(&input, 1))[0];
    const double db = sqnr_db(expected, output);
    EXPECT_GT(db, cases[i].least_db) << i;
    EXPECT_LT(db, 80) << i;  // it is quantised
    EXPECT_EQ(model.graph.opset(), cases[i].options.activation_bits == 16 ? 21 : 13);
  }
}

TEST(QuantizeStatic, PortableProfileStatesSymmetricCodes) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 12);
  const auto [model, report] = quantize_static(graph, calibrate_on(graph, input, {}));
  int quantizers = 0, weights = 0, biases = 0;
  for (const NodeId id : model.topological_order()) {
    const Node& node = model.node(id);
    if (node.is("QuantizeLinear")) {
      ++quantizers;
      EXPECT_EQ(model.value(node.outputs[0]).dtype, DType::kInt8);
      EXPECT_EQ(model.constant(node.inputs[2])->values<int8_t>()[0], 0);
      EXPECT_GT(model.constant(node.inputs[1])->values<float>()[0], 0);
    }
    if (!node.is("DequantizeLinear") || model.constant(node.inputs[0]) == nullptr) continue;
    const Tensor& codes = *model.constant(node.inputs[0]);
    if (codes.dtype() == DType::kInt8) ++weights;
    if (codes.dtype() == DType::kInt32) ++biases;
    EXPECT_EQ(model.constant(node.inputs[1])->elements(), codes.dims()[0]);
  }
  EXPECT_EQ(quantizers, 7);
  EXPECT_EQ(weights, 4);
  EXPECT_EQ(biases, 3);
  for (ValueId id = 0; id < model.value_limit(); ++id) {
    const Value& value = model.value(id);
    const bool is_large = value.alive && value.is_constant() && value.constant->elements() > 16;
    EXPECT_FALSE(is_large && value.dtype == DType::kFloat32) << value.name;
  }
  EXPECT_EQ(report.weights.size(), 4u);
  EXPECT_EQ(report.nodes.size(), 10u);
  for (const NodeDecision& node : report.nodes) EXPECT_TRUE(node.quantized) << node.name << node.reason;
}

TEST(QuantizeStatic, CpuProfileUsesTheWholeByteAfterRelu) {
  const Graph graph = small_network();
  const QuantizeOptions options{.profile = QuantizeProfile::kCpu, .range = {.method = RangeMethod::kMinMax}};
  const Tensor input = random_tensor({4, 3, 8, 8}, 12);
  for (const QuantizedTensor& t : quantize_static(graph, calibrate_on(graph, input, options), options).report.tensors) {
    if (t.min < 0) {
      EXPECT_GT(t.params.zero_point, 0) << t.name;
    } else {
      EXPECT_EQ(t.params.zero_point, 0) << t.name;
      EXPECT_NEAR(t.params.scale, t.max / 255, 1e-6) << t.name;
    }
  }
}

TEST(QuantizeStatic, BiasUnitsAreProducts) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 13);
  const Graph model = quantize_static(graph, calibrate_on(graph, input, {})).graph;
  for (const NodeId id : model.topological_order()) {
    const Node& node = model.node(id);
    if (!node.is("Conv") || !node.has_input(2)) continue;
    const auto scales = [&](size_t i) {
      return model.constant(model.producer(node.inputs[i])->inputs[1])->values<float>();
    };
    for (size_t c = 0; c < scales(2).size(); ++c) EXPECT_EQ(scales(2)[c], scales(0)[0] * scales(1)[c]);
  }
}

TEST(QuantizeStatic, RecordsHowItWasMade) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 14);
  const QuantizedModel model = quantize_static(graph, calibrate_on(graph, input, {}));
  const auto json = nlohmann::json::parse(model.graph.metadata.at("slipway.quantization"));
  EXPECT_EQ(json.at("method"), "mse");
  EXPECT_EQ(json.at("samples"), 4);
  EXPECT_EQ(json.at("data_digest"), "d1");
  const nlohmann::json report = to_json(model.report);
  EXPECT_EQ(report.at("tensors").size(), model.report.tensors.size());
  EXPECT_EQ(report.at("tensors")[0].at("candidates").size(), 4u);
}

TEST(QuantizeStatic, ExcludedNodesKeepTheirWeights) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 15);
  const QuantizeOptions options{.exclude = {"c1"}, .exclude_regex = {"y"}};
  const QuantizedModel model = quantize_static(graph, calibrate_on(graph, input, options), options);
  EXPECT_NE(model.graph.constant(model.graph.find("w1")), nullptr);
  EXPECT_NE(model.graph.constant(model.graph.find("w4")), nullptr);
  EXPECT_EQ(model.graph.find("w2"), kNoValue);
}

TEST(QuantizeStatic, FourBitWeightsArePacked) {
  const Graph graph = small_network();
  const Tensor input = random_tensor({16, 3, 8, 8}, 11);
  const Tensor expected = evaluate(graph, std::span(&input, 1))[0];
  const auto run = [&](QuantizeOptions options) {
    options.weight_bits = 4;
    return quantize_static(graph, calibrate_on(graph, input, options), options);
  };
  const auto db = [&](const QuantizedModel& model) {
    return sqnr_db(expected, evaluate(model.graph, std::span(&input, 1))[0]);
  };
  const QuantizedModel model = run({});
  EXPECT_GT(db(model), 13);
  EXPECT_LT(db(model), 25);
  EXPECT_GT(db(run({.profile = QuantizeProfile::kCpu})), 13);
  EXPECT_GT(db(run({.activation_bits = 16})), 13);
  const QuantizedModel unclipped = run({.range = {.method = RangeMethod::kMinMax}});
  for (size_t i = 0; i < model.report.weights.size(); ++i) {
    EXPECT_GT(model.report.weights[i].sqnr_db, unclipped.report.weights[i].sqnr_db) << i;
    EXPECT_LE(model.report.weights[i].max_scale, unclipped.report.weights[i].max_scale * 1.01f) << i;
  }

  const std::vector<std::byte> file = serialize_onnx(model.graph);
  const Graph loaded = parse_onnx(file);
  EXPECT_EQ(loaded.opset(), 21);
  EXPECT_EQ(loaded.ir_version, 10);
  int weights = 0;
  for (const NodeId id : loaded.topological_order()) {
    const Node& node = loaded.node(id);
    if (!node.is("DequantizeLinear") || loaded.constant(node.inputs[0]) == nullptr) continue;
    const Tensor& codes = *loaded.constant(node.inputs[0]);
    EXPECT_TRUE(codes.identical(*model.graph.constant(model.graph.find(loaded.value(node.inputs[0]).name))));
    if (codes.dtype() == DType::kInt32) continue;
    ++weights;
    EXPECT_EQ(codes.dtype(), DType::kInt4);
    EXPECT_EQ(codes.bytes(), static_cast<size_t>(codes.elements() + 1) / 2);
    const Tensor& zeros = *loaded.constant(node.inputs[2]);
    EXPECT_TRUE(zeros.identical(Tensor(DType::kInt4, {codes.dims()[0]})));
    EXPECT_EQ(node.integer("axis", 1), 0);
  }
  EXPECT_EQ(weights, 4);
  EXPECT_TRUE(evaluate(loaded, std::span(&input, 1))[0].identical(evaluate(model.graph, std::span(&input, 1))[0]));
  EXPECT_NE(model.graph.metadata.at("slipway.quantization").find("i4 per channel"), std::string::npos);
  EXPECT_EQ(to_json(model.report).at("weight_bits"), 4);
}

/// The first weight of a Gemm's file, as bytes: low nibble first, as ONNX packs it.
TEST(QuantizeStatic, FourBitCodesLieLowNibbleFirst) {
  const Graph graph = graph_of(R"(
  const %w : f32[1,3] = {0.7, -0.8, 0.1}
  input %x : f32[N,3]
  %y = Gemm(%x, %w) {transB = 1}
  output %y)");
  const QuantizeOptions options{.weight_bits = 4};
  const QuantizedModel model = quantize_static(graph, calibration_of(graph, options), options);
  const Tensor& codes = *model.graph.constant(model.graph.find("w_quantized"));
  EXPECT_EQ(to_ints(codes), (std::vector<int64_t>{7, -8, 1}));
  EXPECT_EQ(codes.bytes(), 2u);
  EXPECT_EQ(codes.raw()[0], std::byte{0x87});
  EXPECT_EQ(codes.raw()[1], std::byte{0x01});
}

TEST(QuantizeStatic, RefusesWhatItCannotDo) {
  Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 16);
  Calibration calibration = calibrate_on(graph, input, {});
  EXPECT_NE(error_of(graph, {}).find("'x'"), std::string::npos);
  EXPECT_NE(error_of(graph, calibration, {.profile = QuantizeProfile::kCpu, .activation_bits = 16}).find("16 bits"),
            std::string::npos);
  EXPECT_NE(error_of(graph, calibration, {.activation_bits = 4}).find("4 bits"), std::string::npos);
  EXPECT_NE(error_of(graph, calibration, {.weight_bits = 3}).find("3 bits"), std::string::npos);
  EXPECT_NE(error_of(graph, calibration, {.op_types = {"Add"}}).find("Nothing"), std::string::npos);
  Tensor bad = *graph.constant(graph.find("w2"));
  bad.mutable_values<float>()[5] = NAN;
  graph.set_constant(graph.find("w2"), bad);
  const std::string message = error_of(graph, calibration);
  EXPECT_NE(message.find("'w2'"), std::string::npos) << message;
  EXPECT_NE(message.find("'c2'"), std::string::npos) << message;
}

TEST(QuantizeStatic, FilesPassTheOnnxChecker) {
  if (std::system("python3 -c 'import onnx' 2>/dev/null") != 0) GTEST_SKIP() << "python3-onnx is not installed";
  const Graph graph = small_network();
  const Tensor input = random_tensor({4, 3, 8, 8}, 17);
  for (const QuantizeOptions& options : {QuantizeOptions{}, QuantizeOptions{.profile = QuantizeProfile::kCpu}}) {
    const std::string path = testing::TempDir() + "slipway_quantized.onnx";
    save_onnx(quantize_static(graph, calibrate_on(graph, input, options), options).graph, path);
    const std::string check = "python3 -c 'import onnx, sys; onnx.checker.check_model(sys.argv[1], full_check=True)' ";
    EXPECT_EQ(std::system((check + path).c_str()), 0);
    const Graph loaded = load_onnx(path);
    EXPECT_TRUE(loaded.metadata.contains("slipway.quantization"));
  }
}

}  // namespace
}  // namespace slipway
