// Pieces that are put together again: a Concat of all that one Split makes, or of Slices that cover an axis, in order
// (beside other operands or alone) reads what was cut; a Slice or Split that takes a Concat apart where it was put
// together reads its operands.
#include <algorithm>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

/// A part of a value along one axis, [start, end).
struct Piece {
  ValueId of = kNoValue;
  int64_t start = 0, end = 0;
};

// The axis of Concat or Split, not negative; nothing where the rank is unknown.
std::optional<int64_t> axis_of(const Graph& graph, const Node& node) {
  const Shape& shape = graph.value(node.inputs[0]).shape;
  if (!shape.has_rank()) return std::nullopt;
  const auto rank = static_cast<int64_t>(shape.rank());
  const int64_t axis = node.integer("axis", 0) + (node.integer("axis", 0) < 0 ? rank : 0);
  return axis < 0 || axis >= rank ? std::nullopt : std::optional(axis);
}

// The length along the axis; −1 unless known.
int64_t length_of(const Graph& graph, ValueId value, int64_t axis) {
  const Shape& shape = graph.value(value).shape;
  return shape.has_rank() && axis < static_cast<int64_t>(shape.rank()) ? shape[static_cast<size_t>(axis)].value() : -1;
}

// What a Slice with step 1 along that axis alone takes.
std::optional<Piece> sliced(const Graph& graph, const Node& slice, int64_t axis) {
  const auto starts = integers_of(graph, slice, "starts", 1), ends = integers_of(graph, slice, "ends", 2);
  const auto axes = integers_of(graph, slice, "axes", 3), steps = integers_of(graph, slice, "steps", 4);
  const int64_t length = length_of(graph, slice.inputs[0], axis);
  if (!starts || !ends || !axes || !steps || starts->size() != 1 || ends->size() != 1 || length < 0)
    return std::nullopt;
  int64_t at = axes->empty() ? 0 : axes->front();
  if (at < 0) at += static_cast<int64_t>(graph.value(slice.inputs[0]).shape.rank());
  if (at != axis || (!steps->empty() && *steps != std::vector<int64_t>{1})) return std::nullopt;
  const auto within = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + length : v, 0, length); };
  return Piece{slice.inputs[0], within(starts->front()), within(ends->front())};
}

// What a value is a piece of along that axis: a Slice, or one of a Split's results.
std::optional<Piece> piece_of(const Graph& graph, ValueId value, int64_t axis) {
  const Node* node = graph.producer(value);
  if (node == nullptr || !node->domain.empty()) return std::nullopt;
  if (node->op_type == "Slice") return sliced(graph, *node, axis);
  if (node->op_type != "Split" || axis_of(graph, *node) != axis) return std::nullopt;
  Piece piece{node->inputs[0], 0, 0};
  for (ValueId out : node->outputs) {
    const int64_t length = out == kNoValue ? -1 : length_of(graph, out, axis);
    if (length < 0) return std::nullopt;
    piece.start = piece.end;
    piece.end += length;
    if (out == value) return piece;
  }
  return std::nullopt;
}

bool join_pieces(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const auto axis = axis_of(graph, node);
  if (!axis) return false;
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < node.inputs.size();) {
    size_t next = i + 1;
    ValueId joined = node.inputs[i];
    const auto first = piece_of(graph, node.inputs[i], *axis);
    if (first && first->start == 0) {
      const int64_t length = length_of(graph, first->of, *axis);
      int64_t end = first->end;
      for (; next < node.inputs.size() && end < length; ++next) {
        const auto piece = piece_of(graph, node.inputs[next], *axis);
        if (!piece || piece->of != first->of || piece->start != end) break;
        end = piece->end;
      }
      if (end == length && next > i + 1)
        joined = first->of;
      else
        next = i + 1;
    }
    inputs.push_back(joined);
    i = next;
  }
  if (inputs.size() == node.inputs.size()) return false;
  rewrite(graph, id, {.op_type = "Concat", .inputs = std::move(inputs), .attributes = node.attributes});
  return true;
}

// The operand of the Concat that lies exactly there along its axis.
ValueId operand_at(const Graph& graph, const Node& concat, int64_t axis, int64_t start, int64_t end) {
  int64_t at = 0;
  for (ValueId v : concat.inputs) {
    const int64_t length = length_of(graph, v, axis);
    if (length < 0 || at > start) return kNoValue;
    if (at == start && at + length == end && length > 0) return v;
    at += length;
  }
  return kNoValue;
}

bool take_apart(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Node* concat = made_by(graph, node.inputs[0], "Concat");
  const auto axis = concat == nullptr ? std::nullopt : axis_of(graph, *concat);
  if (!axis) return false;
  std::vector<ValueId> operands;
  for (ValueId out : node.outputs) {
    const auto piece = out == kNoValue ? std::nullopt : piece_of(graph, out, *axis);
    operands.push_back(!piece ? kNoValue : operand_at(graph, *concat, *axis, piece->start, piece->end));
    if (operands.back() == kNoValue) return false;
  }
  if (operands.size() == 1) return bypass(graph, id, operands[0]);
  for (ValueId out : node.outputs)
    if (graph.is_output(out)) return false;
  for (size_t i = 0; i < operands.size(); ++i) graph.replace_uses(node.outputs[i], operands[i]);
  erase_unused(graph, id);
  return true;
}

}  // namespace

bool cancel_concat(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || node.input(0) == kNoValue) continue;
    if (node.is("Concat"))
      changed |= join_pieces(graph, id);
    else if (node.is("Slice") || node.is("Split"))
      changed |= take_apart(graph, id);
  }
  return changed;
}

}  // namespace slipway
