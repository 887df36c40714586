#include "model/graph.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

std::string error_of(const Graph& graph) {
  try {
    verify(graph, false);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidModel);
    return e.what();
  }
  return "no error";
}

// x → Relu → a → Add(a, c) → b (output), c constant.
struct Chain {
  Graph g;
  ValueId x, c, a, b;
  Chain() {
    g.opsets[""] = 17;
    x = g.add_input("x", DType::kFloat32, Shape({Dim("N")}));
    c = g.add_constant("c", Tensor::of<float>({1}, {2.0f}));
    a = g.add_node({.op_type = "Relu", .name = "relu", .inputs = {x}}, "a");
    b = g.add_node({.op_type = "Add", .name = "add", .inputs = {a, c}}, "b");
    g.add_output(b);
  }
  NodeId relu() const { return g.value(a).producer; }
  NodeId add() const { return g.value(b).producer; }
};

TEST(Graph, KeepsUsesThroughEdits) {
  Chain t;
  EXPECT_EQ(t.g.value(t.a).uses, (std::vector<Use>{{t.add(), 0}}));
  EXPECT_EQ(t.g.only_user(t.a), t.add());
  EXPECT_EQ(t.g.only_user(t.b), kNoNode);
  t.g.set_input(t.add(), 1, t.a);
  EXPECT_EQ(t.g.value(t.a).uses.size(), 2u);
  EXPECT_TRUE(t.g.value(t.c).uses.empty());
  t.g.erase_value(t.c);
  t.g.replace_uses(t.a, t.x);
  t.g.erase_node(t.g.value(t.a).producer);
  EXPECT_NO_THROW(verify(t.g, false));
  EXPECT_EQ(t.g.node_count(), 1u);
  EXPECT_EQ(t.g.find("a"), kNoValue);
}

TEST(Graph, GivesOutputsTheirNamesBack) {
  Chain t;
  t.g.replace_uses(t.b, t.a);  // a node's output takes the name over
  EXPECT_EQ(t.g.value(t.a).name, "b");
  EXPECT_EQ(t.g.outputs(), std::vector<ValueId>{t.a});
  Chain u;
  u.g.replace_uses(u.b, u.x);  // an input keeps its own: an Identity stands between
  const ValueId out = u.g.outputs()[0];
  EXPECT_EQ(u.g.value(out).name, "b");
  EXPECT_TRUE(u.g.producer(out)->is("Identity"));
  EXPECT_NO_THROW(verify(u.g, false));
}

TEST(Graph, NamesStayUnique) {
  Chain t;
  const ValueId second = t.g.add_node({.op_type = "Relu", .inputs = {t.x}}, "a");
  EXPECT_EQ(t.g.value(second).name, "a_1");
  t.g.rename(second, "b");
  EXPECT_EQ(t.g.value(second).name, "b_1");
  EXPECT_EQ(t.g.find("b_1"), second);
}

TEST(Graph, CopiesDeeply) {
  Graph g = parse_text(R"(graph "g" { input %c : bool[] input %x : f32[1]
    %y = If(%c) captures (%x) {then_branch = graph "t" { capture 0 %x output %x }} output %y })");
  Graph copy = g;
  auto& sub = std::get<GraphPtr>(const_cast<Attribute&>(copy.node(0).attributes.at("then_branch")));
  sub->name = "changed";
  EXPECT_EQ(std::get<GraphPtr>(g.node(0).attributes.at("then_branch"))->name, "t");
}

TEST(Graph, OrdersTopologicallyAndFindsCycles) {
  Chain t;
  const ValueId late = t.g.add_node({.op_type = "Neg", .inputs = {t.x}}, "late");
  t.g.set_input(t.relu(), 0, late);  // the first node now waits for the last
  EXPECT_EQ(t.g.topological_order(), (std::vector<NodeId>{t.g.value(late).producer, t.relu(), t.add()}));
  t.g.set_input(t.g.value(late).producer, 0, t.b);
  EXPECT_NE(error_of(t.g).find("cycle"), std::string::npos);
}

TEST(Verify, AcceptsAGoodGraph) { EXPECT_EQ(error_of(Chain().g), "no error"); }

TEST(Verify, FindsACaptureThatPointsNowhere) {
  EXPECT_NE(error_of(parse_text(R"(graph "g" { input %c : bool[]
    %y = If(%c) {then_branch = graph "t" { capture 0 %x output %x }} output %y })"))
                .find("capture points outside"),
            std::string::npos);
  EXPECT_NE(error_of(parse_text(R"(graph "g" { capture 0 %x output %x })")).find("capture points outside"),
            std::string::npos);
}

TEST(Verify, FindsAConstantOfAnotherType) {
  Chain t;
  t.g.set_type(t.c, DType::kInt8, Shape::with_rank(1));
  EXPECT_NE(error_of(t.g).find("constant's type"), std::string::npos);
  t.g.set_type(t.c, DType::kFloat32, Shape::with_rank(1));
  EXPECT_NE(error_of(t.g).find("constant's shape"), std::string::npos);
}

TEST(Verify, FindsADeadOutput) {
  Chain t;
  t.g.add_output(t.g.value_limit());
  EXPECT_NE(error_of(t.g).find("does not exist"), std::string::npos);
}

TEST(Verify, NamesUnknownOperators) {
  Chain t;
  t.g.set_op(t.relu(), "Frobnicate", "com.example");
  try {
    verify(t.g);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(e.what()).find("com.example.Frobnicate 'relu'"), std::string::npos) << e.what();
  }
}

TEST(Verify, InputsThatAnOperatorNeedsMustBeThere) {
  const auto refused = [](const std::string& node) {
    try {
      verify(parse_text("graph \"g\" { input %x : f32[1,1,2,2] %y = " + node + " output %y }"));
    } catch (const Error& error) {
      return std::string_view(error.what()).find("is left out") != std::string_view::npos;
    }
    return false;
  };
  EXPECT_TRUE(refused("Conv(_, %x)"));
  EXPECT_TRUE(refused("Conv(%x, _, %x)"));
  EXPECT_TRUE(refused("Concat(%x, _, %x) {axis = 0}"));
  EXPECT_FALSE(refused("Clip(%x, _, %x)"));
}

}  // namespace
}  // namespace slipway
