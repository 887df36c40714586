#include "model/onnx/identity.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/hash.h"
#include "model/onnx/external_testing.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;
using onnx::AttributeProto;
using onnx::TensorProto;

class Identity : public ::testing::Test {
 protected:
  Identity() : folder_(::testing::TempDir() + "slipway-identity-XXXXXX") {
    SLIPWAY_CHECK(::mkdtemp(folder_.data()) != nullptr);
  }
  ~Identity() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return join_path(folder_, name); }
  std::string write(const std::string& name, std::string_view text) const {
    make_folders(parent_folder(path(name)));
    write_file(path(name), text);
    return path(name);
  }
  std::string folder_;
};

Graph scale_by(float factor) {
  Graph g;
  g.opsets[""] = 17;
  const ValueId x = g.add_input("x", DType::kFloat32, Shape({Dim(2)}));
  const ValueId w = g.add_constant("w", Tensor::of<float>({2}, {factor, factor}));
  g.add_output(g.add_node({.op_type = "Mul", .name = "mul", .inputs = {x, w}}, "y"));
  return g;
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_F(Identity, OfOneFileIsItsSha256) {
  save_onnx(scale_by(2), path("m.onnx"));
  ModelIdentity loaded;
  load_onnx(path("m.onnx"), loaded);
  const ModelIdentity read = identify_model(path("m.onnx"));
  EXPECT_EQ(read.sha256, sha256_of_file(path("m.onnx")));
  EXPECT_EQ(read.bytes, file_bytes(path("m.onnx")));
  EXPECT_TRUE(read.data_files.empty());
  EXPECT_EQ(loaded.sha256, read.sha256);
  EXPECT_EQ(loaded.bytes, read.bytes);
}

TEST_F(Identity, CountsTheDataOfAGraphThatStaysTheSame) {
  save_external(scale_by(2), path("a.onnx"), "w.data");
  const std::string onnx = read_text_file(path("a.onnx"));
  const ModelIdentity first = identify_model(path("a.onnx"));
  EXPECT_EQ(first.bytes, file_bytes(path("a.onnx")) + 8);
  EXPECT_EQ(first.data_files, std::vector<std::string>{"w.data"});
  EXPECT_EQ(model_files(path("a.onnx")), (std::vector<std::string>{path("a.onnx"), fs::canonical(path("w.data"))}));
  // As identity.h says.
  EXPECT_EQ(first.sha256, sha256_hex("slipway model\n" + sha256_of_file(path("a.onnx")) + "\n" +
                                     sha256_of_file(path("w.data")) + " 6 w.data\n"));
  ModelIdentity loaded;
  load_onnx(path("a.onnx"), loaded);
  EXPECT_EQ(loaded.sha256, first.sha256);
  EXPECT_EQ(loaded.bytes, first.bytes);
  EXPECT_EQ(loaded.data_files, first.data_files);

  save_external(scale_by(3), path("a.onnx"), "w.data");
  EXPECT_EQ(read_text_file(path("a.onnx")), onnx);
  EXPECT_NE(identify_model(path("a.onnx")).sha256, first.sha256);
  save_external(scale_by(2), path("renamed.onnx"), "w.data");
  EXPECT_EQ(identify_model(path("renamed.onnx")).sha256, first.sha256);
  save_external(scale_by(2), path("a.onnx"), "v.data");
  EXPECT_NE(identify_model(path("a.onnx")).sha256, first.sha256);
}

TEST_F(Identity, FindsEveryPlaceThatATensorMayStand) {
  onnx::ModelProto m;
  m.set_ir_version(8);
  m.add_opset_import()->set_version(17);
  const auto external = [&](TensorProto& tensor, const std::string& name) {
    tensor.set_data_type(TensorProto::FLOAT);
    make_external(tensor, name);
    write(name, name);
  };
  const auto attribute = [](onnx::NodeProto& node, AttributeProto::AttributeType type) -> AttributeProto& {
    AttributeProto& a = *node.add_attribute();
    a.set_type(type);
    return a;
  };
  onnx::GraphProto& graph = *m.mutable_graph();
  external(*graph.add_initializer(), "initializer");
  external(*graph.add_sparse_initializer()->mutable_values(), "sparse/values");
  external(*graph.mutable_sparse_initializer(0)->mutable_indices(), "sparse/indices");
  onnx::NodeProto& node = *graph.add_node();
  external(*attribute(node, AttributeProto::TENSOR).mutable_t(), "./attribute");
  external(*attribute(node, AttributeProto::TENSORS).add_tensors(), "sparse//list");
  external(*attribute(node, AttributeProto::SPARSE_TENSOR).mutable_sparse_tensor()->mutable_values(),
           "sparse_attribute");
  external(*attribute(node, AttributeProto::GRAPH).mutable_g()->add_initializer(), "subgraph");
  onnx::NodeProto& inner = *attribute(node, AttributeProto::GRAPHS).add_graphs()->add_node();
  external(*attribute(inner, AttributeProto::TENSOR).mutable_t(), "subgraph_constant");
  onnx::FunctionProto& function = *m.add_functions();
  external(*attribute(*function.add_node(), AttributeProto::TENSOR).mutable_t(), "function");
  AttributeProto by_default;
  external(*by_default.mutable_t(), "function_default");
  function.mutable_unknown_fields()->AddLengthDelimited(11, by_default.SerializeAsString());
  external(*m.add_training_info()->mutable_algorithm()->add_initializer(), "training");
  external(*graph.add_initializer(), "initializer");  // named twice, counted once
  TensorProto& inside = *graph.add_initializer();     // says a location, but holds its data
  external(inside, "unused");
  inside.set_data_location(TensorProto::DEFAULT);
  write("m.onnx", m.SerializeAsString());

  const std::vector<std::string> all{"attribute",      "function",          "function_default", "initializer",
                                     "sparse/indices", "sparse/list",       "sparse/values",    "sparse_attribute",
                                     "subgraph",       "subgraph_constant", "training"};
  const ModelIdentity whole = identify_model(path("m.onnx"));
  EXPECT_EQ(whole.data_files, all);
  for (const std::string& name : all) {
    const std::string before = read_text_file(path(name));
    write(name, "other");
    EXPECT_NE(identify_model(path("m.onnx")).sha256, whole.sha256) << name;
    fs::remove(path(name));
    EXPECT_NE(message_of([&] { identify_model(path("m.onnx")); }).find("missing"), std::string::npos) << name;
    write(name, before);
  }
  EXPECT_EQ(identify_model(path("m.onnx")).sha256, whole.sha256);
}

TEST_F(Identity, RefusesDataOutsideTheFolder) {
  write("outside.data", "12345678");
  save_external(scale_by(2), path("in/m.onnx"), "w.data");
  fs::remove(path("in/w.data"));
  fs::create_symlink("../outside.data", path("in/w.data"));
  for (const auto& work : {std::function([&] { identify_model(path("in/m.onnx")); }),
                           std::function([&] { model_files(path("in/m.onnx")); }),
                           std::function([&] { copy_model(path("in/m.onnx"), path("copy/model.onnx")); })})
    EXPECT_NE(message_of(work).find("leads out"), std::string::npos);
  EXPECT_FALSE(file_exists(path("copy/model.onnx")));
}

TEST_F(Identity, CopiesAllFilesAndGivesTheCopysIdentity) {
  save_external(scale_by(2), path("net.onnx"), "deep/w.data");
  const ModelIdentity copied = copy_model(path("net.onnx"), path("copy/model.onnx"));
  EXPECT_EQ(copied.sha256, identify_model(path("net.onnx")).sha256);
  EXPECT_EQ(identify_model(path("copy/model.onnx")).sha256, copied.sha256);
  EXPECT_EQ(list_folder(path("copy")), (std::vector<std::string>{"deep", "model.onnx"}));
  const Graph g = load_onnx(path("copy/model.onnx"));
  EXPECT_EQ(g.constant(g.find("w"))->values<float>()[0], 2);
}

TEST_F(Identity, ACopyReplacesNothing) {
  save_external(scale_by(2), path("net.onnx"), "w.data");
  EXPECT_NE(message_of([&] { copy_model(path("net.onnx"), path("net.onnx")); }), "");
  write("copy/w.data", "of another model");
  EXPECT_NE(message_of([&] { copy_model(path("net.onnx"), path("copy/model.onnx")); }).find("replace"),
            std::string::npos);
  EXPECT_EQ(read_text_file(path("copy/w.data")), "of another model");
  EXPECT_EQ(list_folder(path("copy")).size(), 1u);
  save_external(scale_by(2), path("net.onnx"), "model.onnx");  // its data has the name that the copy takes
  EXPECT_NE(message_of([&] { copy_model(path("net.onnx"), path("new/model.onnx")); }).find("name"), std::string::npos);
  EXPECT_FALSE(file_exists(path("new/model.onnx")));
}

}  // namespace
}  // namespace slipway
