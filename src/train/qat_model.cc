// Quantisation-aware training's model. Weights: fake-quantised per channel before their operator. Activations:
// fake-quantised where the placement says, one scale a group. A BatchNormalization is folded inside the forward pass,
// w' = w · γ / σ and b' = β − μ · γ / σ, so that what is quantised is what will be executed; γ and β are trained, the
// statistics stay as the original has them (static folding: Nagel et al., "A white paper on neural network
// quantization", 2021, section 5.2.1): following the batches' own gave no better models in the few epochs that this
// takes.
#include "train/qat_model.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "quantize/ptq/weights.h"
#include "train/fake_quantize.h"
#include "train/operators.h"
#include "train/tensors.h"

namespace slipway {
namespace {

constexpr float kLeastScaleShare = 0.01f;  // of a quantiser's first scale: smaller ones are an optimiser's accident
constexpr double kBiasLimit = 0x1p30;

at::Tensor trained(at::Tensor tensor) { return tensor.detach().clone().requires_grad_(); }

struct TrainedNorm {
  at::Tensor gamma, beta, mean, variance;
  double epsilon;
  at::Tensor factor() const { return gamma / at::sqrt(variance + epsilon); }
};

struct Weighted {
  std::string output;  ///< name of the node's
  int64_t axis;
  ValueId weight, bias, input;
  at::Tensor scale;
  float least_scale;
  std::unique_ptr<TrainedNorm> norm;
};

struct Group {
  std::string name;
  at::Tensor scale;
  float least_scale;
  int32_t zero_point;
};

at::Tensor per_channel(const at::Tensor& vector, int64_t axis, int64_t rank) {
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims[static_cast<size_t>(axis)] = -1;
  return vector.view(dims);
}

}  // namespace

struct QatModel::Impl {
  explicit Impl(const TrainingGraph& prepared) : graph(prepared.graph), trainable(graph) {}

  Graph graph;
  TrainableGraph trainable;
  Placement placement;
  FakeGrid weight_range;
  QuantGrid activation_range;
  std::map<ValueId, at::Tensor*> leaves;  ///< trained constants
  std::map<ValueId, size_t> group_of;
  std::vector<Group> groups;
  std::vector<std::unique_ptr<Weighted>> weighted;
  bool quantizes = true, integer_bias = true, ends_in_softmax = false;

  at::Tensor quantize_weight(const Weighted& w, const at::Tensor& weight) const {
    if (!quantizes) return weight;
    const double features = static_cast<double>(weight.numel()) / static_cast<double>(weight.size(w.axis));
    return fake_quantize_channels(weight, w.scale, w.axis, weight_range,
                                  1 / std::sqrt(features * static_cast<double>(weight_range.hi)));
  }

  at::Tensor quantize_activation(ValueId id, at::Tensor x) const {
    const auto found = group_of.find(id);
    if (found == group_of.end() || !quantizes) return x;
    const Group& group = groups[found->second];
    const FakeGrid range{static_cast<float>(activation_range.saturate_min - group.zero_point),
                         static_cast<float>(activation_range.saturate_max - group.zero_point)};
    const double features = static_cast<double>(x.numel()) / static_cast<double>(std::max<int64_t>(1, x.size(0)));
    return fake_quantize(x, group.scale, range, 1 / std::sqrt(features * static_cast<double>(range.hi)));
  }

  /// INT32 biases are rounded to units of input scale times weight scale; straight through for the gradient.
  at::Tensor quantize_bias(const Weighted& w, const at::Tensor& bias) const {
    if (!quantizes || !integer_bias || bias.dim() != 1 || bias.numel() != w.scale.numel()) return bias;
    const at::NoGradGuard no_gradient;
    const at::Tensor unit = w.scale * groups[group_of.at(w.input)].scale;
    const at::Tensor rounding = at::round(bias / unit) * unit - bias;
    const at::AutoGradMode gradient(true);
    return bias + rounding;
  }

  at::Tensor compute(const Weighted& w, const Node& node, std::vector<at::Tensor> inputs) const {
    const auto linear = [&] { return find_operator(node)({node, graph.opset(), inputs})[0]; };
    if (w.norm == nullptr) {
      inputs[1] = quantize_weight(w, inputs[1]);
      if (inputs.size() > 2 && inputs[2].defined()) inputs[2] = quantize_bias(w, inputs[2]);
      return linear();
    }
    const TrainedNorm& norm = *w.norm;
    inputs.resize(3);
    const at::Tensor factor = norm.factor();
    inputs[1] = quantize_weight(w, inputs[1] * per_channel(factor, w.axis, inputs[1].dim()));
    inputs[2] = quantize_bias(w, norm.beta - norm.mean * factor);
    return linear();
  }

  at::Tensor forward(const std::vector<at::Tensor>& inputs, bool quantized) {
    quantizes = quantized;
    return trainable.forward(inputs,
                             [this](ValueId id, at::Tensor x) { return quantize_activation(id, std::move(x)); })[0];
  }

  void add_leaves() {
    for (const NodeId id : graph.topological_order()) {
      const Node& node = graph.node(id);
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        if (!is_trained(graph, node, i) || leaves.contains(node.inputs[i])) continue;
        const auto constant = trainable.constants().find(node.inputs[i]);
        constant->second = trained(constant->second);
        leaves[node.inputs[i]] = &constant->second;
      }
    }
  }

  /// Cross entropy wants what goes into a last Softmax: its logarithm would lose small probabilities.
  void leave_out_softmax() {
    const Node* last = graph.producer(graph.outputs()[0]);
    if (last == nullptr || !last->is("Softmax")) return;
    ends_in_softmax = true;
    trainable.overrides()[graph.value(graph.outputs()[0]).producer] = [](std::vector<at::Tensor> inputs) {
      return std::move(inputs[0]);
    };
  }

  void add_groups(const Quantizers& start) {
    for (const Placement::Group& group : placement.groups) {
      const std::string& name = graph.value(group.sources.front()).name;
      const QuantParams& params = start.activations.at(name);
      for (const ValueId member : group.members) group_of[member] = groups.size();
      groups.push_back({name, trained(at::tensor({params.scale})), params.scale * kLeastScaleShare, params.zero_point});
    }
  }

  void add_weighted(const TrainingGraph& prepared, const Quantizers& start) {
    for (const NodeId id : placement.weighted) {
      const Node& node = graph.node(id);
      auto w = std::make_unique<Weighted>();
      w->output = graph.value(node.outputs[0]).name;
      w->axis = weight_axis(node);
      w->weight = node.inputs[1];
      w->bias = node.input(2);
      w->input = node.inputs[0];
      const std::vector<float>& scales = start.weights.at(w->output);
      w->scale = trained(at::tensor(scales));
      w->least_scale = *std::min_element(scales.begin(), scales.end()) * kLeastScaleShare;
      if (const auto found = prepared.batch_norms.find(w->output);
          found != prepared.batch_norms.end() && graph.value(w->weight).uses.size() == 1) {
        const BatchNorm& norm = found->second;
        *leaves.at(w->weight) = trained(to_torch(norm.weight));
        if (const auto bias = leaves.find(w->bias); bias != leaves.end()) {
          bias->second->requires_grad_(false);  // beta takes its place
          leaves.erase(bias);
        }
        w->norm = std::make_unique<TrainedNorm>(TrainedNorm{trained(to_torch(norm.gamma)), trained(to_torch(norm.beta)),
                                                            to_torch(norm.mean), to_torch(norm.variance),
                                                            static_cast<double>(norm.epsilon)});
      }
      trainable.overrides()[id] = [this, w = w.get(), &node](std::vector<at::Tensor> inputs) {
        return compute(*w, node, std::move(inputs));
      };
      weighted.push_back(std::move(w));
    }
  }
};

QatModel::QatModel(const TrainingGraph& prepared, const Quantizers& start, const QuantizeOptions& options)
    : impl_(std::make_unique<Impl>(prepared)) {
  const QuantGrid grid = weight_grid(options);
  impl_->weight_range = {static_cast<float>(grid.dtype == DType::kInt8 ? grid.qmin : grid.saturate_min),
                         static_cast<float>(grid.saturate_max)};
  impl_->activation_range = activation_grid(options);
  impl_->integer_bias = options.integer_bias;
  impl_->placement = place_quantizers(impl_->graph, options);
  impl_->add_leaves();
  impl_->leave_out_softmax();
  impl_->add_groups(start);
  impl_->add_weighted(prepared, start);
}
QatModel::~QatModel() = default;

at::Tensor QatModel::forward(const std::vector<at::Tensor>& inputs) { return impl_->forward(inputs, true); }
at::Tensor QatModel::forward_float(const std::vector<at::Tensor>& inputs) { return impl_->forward(inputs, false); }
const Placement& QatModel::placement() const { return impl_->placement; }

std::vector<at::Tensor> QatModel::weights() const {
  std::vector<at::Tensor> tensors;
  for (const auto& [id, leaf] : impl_->leaves)
    if (leaf->dim() > 1) tensors.push_back(*leaf);
  return tensors;
}

std::vector<at::Tensor> QatModel::offsets() const {
  std::vector<at::Tensor> tensors;
  for (const auto& [id, leaf] : impl_->leaves)
    if (leaf->dim() <= 1) tensors.push_back(*leaf);
  for (const auto& w : impl_->weighted) {
    if (w->norm == nullptr) continue;
    tensors.push_back(w->norm->gamma);
    tensors.push_back(w->norm->beta);
  }
  return tensors;
}

std::vector<at::Tensor> QatModel::scales() const {
  std::vector<at::Tensor> tensors;
  for (const Group& group : impl_->groups) tensors.push_back(group.scale);
  for (const auto& w : impl_->weighted) tensors.push_back(w->scale);
  return tensors;
}

void QatModel::clamp_scales() {
  const at::NoGradGuard no_gradient;
  for (Group& group : impl_->groups) group.scale.clamp_min_(group.least_scale);
  for (const auto& w : impl_->weighted) w->scale.clamp_min_(w->least_scale);
}

bool QatModel::gives_probabilities() const { return impl_->ends_in_softmax; }

std::map<std::string, at::Tensor> QatModel::state() const {
  std::map<std::string, at::Tensor> state;
  for (const auto& [id, leaf] : impl_->leaves) state["constant " + impl_->graph.value(id).name] = *leaf;
  for (const Group& group : impl_->groups) state["scale " + group.name] = group.scale;
  for (const auto& w : impl_->weighted) {
    state["weight scale " + w->output] = w->scale;
    if (w->norm == nullptr) continue;
    state["gamma " + w->output] = w->norm->gamma;
    state["beta " + w->output] = w->norm->beta;
    state["mean " + w->output] = w->norm->mean;
    state["variance " + w->output] = w->norm->variance;
  }
  return state;
}

Graph QatModel::trained_graph() const {
  const at::NoGradGuard no_gradient;
  Graph graph = impl_->graph;
  for (const auto& [id, leaf] : impl_->leaves) graph.set_constant(id, from_torch(*leaf));
  for (const auto& w : impl_->weighted) {
    if (w->norm == nullptr) continue;
    const at::Tensor factor = w->norm->factor(), weight = *impl_->leaves.at(w->weight);
    graph.set_constant(w->weight, from_torch(weight * per_channel(factor, w->axis, weight.dim())));
    graph.set_constant(w->bias, from_torch(w->norm->beta - w->norm->mean * factor));
  }
  return graph;
}

Quantizers QatModel::quantizers() const {
  Quantizers quantizers;
  for (const Group& group : impl_->groups)
    quantizers.activations[group.name] = {group.scale.item<float>(), group.zero_point};
  const Graph graph = trained_graph();
  for (const auto& w : impl_->weighted) {
    const at::Tensor scale = w->scale.detach().contiguous();
    std::vector<float> scales(scale.data_ptr<float>(), scale.data_ptr<float>() + scale.numel());
    // As in choose_weight_scales: the bias must fit INT32 in units of input scale times weight scale.
    const double input_scale = impl_->groups[impl_->group_of.at(w->input)].scale.item<double>();
    const Tensor* bias = graph.constant(w->bias);
    for (size_t c = 0; c < scales.size(); ++c) {
      double least = FLT_MIN / std::min(1.0, input_scale);
      if (bias != nullptr && bias->dtype() == DType::kFloat32)
        for (size_t i = c; i < bias->values<float>().size(); i += scales.size())
          least = std::max(least, std::fabs(double{bias->values<float>()[i]}) / (kBiasLimit * input_scale));
      scales[c] = static_cast<float>(std::max<double>(scales[c], least));
    }
    quantizers.weights[w->output] = std::move(scales);
  }
  return quantizers;
}

}  // namespace slipway
