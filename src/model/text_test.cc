#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/graph.h"

namespace slipway {
namespace {

// The text of a graph that parses back to the same text is taken as an exact round trip; tensors are compared too.
void expect_round_trip(const std::string& text) { EXPECT_EQ(to_text(parse_text(text)), text); }

std::string error_of(const std::string& text) {
  try {
    parse_text(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidModel);
    return e.what();
  }
  return "no error";
}

TEST(Text, ReadsAndWritesTheUsualForm) {
  expect_round_trip(R"(graph "name" ir 8 opset {"": 13} {
  input %x : f32[N,3,32,32]
  const %w : f32[2] = {1, 2.5}
  %y : f32[N,16,32,32] = Conv(%x, %w, _) {kernel_shape = [3, 3]} "layer1/conv"
  output %y
}
)");
}

TEST(Text, KeepsEverythingThatAGraphHolds) {
  expect_round_trip(R"(graph "a \"b\"\n\xff" ir 10 opset {"": 21, "ai.onnx.ml": 2, "slipway": 1} {
  doc "two\nlines"
  producer "pytorch" "2.1"
  metadata "k" = "v"
  metadata "slipway.preprocess" = "{\"a\": 1}"
  input %x:0 : f32["batch size",?,3]
  input %"odd name" : ?[?]
  input %rank : i64[]
  const %s : string[2] = {"", "\x00%"}
  const %b : bool[2] = {true, false}
  const %q : i4[3] = {-8, 7, 1}
  const %q2 : i2[5] = {-2, 1, 0, -1, 1}
  const %u2 : u2[2] = {3, 0}
  const %u : u4[1] = {15}
  const %e : f32[0,2] = {}
  const %c : c64[1] = base64 "AACAPwAAAEA="
  const %f8 : f8e4m3fn[2] = base64 "OH8="
  const %f4 : f4e2m1[2] = base64 "IQ=="
  %y, _, %z : f32* = slipway.Conv(%x:0, _, %rank) {activation = "Relu", alpha = 1.0, axes = ints[], f = floats[], g = graphs[], s = strings[], t = tensors[]}
  _ = "a b"."op.with.dots"(%y)
  %v : f32[1] = Sum(%y, %y) {ints = [1, -2], list = ["a", "b"], tensor = i8[2] {-128, 127}, tensors = [f32[] {1}, u8[1] {255}]} "sum" origins ["sum_1", "sum"]
  %o = Neg(%v) "renamed" origins ["before"]
  %p = Neg(%v) origins ["nameless"]
  output %o, %o, %z, %rank
}
)");
}

TEST(Text, KeepsFloatsToTheBit) {
  expect_round_trip(R"(graph "" ir 8 opset {"": 17} {
  const %f : f32[9] = {0.1, -0, inf, -inf, nan, nan:0xffc00001, 1e-45, 3.4028235e+38, 16777216}
  const %d : f64[4] = {0.1, nan:0x7ff8000000000001, -inf, 5e-324}
  const %h : f16[5] = {0.099975586, nan:0x7e01, nan, -inf, 65504}
  const %b : bf16[3] = {1.0078125, nan, nan:0xffc0}
  %y = Op() {a = 1.0, b = nan, c = -inf, d = 1e+20, e = -0.0, f = [1.0, nan:0x7fc00001]}
  output %y
}
)");
  const Graph g = parse_text(R"(graph "" { const %f : f32[4] = {0.1, -0, nan:0xffc00001, inf} output %f })");
  const auto values = g.constant(g.find("f"))->values<float>();
  EXPECT_EQ(values[0], 0.1f);
  EXPECT_TRUE(std::signbit(values[1]));
  EXPECT_EQ(std::bit_cast<uint32_t>(values[2]), 0xffc00001u);
  EXPECT_EQ(values[3], std::numeric_limits<float>::infinity());
}

TEST(Text, KeepsLargeConstantsInBase64) {
  std::vector<float> values;
  for (int i = 0; i < 1000; ++i) values.push_back(std::sin(static_cast<float>(i)));
  for (size_t n : {17u, 18u, 19u, 1000u}) {
    Graph g;
    values.resize(std::max(values.size(), n));
    const Tensor t = Tensor::of({static_cast<int64_t>(n)}, std::span<const float>(values.data(), n));
    g.add_output(g.add_constant("c", t));
    EXPECT_TRUE(parse_text(to_text(g)).constant(0)->identical(t)) << n;
    EXPECT_TRUE(parse_text(to_text(g, {.inline_elements = 2000})).constant(0)->identical(t)) << n;
    const std::string elided = to_text(g, {.elide = true});
    EXPECT_NE(elided.find("= ..."), std::string::npos);
    EXPECT_NE(error_of(elided).find("left out"), std::string::npos);
  }
}

TEST(Text, NestsSubgraphsWithCaptures) {
  const std::string text = R"(graph "outer" ir 8 opset {"": 16} {
  input %c : bool[]
  input %x : f32[N]
  %y : f32[N] = If(%c) captures (%x, %c) {else_branch = graph "else" {
    capture 0 %x : f32[N]
    %e = Neg(%x)
    output %e
  }, then_branch = graph "then" opset {"": 17} {
    capture 1 %c : bool[]
    capture 0 %x
    %t = If(%c) captures (%x) {branches = [graph "a" {
      capture 0 %x
      output %x
    }, graph "b" {
    }]}
    output %t
  }}
  output %y
}
)";
  expect_round_trip(text);
  EXPECT_NO_THROW(verify(parse_text(text), false));
}

TEST(Text, TakesCommentsAndLeavesTypesOpen) {
  const Graph g =
      parse_text("# before\ngraph \"g\" { # inside\n input %x : f32[1]\n %y = Relu(%x) # after\n output %y }\n");
  EXPECT_EQ(g.opset(), 17);
  EXPECT_EQ(g.value(g.find("y")).dtype, DType::kUndefined);
  EXPECT_FALSE(g.value(g.find("y")).shape.has_rank());
  EXPECT_EQ(g.node_count(), 1u);
}

TEST(Text, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(error_of("graph \"g\" {\n\n  %y = Relu(%x)\n}"),
            "The text form of a graph can't be read; line 3: a value is used before it is declared, not 'x'");
  const std::pair<const char*, const char*> cases[] = {
      {"", "'graph' is expected, not the end"},
      {"graph \"g\" {", "not the end"},
      {"graph \"g", "a string has no end"},
      {"graph \"\\q\" {}", "unknown escape"},
      {"graph \"g\" {} x", "one graph is expected"},
      {"graph \"g\" { input %x input %x }", "declared twice"},
      {"graph \"g\" { %a, %a = Op() }", "declared twice"},
      {"graph \"g\" { const %x : f32[2] = {1} }", "has 1 elements"},
      {"graph \"g\" { const %x : f32[N] = {1} }", "full type"},
      {"graph \"g\" { const %x : u8[1] = {256} }", "in range"},
      {"graph \"g\" { const %x : i4[1] = {8} }", "4-bit"},
      {"graph \"g\" { const %x : i2[1] = {2} }", "2-bit"},
      {"graph \"g\" { const %x : f32[1] = {1e999} }", "in range"},
      {"graph \"g\" { const %x : f32[1] = base64 \"AAA\" }", "base64"},
      {"graph \"g\" { const %x : f32[1] = base64 \"AAAA!A==\" }", "base64"},
      {"graph \"g\" { const %x : u8[281474976710656,9] = base64 \"AA==\" }", "absurdly large"},
      {"graph \"g\" { const %x : u8[281474976710656] = base64 \"AA==\" }", "base64"},
      {"graph \"g\" { const %x : f32[-1] = {} }", "negative"},
      {"graph \"g\" { %y = Op() {a = []} }", "ints[]"},
      {"graph \"g\" { %y = Op() {a = [1, \"b\"]} }", "mixes kinds"},
      {"graph \"g\" { %y = Op() {a = [[1]]} }", "holds lists"},
      {"graph \"g\" { %y = Op() {a = 1, a = 2} }", "twice"},
      {"graph \"g\" { output _ }", "absent"},
  };
  for (const auto& [text, part] : cases)
    EXPECT_NE(error_of(text).find(part), std::string::npos) << text << "\n" << error_of(text);
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "graph \"g\" { %y = If() {b = ";
  EXPECT_NE(error_of(deep).find("too deeply"), std::string::npos);
}

}  // namespace
}  // namespace slipway
