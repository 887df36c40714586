// The rules of a graph: uses and producers agree in both directions, names are unique and found, constants match their
// type, graph inputs and outputs are alive, no cycle, subgraph captures point into their node's list; with operators,
// each node's operator is known and its arity fits.
#include <set>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "model/graph.h"
#include "model/op.h"

namespace slipway {
namespace {

class Verifier {
 public:
  Verifier(const Graph& graph, bool ops) : graph_(graph), ops_(ops) {}

  /// `captures`: how many values the enclosing node hands in; -1 for the outermost graph.
  void run(int captures) {
    count_reads();
    for (ValueId id = 0; id < graph_.value_limit(); ++id)
      if (graph_.value(id).alive) check_value(id, captures);
    check_list(graph_.inputs(), "input");
    check_list(graph_.outputs(), "output");
    std::unordered_set<ValueId> inputs(graph_.inputs().begin(), graph_.inputs().end());
    require(inputs.size() == graph_.inputs().size(), "a graph input is listed twice", graph_.name);
    for (ValueId id = 0; id < graph_.value_limit(); ++id)
      require(graph_.value(id).is_input == inputs.contains(id), "the list of graph inputs and their marks differ",
              graph_.value(id).name);
    for (NodeId id : graph_.topological_order()) check_node(id);
  }

 private:
  static void require(bool holds, std::string_view rule, const std::string& where) {
    if (!holds)
      fail(ErrorCode::kInvalidModel, "The graph is not valid, export the model again: {} (at '{}')", rule, where);
  }

  bool in_graph(ValueId id) const { return id >= 0 && id < graph_.value_limit() && graph_.value(id).alive; }

  void check_list(const std::vector<ValueId>& ids, std::string_view what) const {
    for (ValueId id : ids) require(in_graph(id), fmt::format("graph {} {} does not exist", what, id), graph_.name);
  }

  // How often nodes read each value, so that uses and reads can be compared without a search.
  void count_reads() {
    reads_.assign(static_cast<size_t>(graph_.value_limit()), 0);
    for (NodeId id = 0; id < graph_.node_limit(); ++id)
      for (const auto* list : {&graph_.node(id).inputs, &graph_.node(id).captures})
        for (ValueId v : *list) {
          require(v == kNoValue || in_graph(v), "a node reads a value that is gone", graph_.node(id).label());
          if (v != kNoValue) ++reads_[static_cast<size_t>(v)];
        }
  }

  void check_value(ValueId id, int captures) const {
    const Value& v = graph_.value(id);
    require(graph_.find(v.name) == id, "a value is not found under its name", v.name);
    const int sources = (v.producer != kNoNode) + v.is_constant() + v.is_input + (v.capture >= 0);
    require(sources == 1, "a value needs one source: a node, a constant, a graph input or a capture", v.name);
    if (v.is_constant()) {
      require(v.constant->defined() && v.dtype == v.constant->dtype(), "a constant's type differs from its tensor",
              v.name);
      require(v.shape == Shape::of(v.constant->dims()), "a constant's shape differs from its tensor", v.name);
    }
    require(v.capture < 0 || v.capture < captures, "a capture points outside the enclosing node's captures", v.name);
    if (v.producer != kNoNode) {
      require(v.producer < graph_.node_limit() && graph_.node(v.producer).alive, "a value's node is gone", v.name);
      require(graph_.node(v.producer).output(static_cast<size_t>(v.producer_output)) == id,
              "a value is not among its node's outputs", v.name);
    }
    require(v.uses.size() == reads_[static_cast<size_t>(id)], "a value's uses and the nodes that read it differ",
            v.name);
    std::set<std::pair<NodeId, int>> seen;
    for (const Use& use : v.uses) {
      require(use.node >= 0 && use.node < graph_.node_limit() && graph_.node(use.node).alive,
              "a value is used by a node that is gone", v.name);
      const Node& n = graph_.node(use.node);
      const auto i = static_cast<size_t>(use.input);
      const size_t inputs = n.inputs.size();
      const ValueId read = i < inputs                       ? n.inputs[i]
                           : i - inputs < n.captures.size() ? n.captures[i - inputs]
                                                            : kNoValue;
      require(read == id && seen.emplace(use.node, use.input).second, "a use does not match the node's inputs", v.name);
    }
  }

  void check_node(NodeId id) const {
    const Node& n = graph_.node(id);
    for (ValueId v : n.captures) require(v != kNoValue, "a node captures nothing", n.label());
    for (size_t i = 0; i < n.outputs.size(); ++i) {
      if (n.outputs[i] == kNoValue) continue;
      require(in_graph(n.outputs[i]), "a node makes a value that is gone", n.label());
      const Value& v = graph_.value(n.outputs[i]);
      require(v.producer == id && v.producer_output == static_cast<int>(i), "a node's output has another producer",
              n.label());
    }
    if (ops_) check_arity(n);
    for (const auto& [name, attribute] : n.attributes) {
      if (const auto* graph = std::get_if<GraphPtr>(&attribute)) check_subgraph(*graph, n);
      if (const auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& graph : *graphs) check_subgraph(graph, n);
    }
  }

  void check_subgraph(const GraphPtr& graph, const Node& n) const {
    require(graph != nullptr, "a subgraph is missing", n.label());
    Verifier(*graph, ops_).run(static_cast<int>(n.captures.size()));
  }

  void check_arity(const Node& n) const {
    const OpSpec& spec = require_op(graph_, n);
    const auto fits = [](size_t count, int low, int high) {
      return static_cast<int>(count) >= low && (high < 0 || static_cast<int>(count) <= high);
    };
    require(fits(n.inputs.size(), spec.min_inputs, spec.max_inputs),
            fmt::format("the operator takes {} to {} inputs, not {}", spec.min_inputs,
                        spec.max_inputs < 0 ? "any number of" : std::to_string(spec.max_inputs), n.inputs.size()),
            n.label());
    require(fits(n.outputs.size(), spec.min_outputs, spec.max_outputs),
            fmt::format("the operator has {} to {} outputs, not {}", spec.min_outputs,
                        spec.max_outputs < 0 ? "any number of" : std::to_string(spec.max_outputs), n.outputs.size()),
            n.label());
    // Of lists of any length only those of operators with subgraphs have optional values.
    const bool all = spec.max_inputs < 0 && !spec.has(kHasSubgraph);
    for (size_t i = 0; i < (all ? n.inputs.size() : static_cast<size_t>(spec.min_inputs)); ++i)
      require(n.has_input(i), "an input that the operator needs is left out", n.label());
  }

  const Graph& graph_;
  const bool ops_;
  std::vector<size_t> reads_;
};

}  // namespace

void verify(const Graph& graph, bool ops) { Verifier(graph, ops).run(-1); }

}  // namespace slipway
