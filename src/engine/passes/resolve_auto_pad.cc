// Writes auto_pad of Conv and the pools as explicit pads: VALID as zeros, SAME_* from the input's size, or from the
// kernel alone where the stride is 1. ONNX: output = ceil(input / stride), the odd pixel after (UPPER) or before
// (LOWER).
#include <algorithm>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr int64_t kMaxEntry = int64_t{1} << 24;

std::vector<int64_t> kernel_of(const Graph& graph, const Node& node) {
  std::vector<int64_t> kernel = node.integers("kernel_shape");
  if (!kernel.empty() || !node.is("Conv")) return kernel;
  const Shape& w = graph.value(node.inputs[1]).shape;
  if (!w.has_rank() || !w.is_static() || w.rank() < 3) return {};
  const Dims dims = w.to_dims();
  return {dims.begin() + 2, dims.end()};
}

bool resolve(Graph& graph, NodeId id, const std::string& mode) {
  const Node& node = graph.node(id);
  const std::vector<int64_t> kernel = kernel_of(graph, node);
  const size_t rank = kernel.size();
  const Shape& shape = graph.value(node.inputs[0]).shape;
  const std::vector<int64_t> strides = node.integers("strides", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> dilations = node.integers("dilations", std::vector<int64_t>(rank, 1));
  if (rank == 0 || strides.size() != rank || dilations.size() != rank) return false;
  for (const auto* list : {&kernel, &strides, &dilations})
    if (std::any_of(list->begin(), list->end(), [](int64_t v) { return v < 1 || v > kMaxEntry; })) return false;
  std::vector<int64_t> pads(2 * rank, 0);
  if (mode != "VALID") {
    for (size_t i = 0; i < rank; ++i) {
      const int64_t extent = (kernel[i] - 1) * dilations[i] + 1;
      int64_t total = extent - 1;
      if (strides[i] != 1) {
        if (!shape.has_rank() || shape.rank() != rank + 2 || !shape[i + 2].is_known()) return false;
        const int64_t in = shape[i + 2].value(), out = (in + strides[i] - 1) / strides[i];
        total = std::max<int64_t>(0, (out - 1) * strides[i] + extent - in);
      }
      const int64_t small = total / 2, large = total - small;
      pads[i] = mode == "SAME_UPPER" ? small : large;
      pads[i + rank] = mode == "SAME_UPPER" ? large : small;
    }
  }
  graph.set_attribute(id, "pads", pads);
  graph.erase_attribute(id, "auto_pad");
  graph.erase_attribute(id, "ceil_mode");  // auto_pad decides the size alone
  return true;
}

}  // namespace

bool resolve_auto_pad(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!(node.is("Conv") || node.is("MaxPool") || node.is("AveragePool")) || !node.has("auto_pad")) continue;
    const std::string mode = node.text("auto_pad", "NOTSET");
    if (mode == "NOTSET") {
      graph.erase_attribute(id, "auto_pad");
      changed = true;
    } else if (mode == "VALID" || mode == "SAME_UPPER" || mode == "SAME_LOWER") {
      changed |= resolve(graph, id, mode);
    }
  }
  return changed;
}

}  // namespace slipway
