#pragma once
#include <string>
#include <vector>

#include "base/random.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/test_folder.h"
#include "engine/executor.h"
#include "metrics/classification.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "verify/verify.h"

namespace slipway {

/// Weights of a small convolutional classifier of 8×8 grey pictures; a test spoils some of them.
struct SmallNet {
  std::vector<float> conv1 = random(4 * 1 * 9, 1), conv2 = random(4 * 4 * 9, 2), conv3 = random(6 * 4 * 9, 3);

  static std::vector<float> random(size_t count, uint64_t seed) {
    Random source(seed);
    std::vector<float> values(count);
    for (float& v : values) v = static_cast<float>(0.35 * source.normal());
    return values;
  }

  Graph graph() const {
    Graph g;
    g.name = "small";
    g.opsets[""] = 13;
    const ValueId x = g.add_input("image", DType::kFloat32, Shape({Dim("N"), Dim(1), Dim(8), Dim(8)}));
    const auto conv = [&](ValueId in, const char* name, const std::vector<float>& w, int64_t out, int64_t channels) {
      const ValueId weights = g.add_constant(std::string(name) + "_w", Tensor::of<float>({out, channels, 3, 3}, w));
      const ValueId y = g.add_node({.op_type = "Conv",
                                    .name = name,
                                    .inputs = {in, weights},
                                    .attributes = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}},
                                   std::string(name) + "_out");
      return g.add_node({.op_type = "Relu", .name = std::string(name) + "_relu", .inputs = {y}},
                        std::string(name) + "_act");
    };
    const ValueId a = conv(x, "conv1", conv1, 4, 1), b = conv(a, "conv2", conv2, 4, 4),
                  c = conv(b, "conv3", conv3, 6, 4);
    const ValueId pooled = g.add_node({.op_type = "GlobalAveragePool", .name = "pool", .inputs = {c}}, "pooled");
    g.add_output(g.add_node({.op_type = "Flatten", .name = "flatten", .inputs = {pooled}}, "scores"));
    infer_shapes(g);
    return g;
  }
};

/// Random pictures, labelled with what `teacher` says of them, so that it scores 100 %.
inline Dataset labelled_by(const Graph& teacher, const TestFolder& folder, int64_t count, bool labels = true) {
  Random source(7);
  std::vector<uint8_t> pixels(static_cast<size_t>(count * 64));
  for (size_t i = 0; i < pixels.size(); ++i) {
    const uint64_t brightest = 64 + 191 * (i / 64 % 5) / 4;  // some pictures are darker
    pixels[i] = static_cast<uint8_t>(source.below(brightest));
  }
  const Tensor pictures = Tensor::of<uint8_t>({count, 8, 8}, pixels);
  write_npy(folder.path("x.npy"), pictures);
  std::vector<float> input(pixels.size());
  for (size_t i = 0; i < pixels.size(); ++i) input[i] = static_cast<float>(pixels[i]) / 255.0f;
  const Tensor x = Tensor::of<float>({count, 1, 8, 8}, input);
  const std::vector<float> scores = to_floats(Executor(teacher, {.batch = 16}).run_samples(std::span(&x, 1))[0]);
  const size_t classes = scores.size() / static_cast<size_t>(count);
  std::vector<int64_t> said;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    said.push_back(argmax(std::span(scores).subspan(i * classes, classes)));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({count}, said));
  return Dataset::open(folder.write(
      "data.yaml", std::string("format: npy\ntest: {images: x.npy") + (labels ? ", labels: y.npy" : "") +
                       "}\ncalibration: {images: x.npy, count: " + std::to_string(std::min<int64_t>(count, 64)) +
                       "}\npreprocess: {color: gray, scale: 1/255}\n"));
}

inline std::string save_model(const Graph& graph, const TestFolder& folder, const std::string& name) {
  save_onnx(graph, folder.path(name));
  return folder.path(name);
}

inline VerifyOptions quick_options() {
  return {.edge_case_samples = 50, .layer_samples = 4, .seconds = 0.08, .tune = false, .quiet = true};
}

/// Thresholds that noise of a busy machine can't cross.
inline Policy patient_policy() {
  Policy policy;
  policy.performance.max_latency_ratio = 1000;
  policy.performance.memory_slack_mib = 1000;
  policy.performance.min_rounds = 5;
  return policy;
}

}  // namespace slipway
