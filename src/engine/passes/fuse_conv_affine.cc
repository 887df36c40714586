// Mul, Div, Add and Sub by constants that differ at most by channel, after Conv, ConvTranspose or Gemm, are folded into
// weights and bias.
#include <cmath>

#include "engine/passes/affine.h"
#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

// The constant as one number per channel of a tensor of that rank; nothing when it varies elsewhere or would broadcast.
std::optional<std::vector<double>> per_channel(const Tensor& tensor, size_t rank, size_t axis, size_t channels) {
  const Dims& dims = tensor.dims();
  if (tensor.dtype() != DType::kFloat32 || dims.size() > rank) return std::nullopt;
  for (size_t i = 0; i < dims.size(); ++i) {
    const bool at_channel = rank - dims.size() + i == axis;
    if (dims[i] != 1 && !(at_channel && dims[i] == static_cast<int64_t>(channels))) return std::nullopt;
  }
  std::vector<double> values = to_doubles(tensor);
  if (values.size() == 1) values.assign(channels, values[0]);
  for (double v : values)
    if (!std::isfinite(v)) return std::nullopt;
  return values;
}

bool fold(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  const bool scales = node.is("Mul") || node.is("Div");
  if (!scales && !node.is("Add") && !node.is("Sub")) return false;
  for (size_t side : {size_t{0}, size_t{1}}) {
    const NodeId linear = linear_before(graph, node.inputs[side], id);
    const Tensor* constant = graph.constant(node.inputs[1 - side]);
    if (linear == kNoNode || constant == nullptr || (side == 1 && node.is("Div"))) continue;
    const auto channels = static_cast<size_t>(channels_of(graph, graph.node(linear)));
    const size_t rank = output_rank(graph, graph.node(linear));
    const auto values = per_channel(*constant, rank, 1, channels);
    if (!values || channels == 0) continue;
    Affine affine{std::vector<double>(channels, 1.0), std::vector<double>(channels, 0.0)};
    for (size_t c = 0; c < channels; ++c) {
      if (node.is("Mul")) affine.scale[c] = (*values)[c];
      if (node.is("Div")) affine.scale[c] = 1.0 / (*values)[c];
      if (node.is("Add")) affine.shift[c] = (*values)[c];
      if (node.is("Sub")) affine.shift[c] = side == 0 ? -(*values)[c] : (*values)[c];
      if (node.is("Sub") && side == 1) affine.scale[c] = -1.0;
      if (!std::isfinite(affine.scale[c])) return false;
    }
    if (fold_affine(graph, linear, id, affine)) return true;
  }
  return false;
}

}  // namespace

bool fuse_conv_affine(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).alive && graph.node(id).inputs.size() == 2) changed |= fold(graph, id);
  return changed;
}

}  // namespace slipway
