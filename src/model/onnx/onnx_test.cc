#include "model/onnx/onnx.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/external_testing.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;

NodeProto& add_node(GraphProto& graph, const std::string& op, const std::vector<std::string>& inputs,
                    const std::vector<std::string>& outputs) {
  NodeProto& node = *graph.add_node();
  node.set_op_type(op);
  for (const auto& name : inputs) node.add_input(name);
  for (const auto& name : outputs) node.add_output(name);
  return node;
}

AttributeProto& add_attribute(NodeProto& node, const std::string& name, AttributeProto::AttributeType type) {
  AttributeProto& a = *node.add_attribute();
  a.set_name(name);
  a.set_type(type);
  return a;
}

void set_info(onnx::ValueInfoProto& info, const std::string& name, int dtype, const std::vector<int64_t>& dims) {
  info.set_name(name);
  auto& type = *info.mutable_type()->mutable_tensor_type();
  type.set_elem_type(dtype);
  type.mutable_shape();
  for (int64_t d : dims) type.mutable_shape()->add_dim()->set_dim_value(d);
}

TensorProto& add_tensor(GraphProto& graph, const std::string& name, int dtype, const std::vector<int64_t>& dims) {
  TensorProto& t = *graph.add_initializer();
  t.set_name(name);
  t.set_data_type(dtype);
  for (int64_t d : dims) t.add_dims(d);
  return t;
}

// x : f32[2] → Add(x, w) → y.
ModelProto small_model() {
  ModelProto m;
  m.set_ir_version(8);
  m.add_opset_import()->set_version(17);
  GraphProto& g = *m.mutable_graph();
  g.set_name("g");
  set_info(*g.add_input(), "x", TensorProto::FLOAT, {2});
  add_tensor(g, "w", TensorProto::FLOAT, {2}).set_raw_data(std::string(8, '\0'));
  add_node(g, "Add", {"x", "w"}, {"y"});
  set_info(*g.add_output(), "y", TensorProto::FLOAT, {2});
  return m;
}

Graph parse(const ModelProto& model, const std::string& folder = "") {
  const std::string bytes = model.SerializeAsString();
  return parse_onnx(std::as_bytes(std::span(bytes)), folder);
}

void expect_error(const std::function<void()>& f, ErrorCode code, const std::string& part) {
  try {
    f();
    ADD_FAILURE() << "no error; expected: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what() << "\n  expected: " << part;
  }
}

void expect_rejected(const ModelProto& model, ErrorCode code, const std::string& part) {
  expect_error([&] { parse(model); }, code, part);
}

struct OnnxFolder {
  std::string path = (fs::temp_directory_path() / fmt::format("slipway_onnx_test_{}", ::getpid())).string();
  OnnxFolder() { fs::create_directories(path); }
  ~OnnxFolder() { fs::remove_all(path); }
  std::string file(const std::string& name, std::string_view contents) const {
    write_file(join_path(path, name), contents);
    return join_path(path, name);
  }
};

TEST(OnnxImport, ReadsAPlainModel) {
  ModelProto m = small_model();
  m.set_producer_name("p");
  m.set_doc_string("d");
  auto* entry = m.add_metadata_props();
  entry->set_key("k");
  entry->set_value("v");
  m.mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_param("N");
  m.mutable_graph()->mutable_output(0)->mutable_type()->clear_tensor_type();
  m.mutable_graph()->mutable_initializer(0)->set_dims(0, 1);
  m.mutable_graph()->mutable_initializer(0)->set_raw_data(std::string("\0\0\x80\x3f", 4));
  EXPECT_EQ(to_text(parse(m)), R"(graph "g" ir 8 opset {"": 17} {
  doc "d"
  producer "p" ""
  metadata "k" = "v"
  input %x : f32[N]
  const %w : f32[1] = {1}
  %y : f32[N] = Add(%x, %w) "y"
  output %y
}
)");
}

TEST(OnnxImport, InitialisersThatAreInputsBecomeConstants) {
  ModelProto m = small_model();
  m.set_ir_version(3);
  set_info(*m.mutable_graph()->add_input(), "w", TensorProto::FLOAT, {2});
  const Graph g = parse(m);
  EXPECT_EQ(g.inputs().size(), 1u);
  EXPECT_TRUE(g.value(g.find("w")).is_constant());
}

TEST(OnnxImport, NodesMayComeInAnyOrder) {
  ModelProto m = small_model();
  GraphProto& g = *m.mutable_graph();
  add_node(g, "Neg", {"x"}, {"n"});
  g.mutable_node(0)->set_input(1, "n");
  EXPECT_EQ(parse(m).topological_order(), (std::vector<NodeId>{1, 0}));
}

TEST(OnnxImport, ReadsEveryTypedField) {
  ModelProto m = small_model();
  GraphProto& g = *m.mutable_graph();
  add_tensor(g, "f32", 1, {2}).add_float_data(1.5f);
  g.mutable_initializer(1)->add_float_data(-2.0f);
  const auto ints = [&](const char* name, int dtype, int64_t elements, std::initializer_list<int32_t> values) {
    auto& t = add_tensor(g, name, dtype, {elements});
    for (int32_t v : values) t.add_int32_data(v);
  };
  ints("u8", 2, 2, {255, 1});
  ints("i8", 3, 2, {-128, 127});
  ints("u16", 4, 1, {65535});
  ints("i16", 5, 1, {-32768});
  ints("i32", 6, 1, {-7});
  ints("bool", 9, 3, {0, 1, 7});
  ints("f16", 10, 1, {0x3e00});
  ints("bf16", 16, 1, {0x3fc0});
  ints("f8", 17, 1, {0x38});
  ints("u4", 21, 3, {0x21, 0x0f});
  ints("i4", 22, 2, {0xf8});
  add_tensor(g, "i64", 7, {1}).add_int64_data(int64_t{-1} << 40);
  add_tensor(g, "f64", 11, {}).add_double_data(0.1);
  add_tensor(g, "u32", 12, {1}).add_uint64_data(4294967295u);
  add_tensor(g, "u64", 13, {1}).add_uint64_data(~uint64_t{0});
  auto& c64 = add_tensor(g, "c64", 14, {1});
  c64.add_float_data(1);
  c64.add_float_data(2);
  add_tensor(g, "str", 8, {1}).add_string_data("text");
  add_tensor(g, "empty", 1, {0, 3});
  const std::string text = to_text(parse(m));
  for (const char* part :
       {"%f32 : f32[2] = {1.5, -2}", "%u8 : u8[2] = {255, 1}", "%i8 : i8[2] = {-128, 127}", "%u16 : u16[1] = {65535}",
        "%i16 : i16[1] = {-32768}", "%i32 : i32[1] = {-7}", "%bool : bool[3] = {false, true, true}",
        "%f16 : f16[1] = {1.5}", "%bf16 : bf16[1] = {1.5}", "%f8 : f8e4m3fn[1] = base64 \"OA==\"",
        "%u4 : u4[3] = {1, 2, 15}", "%i4 : i4[2] = {-8, -1}", "%i64 : i64[1] = {-1099511627776}",
        "%f64 : f64[] = {0.1}", "%u32 : u32[1] = {4294967295}", "%u64 : u64[1] = {18446744073709551615}",
        "%c64 : c64[1] = base64 \"AACAPwAAAEA=\"", "%str : string[1] = {\"text\"}", "%empty : f32[0,3] = {}"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(OnnxImport, ConstantNodesBecomeConstants) {
  ModelProto m = small_model();
  GraphProto& g = *m.mutable_graph();
  const auto constant = [&](const std::string& out, const char* attribute,
                            AttributeProto::AttributeType type) -> auto& {
    return add_attribute(add_node(g, "Constant", {}, {out}), attribute, type);
  };
  constant("cf", "value_float", AttributeProto::FLOAT).set_f(2.5f);
  constant("ci", "value_ints", AttributeProto::INTS).add_ints(7);
  constant("cs", "value_string", AttributeProto::STRING).set_s("s");
  auto& t = *constant("ct", "value", AttributeProto::TENSOR).mutable_t();
  t.set_data_type(1);
  t.add_float_data(3);
  const std::string text = to_text(parse(m));
  for (const char* part :
       {"%cf : f32[] = {2.5}", "%ci : i64[1] = {7}", "%cs : string[] = {\"s\"}", "%ct : f32[] = {3}"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(OnnxImport, RejectsVersionsOutsideItsRange) {
  ModelProto m = small_model();
  m.mutable_opset_import(0)->set_version(-1);
  expect_rejected(m, ErrorCode::kUnsupported, "opset -1");
  m.mutable_opset_import(0)->set_version(28);
  expect_rejected(m, ErrorCode::kUnsupported, "version_converter: opset 28");
  m.mutable_opset_import(0)->set_version(6);  // Add broadcast otherwise then
  expect_rejected(m, ErrorCode::kUnsupported, "at opset 6");
  m.mutable_opset_import(0)->set_version(7);
  EXPECT_NO_THROW(parse(m));
  m.mutable_opset_import(0)->set_version(27);
  EXPECT_NO_THROW(parse(m));
  m.set_ir_version(2);
  expect_rejected(m, ErrorCode::kUnsupported, "IR version");
  m.set_ir_version(8);
  m.clear_opset_import();
  expect_rejected(m, ErrorCode::kInvalidModel, "imports no version");
  m.add_opset_import()->set_domain("ai.onnx.preview.training");
  expect_rejected(m, ErrorCode::kUnsupported, "only ai.onnx.preview.training");
  m.mutable_opset_import(0)->set_domain("ai.onnx.ml");  // enough where no node is of another
  m.mutable_opset_import(0)->set_version(1);
  m.mutable_graph()->mutable_node(0)->mutable_input()->RemoveLast();
  m.mutable_graph()->mutable_node(0)->set_op_type("Binarizer");
  m.mutable_graph()->mutable_node(0)->set_domain("ai.onnx.ml");
  EXPECT_EQ(parse(m).opset(), 17);
}

TEST(OnnxImport, NamesTheUnknownOperatorAndItsNode) {
  ModelProto m = small_model();
  m.mutable_graph()->mutable_node(0)->set_op_type("Frobnicate");
  m.mutable_graph()->mutable_node(0)->set_name("layer7");
  expect_rejected(m, ErrorCode::kUnsupported, "Frobnicate 'layer7'");
}

TEST(OnnxImport, RejectsDataThatDoesNotFitItsShape) {
  const auto with = [](const std::function<void(TensorProto&)>& change) {
    ModelProto m = small_model();
    change(*m.mutable_graph()->mutable_initializer(0));
    return m;
  };
  const ErrorCode bad = ErrorCode::kInvalidModel;
  expect_rejected(with([](auto& t) { t.set_raw_data("abc"); }), bad, "3 bytes for 8 in 'w' [2]");
  expect_rejected(with([](auto& t) { t.clear_raw_data(); }), bad, "0 elements for 2");
  expect_rejected(with([](auto& t) { t.set_dims(0, -2); }), bad, "negative");
  expect_rejected(with([](auto& t) { t.set_dims(0, int64_t{1} << 62); }), bad, "absurdly large");
  expect_rejected(with([](auto& t) {
                    t.set_dims(0, int64_t{1} << 32);
                    t.add_dims(int64_t{1} << 32);
                  }),
                  bad, "absurdly large");
  expect_rejected(with([](auto& t) { t.set_dims(0, int64_t{1} << 47); }), bad, "bytes for 562949953421312");
  expect_rejected(with([](auto& t) {
                    t.clear_raw_data();
                    t.set_dims(0, int64_t{1} << 47);
                  }),
                  bad, "0 elements for");
  expect_rejected(with([](auto& t) {
                    t.set_data_type(8);
                    t.set_dims(0, int64_t{1} << 47);
                  }),
                  bad, "0 strings for");
  expect_rejected(with([](auto& t) { t.set_data_type(0); }), bad, "no element type");
  expect_rejected(with([](auto& t) { t.set_data_type(99); }), ErrorCode::kUnsupported, "number 99");
  expect_rejected(with([](auto& t) { t.mutable_segment()->set_begin(1); }), ErrorCode::kUnsupported, "segments");
  expect_rejected(with([](auto& t) { t.set_name(""); }), bad, "no name");
}

TEST(OnnxImport, RejectsGraphsThatBreakTheRules) {
  const auto with = [](const std::function<void(GraphProto&)>& change) {
    ModelProto m = small_model();
    change(*m.mutable_graph());
    return m;
  };
  const ErrorCode bad = ErrorCode::kInvalidModel;
  expect_rejected(with([](auto& g) { g.mutable_node(0)->set_input(1, "y"); }), bad, "cycle");
  expect_rejected(with([](auto& g) { g.mutable_node(0)->set_input(1, "gone"); }), bad, "'gone' at Add 'y'");
  expect_rejected(with([](auto& g) { g.mutable_output(0)->set_name("gone"); }), bad, "made by nothing");
  expect_rejected(with([](auto& g) { add_node(g, "Neg", {"x"}, {"y"}); }), bad, "same name");
  expect_rejected(with([](auto& g) { g.mutable_node(0)->set_output(0, "x"); }), bad, "same name");
  expect_rejected(with([](auto& g) { *g.add_initializer() = g.initializer(0); }), bad, "same name");
  expect_rejected(with([](auto& g) { set_info(*g.add_input(), "x", 1, {2}); }), bad, "same name");
  expect_rejected(with([](auto& g) { set_info(*g.add_input(), "", 1, {2}); }), bad, "no name");
  expect_rejected(with([](auto& g) { set_info(*g.add_input(), "z", 0, {2}); }), bad, "no element type");
  expect_rejected(with([](auto& g) { set_info(*g.add_input(), "z", 1, {-5}); }), bad, "-5 of 'z'");
  expect_rejected(with([](auto& g) { set_info(*g.add_value_info(), "y", 1, {2, 2}); }), bad, "contradict");
  expect_rejected(with([](auto& g) { set_info(*g.add_value_info(), "y", 7, {2}); }), bad, "two element types");
  expect_rejected(with([](auto& g) { set_info(*g.mutable_output(0), "y", 1, {3}); }), bad, "contradict");
  expect_rejected(with([](auto& g) { g.mutable_node(0)->add_input("x"); }), bad, "not 3");
  expect_rejected(with([](auto& g) {
                    add_attribute(*g.mutable_node(0), "a", AttributeProto::INT);
                    add_attribute(*g.mutable_node(0), "a", AttributeProto::INT);
                  }),
                  bad, "one attribute twice");
  expect_rejected(
      with([](auto& g) { add_attribute(*g.mutable_node(0), "a", AttributeProto::INT).set_ref_attr_name("b"); }), bad,
      "outside a function");
  expect_rejected(with([](auto& g) { add_attribute(*g.mutable_node(0), "a", AttributeProto::SPARSE_TENSOR); }),
                  ErrorCode::kUnsupported, "'a' at Add 'y'");
  expect_rejected(with([](auto& g) { g.add_sparse_initializer()->mutable_values()->set_name("s"); }),
                  ErrorCode::kUnsupported, "Sparse");
  expect_rejected(with([](auto& g) { g.mutable_input(0)->mutable_type()->mutable_map_type(); }),
                  ErrorCode::kUnsupported, "without maps");
  expect_rejected(with([](auto& g) { add_node(g, "Constant", {}, {"c"}); }), bad, "exactly one attribute");
  expect_rejected(with([](auto& g) { g.mutable_node(0)->set_domain("slipway"); }), ErrorCode::kUnsupported, "internal");
  ModelProto none = small_model();
  none.clear_graph();
  expect_rejected(none, bad, "damaged");
}

TEST(OnnxImport, BoundsTheDepthOfSubgraphs) {
  ModelProto m = small_model();
  GraphProto* g = m.mutable_graph();
  set_info(*g->add_input(), "c", TensorProto::BOOL, {});
  for (int i = 0; i < 30; ++i) {
    NodeProto& node = add_node(*g, "If", {"c"}, {fmt::format("o{}", i)});
    g = add_attribute(node, "then_branch", AttributeProto::GRAPH).mutable_g();
  }
  expect_rejected(m, ErrorCode::kInvalidModel, "nested deeper");
  for (int i = 0; i < 200; ++i)
    g = add_attribute(add_node(*g, "If", {"c"}, {"o"}), "then_branch", AttributeProto::GRAPH).mutable_g();
  expect_rejected(m, ErrorCode::kInvalidModel, "damaged");  // protobuf's own limit
}

TEST(OnnxImport, SubgraphsReadOuterValuesThroughCaptures) {
  ModelProto m = small_model();
  GraphProto& g = *m.mutable_graph();
  set_info(*g.add_input(), "c", TensorProto::BOOL, {});
  NodeProto& node = add_node(g, "If", {"c"}, {"o"});
  for (const char* branch : {"then_branch", "else_branch"}) {
    GraphProto& sub = *add_attribute(node, branch, AttributeProto::GRAPH).mutable_g();
    sub.set_name(branch);
    NodeProto& inner = add_node(sub, "If", {"c"}, {"r"});
    for (const char* inner_branch : {"then_branch", "else_branch"}) {
      GraphProto& leaf = *add_attribute(inner, inner_branch, AttributeProto::GRAPH).mutable_g();
      add_node(leaf, "Add", {"y", "w"}, {"s"});
      leaf.add_output()->set_name("s");
    }
    sub.add_output()->set_name("r");
  }
  g.add_output()->set_name("o");
  const Graph graph = parse(m);
  const Node& outer = *graph.producer(graph.outputs()[1]);
  EXPECT_EQ(outer.captures.size(), 3u);  // c, y, w
  const Graph& branch = *std::get<GraphPtr>(outer.attributes.at("then_branch"));
  EXPECT_EQ(branch.producer(branch.outputs()[0])->captures.size(), 2u);
  // Back through ONNX, names of captures are names outside.
  const auto bytes = serialize_onnx(graph);
  const Graph again = parse_onnx(bytes);
  EXPECT_EQ(to_text(parse_onnx(serialize_onnx(again))), to_text(again));
}

// Functions: double(x) = x + x; scaled(x; k = 3, axis) uses Constant(value_float = k), calls double twice.
ModelProto function_model() {
  ModelProto m = small_model();
  onnx::FunctionProto& twice = *m.add_functions();
  twice.set_name("twice");
  twice.set_domain("local");
  twice.add_input("a");
  twice.add_output("b");
  NodeProto& add = *twice.add_node();
  add.set_op_type("Add");
  add.add_input("a");
  add.add_input("a");
  add.add_output("b");
  onnx::FunctionProto& scaled = *m.add_functions();
  scaled.set_name("scaled");
  scaled.set_domain("local");
  scaled.add_input("a");
  scaled.add_output("out");
  scaled.add_output("same");
  AttributeProto k;
  k.set_name("k");
  k.set_type(AttributeProto::FLOAT);
  k.set_f(3);
  scaled.mutable_unknown_fields()->AddLengthDelimited(11, k.SerializeAsString());
  NodeProto& constant = *scaled.add_node();
  constant.set_op_type("Constant");
  constant.add_output("y");  // the name of a value of the model
  add_attribute(constant, "value_float", AttributeProto::FLOAT).set_ref_attr_name("k");
  NodeProto& mul = *scaled.add_node();
  mul.set_op_type("Mul");
  mul.add_input("a");
  mul.add_input("y");
  mul.add_output("t");
  NodeProto& call = *scaled.add_node();
  call.set_op_type("twice");
  call.set_domain("local");
  call.add_input("t");
  call.add_output("out");
  NodeProto& same = *scaled.add_node();
  same.set_op_type("Identity");
  same.add_input("a");
  same.add_output("same");
  for (auto& function : *m.mutable_functions()) {
    function.add_opset_import()->set_version(17);
    auto* local = function.add_opset_import();
    local->set_domain("local");
    local->set_version(1);
  }
  NodeProto& first = add_node(*m.mutable_graph(), "scaled", {"y"}, {"z", "s"});
  first.set_domain("local");
  first.set_name("first");
  add_attribute(first, "k", AttributeProto::FLOAT).set_f(5);
  NodeProto& second = add_node(*m.mutable_graph(), "scaled", {"y"}, {"z2"});
  second.set_domain("local");
  m.mutable_graph()->add_output()->set_name("z");
  m.mutable_graph()->add_output()->set_name("z2");
  return m;
}

TEST(OnnxFunctions, AreInlinedWithAttributesAndFreshNames) {
  const Graph g = parse(function_model());
  const std::string text = to_text(g);
  for (const char* part : {"%first/y : f32[] = {5}", "%scaled/y : f32[] = {3}", "%first/t : f32[2] = Mul(%y, %first/y)",
                           "%z : f32[2] = Add(%first/t, %first/t)", "%z2 : f32[2] = Add(%scaled/t, %scaled/t)",
                           "%s : f32[2] = Identity(%y)"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(text.find("local."), std::string::npos);
}

TEST(OnnxFunctions, AreBounded) {
  ModelProto circle = function_model();
  circle.mutable_functions(0)->mutable_node(0)->set_op_type("twice");
  circle.mutable_functions(0)->mutable_node(0)->set_domain("local");
  circle.mutable_functions(0)->mutable_node(0)->mutable_input()->RemoveLast();
  expect_rejected(circle, ErrorCode::kInvalidModel, "in a circle");

  ModelProto bomb = small_model();  // 2^22 nodes
  for (int level = 0; level < 22; ++level) {
    auto& f = *bomb.add_functions();
    f.set_name(fmt::format("f{}", level));
    f.set_domain("local");
    f.add_input("a");
    f.add_output("b");
    for (const auto& [from, to] : {std::pair("a", "m"), std::pair("m", "b")}) {
      NodeProto& n = *f.add_node();
      n.set_op_type(level == 21 ? "Neg" : fmt::format("f{}", level + 1));
      if (level < 21) n.set_domain("local");
      n.add_input(from);
      n.add_output(to);
    }
    f.add_opset_import()->set_version(17);
  }
  add_node(*bomb.mutable_graph(), "f0", {"x"}, {"z"}).set_domain("local");
  expect_rejected(bomb, ErrorCode::kInvalidModel, "absurd size");

  ModelProto arity = function_model();
  arity.mutable_graph()->mutable_node(1)->add_input("x");
  expect_rejected(arity, ErrorCode::kInvalidModel, "too many inputs");
  ModelProto twice = function_model();
  *twice.add_functions() = twice.functions(0);
  expect_rejected(twice, ErrorCode::kInvalidModel, "one name");
  twice.mutable_functions(2)->mutable_unknown_fields()->AddLengthDelimited(13, "other");  // an overload of its own
  EXPECT_NO_THROW(parse(twice));
}

TEST(OnnxFunctions, OtherOpsetsMustMeanTheSame) {
  ModelProto m = function_model();
  m.mutable_functions(0)->mutable_opset_import(0)->set_version(14);  // Add is the same in 14 and 17
  EXPECT_NO_THROW(parse(m));
  m.mutable_functions(0)->mutable_opset_import(0)->set_version(6);
  expect_rejected(m, ErrorCode::kUnsupported, "another opset than the model");
}

TEST(OnnxExternalData, IsReadAtItsPlace) {
  const OnnxFolder folder;
  const float values[] = {0, 1.5f, 2.5f, 3};
  folder.file("w.bin", {reinterpret_cast<const char*>(values), sizeof values});
  ModelProto m = small_model();
  const auto contents = [&](const std::string& offset, const std::string& length) {
    make_external(*m.mutable_graph()->mutable_initializer(0), "w.bin", offset, length);
    const Graph g = load_onnx(folder.file("m.onnx", m.SerializeAsString()));
    const auto span = g.constant(g.find("w"))->values<float>();
    return std::vector<float>(span.begin(), span.end());
  };
  EXPECT_EQ(contents("4", "8"), (std::vector<float>{1.5f, 2.5f}));
  EXPECT_EQ(contents("", ""), (std::vector<float>{0, 1.5f}));
  const std::string shifted = "x" + std::string(reinterpret_cast<const char*>(values), sizeof values);
  folder.file("w.bin", shifted);
  EXPECT_EQ(contents("5", "8"), (std::vector<float>{1.5f, 2.5f}));  // not aligned: copied
}

// A mapping would end the process, or show other weights.
TEST(OnnxExternalData, StaysWhateverBecomesOfTheFile) {
  const OnnxFolder folder;
  ModelProto m = small_model();
  make_external(*m.mutable_graph()->mutable_initializer(0), "w.bin");
  const std::string path = folder.file("m.onnx", m.SerializeAsString());
  for (const bool truncates : {true, false}) {
    const std::string data = folder.file("w.bin", {"12345678", 8});
    const Graph g = load_onnx(path);
    if (truncates)
      fs::resize_file(data, 0);
    else
      std::ofstream(data, std::ios::in | std::ios::binary) << "abcdefgh";
    EXPECT_EQ(std::memcmp(g.constant(g.find("w"))->raw(), "12345678", 8), 0);
  }
}

TEST(OnnxExternalData, MayNotLeaveTheFolderOrTheFile) {
  const OnnxFolder folder;
  folder.file("w.bin", "12345678");
  fs::create_directories(folder.path + "/inside/deep");
  folder.file("inside/deep/w.bin", "12345678");
  fs::create_symlink(folder.path + "/w.bin", folder.path + "/inside/link.bin");
  fs::create_symlink("/", folder.path + "/inside/root");
  const auto load = [&](const std::string& location, const std::string& offset = "", const std::string& length = "") {
    ModelProto m = small_model();
    make_external(*m.mutable_graph()->mutable_initializer(0), location, offset, length);
    return [m, path = folder.path + "/inside"] { parse(m, path); };
  };
  const ErrorCode bad = ErrorCode::kInvalidModel;
  EXPECT_NO_THROW(load("deep/w.bin")());
  EXPECT_NO_THROW(load("./deep/w.bin", "0", "8")());
  expect_error(load("../w.bin"), bad, "must lie in the model's folder");
  expect_error(load("deep/../../w.bin"), bad, "must lie in the model's folder");
  expect_error(load(".."), bad, "must lie in the model's folder");
  expect_error(load(""), bad, "must lie in the model's folder");
  expect_error(load("/etc/passwd"), bad, "must lie in the model's folder");
  expect_error(load("link.bin"), bad, "leads out of the model's folder");
  expect_error(load("root/etc/passwd"), bad, "leads out of the model's folder");
  expect_error(load("missing.bin"), ErrorCode::kNotFound, "missing");
  expect_error(load("deep"), ErrorCode::kIo, "not a regular file");
  expect_error(load("deep/w.bin", "1"), bad, "outside its external file");
  expect_error(load("deep/w.bin", "18446744073709551615"), bad, "outside its external file");
  expect_error(load("deep/w.bin", "-1"), bad, "offset is no number");
  expect_error(load("deep/w.bin", "0", "4"), bad, "4 bytes for 8");
  expect_error(load("deep/w.bin", "0", "99999999999999999999"), bad, "length is no number");
  ModelProto bytes_only = small_model();
  make_external(*bytes_only.mutable_graph()->mutable_initializer(0), "w.bin");
  expect_rejected(bytes_only, bad, "open it from its folder");
  ModelProto huge = small_model();
  make_external(*huge.mutable_graph()->mutable_initializer(0), "deep/w.bin");
  huge.mutable_graph()->mutable_initializer(0)->set_dims(0, int64_t{1} << 46);
  expect_error([&] { parse(huge, folder.path + "/inside"); }, bad, "outside its external file");
}

TEST(NotOnnx, EachFormatIsAnsweredWithTheCommandThatHelps) {
  const OnnxFolder folder;
  const auto expect_answer = [&](const std::string& name, std::string_view contents, const std::string& part) {
    const std::string path = folder.file(name, contents);
    expect_error([&] { load_onnx(path); }, ErrorCode::kInvalidModel, part);
    expect_error([&] { load_onnx(path); }, ErrorCode::kInvalidModel, path);
  };
  using namespace std::string_view_literals;
  const std::string zip = "PK\x03\x04";
  expect_answer("m.pt", zip + "archive/data.pkl" + zip + "archive/version", "PyTorch checkpoint");
  expect_answer("m.pt", zip + "m/data.pkl" + zip + "m/code/__torch__.py" + zip + "m/constants.pkl", "torch.jit.load");
  expect_answer("m.pt2", zip + "m/archive_format" + zip + "m/data/weights", "torch.export.load");
  expect_answer("m.keras", zip + "config.json" + zip + "model.weights.h5", "Keras");
  expect_answer("m.zip", zip + "readme.txt", "zip archive");
  expect_answer("m.pth", "\x80\x02\x8a\x0al\xfc\x9c", "torch.onnx.export");
  expect_answer("m.tflite", "\x1c\x00\x00\x00TFL3\x00\x00"sv, "tf2onnx.convert --tflite");
  expect_answer("m.h5", "\x89HDF\r\n\x1a\n\0\0"sv, "Keras HDF5");
  expect_answer("frozen.pb", "\x0a\x1c\x0a\x05input\x12\x0bPlaceholder\x2a\x06\x0a\x01x"sv, "--graphdef");
  expect_answer("saved_model.pb", "\x08\x01\x12\x04\x0a\x02\x08\x01"sv, "--saved-model " + folder.path);
  fs::remove(folder.path + "/saved_model.pb");
  expect_answer("input_0.pb", "\x08\x01\x10\x01\x4a\x04\0\0\0\0"sv, "This is a tensor");
  expect_answer("m.ort", "\x18\x00\x00\x00ORTM\x00"sv, "ONNX Runtime's own format");
  expect_answer("m.onnx.gz", "\x1f\x8b\x08\x00"sv, "gunzip");
  expect_answer("m.npy", "\x93NUMPY\x01"sv, "NumPy");
  expect_answer("m.onnx", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
  expect_answer("m.onnx", "", "empty");
  expect_answer("m.txt", "Dear reader, this is a letter.\n", "text file");
  expect_answer("noise", "\xff\xfe\x00\x01\x02\x03"sv, "no ONNX file");
  expect_error([&] { load_onnx(folder.path + "/gone.onnx"); }, ErrorCode::kNotFound, "no such file");
  folder.file("saved_model.pb", "\x08\x01");
  expect_error([&] { load_onnx(folder.path); }, ErrorCode::kInvalidModel, "--saved-model");
  fs::remove(folder.path + "/saved_model.pb");
  expect_error([&] { load_onnx(folder.path); }, ErrorCode::kInvalidModel, "This is a folder");
}

TEST(NotOnnx, EveryTruncationIsAnswered) {
  const std::string whole = small_model().SerializeAsString();
  for (size_t n = 0; n < whole.size(); ++n) {
    try {
      parse_onnx(std::as_bytes(std::span(whole.data(), n)));
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::kInternal);
      continue;
    }
    ADD_FAILURE() << "a model cut after " << n << " of " << whole.size() << " bytes was read";
  }
}

TEST(NotOnnx, AFileAboveTwoGigabytesIsRefusedUnread) {
  const OnnxFolder folder;
  const std::string path = folder.file("big.onnx", "\x08\x08");
  fs::resize_file(path, (uint64_t{2} << 30) + 1);  // sparse
  expect_error([&] { load_onnx(path); }, ErrorCode::kInvalidModel, "2 GB");
}

std::string through_onnx(const std::string& text) {
  Graph g = parse_text(text);
  return to_text(parse_onnx(serialize_onnx(g)));
}

TEST(OnnxExport, RoundTrips) {
  const std::string text = R"(graph "g" ir 10 opset {"": 21, "com.example": 3} {
  doc "d"
  producer "slipway" ")" SLIPWAY_VERSION R"("
  metadata "k" = "v"
  input %x : f32[N,"odd symbol",3]
  input %free : f32*
  const %w : f32[3] = {1, nan:0x7fc00001, -0}
  const %h : f16[] = {1.5}
  const %i4 : i4[3] = {-8, 7, 1}
  const %f8 : f8e4m3fn[1] = base64 "OA=="
  const %s : string[1] = {"text"}
  const %hi : f32[] = {6}
  %a : f32[N,"odd symbol",3] = Add(%x, %w) "add"
  %c : f32[N,"odd symbol",3] = Max(%a, %hi) {f = 1.0, floats = [1.0, 2.5], i = -1, ints = [1, 2], s = "s", strings = ["a", "b"], t = f32[2] {1, 2}, ts = [f32[] {1}, u8[1] {2}]} "max"
  output %c, %w, %free
}
)";
  EXPECT_EQ(through_onnx(text), text);
}

TEST(OnnxExport, WritesTheIrVersionThatTheOpsetNeeds) {
  const std::pair<int, int> released[] = {{7, 4},  {9, 4},   {10, 5},  {11, 6},  {13, 7},  {17, 8},
                                          {19, 9}, {21, 10}, {23, 11}, {24, 12}, {25, 13}, {27, 13}};
  for (const auto& [opset, ir] : released) {
    Graph g = parse(small_model());
    g.ir_version = 3;
    g.opsets[""] = opset;
    ModelProto m;
    const auto bytes = serialize_onnx(g);
    ASSERT_TRUE(m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    EXPECT_EQ(m.ir_version(), ir) << opset;
    g.add_constant("c", Tensor(DType::kInt4, {3}));  // IR 10 brought 4-bit integers
    const auto more = serialize_onnx(g);
    ASSERT_TRUE(m.ParseFromArray(more.data(), static_cast<int>(more.size())));
    EXPECT_EQ(m.ir_version(), std::max(ir, 10)) << opset;
  }
}

TEST(OnnxExport, WritesTheIrVersionThatATypeNeedsAndReadsItBack) {
  const std::pair<DType, int> released[] = {{DType::kFloat8E5M2, 9},
                                            {DType::kUint4, 10},
                                            {DType::kFloat4E2M1, 11},
                                            {DType::kFloat8E8M0, 12},
                                            {DType::kInt2, 13}};
  for (const auto& [type, ir] : released) {
    Graph g = parse(small_model());
    g.ir_version = 3;
    const Tensor t = from_doubles(type, {5}, std::vector<double>{1, 0, 1, 1, 1});
    g.add_constant("c", t);
    const auto bytes = serialize_onnx(g);
    ModelProto m;
    ASSERT_TRUE(m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    EXPECT_EQ(m.ir_version(), ir) << to_string(type);
    const Graph read = parse(m);
    ASSERT_NE(read.constant(read.find("c")), nullptr);
    EXPECT_TRUE(read.constant(read.find("c"))->identical(t)) << to_string(type);
    auto& typed = *m.mutable_graph()->mutable_initializer(1);
    const std::string raw = typed.raw_data();
    typed.clear_raw_data();
    for (char byte : raw) typed.add_int32_data(static_cast<unsigned char>(byte));  // the other way to write it
    EXPECT_TRUE(parse(m).constant(read.find("c"))->identical(t)) << to_string(type);
  }
}

TEST(OnnxExport, RefusesFusedOperators) {
  const Graph g = parse_text(R"(graph "g" { input %x : f32[1] %y = slipway.Conv(%x, %x) "fused" output %y })");
  expect_error([&] { serialize_onnx(g); }, ErrorCode::kUnsupported, "slipway.Conv 'fused'");
}

TEST(OnnxExport, NamesInSubgraphsNeverShadow) {
  const Graph g = parse_text(R"(graph "g" { input %c : bool[] input %x : f32[1]
    %y = If(%c) captures (%x) {
      then_branch = graph "t" { capture 0 %other %x = Neg(%other) %x_1 = Neg(%x) output %x_1 },
      else_branch = graph "e" { capture 0 %x %y = Neg(%x) output %y }}
    output %y })");
  ModelProto m;
  const auto bytes = serialize_onnx(g);
  ASSERT_TRUE(m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  const auto& node = m.graph().node(0);
  EXPECT_EQ(node.attribute(0).name(), "else_branch");
  EXPECT_EQ(node.attribute(0).g().node(0).input(0), "x");
  EXPECT_EQ(node.attribute(0).g().output(0).name(), "y_1");
  const auto& then_branch = node.attribute(1).g();
  EXPECT_EQ(then_branch.node(0).input(0), "x");
  EXPECT_EQ(then_branch.node(0).output(0), "x_2");
  EXPECT_EQ(then_branch.node(1).input(0), "x_2");
  EXPECT_EQ(then_branch.output(0).name(), "x_1");
}

TEST(OnnxTensorFile, RoundTrips) {
  const OnnxFolder folder;
  const std::string path = folder.path + "/input_0.pb";
  const Tensor t = Tensor::of<float>({2, 2}, {1, 2, 3, 4});
  save_tensor_pb(t, "x", path);
  EXPECT_TRUE(load_tensor_pb(path).identical(t));
  expect_error([&] { load_tensor_pb(folder.file("x.pb", "not a tensor at all")); }, ErrorCode::kInvalidModel, "");
}

}  // namespace
}  // namespace slipway
