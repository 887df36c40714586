#pragma once
#include <string>
#include <vector>

#include "base/random.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/test_folder.h"
#include "engine/executor.h"
#include "metrics/classification.h"
#include "quantize/ptq/quantize_testing.h"
#include "quantize/quantize.h"

namespace slipway {

/// A classifier of 8×8 grey pictures with BatchNormalization, a residual Add, a strided and a depthwise convolution;
/// its weights are random. The batch is N, or fixed where `batch` says so; with `softmax` it ends in one. It takes
/// pictures from 0 to `white`.
inline Graph trainable_net(const std::string& batch = "N", bool softmax = false, double white = 1) {
  Random random(5);
  const auto floats = [&](const std::string& name, const std::string& dims, size_t count, double deviation,
                          double mean = 0) {
    std::string text = "  const %" + name + " : f32" + dims + " = {";
    for (size_t i = 0; i < count; ++i)
      text += (i > 0 ? ", " : "") + fmt::format("{:.9e}", mean + deviation * random.normal());
    return text + "}\n";
  };
  const auto norm = [&](const std::string& name, size_t channels) {
    const std::string dims = "[" + std::to_string(channels) + "]";
    std::string text = floats(name + "_gamma", dims, channels, 0.1, 1) + floats(name + "_beta", dims, channels, 0.1) +
                       floats(name + "_mean", dims, channels, 0.1);
    std::string variance = "  const %" + name + "_variance : f32" + dims + " = {";
    for (size_t i = 0; i < channels; ++i)
      variance += (i > 0 ? ", " : "") + fmt::format("{:.9e}", 0.5 + random.uniform());
    return text + variance + "}\n";
  };
  const std::string text =
      "  input %image : f32[" + batch + ",1,8,8]\n" + floats("w1", "[8,1,3,3]", 72, 0.4 / white) + norm("n1", 8) +
      floats("w2", "[8,8,3,3]", 576, 0.15) + norm("n2", 8) + floats("w3", "[8,1,3,3]", 72, 0.4) + norm("n3", 8) +
      floats("w4", "[16,8,1,1]", 128, 0.4) + floats("b4", "[16]", 16, 0.1) + floats("w5", "[6,16]", 96, 0.5) +
      floats("b5", "[6]", 6, 0.1) +
      "  %c1 = Conv(%image, %w1) {pads = [1, 1, 1, 1]}\n"
      "  %y1 = BatchNormalization(%c1, %n1_gamma, %n1_beta, %n1_mean, %n1_variance)\n  %a1 = Relu(%y1)\n"
      "  %c2 = Conv(%a1, %w2) {pads = [1, 1, 1, 1]}\n"
      "  %y2 = BatchNormalization(%c2, %n2_gamma, %n2_beta, %n2_mean, %n2_variance)\n"
      "  %sum = Add(%y2, %a1)\n  %a2 = Relu(%sum)\n"
      "  %c3 = Conv(%a2, %w3) {pads = [0, 0, 1, 1], strides = [2, 2], group = 8}\n"
      "  %y3 = BatchNormalization(%c3, %n3_gamma, %n3_beta, %n3_mean, %n3_variance)\n  %a3 = Relu(%y3)\n"
      "  %c4 = Conv(%a3, %w4, %b4)\n  %a4 = Relu(%c4)\n  %pooled = GlobalAveragePool(%a4)\n"
      "  %flat = Flatten(%pooled)\n  %scores = Gemm(%flat, %w5, %b5) {transB = 1}\n" +
      (softmax ? std::string("  %out = Softmax(%scores) {axis = 1}\n  output %out") : std::string("  output %scores"));
  return graph_of(text);
}

/// Random pictures from 0 to `white`, 1 or 255, labelled with what `teacher` says of them: the data file's path.
inline std::string write_pictures(const Graph& teacher, const TestFolder& folder, int64_t count,
                                  const std::string& more = "", bool labels = true, float white = 1) {
  Random source(7);
  std::vector<uint8_t> pixels(static_cast<size_t>(count * 64));
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(source.below(256));
  std::vector<float> input(pixels.size());
  for (size_t i = 0; i < pixels.size(); ++i) {
    const size_t picture = i / 64;  // a bright patch whose place differs, so that classes do
    if ((i % 64 / 8 / 3 + i % 8 / 3) % 3 == picture % 3) pixels[i] = static_cast<uint8_t>(pixels[i] / 4);
    input[i] = static_cast<float>(pixels[i]) / 255.0f * white;
  }
  write_npy(folder.path("x.npy"), Tensor::of<uint8_t>({count, 8, 8}, pixels));
  const Tensor x = Tensor::of<float>({count, 1, 8, 8}, input);
  const std::vector<float> scores = to_floats(Executor(teacher, {.batch = 16}).run_samples(std::span(&x, 1))[0]);
  std::vector<int64_t> said;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) said.push_back(argmax(std::span(scores).subspan(i * 6, 6)));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({count}, said));
  return folder.write("data.yaml", std::string("format: npy\nimages: x.npy\n") + (labels ? "labels: y.npy\n" : "") +
                                       "calibration: {count: 32}\ntest: {count: " + std::to_string(count / 4) +
                                       ", seed: 1}\npreprocess: {color: gray, scale: " + (white == 1 ? "1/255" : "1") +
                                       "}\n" + more);
}

}  // namespace slipway
