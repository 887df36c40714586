// What export writes, others load: names of nodes and of values are unique in every graph and are UTF-8.
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

onnx::ModelProto written(const Graph& graph) {
  const std::vector<std::byte> bytes = serialize_onnx(graph);
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return model;
}

// Empty when no two nodes and no two values of a graph, or of it and an enclosing one, have the same name.
std::string twin(const onnx::GraphProto& graph, std::set<std::string> values = {}) {
  std::set<std::string> nodes;
  const auto add = [&](const std::string& name) { return name.empty() || values.insert(name).second; };
  for (const auto& input : graph.input())
    if (!add(input.name())) return input.name();
  for (const auto& tensor : graph.initializer())
    if (!add(tensor.name())) return tensor.name();
  for (const auto& node : graph.node()) {
    if (!node.name().empty() && !nodes.insert(node.name()).second) return node.name();
    for (const std::string& output : node.output())
      if (!add(output)) return output;
  }
  for (const auto& node : graph.node())
    for (const auto& attribute : node.attribute())
      if (attribute.has_g())
        if (const std::string found = twin(attribute.g(), values); !found.empty()) return found;
  return "";
}

TEST(OnnxExportNames, TheSecondNodeOfANameGetsASuffix) {
  const onnx::ModelProto model = written(parse_text(R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[2]
  %a = Relu(%x) "n"
  %b = Relu(%a) "n_1"
  %c = Relu(%b) "n"
  %d = Relu(%c)
  %e = Relu(%d)
  %y = Relu(%e) "n"
  output %y
})"));
  std::vector<std::string> names;
  for (const auto& node : model.graph().node()) names.push_back(node.name());
  EXPECT_EQ(names, (std::vector<std::string>{"n", "n_1", "n_2", "", "", "n_3"}));
}

TEST(OnnxExportNames, BytesThatAreNoUtf8BecomeReadableAndStayApart) {
  Graph graph;
  graph.opsets[""] = 17;
  graph.name = "g\xff";
  graph.metadata["k\xc0"] = "\xed\xa0\x80 한";  // half of a surrogate pair, then a word
  const ValueId x = graph.add_input("x\xfe", DType::kFloat32, Shape(std::vector<Dim>{Dim("N\xf5")}));
  const ValueId a = graph.add_node(NodeSpec{.op_type = "Relu", .name = "a\xff", .inputs = {x}}, "a\xff");
  graph.add_output(graph.add_node(NodeSpec{.op_type = "Relu", .name = "a\xfe", .inputs = {a}}, "a\xfe"));
  infer_shapes(graph);
  const onnx::ModelProto model = written(graph);
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(model.graph().name(), "g" + bad);
  EXPECT_EQ(model.metadata_props(0).key(), "k" + bad);
  EXPECT_EQ(model.metadata_props(0).value(), bad + bad + bad + " 한");
  EXPECT_EQ(model.graph().input(0).name(), "x" + bad);
  EXPECT_EQ(model.graph().input(0).type().tensor_type().shape().dim(0).dim_param(), "N" + bad);
  EXPECT_EQ(model.graph().node(0).name(), "a" + bad);
  EXPECT_EQ(model.graph().node(1).name(), "a" + bad + "_1");
  EXPECT_EQ(twin(model.graph()), "");
}

// Random graphs with few names: nodes, values, constants and those of If's branches take the same ones.
TEST(OnnxExportNames, AreUniqueWhateverTheGraphCallsThings) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const auto name = [&] {
      return std::string(1, static_cast<char>('a' + random.below(3))) + (random.below(2) ? "_1" : "");
    };
    const auto fill = [&](Graph& graph, std::vector<ValueId> values) {
      for (uint64_t i = 0; i < 1 + random.below(6); ++i) {
        const ValueId constant = graph.add_constant(name(), Tensor::scalar(1.0f));
        values.push_back(graph.add_node(
            NodeSpec{.op_type = "Add", .name = name(), .inputs = {values[random.below(values.size())], constant}},
            name()));
      }
      graph.add_output(values.back());
    };
    Graph graph;
    graph.opsets[""] = 17;
    const ValueId condition = graph.add_input(name(), DType::kBool, Shape(std::vector<Dim>{}));
    const ValueId x = graph.add_input(name(), DType::kFloat32, Shape(std::vector<Dim>{Dim(2)}));
    Attributes branches;
    for (const char* branch : {"then_branch", "else_branch"}) {
      auto body = std::make_shared<Graph>();
      body->opsets = graph.opsets;
      fill(*body, {body->add_capture(name(), 0, DType::kFloat32, graph.value(x).shape)});
      branches.insert_or_assign(branch, body);
    }
    const ValueId chosen = graph.add_node(
        NodeSpec{.op_type = "If", .name = name(), .inputs = {condition}, .attributes = branches}, name());
    graph.set_captures(graph.value(chosen).producer, {x});
    fill(graph, {chosen, x});
    infer_shapes(graph);
    EXPECT_EQ(twin(written(graph).graph()), "") << "seed " << seed;
    const std::vector<Tensor> inputs = {Tensor::scalar(seed % 2 == 0),
                                        Tensor::of<float>({2}, std::vector<float>{1, 2})};
    EXPECT_TRUE(evaluate(graph, inputs)[0].identical(evaluate(parse_onnx(serialize_onnx(graph)), inputs)[0])) << seed;
  }
}

}  // namespace
}  // namespace slipway
