// Removes nodes that give back what they were given: Identity, inference-time Dropout, casts to the same type, chains
// of reshapes that end where they began, transposes that cancel, Concat and Sum of one, empty Pad and full Slice, and
// the arithmetic identities x+0, x-0, x*1, x/1, x^1 where they are exact and do not broadcast.
#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"
#include "model/op.h"

namespace slipway {
namespace {

bool all_equal(const Graph& graph, ValueId value, double expected) {
  const Tensor* tensor = graph.constant(value);
  if (tensor == nullptr || tensor->dtype() == DType::kString || tensor->dtype() == DType::kBool) return false;
  if (!is_float(tensor->dtype()) && !is_integer(tensor->dtype())) return false;
  if (tensor->elements() > 65536) return false;
  const std::vector<double> values = to_doubles(*tensor);
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == expected; });
}

// The operand that an arithmetic identity leaves, or kNoValue.
ValueId identity_operand(const Graph& graph, const Node& node) {
  const auto keeps = [&](size_t i, double neutral) {
    return node.inputs.size() == 2 && all_equal(graph, node.inputs[1 - i], neutral) &&
           same_type(graph, node.inputs[i], node.output(0));
  };
  if (node.is("Add")) return keeps(0, 0) ? node.inputs[0] : keeps(1, 0) ? node.inputs[1] : kNoValue;
  if (node.is("Mul")) return keeps(0, 1) ? node.inputs[0] : keeps(1, 1) ? node.inputs[1] : kNoValue;
  if (node.is("Sub")) return keeps(0, 0) ? node.inputs[0] : kNoValue;
  if (node.is("Div") || node.is("Pow")) return keeps(0, 1) ? node.inputs[0] : kNoValue;
  return kNoValue;
}

bool is_view(const Graph& graph, const Node& node) {
  const OpSpec* spec = find_op(graph, node);
  return spec != nullptr && spec->has(kViews) && !node.inputs.empty() && node.inputs[0] != kNoValue;
}

// Through reshapes upward: the furthest value of exactly this shape holds exactly these elements.
ValueId same_view(const Graph& graph, const Node& node) {
  ValueId found = kNoValue;
  for (const Node* at = &node; at != nullptr && is_view(graph, *at); at = graph.producer(at->inputs[0]))
    if (same_type(graph, at->inputs[0], node.output(0))) found = at->inputs[0];
  return found;
}

bool slices_all(const Graph& graph, const Node& node) {
  const auto starts = integers_of(graph, node, "starts", 1), ends = integers_of(graph, node, "ends", 2);
  const auto axes = integers_of(graph, node, "axes", 3), steps = integers_of(graph, node, "steps", 4);
  const Shape& shape = graph.value(node.inputs[0]).shape;
  if (!starts || !ends || !axes || !steps || !shape.has_rank()) return false;
  for (size_t i = 0; i < starts->size(); ++i) {
    const int64_t axis = axes->empty() ? static_cast<int64_t>(i) : (*axes)[i];
    const size_t at = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(shape.rank()) : axis);
    if (at >= shape.rank() || (*starts)[i] != 0 || (!steps->empty() && (*steps)[i] != 1)) return false;
    const bool whole =
        (*ends)[i] >= std::numeric_limits<int32_t>::max() || (shape[at].is_known() && (*ends)[i] >= shape[at].value());
    if (!whole) return false;
  }
  return true;
}

// The value that the node's only used output equals, or kNoValue.
ValueId replacement(const Graph& graph, const Node& node) {
  const ValueId x = node.input(0);
  for (size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue && (!graph.value(node.outputs[i]).uses.empty() || graph.is_output(node.outputs[i])))
      return kNoValue;
  if (x == kNoValue || !node.domain.empty()) return kNoValue;
  const std::string& op = node.op_type;
  if (op == "Identity") return x;
  if (op == "Dropout") {
    const Tensor* training = graph.constant(node.input(2));
    return !node.has_input(2) || (training != nullptr && to_ints(*training)[0] == 0) ? x : kNoValue;
  }
  if (op == "Cast" || op == "CastLike")
    return graph.value(x).dtype != DType::kUndefined && graph.value(x).dtype == graph.value(node.outputs[0]).dtype
               ? x
               : kNoValue;
  if (op == "Concat" || op == "Sum" || op == "Max" || op == "Min" || op == "Mean")
    return node.inputs.size() == 1 ? x : kNoValue;
  if (op == "Transpose") {
    const std::vector<int64_t> perm = node.integers("perm");
    std::vector<int64_t> identity(perm.size());
    std::iota(identity.begin(), identity.end(), 0);
    return !perm.empty() && perm == identity ? x : kNoValue;
  }
  if (op == "Pad") {
    const auto pads = integers_of(graph, node, "pads", 1);
    return pads && std::all_of(pads->begin(), pads->end(), [](int64_t p) { return p == 0; }) ? x : kNoValue;
  }
  if (op == "Slice") return slices_all(graph, node) ? x : kNoValue;
  if (op == "Expand") return same_type(graph, x, node.outputs[0]) ? x : kNoValue;
  if (op == "Relu") return made_by(graph, x, "Relu") != nullptr ? x : kNoValue;
  if (is_view(graph, node)) return same_view(graph, node);
  return identity_operand(graph, node);
}

// Transpose(Transpose(x)) and Reshape(view(x)) read x directly.
bool shorten(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Node* inner = graph.producer(node.input(0));
  if (inner == nullptr || inner->input(0) == kNoValue) return false;
  NodeSpec spec{.op_type = node.op_type, .inputs = node.inputs, .attributes = node.attributes};
  if (node.is("Transpose") && inner->is("Transpose")) {
    const std::vector<int64_t> outer_perm = perm_of(node), inner_perm = perm_of(*inner);
    if (outer_perm.empty() || outer_perm.size() != inner_perm.size()) return false;
    std::vector<int64_t> perm;
    for (int64_t axis : outer_perm) perm.push_back(inner_perm[static_cast<size_t>(axis)]);
    spec.attributes.insert_or_assign("perm", perm);
  } else if (node.is("Reshape") && is_view(graph, *inner) && node.integer("allowzero", 0) == 0) {
    const auto target = constant_ints(graph, node.input(1));
    if (!target || std::count(target->begin(), target->end(), 0) > 0) return false;
  } else {
    return false;
  }
  spec.inputs[0] = inner->inputs[0];
  rewrite(graph, id, std::move(spec));
  return true;
}

}  // namespace

bool remove_no_ops(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive) continue;
    if (shorten(graph, id)) changed = true;
    const ValueId with = replacement(graph, graph.node(id));
    if (with != kNoValue && bypass(graph, id, with)) changed = true;
  }
  return changed;
}

}  // namespace slipway
