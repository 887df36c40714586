#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "engine/executor.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

std::string assets() {
  const char* folder = std::getenv("SLIPWAY_ASSETS");
  return folder != nullptr ? folder : SLIPWAY_SOURCE_DIR "/../shared/assets";
}

CalibrationSource ramps(Dims sample, DType dtype) {
  return {8, [sample, dtype](std::span<const int64_t> indices) {
            Dims dims = sample;
            dims.insert(dims.begin(), 1);
            std::vector<std::vector<Tensor>> requests;
            for (const int64_t index : indices) {
              std::vector<double> values(static_cast<size_t>(element_count(dims)));
              for (size_t i = 0; i < values.size(); ++i)
                values[i] = 0.01 * static_cast<double>(static_cast<size_t>(index) * values.size() + i);
              requests.push_back({from_doubles(dtype, dims, values)});
            }
            return requests;
          }};
}

TEST(Quantize, FoldsBatchNormalizationFirst) {
  const Graph graph = graph_of(R"(
  const %w : f32[2,1,1,1] = {1, 2}
  const %v : f32[1,2,1,1] = {1, 1}
  const %s : f32[2] = {2, 3}
  const %z : f32[2] = {0, 0.5}
  const %one : f32[2] = {1, 1}
  input %x : f32[N,1,2,2]
  %c = Conv(%x, %w)
  %n = BatchNormalization(%c, %s, %z, %z, %one) {epsilon = 0.0}
  %r = Relu(%n)
  %y = Conv(%r, %v)
  output %y)",
                               9);
  const QuantizationRun run = quantize(graph, ramps({1, 2, 2}, DType::kFloat32));
  for (const NodeId id : run.graph.topological_order()) EXPECT_FALSE(run.graph.node(id).is("BatchNormalization"));
  EXPECT_EQ(run.graph.opset(), 13);
  EXPECT_EQ(run.report.weights.size(), 2u);
  EXPECT_EQ(run.calibration.samples, 8);
  EXPECT_THROW(quantize(run.graph, ramps({1, 2, 2}, DType::kFloat32)), Error);  // quantised already
}

TEST(Quantize, TakesHalfPrecisionModels) {
  const Graph graph = graph_of(R"(
  const %w : f16[2,1,1,1] = {1, -2}
  input %x : f16[N,1,2,2]
  %c = Conv(%x, %w)
  %r = Relu(%c)
  output %r)");
  const QuantizationRun run = quantize(graph, ramps({1, 2, 2}, DType::kFloat16));
  ASSERT_EQ(run.report.weights.size(), 1u);
  const std::vector<Tensor> input = {
      from_doubles(DType::kFloat16, {1, 1, 2, 2}, std::vector<double>{0, 0.1, 0.2, 0.3})};
  const Tensor output = evaluate(run.graph, input)[0];
  EXPECT_EQ(output.dtype(), DType::kFloat16);
  EXPECT_NEAR(to_doubles(output)[3], 0.3, 0.005);
}

TEST(Quantize, RefusesBitsBeforeItCalibrates) {
  const Graph graph = graph_of(R"(
  const %w : f32[2,1,1,1] = {1, -2}
  input %x : f32[N,1,2,2]
  %c = Conv(%x, %w)
  output %c)");
  const CalibrationSource unread{8, [](std::span<const int64_t>) -> std::vector<std::vector<Tensor>> {
                                   ADD_FAILURE();
                                   return {};
                                 }};
  EXPECT_THROW(quantize(graph, unread, {.weight_bits = 5}), Error);
  EXPECT_THROW(quantize(graph, unread, {.activation_bits = 5}), Error);
}

TEST(Quantize, RealNetworkKeepsItsPredictions) {
  const std::string model = assets() + "/onnx/resnet20_cifar10.onnx";
  const std::string images = assets() + "/data/cifar10/test_batch.bin.gz";
  if (!file_exists(model) || !file_exists(images)) GTEST_SKIP() << "assets are absent";
  const std::string yaml = testing::TempDir() + "slipway_quantize_cifar.yaml";
  write_file(yaml, "format: cifar10\nfiles: " + images +
                       "\npreprocess: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n");
  const Dataset data = Dataset::open(yaml);
  const Graph graph = load_onnx(model);
  const std::vector<Tensor> test = {data.batch(Split::kTest, 0, 200)};
  const auto classes = [&](const Graph& g) {
    const Tensor logits = Executor(g, {.batch = 50, .program = {.threads = 2}}).run_samples(test)[0];
    std::vector<int64_t> best;
    for (size_t i = 0; i < 200; ++i) {
      const auto row = logits.values<float>().subspan(i * 10, 10);
      best.push_back(std::max_element(row.begin(), row.end()) - row.begin());
    }
    return best;
  };
  const std::vector<int64_t> expected = classes(graph);
  struct Case {
    QuantizeOptions options;
    int agree;     ///< at least, of 200
    double bytes;  ///< of the file, at most, against FP32
  };
  const Case cases[] = {
      {{}, 194, 0.31}, {{.profile = QuantizeProfile::kCpu}, 194, 0.31}, {{.weight_bits = 4}, 170, 0.17}};
  for (const auto& [options, least, share] : cases) {
    SCOPED_TRACE(fmt::format("{} W{}", to_string(options.profile), options.weight_bits));
    const QuantizationRun run =
        quantize(graph, samples_of(Feed(data, graph), Split::kTest), options, {.samples = 20, .threads = 2});
    const std::vector<int64_t> got = classes(run.graph);
    int agree = 0;
    for (size_t i = 0; i < got.size(); ++i) agree += got[i] == expected[i];
    EXPECT_GE(agree, least);
    const std::string path = testing::TempDir() + "slipway_quantize_resnet20.onnx";
    save_onnx(run.graph, path);
    EXPECT_LE(static_cast<double>(file_bytes(path)), share * static_cast<double>(file_bytes(model)));
  }
}

}  // namespace
}  // namespace slipway
