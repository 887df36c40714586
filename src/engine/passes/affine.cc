// Folding a per-channel scale and shift into the linear operator before it: W'[c] = W[c]·scale[c],
// b'[c] = b[c]·scale[c] + shift[c], computed in double. The channel axis of the weights is 0 for Conv, the group-wise
// axis 1 for ConvTranspose, the column for Gemm.
#include "engine/passes/affine.h"

#include <algorithm>
#include <cmath>

#include "engine/passes/match.h"

namespace slipway {
namespace {

std::vector<double> doubles_of(const Graph& graph, ValueId value) { return to_doubles(*graph.constant(value)); }

// The linear node's bias per channel with Gemm's beta applied; nothing when it is not a constant row.
std::optional<std::vector<double>> bias_of(const Graph& graph, const Node& linear, size_t channels) {
  if (!linear.has_input(2)) return std::vector<double>(channels, 0.0);
  const Tensor* bias = graph.constant(linear.inputs[2]);
  if (bias == nullptr || bias->dtype() != DType::kFloat32) return std::nullopt;
  if (bias->elements() != 1 &&
      (bias->elements() != static_cast<int64_t>(channels) || bias->dims().back() != static_cast<int64_t>(channels)))
    return std::nullopt;
  std::vector<double> values = to_doubles(*bias);
  if (values.size() == 1) values.assign(channels, values[0]);
  if (linear.is("Gemm"))
    for (double& v : values) v *= static_cast<double>(linear.real("beta", 1.0f));
  return values;
}

// The output channel of element i of the weights.
struct ChannelOf {
  int64_t inner, channels, input_channels_per_group, inner_channels;
  bool transposed;
  size_t operator()(int64_t i) const {
    if (!transposed) return static_cast<size_t>(i / inner % channels);
    const int64_t group = i / (inner * inner_channels) / input_channels_per_group;
    return static_cast<size_t>(group * inner_channels + i / inner % inner_channels);
  }
};

ChannelOf channel_map(const Node& linear, const Tensor& w, int64_t channels) {
  const Dims& dims = w.dims();
  if (linear.is("Gemm")) return {linear.integer("transB", 0) != 0 ? dims[1] : 1, channels, 1, 1, false};
  int64_t spatial = 1;
  for (size_t i = 2; i < dims.size(); ++i) spatial *= dims[i];
  if (linear.is("Conv")) return {spatial * dims[1], channels, 1, 1, false};
  return {spatial, channels, dims[0] / linear.integer("group", 1), dims[1], true};
}

}  // namespace

std::optional<Affine> batch_norm_affine(const Graph& graph, const Node& node) {
  if (!node.is("BatchNormalization") || node.integer("training_mode", 0) != 0 || node.integer("spatial", 1) != 1)
    return std::nullopt;
  for (size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue && (!graph.value(node.outputs[i]).uses.empty() || graph.is_output(node.outputs[i])))
      return std::nullopt;
  for (size_t i = 1; i < 5; ++i) {
    const Tensor* t = graph.constant(node.input(i));
    if (t == nullptr || t->dtype() != DType::kFloat32 || t->elements() != graph.constant(node.input(1))->elements())
      return std::nullopt;
  }
  const std::vector<double> gamma = doubles_of(graph, node.inputs[1]), beta = doubles_of(graph, node.inputs[2]),
                            mean = doubles_of(graph, node.inputs[3]), variance = doubles_of(graph, node.inputs[4]);
  Affine affine;
  for (size_t c = 0; c < gamma.size(); ++c) {
    const double scale = gamma[c] / std::sqrt(variance[c] + static_cast<double>(node.real("epsilon", 1e-5f)));
    affine.scale.push_back(scale);
    affine.shift.push_back(beta[c] - mean[c] * scale);
    if (!std::isfinite(scale) || !std::isfinite(affine.shift.back())) return std::nullopt;
  }
  return affine;
}

NodeId linear_before(const Graph& graph, ValueId value, NodeId reader) {
  const Node* node = graph.producer(value);
  if (node == nullptr || graph.only_user(value) != reader) return kNoNode;
  return node->is("Conv") || node->is("ConvTranspose") || node->is("Gemm") ? graph.value(value).producer : kNoNode;
}

int64_t channels_of(const Graph& graph, const Node& linear) {
  const Shape& w = graph.value(linear.inputs[1]).shape;
  if (!w.is_static() || w.rank() < 2) return 0;
  const Dims dims = w.to_dims();
  if (linear.is("Gemm")) return linear.integer("transB", 0) != 0 ? dims[0] : dims[1];
  if (linear.is("Conv")) return dims[0];
  const int64_t group = linear.integer("group", 1);
  return group < 1 || group > dims[0] || dims[0] % group != 0 ? 0 : dims[1] * group;
}

size_t output_rank(const Graph& graph, const Node& linear) { return graph.value(linear.inputs[1]).shape.rank(); }

bool fold_affine(Graph& graph, NodeId linear_id, NodeId last, const Affine& affine) {
  const Node linear = graph.node(linear_id);
  const auto channels = static_cast<size_t>(channels_of(graph, linear));
  if (channels == 0 || affine.scale.size() != channels || affine.shift.size() != channels) return false;
  auto bias = bias_of(graph, linear, channels);
  if (!bias || graph.value(linear.output(0)).dtype != DType::kFloat32) return false;
  const std::string base = graph.value(linear.inputs[1]).name;
  NodeSpec spec{
      .op_type = linear.op_type, .name = linear.name, .inputs = linear.inputs, .attributes = linear.attributes};
  spec.inputs.resize(3, kNoValue);
  if (std::any_of(affine.scale.begin(), affine.scale.end(), [](double s) { return s != 1.0; })) {
    const Tensor* w = graph.constant(linear.inputs[1]);
    if (w == nullptr || w->dtype() != DType::kFloat32) return false;
    const ChannelOf channel = channel_map(linear, *w, static_cast<int64_t>(channels));
    Tensor scaled(DType::kFloat32, w->dims());
    const std::span<const float> from = w->values<float>();
    const std::span<float> to = scaled.mutable_values<float>();
    for (size_t i = 0; i < from.size(); ++i)
      to[i] = static_cast<float>(static_cast<double>(from[i]) * affine.scale[channel(static_cast<int64_t>(i))]);
    spec.inputs[1] = graph.add_constant(base + "_scaled", std::move(scaled));
  }
  std::vector<float> shifted(channels);
  for (size_t c = 0; c < channels; ++c) shifted[c] = static_cast<float>((*bias)[c] * affine.scale[c] + affine.shift[c]);
  if (linear.is("Gemm")) spec.attributes.erase("beta");
  spec.inputs[2] = graph.add_constant(base + "_bias", Tensor::of<float>({static_cast<int64_t>(channels)}, shifted));
  rewrite(graph, last, std::move(spec));
  return true;
}

}  // namespace slipway
