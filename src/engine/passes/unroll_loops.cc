// A Loop or Scan that is known to run a small number of times becomes that many copies of its body, one behind the
// other: exporters write one where the source has a loop over a constant range, and behind it nothing can be planned.
// A Loop's trip count must be constant, its condition true before it and after each turn; a Scan's length follows from
// the shapes. Results that are collected one a turn are joined along a new axis.
//
// Copies are bounded by nodes, and a body with a loop inside stays, so nested loops don't multiply. What is known of
// the body's shapes is forgotten: a name there may stand for another size in each turn.
#include <algorithm>

#include "engine/passes/inline.h"
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr int64_t kMaxCopies = 256;  // of nodes, by one loop

bool has_loop(const Graph& body) {
  for (NodeId id : body.topological_order()) {
    const Node& node = body.node(id);
    if (node.is("Loop") || node.is("Scan")) return true;
    for (const auto& [name, attribute] : node.attributes)
      if (const auto* inner = std::get_if<GraphPtr>(&attribute); inner != nullptr && has_loop(**inner)) return true;
  }
  return false;
}

std::optional<bool> constant_flag(const Graph& graph, ValueId value) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() != DType::kBool || tensor->elements() != 1) return std::nullopt;
  return tensor->values<bool>()[0];
}

class Unroller {
 public:
  Unroller(Graph& graph, NodeId id, const Graph& body)
      : graph_(graph), id_(id), node_(graph.node(id)), body_(body), inliner_(graph, body, id, false) {}

  static bool fits(const Graph& graph, const Node& node, const Graph& body, int64_t turns, size_t states) {
    const auto nodes = static_cast<int64_t>(body.node_count());
    if (turns < 0 || turns > kMaxCopies || turns * std::max<int64_t>(nodes, 1) > kMaxCopies || has_loop(body))
      return false;
    const size_t skipped = node.is("Loop") ? 1 : 0;  // the condition
    if (body.outputs().size() != node.outputs.size() + skipped || states > node.outputs.size()) return false;
    for (ValueId v : node.inputs)
      if (v != kNoValue && !is_tensor(graph.value(v).dtype)) return false;
    for (size_t i = states; i < node.outputs.size(); ++i) {
      const Value& slice = body.value(body.outputs()[i + skipped]);
      if (slice.dtype == DType::kUndefined || slice.dtype == DType::kString || !is_tensor(slice.dtype) ||
          bits_of(slice.dtype) < 8 || (turns == 0 && !slice.shape.is_static()))
        return false;
    }
    return true;
  }

  void loop(int64_t turns) {
    std::vector<ValueId> state(
        node_.inputs.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(2, node_.inputs.size())),
        node_.inputs.end());
    const size_t states = state.size();
    std::vector<std::vector<ValueId>> slices(node_.outputs.size() - states);
    const ValueId go_on = turns > 0 ? graph_.add_constant(node_.name + "_condition", Tensor::scalar(true)) : kNoValue;
    for (int64_t turn = 0; turn < turns; ++turn) {
      std::vector<ValueId> inputs = {graph_.add_constant(node_.name + "_turn", Tensor::scalar(turn)), go_on};
      inputs.insert(inputs.end(), state.begin(), state.end());
      const std::vector<ValueId> results = inliner_.copy(inputs);
      std::copy_n(results.begin() + 1, states, state.begin());
      for (size_t i = 0; i < slices.size(); ++i) slices[i].push_back(results[1 + states + i]);
    }
    for (size_t i = 0; i < slices.size(); ++i) state.push_back(joined(slices[i], 0, body_.outputs()[1 + states + i]));
    finish(state);
  }

  void scan(int64_t turns, size_t states) {
    std::vector<ValueId> state(node_.inputs.begin(), node_.inputs.begin() + static_cast<std::ptrdiff_t>(states));
    std::vector<std::vector<ValueId>> slices(node_.outputs.size() - states);
    for (int64_t turn = 0; turn < turns; ++turn) {
      std::vector<ValueId> inputs = state;
      for (size_t i = states; i < node_.inputs.size(); ++i) {
        const bool backward = entry("scan_input_directions", i - states) != 0;
        inputs.push_back(
            slice(node_.inputs[i], axis_of(graph_, node_, i - states), backward ? turns - 1 - turn : turn));
      }
      const std::vector<ValueId> results = inliner_.copy(inputs);
      std::copy_n(results.begin(), states, state.begin());
      for (size_t i = 0; i < slices.size(); ++i) slices[i].push_back(results[states + i]);
    }
    for (size_t i = 0; i < slices.size(); ++i) {
      if (entry("scan_output_directions", i) != 0) std::reverse(slices[i].begin(), slices[i].end());
      state.push_back(joined(slices[i], entry("scan_output_axes", i), body_.outputs()[states + i]));
    }
    finish(state);
  }

  // Of a scanned input; −1 where its rank is not known or the axis is none.
  static int64_t axis_of(const Graph& graph, const Node& node, size_t scanned) {
    const std::vector<int64_t> axes = node.integers("scan_input_axes");
    const auto first = node.inputs.size() - static_cast<size_t>(node.integer("num_scan_inputs", 0));
    const auto rank = static_cast<int64_t>(graph.value(node.inputs[first + scanned]).shape.rank());
    const int64_t axis = scanned < axes.size() ? axes[scanned] : 0;
    return axis < -rank || axis >= rank ? -1 : axis < 0 ? axis + rank : axis;
  }

 private:
  int64_t entry(std::string_view attribute, size_t i) const {
    const std::vector<int64_t> list = node_.integers(attribute);
    return i < list.size() ? list[i] : 0;
  }

  ValueId add(const char* op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return graph_.add_node(
        NodeSpec{.op_type = op, .name = node_.name, .inputs = std::move(inputs), .attributes = std::move(attributes)},
        node_.name + "_" + op, id_);
  }
  ValueId ints(int64_t value) { return graph_.add_constant(node_.name + "_axis", Tensor::of<int64_t>({1}, {value})); }
  ValueId with_axis(const char* op, ValueId value, int64_t axis) {
    if (graph_.opset() < 13) return add(op, {value}, {{"axes", std::vector<int64_t>{axis}}});
    return add(op, {value, ints(axis)});
  }

  ValueId slice(ValueId value, int64_t axis, int64_t at) {
    return with_axis("Squeeze", add("Slice", {value, ints(at), ints(at + 1), ints(axis)}), axis);
  }

  ValueId joined(const std::vector<ValueId>& slices, int64_t axis, ValueId declared) {
    const Value& value = body_.value(declared);
    if (axis < 0) axis += static_cast<int64_t>(value.shape.rank()) + 1;
    if (slices.empty()) {
      Dims dims = value.shape.to_dims();
      dims.insert(dims.begin() + axis, 0);
      return graph_.add_constant(node_.name + "_nothing", Tensor(value.dtype, dims));
    }
    std::vector<ValueId> parts;
    for (ValueId v : slices) parts.push_back(with_axis("Unsqueeze", v, axis));
    return add("Concat", std::move(parts), {{"axis", axis}});
  }

  void finish(const std::vector<ValueId>& results) {
    for (size_t i = 0; i < node_.outputs.size(); ++i)
      if (node_.outputs[i] != kNoValue) graph_.replace_uses(node_.outputs[i], results[i]);
    graph_.erase_node(id_);
  }

  Graph& graph_;
  const NodeId id_;
  const Node node_;
  const Graph& body_;
  BodyInliner inliner_;
};

// Whether a turn that is begun is always followed by the next.
bool goes_on(const Graph& graph, const Node& loop, const Graph& body) {
  ValueId value = body.outputs()[0];
  const Node* node = body.producer(value);
  for (; node != nullptr && (node->is("Identity") || node->is("Cast")); node = body.producer(value)) {
    if (body.value(value).dtype != DType::kBool) return false;
    value = node->inputs[0];
  }
  if (value == body.inputs()[1]) return true;
  const int capture = body.value(value).capture;
  const auto flag =
      capture < 0 ? constant_flag(body, value) : constant_flag(graph, loop.captures[static_cast<size_t>(capture)]);
  return flag.value_or(false);
}

bool unroll_loop(Graph& graph, NodeId id, const Graph& body) {
  const Node& node = graph.node(id);
  const auto trips = constant_ints(graph, node.input(0));
  const auto starts = node.has_input(1) ? constant_flag(graph, node.inputs[1]) : true;
  const size_t states = node.inputs.size() - std::min<size_t>(2, node.inputs.size());
  if (!trips || trips->size() != 1 || !starts || body.inputs().size() != states + 2 || body.outputs().empty())
    return false;
  for (size_t i = 2; i < node.inputs.size(); ++i)
    if (!node.has_input(i)) return false;
  const int64_t turns = *starts ? std::max<int64_t>(0, (*trips)[0]) : 0;
  if (!Unroller::fits(graph, node, body, turns, states) || (turns > 1 && !goes_on(graph, node, body))) return false;
  Unroller(graph, id, body).loop(turns);
  return true;
}

bool unroll_scan(Graph& graph, NodeId id, const Graph& body) {
  const Node& node = graph.node(id);
  const auto count = static_cast<int64_t>(node.inputs.size()), scanned = node.integer("num_scan_inputs", 0);
  if (graph.opset() < 10 || scanned < 1 || scanned > count || body.inputs().size() != node.inputs.size()) return false;
  const auto states = static_cast<size_t>(count - scanned);
  Dim length;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!node.has_input(i)) return false;
    if (i < states) continue;
    const int64_t axis = Unroller::axis_of(graph, node, i - states);
    if (axis < 0) return false;
    const Dim& found = graph.value(node.inputs[i]).shape[static_cast<size_t>(axis)];
    if (!found.is_known() || (i > states && !found.same_as(length))) return false;
    length = found;
  }
  const std::vector<int64_t> axes = node.integers("scan_output_axes");
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t out = states + i;
    if (out >= body.outputs().size()) return false;
    const Shape& slice = body.value(body.outputs()[out]).shape;
    const auto rank = static_cast<int64_t>(slice.rank()) + 1;
    if (axes[i] != 0 && (!slice.has_rank() || axes[i] < -rank || axes[i] >= rank)) return false;
  }
  if (!Unroller::fits(graph, node, body, length.value(), states)) return false;
  Unroller(graph, id, body).scan(length.value(), states);
  return true;
}

}  // namespace

bool unroll_loops(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.is("Loop") && !node.is("Scan")) continue;
    const auto it = node.attributes.find("body");
    const GraphPtr* body = it == node.attributes.end() ? nullptr : std::get_if<GraphPtr>(&it->second);
    if (body == nullptr || *body == nullptr) continue;
    changed |= node.is("Loop") ? unroll_loop(graph, id, **body) : unroll_scan(graph, id, **body);
  }
  return changed;
}

}  // namespace slipway
