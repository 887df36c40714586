// The proof of row independence: what is proven, what is not and why, and that nothing is proven that does not hold (on
// random graphs and on ONNX's own operator cases: rows together against each alone, by the reference).
#include "model/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/op.h"
#include "model/ops/layout.h"

namespace slipway {
namespace {

Tensor random_tensor(DType dtype, const Dims& dims, Random& random) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values) v = is_float(dtype) ? random.normal() : static_cast<double>(random.below(3));
  return from_doubles(dtype, dims, values);
}

void make_constant(Graph& graph, ValueId input, Tensor tensor) {
  graph.replace_uses(input, graph.add_constant("constant", std::move(tensor)));
  graph.erase_value(input);
}

// "" when proven, else the reason.
std::string verdict(const Graph& graph) {
  const RowIndependence rows = prove_row_independence(graph);
  EXPECT_EQ(rows.proven, rows.reason.empty());
  return rows.reason;
}

std::string verdict(std::string_view statements, int opset = 17) {
  Graph graph = parse_text(fmt::format("graph \"g\" ir 8 opset {{\"\": {}}} {{\n{}\n}}", opset, statements));
  Random random(1);
  for (ValueId id : std::vector<ValueId>(graph.inputs()))  // the weights
    if (const Value v = graph.value(id); v.name.starts_with("w_"))
      make_constant(graph, id, random_tensor(v.dtype, v.shape.to_dims(), random));
  return verdict(graph);
}

struct Case {
  const char* what;
  const char* statements;
  const char* mixed_at;  ///< a part of the reason; "" when proven
};

const Case kRowCases[] = {
    {"a convolutional network", R"(
       input %x : f32[N,3,8,8]
       input %w_w : f32[2,3,3,3]
       input %w_v : f32[4,2]
       %a = Conv(%x, %w_w) {pads = [1, 1, 1, 1]}
       %b = GlobalAveragePool(%a)
       %c = Flatten(%b) {axis = 1}
       %d = Gemm(%c, %w_v) {transB = 1}
       %y = Softmax(%d)
       output %y)",
     ""},
    {"what is the same for every row, but for two rows only", R"(
       input %x : f32[N,4]
       input %w_w : f32[4,3]
       const %b : f32[2,1] = {1, 1}
       %y = Gemm(%x, %w_w, %b)
       output %y)",
     "Gemm"},
    {"the same where there are two", R"(
       input %x : f32[2,4]
       input %w_w : f32[4,3]
       const %b : f32[2,1] = {1, 1}
       %y = Gemm(%x, %w_w, %b)
       output %y)",
     ""},
    {"attention as exporters write it, sizes from Shape", R"(
       input %x : f32[N,L,24]
       input %w_w : f32[24,24]
       const %0 : i64[] = {0}
       const %1 : i64[] = {1}
       const %front : i64[1] = {0}
       const %heads : i64[2] = {4, 6}
       const %all : i64[1] = {24}
       const %root : f32[] = {2.5}
       %q0 = MatMul(%x, %w_w)
       %s = Shape(%x)
       %n0 = Gather(%s, %0)
       %l0 = Gather(%s, %1)
       %n = Unsqueeze(%n0, %front)
       %l = Unsqueeze(%l0, %front)
       %to = Concat(%n, %l, %heads) {axis = 0}
       %q1 = Reshape(%q0, %to)
       %q = Transpose(%q1) {perm = [0, 2, 1, 3]}
       %k = Transpose(%q1) {perm = [0, 2, 3, 1]}
       %a = MatMul(%q, %k)
       %b = Div(%a, %root)
       %c = Softmax(%b) {axis = -1}
       %d = MatMul(%c, %q)
       %e = Transpose(%d) {perm = [0, 2, 1, 3]}
       %back = Concat(%n, %l, %all) {axis = 0}
       %y = Reshape(%e, %back)
       output %y)",
     ""},
    {"attention with heads folded into the batch", R"(
       input %x : f32[N,5,24]
       const %fold : i64[3] = {-1, 5, 6}
       const %split : i64[4] = {0, 5, 4, 6}
       const %back : i64[4] = {-1, 4, 5, 6}
       const %out : i64[3] = {0, 5, 24}
       %a = Reshape(%x, %split)
       %b = Transpose(%a) {perm = [0, 2, 1, 3]}
       %c = Reshape(%b, %fold)
       %d = Transpose(%c) {perm = [0, 2, 1]}
       %e = MatMul(%c, %d)
       %f = Softmax(%e) {axis = -1}
       %g = MatMul(%f, %c)
       %h = Reshape(%g, %back)
       %i = Transpose(%h) {perm = [0, 2, 1, 3]}
       %y = Reshape(%i, %out)
       output %y)",
     ""},
    {"a dense layer over time steps, folded into the batch", R"(
       input %x : f32[N,T,8]
       input %w_w : f32[8,8]
       const %fold : i64[2] = {-1, 8}
       %a = Reshape(%x, %fold)
       %b = MatMul(%a, %w_w)
       %s = Shape(%x)
       %y = Reshape(%b, %s)
       output %y)",
     ""},
    {"a recurrent layer over axis 1 with states of the batch's size", R"(
       input %x : f32[N,7,3]
       input %w_w : f32[1,8,3]
       input %w_r : f32[1,8,2]
       const %zero : i64[] = {0}
       const %front : i64[1] = {0}
       const %one : i64[1] = {1}
       const %two : i64[1] = {2}
       %t = Transpose(%x) {perm = [1, 0, 2]}
       %s = Shape(%x)
       %n0 = Gather(%s, %zero)
       %n = Unsqueeze(%n0, %front)
       %to = Concat(%one, %n, %two) {axis = 0}
       %h = ConstantOfShape(%to)
       %a, %b, %c = LSTM(%t, %w_w, %w_r, _, _, %h, %h) {hidden_size = 2}
       %y = Squeeze(%b, %front)
       output %y)",
     ""},
    {"a class token for every row", R"(
       input %x : f32[N,4,3]
       input %w_token : f32[1,1,3]
       const %zero : i64[1] = {0}
       const %ones : i64[2] = {1, 1}
       %s = Shape(%x)
       %n = Gather(%s, %zero)
       %to = Concat(%n, %ones) {axis = 0}
       %t = Expand(%w_token, %to)
       %y = Concat(%t, %x) {axis = 1}
       output %y)",
     ""},
    {"embeddings looked up by each row's tokens", R"(
       input %x : i64[N,L]
       input %w_table : f32[50,4]
       %e = Gather(%w_table, %x)
       %y = ReduceMean(%e) {axes = [1]}
       output %y)",
     ""},
    {"two inputs, einsum, a slice of everything", R"(
       input %x : f32[N,4,3]
       input %z : f32[N,5,3]
       const %start : i64[1] = {0}
       const %end : i64[1] = {9223372036854775807}
       %a = Einsum(%x, %z) {equation = "bij,bkj->bik"}
       %y = Slice(%a, %start, %end, %start)
       output %y)",
     ""},
    {"sizes of another axis that inference can't compute", R"(
       input %x : f32[N,1,L]
       input %w_w : f32[4,1,3]
       const %0 : i64[] = {0}
       const %2 : i64[] = {2}
       const %front : i64[1] = {0}
       const %heads : i64[2] = {2, 2}
       %a = Conv(%x, %w_w) {strides = [2]}
       %s = Shape(%a)
       %n0 = Gather(%s, %0)
       %l0 = Gather(%s, %2)
       %n = Unsqueeze(%n0, %front)
       %l = Unsqueeze(%l0, %front)
       %to = Concat(%n, %heads, %l) {axis = 0}
       %y = Reshape(%a, %to)
       output %y)",
     ""},
    {"less the mean of the batch", R"(
       input %x : f32[N,3]
       %m = ReduceMean(%x) {axes = [0], keepdims = 1}
       %y = Sub(%x, %m)
       output %y)",
     "ReduceMean"},
    {"divided by the number of rows", R"(
       input %x : f32[N,3]
       const %0 : i64[] = {0}
       %s = Shape(%x)
       %n = Gather(%s, %0)
       %f = Cast(%n) {to = 1}
       %y = Div(%x, %f)
       output %y)",
     "depends on the number of rows"},
    {"every row with every other", R"(
       input %x : f32[N,3]
       %t = Transpose(%x)
       %y = MatMul(%x, %t)
       output %y)",
     "MatMul"},
    {"a softmax over the batch", R"(
       input %x : f32[N,3]
       %y = Softmax(%x) {axis = 0}
       output %y)",
     "Softmax"},
    {"padding of the batch", R"(
       input %x : f32[N,3]
       const %pads : i64[4] = {1, 0, 0, 0}
       %y = Pad(%x, %pads)
       output %y)",
     "Pad"},
    {"a sequence in the place of the batch", R"(
       input %x : f32[S,1,3]
       input %w_w : f32[1,8,3]
       input %w_r : f32[1,8,2]
       %y = LSTM(%x, %w_w, %w_r) {hidden_size = 2}
       output %y)",
     "LSTM"},
    {"neighbours through a reshape", R"(
       input %x : f32[N,6]
       const %to : i64[3] = {1, -1, 4}
       %y = Reshape(%x, %to)
       output %y)",
     "Reshape"},
    {"one row of all features", R"(
       input %x : f32[N,6]
       const %to : i64[2] = {1, -1}
       %y = Reshape(%x, %to)
       output %y)",
     "axis 1"},
    {"a table of positions as long as the batch", R"(
       input %x : f32[N,3]
       input %w_t : f32[4,3]
       %y = Add(%x, %w_t)
       output %y)",
     "Add"},
    {"rows against features", R"(
       input %x : f32[N,3]
       input %z : f32[N]
       const %axis : i64[1] = {0}
       %u = Unsqueeze(%z, %axis)
       %y = Mul(%x, %u)
       output %y)",
     "different axes"},
    {"one scale for all rows, from all rows", R"(
       input %x : f32[N,3]
       %q, %s, %z = DynamicQuantizeLinear(%x)
       %y = DequantizeLinear(%q, %s, %z)
       output %y)",
     "DynamicQuantizeLinear"},
    {"a scalar input", R"(
       input %x : f32[N,3]
       input %z : f32[]
       %y = Mul(%x, %z)
       output %y)",
     "'z' has no first axis"},
    {"an output without rows", R"(
       input %x : f32[N,3]
       const %c : f32[2] = {1, 2}
       %d = Relu(%c)
       %y = Relu(%x)
       output %y
       output %d)",
     "'d' does not depend"},
    {"several rows for each", R"(
       input %x : f32[N,6]
       const %to : i64[2] = {-1, 3}
       %y = Reshape(%x, %to)
       output %y)",
     "several rows"},
    {"the batch's size along another axis", R"(
       input %x : f32[N,N]
       %y = Relu(%x)
       output %y)",
     "axis 1 too"},
    {"what only looks like the batch's size", R"(
       input %x : f32[N,L]
       const %0 : i64[] = {0}
       const %one : i64[1] = {1}
       const %front : i64[1] = {0}
       %z = NonZero(%x)
       %s = Shape(%z)
       %n0 = Gather(%s, %one)
       %to = Concat(%n0, %one) {axis = 0}
       %y = ConstantOfShape(%to)
       output %y)",
     "NonZero"},
    {"random numbers", R"(
       input %x : f32[N,3]
       %r = RandomNormalLike(%x)
       %y = Add(%x, %r)
       output %y)",
     "random"},
    {"a branch that reads the rows", R"(
       input %x : f32[N,3]
       const %c : bool[] = {true}
       %y = If(%c) captures (%x) {then_branch = graph "t" {
         capture 0 %a : f32[N,3]
         %b = Relu(%a)
         output %b
       }, else_branch = graph "e" {
         capture 0 %d : f32[N,3]
         %e = Abs(%d)
         output %e
       }}
       output %y)",
     ""},
};

TEST(Rows, ProvesWhatHoldsAndNamesWhatMixes) {
  for (const Case& c : kRowCases) {
    SCOPED_TRACE(c.what);
    std::string reason;
    try {
      reason = verdict(c.statements);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      continue;
    }
    if (*c.mixed_at == '\0')
      EXPECT_EQ(reason, "");
    else
      EXPECT_NE(reason.find(c.mixed_at), std::string::npos) << "reason: '" << reason << "'";
  }
}

// The rows in the order given.
std::vector<Tensor> in_order(const std::vector<Tensor>& tensors, const std::vector<int>& axes,
                             const std::vector<int64_t>& order) {
  std::vector<Tensor> parts;
  for (size_t k = 0; k < tensors.size(); ++k) {
    const Tensor& t = tensors[k];
    if (axes[k] < 0) {
      parts.push_back(t);
      continue;
    }
    const auto axis = static_cast<size_t>(axes[k]);
    Dims dims = t.dims();
    const int64_t rows = dims[axis];
    int64_t inner = 1;
    for (size_t i = axis + 1; i < dims.size(); ++i) inner *= dims[i];
    dims[axis] = static_cast<int64_t>(order.size());
    std::vector<int64_t> sources;
    for (int64_t outer = 0; outer < t.elements() / std::max<int64_t>(rows * inner, 1); ++outer)
      for (int64_t row : order)
        for (int64_t i = 0; i < inner; ++i) sources.push_back((outer * rows + row) * inner + i);
    parts.push_back(pick(t, dims, sources));
  }
  return parts;
}

// Of a model that is proven: whatever rows are computed together, each comes out the same. "" or what differs.
std::string broken_promise(const Graph& graph, const std::vector<Tensor>& inputs, bool any_count,
                           const RowIndependence& rows) {
  const std::vector<Tensor> whole = evaluate(graph, inputs);
  int64_t count = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (rows.inputs[i] >= 0) count = inputs[i].dims()[static_cast<size_t>(rows.inputs[i])];
  std::vector<std::vector<int64_t>> orders;
  for (int64_t row = 0; row < count; ++row) {
    if (any_count) orders.push_back({row});
    orders.emplace_back(static_cast<size_t>(count), row);
    orders.emplace_back();
    for (int64_t i = 0; i < count; ++i) orders.back().push_back((i + row) % count);
  }
  for (const std::vector<int64_t>& order : orders) {
    const std::vector<Tensor> part = evaluate(graph, in_order(inputs, rows.inputs, order)),
                              expected = in_order(whole, rows.outputs, order);
    for (size_t i = 0; i < part.size(); ++i)
      if (!part[i].identical(expected[i])) return fmt::format("output {} for rows {}", i, to_string(order));
  }
  return "";
}

template <typename T>
const T& one_of(const std::vector<T>& list, Random& random) {
  return list[static_cast<size_t>(random.below(list.size()))];
}

// Three rows.
std::vector<Tensor> inputs_of(const Graph& graph, Random& random) {
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs()) {
    Dims dims;
    for (const Dim& d : graph.value(id).shape.dims()) dims.push_back(d.is_known() ? d.value() : 3);
    inputs.push_back(random_tensor(graph.value(id).dtype, dims, random));
  }
  return inputs;
}

// A graph of up to `size` nodes over [N,2,3], or [2,N,3] and what has no rows, operators, operands and attributes drawn
// from the registry and from short lists without regard to sense; what can't be inferred or evaluated is taken back.
Graph random_graph(size_t size, bool first, Random& random) {
  static const std::vector<std::vector<int64_t>> kLists = {
      {0},       {1},       {-1},      {2},       {0, 1},  {1, 2}, {0, -1},
      {1, 0},    {0, 0, 6}, {-1, 6},   {1, -1},   {-1, 3}, {1, 1}, {2, 2},
      {0, 2, 1}, {1, 0, 2}, {2, 1, 0}, {1, 1, 1}, {0, 0},  {3},    {0, 0, 0, 0, 0, 1}};
  static const std::vector<Dims> kShapes = {{}, {1}, {2}, {3}, {1, 3}, {2, 3}, {3, 2}, {1, 2, 3}, {2, 1, 3}, {3, 3, 3}};
  static const std::vector<const char*> kEquations = {"nab,nab->na", "nab,nac->nbc", "nab->ban", "nab,mab->nm"};
  static const std::vector<const OpSpec*> kOps = all_ops();
  Graph graph;
  graph.opsets[""] = one_of<int64_t>({11, 13, 17, 18}, random);
  const Dim n{std::string("N")};
  std::vector<ValueId> pool = {
      graph.add_input("x", DType::kFloat32, first ? Shape({n, Dim(2), Dim(3)}) : Shape({Dim(2), n, Dim(3)}))};
  if (random.below(2) == 0) pool.push_back(graph.add_input("t", DType::kInt64, Shape({n, Dim(2)})));
  if (!first && random.below(2) == 0)
    pool.push_back(graph.add_input("s", DType::kFloat32, Shape({Dim(random.below(2) == 0 ? 1 : 2), Dim(1), Dim(3)})));
  const std::vector<Tensor> probe = inputs_of(graph, random);
  for (size_t tries = 0; tries < 60 * size && graph.node_count() < size; ++tries) {
    const OpSpec& spec = *one_of(kOps, random);
    if (!spec.domain.empty() || spec.eval == nullptr || spec.has(kHasSubgraph)) continue;
    Graph grown = graph;
    NodeSpec node{.op_type = std::string(spec.name)};
    const int most = spec.max_inputs < 0 ? 3 : spec.max_inputs;
    const auto count =
        spec.min_inputs + static_cast<int>(random.below(static_cast<uint64_t>(most - spec.min_inputs + 1)));
    for (int i = 0; i < count; ++i) {
      const uint64_t kind = i == 0 ? 0 : random.below(4);
      if (kind <= 1) {
        node.inputs.push_back(random.below(2) == 0 ? pool.back() : one_of(pool, random));
      } else if (kind == 2) {
        const std::vector<int64_t>& list = one_of(kLists, random);
        node.inputs.push_back(grown.add_constant("c", Tensor::of<int64_t>({static_cast<int64_t>(list.size())}, list)));
      } else {
        node.inputs.push_back(grown.add_constant("c", random_tensor(DType::kFloat32, one_of(kShapes, random), random)));
      }
    }
    for (const char* name : {"axis", "keepdims", "transA", "transB", "batch_dims", "to", "layout", "select_last_index"})
      if (random.below(3) == 0)
        node.attributes.emplace(name, std::string_view(name) == "to" ? one_of<int64_t>({1, 7}, random)
                                                                     : static_cast<int64_t>(random.below(4)) - 1);
    for (const char* name : {"axes", "perm", "pads", "kernel_shape", "split"})
      if (random.below(4) == 0) node.attributes.emplace(name, one_of(kLists, random));
    node.attributes.emplace("equation", std::string(one_of(kEquations, random)));
    std::vector<std::string> names(static_cast<size_t>(std::max(spec.min_outputs, 1)), "v");
    try {
      const NodeId id = grown.add_node(std::move(node), names);
      for (ValueId v : grown.node(id).outputs) grown.add_output(v);
      infer_shapes(grown);
      for (ValueId v : grown.outputs())
        if (!is_tensor(grown.value(v).dtype)) fail(ErrorCode::kUnsupported, "no tensor");
      for (const Tensor& t : evaluate(grown, probe))
        if (t.elements() > 4096) fail(ErrorCode::kUnsupported, "too large");
      grown.clear_outputs();
      const std::vector<ValueId> fresh = grown.node(id).outputs;
      pool.insert(pool.end(), fresh.begin(), fresh.end());
      graph = std::move(grown);
    } catch (const Error&) {
    }
  }
  graph.add_output(pool.back());
  std::vector<NodeId> order = graph.topological_order();
  std::reverse(order.begin(), order.end());
  for (NodeId id : order) {
    const std::vector<ValueId>& outputs = graph.node(id).outputs;
    const auto is_dead = [&](ValueId v) { return graph.value(v).uses.empty() && v != graph.outputs()[0]; };
    if (std::all_of(outputs.begin(), outputs.end(), is_dead)) graph.erase_node(id);
  }
  return graph;
}

RowIndependence found_in(std::string_view statements) {
  return find_row_independence(parse_text(fmt::format("graph \"g\" ir 8 opset {{\"\": 17}} {{\n{}\n}}", statements)));
}

TEST(Rows, AreFoundAlongOtherAxes) {
  // A stream: its state has the batch along axis 1, the rate none.
  const RowIndependence stream = found_in(R"(
    input %x : f32[batch,T]
    input %rate : i64[]
    input %state : f32[2,batch,T]
    %r = Cast(%rate) {to = 1}
    %scaled = Mul(%x, %r)
    %next = Add(%state, %scaled)
    output %scaled, %next, %r)");
  EXPECT_EQ(stream.reason, "");
  EXPECT_EQ(stream.inputs, (std::vector<int>{0, -1, 1}));
  EXPECT_EQ(stream.outputs, (std::vector<int>{0, 1, -1}));
  EXPECT_FALSE(stream.along_first());
  // Time first; the steps depend on each other.
  const RowIndependence steps = found_in(R"(
    input %x : f32[T,N,4]
    const %axis : i64[] = {0}
    %y = CumSum(%x, %axis)
    output %y)");
  EXPECT_EQ(steps.inputs, (std::vector<int>{1}));
  EXPECT_EQ(steps.outputs, (std::vector<int>{1}));
  // Without names.
  const RowIndependence unnamed = found_in(R"(
    input %x : f32[?,?]
    input %state : f32[2,?,1]
    %next = Add(%state, %x)
    output %next)");
  EXPECT_EQ(unnamed.inputs, (std::vector<int>{0, 1})) << unnamed.reason;
  EXPECT_FALSE(found_in(R"(
    input %nodes : f32[V,3]
    input %edges : i64[2,E]
    const %zero : i64[] = {0}
    %from = Gather(%edges, %zero) {axis = 0}
    %y = Gather(%nodes, %from) {axis = 0}
    output %y)")
                   .proven)
      << "each edge is a row, but nobody sends the same nodes with others";
  EXPECT_TRUE(found_in("input %x : f32[N,3]\n%y = Relu(%x)\noutput %y").along_first());
  EXPECT_FALSE(found_in("input %x : f32[2,3]\ninput %s : f32[]\n%y = Mul(%x, %s)\noutput %y").proven);
  const RowIndependence mixed = found_in(R"(
    input %x : f32[A,B]
    %m = ReduceMean(%x) {keepdims = 1}
    %y = Sub(%x, %m)
    output %y)");
  EXPECT_FALSE(mixed.proven);
  EXPECT_NE(mixed.reason.find("ReduceMean"), std::string::npos);
}

TEST(Rows, GoThroughTheBranchesThatAllOfThemTake) {
  const auto reason = [](std::string_view condition, std::string_view other) {
    return found_in(fmt::format(R"(
    input %x : f32[N,3]
    input %rate : i64[]
    const %known : i64[] = {{8000}}
    %slow = Equal(%rate, %known)
    %h = Relu(%x)
    %m = ReduceMax(%x) {{keepdims = 0}}
    %own = Equal(%m, %m)
    %y = If({}) captures (%h, %known) {{else_branch = graph "else" {{
      capture 0 %h
      %a = {}
      output %a
    }}, then_branch = graph "then" {{
      capture 0 %h
      capture 1 %k
      %f = Cast(%k) {{to = 1}}
      %b = Mul(%h, %f)
      output %b
    }}}}
    output %y)",
                                condition, other))
        .reason;
  };
  EXPECT_EQ(reason("%slow", "Neg(%h)"), "");
  EXPECT_NE(reason("%own", "Neg(%h)"), "") << "what the rows hold decides for all of them";
  EXPECT_NE(reason("%slow", "Transpose(%h)").find("different ways"), std::string::npos);
  EXPECT_NE(reason("%slow", "CumSum(%h, %h)"), "");
}

TEST(Rows, AreStackedAndTakenAlongAnyAxis) {
  const Tensor a = Tensor::of<float>({2, 1, 2}, {1, 2, 5, 6}),
               b = Tensor::of<float>({2, 2, 2}, {3, 4, 7, 8, 9, 0, 1, 2});
  const Tensor whole = stack_rows(std::vector<Tensor>{a, b}, 1);
  EXPECT_TRUE(whole.identical(Tensor::of<float>({2, 3, 2}, {1, 2, 3, 4, 7, 8, 5, 6, 9, 0, 1, 2})));
  EXPECT_TRUE(rows_of(whole, 0, 1, 1).identical(a));
  EXPECT_TRUE(rows_of(whole, 1, 2, 1).identical(b));
  EXPECT_TRUE(rows_of(whole, 2, 2, 1).identical(Tensor::of<float>({2, 2, 2}, {7, 8, 7, 8, 1, 2, 1, 2}))) << "repeated";
  const Tensor words = Tensor::of_strings({2, 1}, {"a", "c"}), more = Tensor::of_strings({2, 1}, {"b", "d"});
  EXPECT_TRUE(
      stack_rows(std::vector<Tensor>{words, more}, 1).identical(Tensor::of_strings({2, 2}, {"a", "b", "c", "d"})));
  EXPECT_EQ(stack_rows(std::vector<Tensor>(3, Tensor(DType::kFloat32, {0, 2})), 1).dims(), (Dims{0, 6}));
}

TEST(Rows, NothingIsProvenOfRandomGraphsThatDoesNotHold) {
  int proven = 0, elsewhere = 0, refused = 0;
  std::map<std::string, int> operators;
  for (uint64_t seed = 1; seed <= 6000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const bool first = seed % 2 == 0;
    const Graph graph = random_graph(1 + random.below(5), first, random);
    const RowIndependence rows = first ? prove_row_independence(graph) : find_row_independence(graph);
    EXPECT_EQ(rows.proven, rows.reason.empty());
    if (!rows.proven || (!first && rows.along_first())) {  // two rows of a fixed axis are no batch
      ++refused;
      continue;
    }
    ++(first ? proven : elsewhere);
    const std::vector<Tensor> inputs = inputs_of(graph, random);
    for (NodeId id : graph.topological_order()) ++operators[graph.node(id).op_type];
    try {
      evaluate(graph, inputs);
    } catch (const Error&) {
      continue;  // indices that these inputs put out of range
    }
    try {
      EXPECT_EQ(broken_promise(graph, inputs, true, rows), "") << to_text(graph);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what() << "\n" << to_text(graph);
    }
  }
  fmt::print("{} proven along the first axes, {} along others, with {} operators, {} not\n", proven, elsewhere,
             operators.size(), refused);
  EXPECT_GE(proven, 500);
  EXPECT_GE(elsewhere, 300);
  EXPECT_GE(operators.size(), 60u);
}

// ONNX's own cases, with each input in turn as the batch and all others constant, and with all inputs as the batch.
struct Tally {
  int tried = 0, proven = 0;
};

void try_as_batch(const Graph& model, const std::vector<Tensor>& given, std::optional<size_t> batched, bool free,
                  const std::string& name, Tally& tally) {
  Graph graph = model;
  std::vector<Tensor> inputs;
  const std::vector<ValueId> ids = graph.inputs();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (batched && i != *batched) {
      make_constant(graph, ids[i], given[i]);
      continue;
    }
    if (given[i].rank() == 0 || given[i].dims()[0] < 2 || given[i].dtype() == DType::kString) return;
    if (!inputs.empty() && inputs[0].dims()[0] != given[i].dims()[0]) return;
    Shape shape = Shape::of(given[i].dims());
    if (free) shape[0] = Dim(std::string("N"));
    graph.set_type(ids[i], given[i].dtype(), shape);
    inputs.push_back(given[i]);
  }
  for (ValueId id = 0; id < graph.value_limit(); ++id)
    if (const Value& v = graph.value(id); v.alive && !v.is_constant() && !v.is_input)
      graph.set_type(id, v.dtype, Shape());
  ++tally.tried;
  try {
    const RowIndependence rows = prove_row_independence(graph);
    if (!rows.proven) return;
    EXPECT_EQ(broken_promise(graph, inputs, free, rows), "") << name << "\n" << to_text(graph, {.elide = true});
    ++tally.proven;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) ADD_FAILURE() << name << ": " << error.what();
  }
}

TEST(Rows, NothingIsProvenOfOnnxTestCasesThatDoesNotHold) {
  const std::string folder = "/usr/share/libonnx-testdata/data/node";
  if (!file_exists(folder + "/test_abs/model.onnx")) GTEST_SKIP() << "libonnx-testdata is not installed";
  Tally fixed, free;
  for (const std::string& name : list_folder(folder)) {
    Graph model;
    std::vector<Tensor> inputs;
    try {
      model = load_onnx(folder + "/" + name + "/model.onnx");
      for (size_t i = 0; i < model.inputs().size(); ++i)
        inputs.push_back(load_tensor_pb(fmt::format("{}/{}/test_data_set_0/input_{}.pb", folder, name, i)));
      evaluate(model, inputs);
    } catch (const Error&) {
      continue;  // the conformance test says what is not supported
    }
    for (size_t i = 0; i <= inputs.size(); ++i)
      for (const bool is_free : {false, true})
        try_as_batch(model, inputs, i < inputs.size() ? std::optional(i) : std::nullopt, is_free, name,
                     is_free ? free : fixed);
  }
  fmt::print("proven: {} of {} fixed, {} of {} free\n", fixed.proven, fixed.tried, free.proven, free.tried);
  EXPECT_GE(fixed.proven, 400);
  EXPECT_GE(free.proven, 300);
}

}  // namespace
}  // namespace slipway
