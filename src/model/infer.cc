// Type and shape inference: operators in topological order pass on what is known of each value (ValueFacts). A node
// whose inputs are all small constants is evaluated, so that computed shapes become known; integer tensors that hold
// shapes carry their contents as dimensions, symbols included. What the model declares is merged with what follows
// from the inputs.
#include "model/infer.h"

#include <algorithm>

#include "base/error.h"
#include "model/evaluate.h"
#include "model/op.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

constexpr int64_t kFoldElements = 4096;

using FactRefs = std::vector<const ValueFacts*>;

ValueFacts facts_of(const Value& v) {
  ValueFacts facts;
  facts.dtype = v.dtype;
  facts.shape = v.shape;
  facts.constant = v.constant;
  return facts;
}

std::vector<GraphPtr> subgraphs_of(const Node& node) {
  std::vector<GraphPtr> graphs;
  for (const auto& [name, attribute] : node.attributes) {
    if (const auto* graph = std::get_if<GraphPtr>(&attribute)) graphs.push_back(*graph);
    if (const auto* list = std::get_if<std::vector<GraphPtr>>(&attribute))
      graphs.insert(graphs.end(), list->begin(), list->end());
  }
  return graphs;
}

// What a body's inputs are: Loop hands on the types of its carried values (their shapes may change from one iteration
// to the next), Scan the states whole and the scanned inputs one slice at a time.
std::vector<ValueFacts> seeds_for(const Node& node, int64_t opset, const FactRefs& inputs) {
  std::vector<ValueFacts> seeds;
  if (node.is("Loop")) {
    for (const DType dtype : {DType::kInt64, DType::kBool}) {
      seeds.emplace_back().dtype = dtype;
      seeds.back().shape = Shape(std::vector<Dim>{});
    }
    for (size_t i = 2; i < inputs.size(); ++i)
      seeds.emplace_back().dtype = inputs[i] == nullptr ? DType::kUndefined : inputs[i]->dtype;
  } else if (node.is("SequenceMap")) {  // one item at a time of each sequence
    for (const ValueFacts* input : inputs) {
      seeds.emplace_back();
      if (input == nullptr) continue;
      seeds.back().dtype = element_of(input->dtype);
      if (is_tensor(input->dtype)) seeds.back().shape = input->shape;
    }
  } else if (node.is("Scan") && opset < 9) {  // behind the lengths of the sequences, all with a batch in front
    const auto scanned = static_cast<size_t>(std::max<int64_t>(0, node.integer("num_scan_inputs", 0)));
    for (size_t i = 1; i < inputs.size(); ++i) {
      seeds.emplace_back();
      if (inputs[i] == nullptr) continue;
      seeds.back().dtype = inputs[i]->dtype;
      const Shape& shape = inputs[i]->shape;
      const size_t outer = i + scanned >= inputs.size() ? 2 : 1;
      if (shape.has_rank() && shape.rank() >= outer)
        seeds.back().shape = Shape({shape.dims().begin() + static_cast<std::ptrdiff_t>(outer), shape.dims().end()});
    }
  } else if (node.is("Scan")) {
    const auto scanned = static_cast<size_t>(std::max<int64_t>(0, node.integer("num_scan_inputs", 0)));
    const size_t states = inputs.size() - std::min(inputs.size(), scanned);
    const std::vector<int64_t> axes = node.integers("scan_input_axes", {});
    for (size_t i = 0; i < inputs.size(); ++i) {
      seeds.emplace_back();
      if (inputs[i] == nullptr) continue;
      seeds[i].dtype = inputs[i]->dtype;
      seeds[i].shape = inputs[i]->shape;
      if (i < states || !seeds[i].shape.has_rank()) continue;
      std::vector<Dim> dims = seeds[i].shape.dims();
      const int64_t axis = i - states < axes.size() ? axes[i - states] : 0;
      dims.erase(dims.begin() + normalize_axis(axis, static_cast<int64_t>(dims.size()), node.label()));
      seeds[i].shape = Shape(std::move(dims));
    }
  }
  return seeds;
}

class Inference {
 public:
  explicit Inference(const Graph& root, const InferObserver& observe = {}) : root_(root), observe_(observe) {}

  /// Returns what is known of the graph's outputs.
  std::vector<ValueFacts> run(Graph& graph, const std::vector<ValueFacts>& seeds, const FactRefs& captures, int depth) {
    if (depth > kMaxSubgraphDepth) fail(ErrorCode::kInvalidModel, "Subgraphs are nested too deeply; flatten the model");
    std::vector<ValueFacts> facts(static_cast<size_t>(graph.value_limit()));
    for (ValueId id = 0; id < graph.value_limit(); ++id) {
      const Value& v = graph.value(id);
      if (!v.alive || v.producer != kNoNode) continue;
      facts[index(id)] = facts_of(v);
      if (v.capture >= 0 && static_cast<size_t>(v.capture) < captures.size() &&
          captures[static_cast<size_t>(v.capture)] != nullptr)
        learn(graph, id, facts, *captures[static_cast<size_t>(v.capture)]);
    }
    for (size_t i = 0; i < std::min(seeds.size(), graph.inputs().size()); ++i)
      learn(graph, graph.inputs()[i], facts, seeds[i]);
    for (NodeId id : graph.topological_order()) infer_node(graph, id, facts, depth);
    std::vector<ValueFacts> outputs;
    for (ValueId id : graph.outputs()) outputs.push_back(facts[index(id)]);
    return outputs;
  }

 private:
  static size_t index(ValueId id) { return static_cast<size_t>(id); }

  void infer_node(Graph& graph, NodeId id, std::vector<ValueFacts>& facts, int depth) {
    const Node& node = graph.node(id);
    const Graph& owner = graph.opsets.empty() ? root_ : graph;
    const OpSpec& spec = require_op(owner, node);
    FactRefs inputs, captures;
    for (ValueId v : node.inputs) inputs.push_back(v == kNoValue ? nullptr : &facts[index(v)]);
    for (ValueId v : node.captures) captures.push_back(v == kNoValue ? nullptr : &facts[index(v)]);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i] != nullptr) require_tensor(spec, node, i, inputs[i]->dtype);
    const int64_t opset = node.domain == kFusedDomain ? 1 : owner.opset(node.domain);
    InferContext ctx(node, opset, inputs, node.outputs.size());
    for (const GraphPtr& subgraph : subgraphs_of(node))
      ctx.subgraph_facts.push_back(infer_subgraph(*subgraph, node, opset, inputs, captures, depth));
    if (spec.infer != nullptr) spec.infer(ctx);
    for (ValueFacts& result : ctx.results()) settle(result);
    fold(owner, node, spec, inputs, ctx.results());
    if (observe_ && depth == 0) observe_(ctx);
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) learn(graph, node.outputs[i], facts, ctx.results()[i]);
  }

  std::vector<ValueFacts> infer_subgraph(Graph& subgraph, const Node& node, int64_t opset, const FactRefs& inputs,
                                         const FactRefs& captures, int depth) {
    try {
      return run(subgraph, seeds_for(node, opset, inputs), captures, depth + 1);
    } catch (const Error& error) {
      // Exporters write branches that are impossible for the shapes at hand (Squeeze or Identity, say).
      if (!node.is("If") || error.code() != ErrorCode::kInvalidModel) throw;
      std::vector<ValueFacts> declared;
      for (ValueId id : subgraph.outputs()) declared.push_back(facts_of(subgraph.value(id)));
      return declared;
    }
  }

  // Contents that hold no symbol are a constant.
  static void settle(ValueFacts& facts) {
    if (!facts.dims || facts.constant != nullptr || !is_integer(facts.dtype) || !facts.shape.is_static()) return;
    std::vector<int64_t> values;
    for (const Dim& d : *facts.dims) values.push_back(d.value());
    const Dims dims = facts.shape.to_dims();
    const bool known = std::all_of(values.begin(), values.end(), [](int64_t v) { return v >= 0; });
    if (known && element_count(dims) == static_cast<int64_t>(values.size()))
      facts.constant = std::make_shared<const Tensor>(cast(Tensor::of<int64_t>(dims, values), facts.dtype));
  }

  static void fold(const Graph& graph, const Node& node, const OpSpec& spec, const FactRefs& inputs,
                   std::vector<ValueFacts>& results) {
    if (spec.eval == nullptr || spec.has(kNondeterministic) || spec.has(kHasSubgraph)) return;
    std::vector<const Tensor*> tensors;
    for (const ValueFacts* input : inputs) {
      tensors.push_back(input == nullptr ? nullptr : input->constant.get());
      if (input == nullptr) continue;
      if (tensors.back() == nullptr || tensors.back()->elements() > kFoldElements) return;
    }
    for (const ValueFacts& result : results)
      if (result.shape.is_static() && element_count(result.shape.to_dims()) > kFoldElements) return;
    try {
      std::vector<Tensor> values = evaluate_node(graph, node, tensors);
      for (size_t i = 0; i < values.size(); ++i)
        if (values[i].defined() && is_tensor(values[i].dtype()))
          results[i].constant = std::make_shared<const Tensor>(std::move(values[i]));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported) throw;
    }
  }

  // Merges what the graph says of the value with `found`, in the graph and in the facts.
  static void learn(Graph& graph, ValueId id, std::vector<ValueFacts>& facts, const ValueFacts& found) {
    const Value& v = graph.value(id);
    ValueFacts merged = found;
    if (found.constant != nullptr) {
      merged.dtype = found.constant->dtype();
      merged.shape = merge_shapes(found.shape, Shape::of(found.constant->dims()), "'" + v.name + "'");
    }
    const std::optional<DType> dtype = merge_types(v.dtype, merged.dtype);
    if (!dtype)
      fail(ErrorCode::kInvalidModel, "A value is declared with another element type than it has: '{}' is {}, not {}",
           v.name, to_string(merged.dtype), to_string(v.dtype));
    merged.dtype = *dtype;
    merged.shape = is_tensor(*dtype) ? merge_shapes(merged.shape, v.shape, "'" + v.name + "'") : Shape();
    graph.set_type(id, merged.dtype, merged.shape);
    facts[index(id)] = std::move(merged);
  }

  const Graph& root_;
  const InferObserver observe_;
};

void forget_shapes(Graph& graph, const std::map<std::string, int64_t>& symbols, bool top) {
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (!v.alive || v.is_constant() || (top && v.is_input)) continue;
    Shape shape;
    const bool result = !top && graph.is_output(id);  // what a loop without turns gives is told by its body alone
    if ((v.is_input || result) && v.shape.has_rank()) {
      shape = v.shape;
      for (size_t i = 0; i < shape.rank(); ++i)
        if (const auto it = symbols.find(shape[i].symbol()); it != symbols.end())
          shape[i] = Dim(it->second);
        else if (result && !shape[i].is_known())
          shape[i] = Dim();
    }
    graph.set_type(id, v.dtype, std::move(shape));
  }
  for (NodeId id = 0; id < graph.node_limit(); ++id)
    if (graph.node(id).alive)
      for (const GraphPtr& subgraph : subgraphs_of(graph.node(id))) forget_shapes(*subgraph, symbols, false);
}

}  // namespace

void infer_shapes(Graph& graph) { Inference(graph).run(graph, {}, {}, 0); }

void infer_shapes_anew(Graph& graph, const InferObserver& observe) {
  forget_shapes(graph, {}, true);
  Inference(graph, observe).run(graph, {}, {}, 0);
}

std::vector<std::string> free_dims(const Graph& graph) {
  std::vector<std::string> free;
  for (ValueId id : graph.inputs()) {
    const Value& v = graph.value(id);
    for (size_t axis = 0; axis < v.shape.rank(); ++axis) {
      const Dim& dim = v.shape[axis];
      if (dim.is_known()) continue;
      const std::string name = dim.is_symbol() ? dim.symbol() : fmt::format("{}.{}", v.name, axis);
      if (std::find(free.begin(), free.end(), name) == free.end()) free.push_back(name);
    }
  }
  return free;
}

void bind_dims(Graph& graph, const std::map<std::string, int64_t>& sizes) {
  std::map<std::string, int64_t> symbols;
  std::map<std::pair<ValueId, size_t>, int64_t> places;
  const auto bind = [](auto& into, const auto& key, int64_t size, const std::string& name) {
    if (!into.emplace(key, size).second && into.at(key) != size)
      fail(ErrorCode::kInvalidArgument, "A dimension is given two sizes: '{}' is {} and {}", name, into.at(key), size);
  };
  for (const auto& [name, size] : sizes) {
    if (size < 1) fail(ErrorCode::kInvalidArgument, "A dimension's size must be at least 1: '{}' is {}", name, size);
    bool found = false;
    for (ValueId id : graph.inputs()) {
      const Value& v = graph.value(id);
      for (size_t axis = 0; axis < v.shape.rank(); ++axis) {
        const Dim& dim = v.shape[axis];
        const bool by_place = name == fmt::format("{}.{}", v.name, axis);
        if (!by_place && (!dim.is_symbol() || dim.symbol() != name)) continue;
        found = true;
        if (dim.is_known() && dim.value() != size)
          fail(ErrorCode::kInvalidArgument,
               "A dimension of the model is fixed; export it with a dynamic one: '{}' is {}", name, dim.value());
        if (dim.is_symbol()) bind(symbols, dim.symbol(), size, name);
        if (dim.is_unknown()) bind(places, std::pair(id, axis), size, name);
      }
    }
    if (found) continue;
    const std::vector<std::string> free = free_dims(graph);
    fail(ErrorCode::kInvalidArgument, "No input of the model has this dimension; free are: {}; asked: '{}'",
         free.empty() ? "none" : fmt::format("{}", fmt::join(free, ", ")), name);
  }
  for (ValueId id : graph.inputs()) {
    Shape shape = graph.value(id).shape;
    for (size_t axis = 0; axis < shape.rank(); ++axis) {
      if (const auto it = symbols.find(shape[axis].symbol()); it != symbols.end()) shape[axis] = Dim(it->second);
      if (const auto it = places.find({id, axis}); it != places.end()) shape[axis] = Dim(it->second);
    }
    graph.set_type(id, graph.value(id).dtype, std::move(shape));
  }
  forget_shapes(graph, symbols, true);
  infer_shapes(graph);
}

void bind_batch(Graph& graph, int64_t batch, const std::map<std::string, int64_t>& sizes) {
  if (batch < 1) fail(ErrorCode::kInvalidArgument, "A batch has at least one row: {}", batch);
  std::map<std::string, int64_t> all = sizes;
  bool any_free = false, any_fits = false;
  int64_t fixed = -1;
  for (ValueId id : graph.inputs()) {
    const Value& v = graph.value(id);
    if (!is_tensor(v.dtype))
      fail(ErrorCode::kUnsupported,
           "An input is no tensor, and a batch is made of tensors; slipway run computes the model as it is: '{}' ({})",
           v.name, to_string(v.dtype));
    if (!v.shape.has_rank())
      fail(ErrorCode::kInvalidArgument, "An input has no shape; export the model with shapes: '{}'", v.name);
    if (v.shape.rank() == 0) continue;
    const Dim& first = v.shape[0];
    if (first.is_known()) {
      if (fixed < 0) fixed = first.value();
      any_fits |= first.value() == batch;
      continue;
    }
    any_free = true;
    const std::string place = fmt::format("{}.0", v.name);
    if (!sizes.contains(place) && !sizes.contains(first.symbol()))
      all.emplace(first.is_symbol() ? first.symbol() : place, batch);
  }
  if (!any_free && !any_fits && fixed > 0)
    fail(ErrorCode::kInvalidArgument,
         "The model's batch is fixed; ask for that one or export the model with a free one: {} asked, {} fixed", batch,
         fixed);
  bind_dims(graph, all);
  if (const std::vector<std::string> free = free_dims(graph); !free.empty())
    fail(ErrorCode::kInvalidArgument,
         "The model leaves dimensions free, and this needs them all; give each a size with --dim NAME=SIZE: '{}'",
         fmt::join(free, "', '"));
}

void bind_inputs(Graph& graph, std::span<const Tensor> tensors) {
  std::map<std::string, int64_t> symbols;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ValueId id = graph.inputs()[i];
    const Shape& shape = graph.value(id).shape;
    for (size_t axis = 0; axis < shape.rank(); ++axis)
      if (shape[axis].is_symbol() && is_tensor(tensors[i].dtype()))
        symbols[shape[axis].symbol()] = tensors[i].dims()[axis];
    if (is_tensor(tensors[i].dtype()) && !is_optional(graph.value(id).dtype))
      graph.set_type(id, tensors[i].dtype(), Shape::of(tensors[i].dims()));
    else if (graph.value(id).dtype == DType::kUndefined)
      graph.set_type(id, tensors[i].dtype(), Shape());
  }
  forget_shapes(graph, symbols, true);
  infer_shapes(graph);
}

}  // namespace slipway
