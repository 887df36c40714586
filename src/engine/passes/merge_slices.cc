// Slice(Slice(x)) along different axes, all bounds constant, becomes one Slice.
#include <algorithm>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

struct SliceBounds {
  std::vector<int64_t> starts, ends, axes, steps;
};

std::optional<SliceBounds> read_slice(const Graph& graph, const Node& node) {
  const auto starts = constant_ints(graph, node.input(1)), ends = constant_ints(graph, node.input(2));
  const auto axes = constant_ints(graph, node.input(3));
  if (!starts || !ends || !axes) return std::nullopt;
  std::vector<int64_t> steps(starts->size(), 1);
  if (node.has_input(4)) {
    const auto given = constant_ints(graph, node.inputs[4]);
    if (!given) return std::nullopt;
    steps = *given;
  }
  if (std::any_of(axes->begin(), axes->end(), [](int64_t a) { return a < 0; })) return std::nullopt;
  return SliceBounds{*starts, *ends, *axes, steps};
}

}  // namespace

bool merge_slices(Graph& graph, const PassContext&) {
  bool changed = false;
  if (graph.opset() < 10) return false;
  for (NodeId id : graph.topological_order()) {
    const Node outer = graph.node(id);
    if (!outer.alive || !outer.is("Slice")) continue;
    const Node* inner = made_by(graph, outer.inputs[0], "Slice");
    if (inner == nullptr || graph.only_user(outer.inputs[0]) != id) continue;
    auto merged = read_slice(graph, *inner);
    const auto added = read_slice(graph, outer);
    if (!merged || !added) continue;
    if (std::find_first_of(merged->axes.begin(), merged->axes.end(), added->axes.begin(), added->axes.end()) !=
        merged->axes.end())
      continue;
    std::vector<ValueId> inputs{inner->inputs[0]};
    const std::string base = graph.value(outer.outputs[0]).name;
    const auto append = [&](std::vector<int64_t>& to, const std::vector<int64_t>& from, const char* suffix) {
      to.insert(to.end(), from.begin(), from.end());
      inputs.push_back(graph.add_constant(base + suffix, Tensor::of<int64_t>({static_cast<int64_t>(to.size())}, to)));
    };
    append(merged->starts, added->starts, "_starts");
    append(merged->ends, added->ends, "_ends");
    append(merged->axes, added->axes, "_axes");
    append(merged->steps, added->steps, "_steps");
    rewrite(graph, id, {.op_type = "Slice", .inputs = std::move(inputs)});
    changed = true;
  }
  return changed;
}

}  // namespace slipway
