// One spelling for what models say in several ways, so that later passes match one: Sum of two becomes Add; means over
// all spatial axes become GlobalAveragePool (ReduceMean, AveragePool whose window is the whole picture); an Einsum that
// swaps the last two axes becomes Transpose.
#include <algorithm>
#include <numeric>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

// Sorted, non-negative reduction axes; empty when unknown or all.
std::vector<int64_t> reduced_axes(const Graph& graph, const Node& node, size_t rank) {
  auto axes = integers_of(graph, node, "axes", 1);
  if (!axes) return {};
  for (int64_t& axis : *axes)
    if (axis < 0) axis += static_cast<int64_t>(rank);
  std::sort(axes->begin(), axes->end());
  return *axes;
}

bool mean_to_pool(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const Value& x = graph.value(node.inputs[0]);
  if (!x.shape.has_rank() || x.shape.rank() < 3 || !is_float(x.dtype)) return false;
  const std::vector<int64_t> axes = reduced_axes(graph, node, x.shape.rank());
  if (axes.size() != x.shape.rank() - 2) return false;
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<int64_t>(i) + 2 || x.shape[i + 2] == Dim(0)) return false;  // pools refuse nothing
  if (node.integer("keepdims", 1) != 0) {
    rewrite(graph, id, {.op_type = "GlobalAveragePool", .inputs = {node.inputs[0]}});
    return true;
  }
  const std::string name = graph.value(node.outputs[0]).name + "_pooled";
  const ValueId pooled =
      graph.add_node(NodeSpec{.op_type = "GlobalAveragePool", .name = node.name, .inputs = {node.inputs[0]}}, name, id);
  rewrite(graph, id, {.op_type = "Flatten", .inputs = {pooled}, .attributes = {{"axis", int64_t{1}}}});
  return true;
}

bool whole_window_to_global(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const Shape& shape = graph.value(node.inputs[0]).shape;
  const std::vector<int64_t> kernel = node.integers("kernel_shape");
  if (!shape.has_rank() || shape.rank() != kernel.size() + 2) return false;
  for (int64_t pad : node.integers("pads"))
    if (pad != 0) return false;
  for (int64_t dilation : node.integers("dilations"))
    if (dilation != 1) return false;
  const std::string auto_pad = node.text("auto_pad", "NOTSET");
  if (auto_pad != "NOTSET" && auto_pad != "VALID") return false;
  for (size_t i = 0; i < kernel.size(); ++i)
    if (!shape[i + 2].is_known() || shape[i + 2].value() != kernel[i]) return false;
  rewrite(graph, id, {.op_type = "GlobalAveragePool", .inputs = {node.inputs[0]}});
  return true;
}

// The import writes a swap of the last two axes so while it does not know the rank.
bool einsum_to_transpose(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const size_t rank = graph.value(node.inputs[0]).shape.rank();
  if (node.text("equation", "") != "...ij->...ji" || rank < 2) return false;
  std::vector<int64_t> perm(rank);
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[rank - 1], perm[rank - 2]);
  rewrite(graph, id, {.op_type = "Transpose", .inputs = {node.inputs[0]}, .attributes = {{"perm", std::move(perm)}}});
  return true;
}

}  // namespace

bool canonicalize(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.domain.empty() || node.input(0) == kNoValue) continue;
    if (node.op_type == "Sum" && node.inputs.size() == 2) {
      graph.set_op(id, "Add", "");
      changed = true;
    } else if (node.op_type == "ReduceMean") {
      changed |= mean_to_pool(graph, id);
    } else if (node.op_type == "AveragePool") {
      changed |= whole_window_to_global(graph, id);
    } else if (node.op_type == "Einsum") {
      changed |= einsum_to_transpose(graph, id);
    }
  }
  return changed;
}

}  // namespace slipway
