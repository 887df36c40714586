// The engine on ONNX's own operator cases (Debian's libonnx-testdata), each in many disguises: operands that are
// inputs, constants or another operand's twin; optional inputs and outputs left out; candidates chosen by chance, so
// that every one of them has every neighbour; plans run as they are, and saved and opened. Whatever the reference
// computes, each must; whatever it refuses, each may only refuse.
#include <map>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/passes/pipeline.h"
#include "model/onnx/onnx.h"
#include "model/op.h"

namespace slipway {
namespace {

const std::string kCases = "/usr/share/libonnx-testdata/data/node";

struct ConformanceCase {
  std::string name;
  Graph graph;
  std::vector<Tensor> inputs;
};

// Those that are read whole and whose inputs fit, given their shapes.
const std::vector<ConformanceCase>& cases() {
  static const std::vector<ConformanceCase> all = [] {
    std::vector<ConformanceCase> found;
    for (const std::string& name : list_folder(kCases)) {
      const std::string folder = join_path(kCases, name), model = join_path(folder, "model.onnx");
      if (!file_exists(model)) continue;
      try {
        ConformanceCase c{name, load_onnx(model), {}};
        for (size_t i = 0; i < c.graph.inputs().size(); ++i)
          c.inputs.push_back(load_value_pb(join_path(folder, fmt::format("test_data_set_0/input_{}.pb", i)),
                                           c.graph.value(c.graph.inputs()[i]).dtype));
        require_inputs_match(c.graph, c.inputs);
        for (size_t i = 0; i < c.inputs.size(); ++i)
          if (is_tensor(c.graph.value(c.graph.inputs()[i]).dtype))
            c.graph.set_type(c.graph.inputs()[i], c.inputs[i].dtype(), Shape::of(c.inputs[i].dims()));
        found.push_back(std::move(c));
      } catch (const Error&) {
        continue;  // unknown operators: model/ops/conformance_test.cc counts them
      }
    }
    return found;
  }();
  return all;
}

// By chance an input becomes a constant, or the twin of an earlier one.
void disguise(Graph& graph, std::vector<Tensor>& inputs, Random& random) {
  const std::vector<ValueId> ids = graph.inputs();
  std::vector<Tensor> left;
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t role = random.below(3);
    size_t like = 0;
    while (like < i && (!graph.value(ids[like]).is_input || inputs[like].dtype() != inputs[i].dtype() ||
                        inputs[like].dims() != inputs[i].dims()))
      ++like;
    if (role == 1 && is_tensor(graph.value(ids[i]).dtype)) {
      const std::string name = graph.value(ids[i]).name;
      graph.replace_uses(ids[i], graph.add_constant(name + "_constant", inputs[i]));
      graph.erase_value(ids[i]);
    } else if (role == 2 && like < i) {
      graph.replace_uses(ids[i], ids[like]);
      graph.erase_value(ids[i]);
    } else {
      left.push_back(inputs[i]);
    }
  }
  inputs = std::move(left);
}

// Each of a node's inputs is left out with a chance of one in six.
void leave_out(Graph& graph, Random& random) {
  for (NodeId id : graph.topological_order()) {
    for (size_t i = 0; i < graph.node(id).inputs.size(); ++i)
      if (random.below(6) == 0) graph.set_input(id, i, kNoValue);
  }
}

int64_t batch_of(const std::vector<Tensor>& inputs) {
  for (const Tensor& t : inputs)
    if (t.rank() > 0) return std::max<int64_t>(1, t.dims()[0]);
  return 1;
}

std::string compare(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected) {
  if (actual.size() != expected.size()) return "another number of outputs";
  for (size_t i = 0; i < actual.size(); ++i)
    if (const std::string what = difference(actual[i], expected[i]); !what.empty()) return what;
  return "";
}

bool is_fixed(const Graph& graph) {
  for (NodeId id : graph.topological_order())
    if (const OpSpec* spec = find_op(graph, graph.node(id)); spec == nullptr || spec->has(kNondeterministic))
      return false;
  return true;
}

struct Tally {
  int compared = 0, refused = 0;
};

// The reference, the passes alone and a plan, opened anew, give the same.
void run_every_way(const ConformanceCase& c, Graph graph, const std::vector<Tensor>& inputs, uint64_t seed,
                   Tally& tally) {
  const std::string where = fmt::format("{}, seed {}", c.name, seed);
  std::vector<Tensor> expected;
  try {
    verify(graph);
    infer_shapes(graph);
    expected = evaluate(graph, inputs);
  } catch (const Error&) {
    ++tally.refused;
    try {
      Plan::build(graph, {.batch = batch_of(inputs), .choice_seed = seed});
    } catch (const Error&) {
    }
    return;
  }
  const std::string path = testing::TempDir() + "conformance.plan";
  try {
    Graph optimised = graph;
    run_passes(optimised, {.standard_onnx = true});
    const Graph read = parse_onnx(serialize_onnx(optimised));
    EXPECT_EQ(compare(evaluate(read, inputs), expected), "") << where << ", optimised";
    Graph fused = graph;
    run_passes(fused);
    EXPECT_EQ(compare(evaluate(fused, inputs), expected), "") << where << ", all passes";
    const auto plan = Plan::build(graph, {.batch = batch_of(inputs), .optimize = seed % 2 == 0, .choice_seed = seed});
    EXPECT_EQ(compare(run_plan(plan, inputs), expected), "") << where << ", plan";
    plan->save(path);
    EXPECT_EQ(compare(run_plan(Plan::open(path), inputs), expected), "") << where << ", opened plan";
    ++tally.compared;
  } catch (const Error& error) {
    ++tally.refused;
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << where << ": " << error.what();
  }
}

TEST(EngineConformance, OperandsMayBeInputsConstantsOrTwins) {
  Tally tally;
  for (const ConformanceCase& c : cases())
    for (uint64_t seed = 0; seed < 3; ++seed) {
      if (!is_fixed(c.graph)) continue;
      Random random(seed);
      ConformanceCase disguised = c;
      if (seed > 0) disguise(disguised.graph, disguised.inputs, random);
      run_every_way(c, disguised.graph, disguised.inputs, seed, tally);
    }
  EXPECT_GT(tally.compared, 1500) << tally.refused << " refused";
}

TEST(EngineConformance, LeavingOptionalInputsOutNeverCrashes) {
  Tally tally;
  for (const ConformanceCase& c : cases())
    for (uint64_t seed = 0; seed < 3; ++seed) {
      if (!is_fixed(c.graph)) continue;
      Random random(seed);
      Graph graph = c.graph;
      leave_out(graph, random);
      run_every_way(c, graph, c.inputs, seed, tally);
    }
  EXPECT_GT(tally.compared, 800) << tally.refused << " refused";
}

}  // namespace
}  // namespace slipway
