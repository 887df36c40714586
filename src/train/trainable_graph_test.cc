#include "train/trainable_graph.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "quantize/ptq/quantize_testing.h"
#include "quantize/quantize.h"
#include "train/tensors.h"

namespace slipway {
namespace {

Tensor random_tensor(Dims dims, uint64_t seed) {
  Tensor t(DType::kFloat32, std::move(dims));
  Random random(seed);
  for (float& x : t.mutable_values<float>()) x = static_cast<float>(random.normal());
  return t;
}

double distance(const Tensor& a, const at::Tensor& b) {
  const at::Tensor wanted = to_torch(a);
  if (wanted.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  return at::abs(wanted - b.detach()).max().item<double>() / (1 + at::abs(wanted).max().item<double>());
}

TEST(TrainableGraph, AnOperatorWithoutAGradientIsRefusedByName) {
  const auto refusal = [](const std::string& node) {
    const Graph graph = graph_of("input %x : f32[2,5]\nconst %k : i64[1] = {2}\n" + node + "\noutput %y");
    try {
      TrainableGraph trainable(graph);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      return std::string(error.what());
    }
    return std::string();
  };
  for (const char* node : {"%y, %i = TopK(%x, %k) \"here\"", "%a = Relu(%x)\n%y = Round(%a) \"here\""})
    EXPECT_NE(refusal(node).find("'here'"), std::string::npos) << node;
  EXPECT_EQ(refusal("%y = ArgMax(%x) \"here\""), "");  // integers carry no gradient anywhere
}

TEST(TrainableGraph, ShapeChainsWorkAtAnyBatch) {
  const Graph graph = graph_of(R"(
  input %x : f32[N,3,4]
  const %first : i64[1] = {0}
  const %rest : i64[1] = {-1}
  const %scale : f32[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
  %s = Shape(%x)
  %n = Gather(%s, %first)
  %shape = Concat(%n, %rest) {axis = 0}
  %flat = Reshape(%x, %shape)
  %y = Mul(%flat, %scale)
  output %y)");
  TrainableGraph trainable(graph);
  for (const int64_t batch : {1, 3, 7}) {
    const Tensor x = random_tensor({batch, 3, 4}, 1);
    EXPECT_EQ(distance(evaluate(graph, std::array{x})[0], trainable.forward({to_torch(x)})[0]), 0);
  }
}

TEST(TrainableGraph, GradientsReachConstantsThroughOperatorsOnConstants) {
  const Graph graph = graph_of(R"(
  input %x : f32[2,3]
  const %w : f32[6] = {1, 2, 3, 4, 5, 6}
  const %shape : i64[2] = {3, 2}
  %m = Reshape(%w, %shape)
  %y = MatMul(%x, %m)
  output %y)");
  TrainableGraph trainable(graph);
  at::Tensor& weights = trainable.constants().at(graph.find("w"));
  weights.requires_grad_(true);
  trainable.forward({at::ones({2, 3})})[0].sum().backward();
  EXPECT_TRUE(at::equal(weights.grad(), at::full({6}, 2.0f)));
}

TEST(TrainableGraph, OverridesAndFiltersStandInTheWay) {
  const Graph graph = graph_of(R"(
  input %x : f32[2]
  %a = Relu(%x)
  %y = Add(%a, %a)
  output %y, %a)");
  TrainableGraph trainable(graph);
  trainable.overrides()[graph.value(graph.find("a")).producer] = [](std::vector<at::Tensor> inputs) {
    return inputs[0] * 10;
  };
  std::vector<std::string> seen;
  const auto outputs = trainable.forward({at::tensor({1.0f, -1.0f})}, [&](ValueId id, at::Tensor value) {
    seen.push_back(graph.value(id).name);
    return value + 1;
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"x", "a", "y"}));
  EXPECT_TRUE(at::equal(outputs[0], at::tensor({43.0f, 3.0f})));
  EXPECT_TRUE(at::equal(outputs[1], at::tensor({21.0f, 1.0f})));
  EXPECT_THROW(trainable.forward({}), Error);
}

TEST(TrainableGraph, ValuesThatDoNotFitAreTheModelsFault) {
  const Graph graph = graph_of(
      "input %x : f32[N,3]\nconst %w : f32[1,3] = {1, 2, 3}\nconst %s : i64[2] = {1, 3}\n"
      "%a = Reshape(%x, %s) \"here\"\n%y = Add(%a, %w)\noutput %y");
  try {
    TrainableGraph(graph).forward({at::ones({2, 3})});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidModel);
    EXPECT_NE(std::string(error.what()).find("'here'"), std::string::npos) << error.what();
  }
}

struct Model {
  const char* path;
  int64_t batch = 2;
};

// The reference on what quantisation prepared, and gradients for all float constants that the outputs depend on.
TEST(TrainableGraph, RealModels) {
  const char* folder = std::getenv("SLIPWAY_ASSETS");
  const std::string root = folder != nullptr ? folder : SLIPWAY_SOURCE_DIR "/../shared/assets";
  if (!file_exists(root + "/onnx/resnet20_cifar10.onnx")) GTEST_SKIP() << "no models at " << root;
  for (const Model& model : {
           Model{"onnx/resnet20_cifar10.onnx"},
           Model{"onnx/resnet8_cifar10_float.onnx"},
           Model{"imagenet/effnet_lite0_legacy_op17.onnx", 1},
           Model{"imagenet/mobilenet_v1_0.25_224_tf2onnx_op17.onnx", 1},
           Model{"onnx/kws_dscnn_savedmodel_tf2onnx_op13.onnx", 3},
           Model{"keras/fmnist_se_cnn/fmnist_se_cnn_tf2onnx_op18.onnx", 3},
           Model{"onnx/squeezenet11_fp32.onnx", 1},
           Model{"onnx/mnist_cntk.onnx", 1},
           Model{"torch/fmnist_vit/fmnist_vit_dynamo_op18.onnx", 3},
       }) {
    SCOPED_TRACE(model.path);
    const Graph graph = prepare_for_quantization(load_onnx(root + "/" + model.path));
    std::vector<Tensor> inputs;
    std::vector<at::Tensor> given;
    for (const ValueId id : graph.inputs()) {
      Dims dims;
      for (const Dim& dim : graph.value(id).shape.dims()) dims.push_back(dim.is_known() ? dim.value() : model.batch);
      inputs.push_back(random_tensor(dims, 5));
      given.push_back(to_torch(inputs.back()));
    }
    TrainableGraph trainable(graph);
    for (auto& [id, constant] : trainable.constants())
      if (constant.is_floating_point()) constant.requires_grad_(true);
    const std::vector<at::Tensor> outputs = trainable.forward(given);
    const std::vector<Tensor> expected = evaluate(graph, inputs);
    at::Tensor loss = at::zeros({});
    for (size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_LE(distance(expected[i], outputs[i]), 1e-4);
      if (outputs[i].is_floating_point())
        loss = loss + (outputs[i] * to_torch(random_tensor(outputs[i].sizes().vec(), 9))).sum();
    }
    loss.backward();
    for (const auto& [id, constant] : trainable.constants()) {
      if (!constant.is_floating_point()) continue;
      const std::string& name = graph.value(id).name;
      EXPECT_TRUE(constant.grad().defined() || constant.dim() == 0) << name;
      EXPECT_TRUE(!constant.grad().defined() || at::isfinite(constant.grad()).all().item<bool>()) << name;
    }
  }
}

}  // namespace
}  // namespace slipway
