// Real models of several free shapes: one program each, against the reference at every shape.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/program.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

constexpr double kRelative = 1e-3;

std::string real_model(const std::string& name) {
  const char* folder = std::getenv("SLIPWAY_ASSETS");
  return join_path(folder != nullptr ? folder : SLIPWAY_SOURCE_DIR "/../shared/assets", name);
}

/// The sizes that an input is given, by name; what a model fixes may be left out.
using Shapes = std::map<std::string, Dims>;

struct RealModel {
  const char* file;
  std::vector<Shapes> runs;
};

Tensor made_up(const Value& input, const Dims& dims, Random& random) {
  Tensor t(input.dtype, dims);
  std::vector<double> values(static_cast<size_t>(t.elements()));
  const bool mask = input.name.find("mask") != std::string::npos;
  for (double& v : values)
    v = is_float(input.dtype) ? random.normal() : mask ? 1 : static_cast<double>(1 + random.below(1000));
  if (input.name == "sr") values[0] = 16000;
  return from_doubles(input.dtype, dims, values);
}

// Of the largest value; integers are equal.
double relative(const Tensor& actual, const Tensor& expected) {
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims()) return INFINITY;
  const std::vector<double> a = to_doubles(actual), e = to_doubles(expected);
  double largest = 1e-6, off = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    largest = std::max(largest, std::abs(e[i]));
    off = std::max(off, std::abs(a[i] - e[i]));
  }
  return is_float(actual.dtype()) || off == 0 ? off / largest : INFINITY;
}

class RealModels : public testing::TestWithParam<RealModel> {};

TEST_P(RealModels, AgreeWithTheReferenceAtEveryShape) {
  const std::string path = real_model(GetParam().file);
  if (!file_exists(path)) GTEST_SKIP() << "no such model: " << path;
  const Graph graph = load_onnx(path);
  const auto session = backend_named("slipway").make(graph, {.threads = 2})->open();
  Random random(1);
  for (const Shapes& shapes : GetParam().runs) {
    std::vector<Tensor> inputs;
    for (const ValueId id : graph.inputs()) {
      const Value& v = graph.value(id);
      inputs.push_back(made_up(v, shapes.contains(v.name) ? shapes.at(v.name) : v.shape.to_dims(), random));
    }
    const std::vector<Tensor> actual = session->run(inputs), expected = evaluate(graph, inputs);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LE(relative(actual[i], expected[i]), kRelative) << to_string(inputs[0].dims()) << ", output " << i;
  }
}

Shapes sentence(int64_t rows, int64_t length) {
  return {{"input_ids", {rows, length}}, {"attention_mask", {rows, length}}};
}
Shapes speech(int64_t rows) { return {{"input", {rows, 576}}, {"state", {2, rows, 128}}, {"sr", {}}}; }

std::string name_of(const testing::TestParamInfo<RealModel>& model) {
  std::string name = file_name(model.param.file);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Assets, RealModels,
    testing::Values(RealModel{"transformers/paraphrase_minilm_l3_float.onnx",
                              {sentence(1, 1), sentence(3, 7), sentence(1, 128), sentence(1, 7)}},
                    RealModel{"transformers/paraphrase_minilm_l3_dynint8.onnx", {sentence(1, 7)}},
                    RealModel{"onnx/silero_vad.onnx", {speech(1), speech(2)}},
                    RealModel{"onnx/ppocrv4_det.onnx", {{{"x", {1, 3, 64, 64}}}, {{"x", {2, 3, 32, 96}}}}},
                    RealModel{"onnx/ppocrv4_rec.onnx", {{{"x", {1, 3, 48, 64}}}, {{"x", {2, 3, 48, 32}}}}},
                    RealModel{"onnx/yunet_n_dynamic.onnx", {{{"input", {1, 3, 64, 96}}}, {{"input", {1, 3, 96, 64}}}}},
                    RealModel{"onnx/bodypix.onnx", {{{"input", {1, 64, 97, 3}}}, {{"input", {1, 80, 64, 3}}}}},
                    RealModel{"onnx/dtln_1.onnx", {{}}}, RealModel{"onnx/dtln_2.onnx", {{}}}),
    name_of);

}  // namespace
}  // namespace slipway
