// What attention does to its scores becomes one operator of the fused domain: scores times a number (or divided by
// one), a mask that is added or put in by Where, Softmax along the last axis, and the guard that turns the NaN of rows
// that are masked all over into 0. Each part may be missing. None of them may widen the scores, and nothing else may
// read what is between.
//
// A quotient becomes a product where that rounds once more and no otherwise: both the number and its inverse are far
// from overflow.
#include <cmath>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

struct MaskedScores {
  ValueId x, mask = kNoValue;
  Attributes attributes = {};
  bool is_more = false;  ///< than a Softmax alone
};

bool is_last_axis(const Graph& graph, const Node& softmax) {
  const auto rank = static_cast<int64_t>(graph.value(softmax.inputs[0]).shape.rank());
  const int64_t axis = softmax.integer("axis", graph.opset() < 13 ? 1 : -1);
  return rank > 0 && (axis == -1 || axis == rank - 1);
}

bool is_score(const Graph& graph, ValueId value) {
  const Node* node = graph.producer(value);
  return node != nullptr && (node->is("MatMul") || node->is("Mul") || node->is("Div") || node->is_fused("Gemm"));
}

// The node that alone `reader` reads through that value and that does not change its type.
const Node* between(const Graph& graph, ValueId value, NodeId reader) {
  const Node* node = graph.producer(value);
  return node != nullptr && node->domain.empty() && node->outputs.size() == 1 && graph.only_user(value) == reader
             ? node
             : nullptr;
}

// Which operand of a sum are the scores; nothing when the other widens them.
std::optional<size_t> scores_of(const Graph& graph, const Node& sum) {
  std::optional<size_t> found;
  for (size_t side : {size_t{1}, size_t{0}})
    if (same_type(graph, sum.inputs[side], sum.outputs[0]) && !graph.value(sum.inputs[side]).is_constant() &&
        (!found || is_score(graph, sum.inputs[side]) || !is_score(graph, sum.inputs[*found])))
      found = side;
  return found;
}

// One number, whether it is a constant or filled in by shape.
bool take_mask(const Graph& graph, const Node& node, MaskedScores& found) {
  if (node.is("Add")) {
    const auto side = scores_of(graph, node);
    if (!side) return false;
    found.x = node.inputs[*side];
    found.mask = node.inputs[1 - *side];
    return true;
  }
  if (!node.is("Where")) return false;
  for (size_t side : {size_t{1}, size_t{2}}) {
    const auto fill = scalar(graph, node.inputs[3 - side]);
    if (!fill || !same_type(graph, node.inputs[side], node.outputs[0])) continue;
    found.x = node.inputs[side];
    found.mask = node.inputs[0];
    found.attributes["fill"] = *fill;
    if (side == 2) found.attributes["keeps"] = int64_t{0};
    return true;
  }
  return false;
}

bool take_scale(const Graph& graph, const Node& node, MaskedScores& found) {
  if (!node.is("Mul") && !node.is("Div")) return false;
  for (size_t side : {size_t{0}, size_t{1}}) {
    const auto number = scalar(graph, node.inputs[1 - side]);
    if (!number || !same_type(graph, node.inputs[side], node.outputs[0]) || (node.is("Div") && side == 1)) continue;
    if (node.is("Div") && !(std::abs(*number) >= 0x1p-30f && std::abs(*number) <= 0x1p30f)) continue;
    found.x = node.inputs[side];
    found.attributes["scale"] = node.is("Div") ? 1 / *number : *number;
    return true;
  }
  return false;
}

// Where(IsNaN(y), 0, y), which alone reads the Softmax's y; else the Softmax.
NodeId guard_of(const Graph& graph, NodeId softmax) {
  const ValueId y = graph.node(softmax).outputs[0];
  if (graph.is_output(y)) return softmax;
  for (const Use& use : graph.value(y).uses) {
    const Node& where = graph.node(use.node);
    if (!where.is("Where") || where.inputs[2] != y || scalar(graph, where.inputs[1]) != 0.0f ||
        !same_type(graph, y, where.outputs[0]))
      continue;
    const Node* test = between(graph, where.inputs[0], use.node);
    if (test == nullptr || !test->is("IsNaN") || test->inputs[0] != y) continue;
    if (read_only_within(graph, {softmax, graph.value(where.inputs[0]).producer}, use.node)) return use.node;
  }
  return softmax;
}

bool fuse_softmax_at(Graph& graph, NodeId id) {
  const Node& softmax = graph.node(id);
  if (!is_last_axis(graph, softmax) || graph.value(softmax.inputs[0]).dtype != DType::kFloat32) return false;
  MaskedScores found{.x = softmax.inputs[0]};
  NodeId reader = id;
  for (const auto take : {take_mask, take_scale})
    if (const Node* node = between(graph, found.x, reader)) {
      const ValueId made = found.x;
      if (!take(graph, *node, found)) continue;
      reader = graph.value(made).producer;
      found.is_more = true;
    }
  const NodeId last = guard_of(graph, id);
  if (last != id) found.attributes["guard"] = int64_t{1};
  if (last == id && !found.is_more) return false;
  NodeSpec spec{.op_type = "Softmax",
                .domain = std::string(kFusedDomain),
                .name = softmax.name,
                .inputs = {found.x},
                .attributes = std::move(found.attributes)};
  if (found.mask != kNoValue) spec.inputs.push_back(found.mask);
  rewrite(graph, last, std::move(spec));
  return true;
}

}  // namespace

bool fuse_softmax(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).alive && graph.node(id).is("Softmax")) changed |= fuse_softmax_at(graph, id);
  return changed;
}

}  // namespace slipway
