#include "engine/passes/pipeline.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr const char* kSmall = R"(graph "" ir 8 opset {"": 13} {
  input %x : f32[N,2,3,3]
  const %w : f32[2,2,1,1] = {1, 2, 3, 4}
  const %g : f32[2] = {1, 2}
  %i = Identity(%x) "identity"
  %c = Conv(%i, %w) "conv"
  %b = BatchNormalization(%c, %g, %g, %g, %g) "bn"
  %a = Add(%b, %x) "add"
  %y = Relu(%a) "relu"
  output %y
}
)";

std::map<std::string, int> histogram(const Graph& graph) {
  std::map<std::string, int> counts;
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    const Node& node = graph.node(id);
    if (!node.alive) continue;
    std::string key = node.domain.empty() ? node.op_type : node.domain + "." + node.op_type;
    if (node.has("activation")) key += " " + node.text("activation", "");
    if (node.domain == kFusedDomain && node.has_input(3)) key += " residual";
    if (node.has("y_dtype")) key += " " + node.text("y_dtype", "");
    ++counts[key];
  }
  return counts;
}

TEST(Pipeline, FusesABlockIntoOneNodeThatRemembersItsOrigins) {
  Graph graph = parse_text(kSmall);
  run_passes(graph);
  ASSERT_EQ(graph.node_count(), 1u);
  const Node& node = *graph.producer(graph.outputs()[0]);
  EXPECT_EQ(histogram(graph), (std::map<std::string, int>{{"slipway.Conv Relu residual", 1}}));
  EXPECT_EQ(node.name, "conv");
  EXPECT_EQ(graph.value(graph.outputs()[0]).name, "y");
  for (const char* origin : {"conv", "bn", "add", "relu"})
    EXPECT_NE(std::find(node.origins.begin(), node.origins.end(), origin), node.origins.end()) << origin;
}

TEST(Pipeline, StandardListLeavesOnlyOnnx) {
  Graph graph = parse_text(kSmall);
  const auto reports = run_passes(graph, {.standard_onnx = true});
  EXPECT_EQ(histogram(graph), (std::map<std::string, int>{{"Add", 1}, {"Conv", 1}, {"Relu", 1}}));
  for (const PassReport& report : reports) EXPECT_NE(report.name, "to_fused");
}

TEST(Pipeline, DisabledPassesDoNotRun) {
  Graph graph = parse_text(kSmall);
  run_passes(graph, {.disabled = {"fuse_residual", "fuse_activation"}});
  EXPECT_EQ(histogram(graph), (std::map<std::string, int>{{"Add", 1}, {"Relu", 1}, {"slipway.Conv", 1}}));
  try {
    run_passes(graph, {.disabled = {"no_such_pass"}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("no_such_pass"), std::string::npos);
  }
}

TEST(Pipeline, StopsAfterAsManyChangesAndDumpsEach) {
  const std::string folder = testing::TempDir() + "/slipway_pass_dump";
  Graph graph = parse_text(kSmall);
  run_passes(graph, {.stop_after = 2, .dump_folder = folder});
  EXPECT_EQ(histogram(graph), (std::map<std::string, int>{{"Add", 1}, {"Conv", 1}, {"Relu", 1}}));
  EXPECT_TRUE(file_exists(join_path(folder, "001_remove_no_ops.txt")));
  EXPECT_TRUE(file_exists(join_path(folder, "002_fuse_conv_bn.txt")));
  Graph untouched = parse_text(kSmall);
  run_passes(untouched, {.stop_after = 0});
  EXPECT_EQ(untouched.node_count(), 5u);
}

std::string asset(const std::string& path) {
  const char* root = std::getenv("SLIPWAY_ASSETS");
  return join_path(root != nullptr ? root : SLIPWAY_SOURCE_DIR "/../shared/assets", path);
}

struct Model {
  const char* path;
  std::map<std::string, int> after;
  double bound;  ///< of the largest difference over the largest output
};

class Models : public testing::TestWithParam<Model> {};

TEST_P(Models, KeepTheirOutputs) {
  const std::string path = asset(GetParam().path);
  if (!file_exists(path)) GTEST_SKIP() << "no " << path;
  const Graph before = load_onnx(path);
  Graph after = before;
  run_passes(after);
  EXPECT_EQ(histogram(after), GetParam().after);
  Graph again = after;
  for (const PassReport& report : run_passes(again)) EXPECT_FALSE(report.changed) << report.name;

  Random random(11);
  std::vector<Tensor> inputs;
  for (ValueId id : before.inputs()) {
    Dims dims;
    for (const Dim& d : before.value(id).shape.dims()) dims.push_back(d.is_known() ? d.value() : 1);
    std::vector<double> values(static_cast<size_t>(element_count(dims)));
    for (double& v : values) v = random.normal();
    inputs.push_back(from_doubles(before.value(id).dtype, dims, values));
  }
  const std::vector<double> a = to_doubles(evaluate(before, inputs)[0]), b = to_doubles(evaluate(after, inputs)[0]);
  ASSERT_EQ(a.size(), b.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  EXPECT_LE(difference, GetParam().bound * largest);
}

INSTANTIATE_TEST_SUITE_P(
    Passes, Models,
    testing::Values(
        Model{"onnx/resnet20_cifar10.onnx",
              {{"Flatten", 1},
               {"GlobalAveragePool", 1},
               {"Pad", 2},
               {"Slice", 2},
               {"slipway.Conv Relu", 10},
               {"slipway.Conv Relu residual", 9},
               {"slipway.Gemm", 1}},
              1e-5},
        Model{"onnx/mnist_cntk.onnx",
              {{"MaxPool", 2}, {"Reshape", 1}, {"slipway.Conv Relu", 2}, {"slipway.Gemm", 1}},
              1e-5},
        Model{"onnx/kws_dscnn_savedmodel_tf2onnx_op13.onnx",
              {{"GlobalAveragePool", 1}, {"Reshape", 2}, {"Softmax", 1}, {"slipway.Conv Relu", 9}, {"slipway.Gemm", 1}},
              1e-5},
        Model{"torch/resnet20/resnet20_qat_legacy_op13.onnx",
              {{"Flatten", 1},
               {"Pad", 2},
               {"QuantizeLinear", 1},
               {"Slice", 2},
               {"slipway.QAveragePool u8", 1},
               {"slipway.QConv residual u8", 9},
               {"slipway.QConv u8", 10},
               {"slipway.QGemm f32", 1}},
              0.05}),
    [](const auto& param) {
      std::string name = file_name(param.param.path);
      for (char& c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      return name;
    });

}  // namespace
}  // namespace slipway
