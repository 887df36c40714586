// Folding keeps the name of the BatchNormalization's output, so each is found again in the same model prepared without
// folding. It counts only where folding it by hand gives the folded weights: other passes may have folded more.
#include "train/training_graph.h"

#include <cmath>

#include "engine/passes/affine.h"
#include "engine/passes/pipeline.h"
#include "quantize/quantize.h"

namespace slipway {
namespace {

constexpr float kTolerance = 1e-5f;

bool is_folding(const Tensor& folded, const BatchNorm& norm) {
  const auto from = norm.weight.values<float>(), to = folded.values<float>();
  const auto gamma = norm.gamma.values<float>(), variance = norm.variance.values<float>();
  if (folded.dims() != norm.weight.dims() || gamma.empty()) return false;
  const size_t inner = from.size() / gamma.size();
  float largest = 0;
  for (const float w : to) largest = std::max(largest, std::fabs(w));
  for (size_t i = 0; i < from.size(); ++i) {
    const float factor = gamma[i / inner] / std::sqrt(variance[i / inner] + norm.epsilon);
    if (!(std::fabs(from[i] * factor - to[i]) <= kTolerance * largest)) return false;
  }
  return true;
}

}  // namespace

TrainingGraph prepare_for_training(const Graph& model, const QuantizeOptions& options) {
  TrainingGraph result{prepare_for_quantization(model, options), {}};
  Graph unfolded = model;
  run_passes(unfolded,
             {.standard_onnx = true, .disabled = {"fuse_conv_bn", "fuse_conv_affine", "batch_norm_to_affine"}});
  for (const NodeId id : unfolded.topological_order()) {
    const Node& node = unfolded.node(id);
    if (!node.is("BatchNormalization") || !batch_norm_affine(unfolded, node)) continue;
    const NodeId before = linear_before(unfolded, node.inputs[0], id);
    const ValueId output = result.graph.find(unfolded.value(node.outputs[0]).name);
    const Node* conv = output == kNoValue ? nullptr : result.graph.producer(output);
    if (before == kNoNode || conv == nullptr || !conv->is("Conv") || !unfolded.node(before).is("Conv")) continue;
    const Node& linear = unfolded.node(before);
    const Tensor *weight = unfolded.constant(linear.inputs[1]), *folded = result.graph.constant(conv->inputs[1]);
    if (weight == nullptr || folded == nullptr || folded->dtype() != DType::kFloat32) continue;
    BatchNorm norm{*weight,
                   *unfolded.constant(node.inputs[1]),
                   *unfolded.constant(node.inputs[2]),
                   *unfolded.constant(node.inputs[3]),
                   *unfolded.constant(node.inputs[4]),
                   node.real("epsilon", 1e-5f)};
    if (!is_folding(*folded, norm)) continue;
    if (linear.has_input(2)) {
      const Tensor* bias = unfolded.constant(linear.inputs[2]);
      if (bias == nullptr || bias->elements() != norm.mean.elements()) continue;
      for (size_t c = 0; c < bias->values<float>().size(); ++c)
        norm.mean.mutable_values<float>()[c] -= bias->values<float>()[c];
    }
    result.batch_norms.emplace(unfolded.value(node.outputs[0]).name, std::move(norm));
  }
  return result;
}

}  // namespace slipway
