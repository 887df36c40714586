#include "model/onnx/proto.h"
#include "model/onnx/rewrites/rewrite_testing.h"

namespace slipway {
namespace {

// As scikit-learn's converter ends a classifier: scores into maps from class to score.
onnx::ModelProto mapped_scores(bool texts) {
  Graph g;
  g.opsets = {{"", 15}, {"ai.onnx.ml", 1}};
  const ValueId x = g.add_input("scores", DType::kFloat32, Shape({Dim("N"), Dim(2)}));
  Attributes keys = {{"classlabels_int64s", std::vector<int64_t>{7, 9}}};
  if (texts) keys = {{"classlabels_strings", std::vector<std::string>{"no", "yes"}}};
  g.add_output(
      g.add_node({.op_type = "ZipMap", .domain = "ai.onnx.ml", .name = "zip", .inputs = {x}, .attributes = keys},
                 "probabilities"));
  const auto bytes = serialize_onnx(g);
  onnx::ModelProto proto;
  proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  auto& map = *proto.mutable_graph()->mutable_output(0)->mutable_type()->mutable_sequence_type()->mutable_elem_type();
  map.mutable_map_type()->set_key_type(texts ? onnx::TensorProto::STRING : onnx::TensorProto::INT64);
  map.mutable_map_type()->mutable_value_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::FLOAT);
  return proto;
}

Graph imported(const onnx::ModelProto& proto) {
  const std::string bytes = proto.SerializeAsString();
  return parse_onnx(std::as_bytes(std::span(bytes)));
}

TEST(ZipMap, BecomesValuesAndKeys) {
  const Graph g = imported(mapped_scores(false));
  ASSERT_EQ(g.outputs().size(), 2u);
  EXPECT_EQ(g.value(g.outputs()[0]).name, "probabilities");
  EXPECT_EQ(g.value(g.outputs()[1]).name, "probabilities_keys");
  const std::vector<Tensor> got = evaluate(g, std::vector<Tensor>{counting({2, 2})});
  expect_near(got[0], {2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(to_ints(got[1]), (std::vector<int64_t>{7, 9, 7, 9}));
  EXPECT_EQ(parse_onnx(serialize_onnx(g)).outputs().size(), 2u) << "what is written is standard";
}

TEST(ZipMap, KeysMayBeTexts) {
  const Graph g = imported(mapped_scores(true));
  EXPECT_EQ(evaluate(g, std::vector<Tensor>{counting({1, 2})})[1].strings(), (std::vector<std::string>{"no", "yes"}));
  onnx::ModelProto none = mapped_scores(true);
  none.mutable_graph()->mutable_node(0)->clear_attribute();
  EXPECT_THROW(imported(none), Error);
}

}  // namespace
}  // namespace slipway
