// A constant Pad before Conv or a pool moves into the operator's own pads where the padded value is what the operator
// pads with: 0 for Conv; 0 counted in the mean for AveragePool (so only where it has no pads of its own, or counts
// them); the lowest value for MaxPool.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr int64_t kMaxPad = int64_t{1} << 24;

struct SpatialPad {
  std::vector<int64_t> pads;  ///< begins then ends of the spatial axes
  float value;
};

std::optional<SpatialPad> read_pad(const Graph& graph, const Node& node) {
  const Shape& shape = graph.value(node.input(0)).shape;
  const auto pads = integers_of(graph, node, "pads", 1), axes = integers_of(graph, node, "axes", 3);
  if (!pads || !axes || !shape.has_rank() || shape.rank() < 3 || node.text("mode", "constant") != "constant")
    return std::nullopt;
  SpatialPad result{{}, node.real("value", 0.0f)};
  if (node.has_input(2)) {
    const auto value = scalar(graph, node.inputs[2]);
    if (!value) return std::nullopt;
    result.value = *value;
  }
  const size_t rank = shape.rank(), spatial = rank - 2;
  std::vector<int64_t> full(2 * rank, 0);
  const size_t count = axes->empty() ? rank : axes->size();
  if (pads->size() != 2 * count) return std::nullopt;
  for (size_t i = 0; i < count; ++i) {
    const int64_t axis = axes->empty() ? static_cast<int64_t>(i) : (*axes)[i];
    const size_t at = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
    if (at >= rank) return std::nullopt;
    full[at] = (*pads)[i];
    full[at + rank] = (*pads)[i + count];
  }
  if (full[0] != 0 || full[1] != 0 || full[rank] != 0 || full[rank + 1] != 0) return std::nullopt;
  for (size_t side : {size_t{0}, rank})
    for (size_t i = 0; i < spatial; ++i) {
      if (full[side + 2 + i] < 0 || full[side + 2 + i] > kMaxPad) return std::nullopt;
      if (shape[2 + i] == Dim(0)) return std::nullopt;  // windows refuse what has no pixels, whatever they pad
      result.pads.push_back(full[side + 2 + i]);
    }
  return result;
}

bool has_pads(const Node& node) {
  for (int64_t pad : node.integers("pads"))
    if (pad != 0) return true;
  return false;
}

// Zero times an infinite weight is NaN, which the operator's own padding leaves out. Weights that are not constant may
// come to be infinite.
bool may_multiply_zero(const Tensor* weights) {
  if (weights == nullptr) return false;
  const std::vector<double> values = to_doubles(*weights);
  return std::all_of(values.begin(), values.end(), [](double w) { return std::isfinite(w); });
}

// Whether the operator would pad with the same value and leave the rest of its meaning alone.
bool pads_alike(const Graph& graph, const Node& node, const SpatialPad& pad) {
  if (node.text("auto_pad", "NOTSET") != "NOTSET") return false;
  if (node.is("Conv")) return pad.value == 0.0f && may_multiply_zero(graph.constant(node.inputs[1]));
  const std::vector<int64_t> kernel = node.integers("kernel_shape"),
                             own = node.integers("pads", std::vector<int64_t>(pad.pads.size(), 0));
  for (size_t i = 0; i < pad.pads.size(); ++i)
    if (kernel.size() * 2 != pad.pads.size() || own[i] > kMaxPad || pad.pads[i] + own[i] >= kernel[i % kernel.size()])
      return false;
  if (node.integer("ceil_mode", 0) != 0) return false;
  if (node.is("AveragePool"))
    return pad.value == 0.0f && (!has_pads(node) || node.integer("count_include_pad", 0) != 0);
  return node.is("MaxPool") && pad.value <= std::numeric_limits<float>::lowest();
}

}  // namespace

bool fold_pad(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node node = graph.node(id);
    if (!node.alive || !(node.is("Conv") || node.is("AveragePool") || node.is("MaxPool"))) continue;
    const Node* pad_node = made_by(graph, node.inputs[0], "Pad");
    if (pad_node == nullptr || graph.only_user(node.inputs[0]) != id) continue;
    const auto pad = read_pad(graph, *pad_node);
    std::vector<int64_t> pads = node.integers("pads");
    if (!pad || (!pads.empty() && pads.size() != pad->pads.size()) || !pads_alike(graph, node, *pad)) continue;
    pads.resize(pad->pads.size(), 0);
    if (std::any_of(pads.begin(), pads.end(), [](int64_t p) { return p < 0 || p > kMaxPad; })) continue;
    for (size_t i = 0; i < pads.size(); ++i) pads[i] += pad->pads[i];
    NodeSpec spec{.op_type = node.op_type, .inputs = node.inputs, .attributes = node.attributes};
    spec.inputs[0] = pad_node->inputs[0];
    spec.attributes.insert_or_assign("pads", pads);
    if (node.is("AveragePool")) spec.attributes.insert_or_assign("count_include_pad", int64_t{1});
    rewrite(graph, id, std::move(spec));
    changed = true;
  }
  return changed;
}

}  // namespace slipway
