// The reference: nodes in topological order, each by its operator's reference evaluation. A value's tensor is dropped
// when its last reader has run. Subgraphs (If, Loop, Scan) run the same way: their captures are bound to the enclosing
// node's captures, their depth is bounded.
#include "model/evaluate.h"

#include <map>
#include <new>
#include <utility>

#include "base/error.h"
#include "model/op.h"
#include "model/ops/shape_rules.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

using TensorRefs = std::vector<const Tensor*>;

int64_t opset_of(const Graph& graph, const Node& node) {
  return node.domain == kFusedDomain ? 1 : graph.opset(node.domain);
}

class Evaluation {
 public:
  /// `root` gives the opsets of subgraphs that name none of their own.
  Evaluation(const Graph& root, const ValueObserver& observe) : root_(root), observe_(observe) {}

  std::vector<Tensor> run(const Graph& graph, std::span<const Tensor> inputs, const TensorRefs& captures, int depth) {
    if (depth > kMaxSubgraphDepth) fail(ErrorCode::kInvalidModel, "Subgraphs are nested too deeply; flatten the model");
    if (inputs.size() != graph.inputs().size())
      fail(ErrorCode::kInvalidModel, "A graph takes {} inputs and was given {}: '{}'", graph.inputs().size(),
           inputs.size(), graph.name);
    std::vector<Tensor> tensors(static_cast<size_t>(graph.value_limit()));
    std::vector<size_t> readers(tensors.size(), 0);
    for (ValueId id = 0; id < graph.value_limit(); ++id) readers[index(id)] = graph.value(id).uses.size();
    for (ValueId id : graph.outputs()) ++readers[index(id)];
    for (size_t i = 0; i < inputs.size(); ++i) tensors[index(graph.inputs()[i])] = inputs[i];
    const auto find = [&](ValueId id) -> const Tensor* {
      if (id == kNoValue) return nullptr;
      const Value& v = graph.value(id);
      if (v.is_constant()) return v.constant.get();
      if (v.capture < 0) return &tensors[index(id)];
      if (static_cast<size_t>(v.capture) < captures.size()) return captures[static_cast<size_t>(v.capture)];
      fail(ErrorCode::kInvalidModel, "A subgraph reads a value that its node does not capture: '{}'", v.name);
    };
    for (NodeId id : graph.topological_order()) {
      const Node& node = graph.node(id);
      throw_if_late();
      TensorRefs arguments, captured;
      for (ValueId v : node.inputs) arguments.push_back(find(v));
      for (ValueId v : node.captures) captured.push_back(find(v));
      std::vector<Tensor> results = run_node(graph, node, std::move(arguments), captured, depth);
      for (size_t i = 0; i < results.size(); ++i) {
        const ValueId out = node.outputs[i];
        if (out == kNoValue) continue;
        if (observe_ && depth == 0) observe_(out, results[i]);
        if (readers[index(out)] > 0) tensors[index(out)] = std::move(results[i]);
      }
      for (const auto* list : {&node.inputs, &node.captures})
        for (ValueId v : *list)
          if (v != kNoValue && --readers[index(v)] == 0) tensors[index(v)] = Tensor();
    }
    std::vector<Tensor> outputs;
    for (ValueId id : graph.outputs()) outputs.push_back(*find(id));
    return outputs;
  }

  std::vector<Tensor> run_node(const Graph& graph, const Node& node, TensorRefs inputs, const TensorRefs& captures,
                               int depth) {
    return run_node(graph, node, std::move(inputs), [&](const Graph& subgraph, std::span<const Tensor> arguments) {
      return run(subgraph, arguments, captures, depth + 1);
    });
  }

  std::vector<Tensor> run_node(const Graph& graph, const Node& node, TensorRefs inputs,
                               const SubgraphRunner& run_subgraph) {
    const Graph& owner = graph.opsets.empty() ? root_ : graph;
    const OpSpec& spec = require_op(owner, node);
    if (spec.eval == nullptr)
      fail(ErrorCode::kUnsupported, "The operator has no reference evaluation: {}", node.label());
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i] != nullptr) require_tensor(spec, node, i, inputs[i]->dtype());
    EvalContext ctx(node, opset_of(owner, node), std::move(inputs));
    ctx.run_subgraph = run_subgraph;
    try {
      spec.eval(ctx);
    } catch (const std::bad_alloc&) {
      fail(ErrorCode::kOutOfMemory, "There is not enough memory; use smaller inputs or another model: {}",
           node.label());
    }
    std::vector<Tensor> results = std::move(ctx.results());
    for (size_t i = 0; i < results.size(); ++i)
      if (ctx.wants_output(i) && !results[i].defined())
        fail(ErrorCode::kUnsupported, "An output that the model reads is not computed: output {} of {}", i,
             node.label());
    return results;
  }

 private:
  static size_t index(ValueId id) { return static_cast<size_t>(id); }

  const Graph& root_;
  const ValueObserver& observe_;
};

}  // namespace

void require_inputs_match(const Graph& graph, std::span<const Tensor> inputs) {
  if (inputs.size() != graph.inputs().size())
    fail(ErrorCode::kInvalidArgument, "The model takes another number of inputs: {} wanted, {} given",
         graph.inputs().size(), inputs.size());
  std::map<std::string, int64_t> sizes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = graph.value(graph.inputs()[i]);
    const Tensor& t = inputs[i];
    if (!merge_types(v.dtype, t.dtype()) || (is_optional(t.dtype()) && !is_optional(v.dtype)))
      fail(ErrorCode::kInvalidArgument, "An input has the wrong element type: '{}' wants {}, given {}", v.name,
           to_string(v.dtype), to_string(t.dtype()));
    if (!v.shape.has_rank() || !is_tensor(t.dtype())) continue;
    bool fits = v.shape.rank() == t.dims().size();
    for (size_t axis = 0; fits && axis < v.shape.rank(); ++axis) {
      const Dim& dim = v.shape[axis];
      const int64_t size = t.dims()[axis];
      if (dim.is_known()) fits = dim.value() == size;
      if (!dim.is_symbol()) continue;
      const auto [bound, fresh] = sizes.emplace(dim.symbol(), size);
      if (!fresh && bound->second != size)
        fail(ErrorCode::kInvalidArgument, "An input's dimension '{}' must be {} everywhere: '{}' has shape {}",
             dim.symbol(), bound->second, v.name, to_string(t.dims()));
    }
    if (!fits)
      fail(ErrorCode::kInvalidArgument, "An input has the wrong shape: '{}' wants {}, given {}", v.name,
           to_string(v.shape), to_string(t.dims()));
  }
}

std::vector<Tensor> evaluate(const Graph& graph, std::span<const Tensor> inputs, const ValueObserver& observe) {
  require_inputs_match(graph, inputs);
  return Evaluation(graph, observe).run(graph, inputs, {}, 0);
}

std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node, std::span<const Tensor* const> inputs) {
  TensorRefs captures;
  for (ValueId id : node.captures) {
    captures.push_back(graph.constant(id));
    if (captures.back() == nullptr)
      fail(ErrorCode::kInvalidArgument, "A node whose subgraph reads computed values can't be run alone: {}",
           node.label());
  }
  const ValueObserver none;
  return Evaluation(graph, none).run_node(graph, node, {inputs.begin(), inputs.end()}, captures, 0);
}

std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node, std::span<const Tensor* const> inputs,
                                  const SubgraphRunner& run) {
  const ValueObserver none;
  return Evaluation(graph, none).run_node(graph, node, {inputs.begin(), inputs.end()}, run);
}

}  // namespace slipway
