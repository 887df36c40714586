// Static quantisation. The placement says which values are quantised and which share a scale; calibration chooses each
// group's range, or training has learned its scale; every quantised value v becomes v → QuantizeLinear →
// DequantizeLinear, whose result all readers of v take instead (graph outputs keep v). Weights become INT8 or INT4
// initialisers under a per-channel DequantizeLinear, biases INT32 ones in units of input scale times weight scale.
#include "quantize/ptq/quantize_static.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "quantize/ptq/opset.h"
#include "quantize/ptq/placement.h"
#include "quantize/ptq/weights.h"

namespace slipway {
namespace {

Tensor zero_point_of(const QuantGrid& grid, int32_t zero_point) {
  return from_doubles(grid.dtype, {}, std::vector<double>{static_cast<double>(zero_point)});
}

std::string node_name(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  return !node.name.empty() || node.output(0) == kNoValue ? node.name : graph.value(node.output(0)).name;
}

Placement require_placement(const Graph& graph, const QuantizeOptions& options) {
  Placement placement = place_quantizers(graph, options);
  if (placement.weighted.empty())
    fail(ErrorCode::kInvalidModel,
         "Nothing in the model can be quantised; it needs Conv, Gemm or MatMul with constant float32 weights: '{}'",
         graph.name);
  return placement;
}

const std::string& name_of(const Graph& graph, const Placement::Group& group) {
  return graph.value(group.sources.front()).name;
}

/// What was observed of a group's sources.
TensorStats stats_of(const Graph& graph, const Placement::Group& group, const Calibration& calibration) {
  TensorStats stats;
  for (const ValueId source : group.sources) {
    const std::string& name = graph.value(source).name;
    const auto found = calibration.tensors.find(name);
    if (found == calibration.tensors.end() || found->second.is_empty())
      fail(ErrorCode::kInvalidArgument,
           "The calibration has no values of a tensor; calibrate this model with these options: '{}'", name);
    stats.merge(found->second);
  }
  return stats;
}

/// A weighted node with its constants.
struct Weighted {
  Weighted(const Graph& graph, NodeId id, const QuantizeOptions& options)
      : node(graph.node(id)),
        axis(weight_axis(node)),
        weight(*graph.constant(node.inputs[1])),
        channels(weight.dims()[static_cast<size_t>(axis)]),
        output(graph.value(node.outputs[0]).name),
        where(fmt::format("'{}' of {}", graph.value(node.inputs[1]).name, node.label())) {
    const Tensor* values = graph.constant(node.input(2));
    // A bias that is not one value a channel (Gemm broadcasts any shape) stays float.
    const bool is_channel_bias = values != nullptr && values->dtype() == DType::kFloat32 && values->rank() == 1 &&
                                 values->elements() % channels == 0 &&
                                 (values->elements() == channels || node.op_type == "ConvTranspose");
    if (options.integer_bias && is_channel_bias) integer_bias = values;
  }
  WeightScales choose_scales(float input_scale, const QuantizeOptions& options) const {
    return choose_weight_scales(weight, axis,
                                integer_bias != nullptr ? integer_bias->values<float>() : std::span<const float>(),
                                input_scale, weight_grid(options), options.range.method, where);
  }

  const Node& node;
  int64_t axis;
  const Tensor& weight;
  int64_t channels;
  std::string output, where;
  const Tensor* integer_bias = nullptr;  ///< the bias that becomes INT32
};

class Inserter {
 public:
  Inserter(const Graph& graph, const Quantizers& quantizers, const QuantizeOptions& options)
      : graph_(graph), quantizers_(quantizers), options_(options), grid_(activation_grid(options)) {
    report_.options = options;
  }

  QuantizedModel run() {
    raise_opset(graph_, least_opset(options_));
    const Placement placement = require_placement(graph_, options_);
    for (const auto& [node, quantized, reason] : placement.decisions)
      report_.nodes.push_back({node_name(graph_, node), graph_.node(node).op_type, quantized, reason});
    for (const Placement::Group& group : placement.groups) state(group);
    for (const NodeId node : placement.weighted) quantize_weights(node);
    for (const Placement::Group& group : placement.groups) insert(group);
    return {std::move(graph_), std::move(report_)};
  }

 private:
  struct Chosen {
    QuantParams params;
    ValueId scale = kNoValue, zero_point = kNoValue;
  };

  template <typename T>
  const T& find(const std::map<std::string, T, std::less<>>& quantizers, const std::string& name) const {
    const auto found = quantizers.find(name);
    if (found == quantizers.end())
      fail(ErrorCode::kInvalidArgument, "A quantiser is missing; choose them for this model with these options: '{}'",
           name);
    return found->second;
  }
  static void require_scale(float scale, const std::string& name) {
    if (!(scale > 0) || !std::isfinite(scale))
      fail(ErrorCode::kInvalidArgument, "The scale of a quantiser must be a positive number: {} of '{}'", scale, name);
  }

  void state(const Placement::Group& group) {
    const std::string leader = name_of(graph_, group);
    const QuantParams params = find(quantizers_.activations, leader);
    require_scale(params.scale, leader);
    const Chosen chosen{
        params, graph_.add_constant(graph_.fresh_name(leader + "_scale"), Tensor::scalar(params.scale)),
        graph_.add_constant(graph_.fresh_name(leader + "_zero_point"), zero_point_of(grid_, params.zero_point))};
    for (const ValueId member : group.members) {
      chosen_.emplace(member, chosen);
      report_.tensors.push_back({.name = graph_.value(member).name, .group = leader, .params = params, .range = {}});
    }
  }

  ValueId dequantize(ValueId codes, ValueId scale, ValueId zero_point, std::string name, NodeId like) {
    std::vector<ValueId> inputs = {codes, scale};
    if (zero_point != kNoValue) inputs.push_back(zero_point);
    const ValueId result =
        graph_.add_node({.op_type = "DequantizeLinear", .name = name, .inputs = std::move(inputs)}, name, like);
    graph_.set_type(result, DType::kFloat32, graph_.value(codes).shape);
    return result;
  }

  void insert(const Placement::Group& group) {
    for (const ValueId value : group.members) {
      const Chosen& chosen = chosen_.at(value);
      const std::string name = graph_.value(value).name;
      const std::vector<Use> uses = graph_.value(value).uses;
      const NodeId like = graph_.value(value).producer != kNoNode ? graph_.value(value).producer : uses.front().node;
      const ValueId codes = graph_.add_node({.op_type = "QuantizeLinear",
                                             .name = name + "_QuantizeLinear",
                                             .inputs = {value, chosen.scale, chosen.zero_point}},
                                            graph_.fresh_name(name + "_quantized"), like);
      graph_.set_type(codes, grid_.dtype, graph_.value(value).shape);
      const ValueId back = dequantize(codes, chosen.scale, chosen.zero_point, name + "_DequantizeLinear", like);
      for (const Use& use : uses) {
        const Node& node = graph_.node(use.node);
        const auto index = static_cast<size_t>(use.input);
        if (index < node.inputs.size()) {
          graph_.set_input(use.node, index, back);
        } else {
          std::vector<ValueId> captures = node.captures;
          captures[index - node.inputs.size()] = back;
          graph_.set_captures(use.node, std::move(captures));
        }
      }
    }
  }

  void erase_unused(ValueId id) {
    if (graph_.value(id).uses.empty() && !graph_.is_output(id)) graph_.erase_value(id);
  }

  /// A DequantizeLinear over new initialisers, per channel along `axis`.
  ValueId add_initializer(const std::string& name, Tensor codes, const std::vector<float>& scales, int64_t axis,
                          NodeId like) {
    const DType dtype = codes.dtype();
    const auto channels = static_cast<int64_t>(scales.size());
    const ValueId value = graph_.add_constant(graph_.fresh_name(name + "_quantized"), std::move(codes));
    const ValueId scale =
        graph_.add_constant(graph_.fresh_name(name + "_scale"), Tensor::of<float>({channels}, scales));
    // INT32 has no zero point of its own in ONNX; INT8 states its zeros, as TensorRT asks.
    const ValueId zero = dtype == DType::kInt32
                             ? kNoValue
                             : graph_.add_constant(graph_.fresh_name(name + "_zero_point"), Tensor(dtype, {channels}));
    const ValueId result = dequantize(value, scale, zero, name + "_DequantizeLinear", like);
    graph_.set_attribute(graph_.value(result).producer, "axis", axis);
    return result;
  }

  void quantize_weights(NodeId id) {
    const Weighted w(graph_, id, options_);
    const float input_scale = chosen_.at(w.node.inputs[0]).params.scale;
    const ValueId weight = w.node.inputs[1], bias = w.node.input(2);
    const std::string weight_name = graph_.value(weight).name;
    std::vector<float> scales = find(quantizers_.weights, w.output);
    if (static_cast<int64_t>(scales.size()) != w.channels)
      fail(ErrorCode::kInvalidArgument, "A node's weights have {} channels and their quantiser {} scales: {}",
           w.channels, scales.size(), w.where);
    for (const float scale : scales) require_scale(scale, weight_name);
    WeightCodes codes = quantize_weight(w.weight, w.axis, scales, weight_grid(options_), w.where);
    const auto [low, high] = std::minmax_element(scales.begin(), scales.end());
    report_.weights.push_back({.name = weight_name,
                               .node = node_name(graph_, id),
                               .axis = w.axis,
                               .channels = w.channels,
                               .min_scale = *low,
                               .max_scale = *high,
                               .sqnr_db = codes.sqnr_db});
    const int64_t axis = w.axis;
    if (w.integer_bias != nullptr) {
      BiasCodes bias_codes = quantize_bias(*w.integer_bias, scales, input_scale);
      const std::string bias_name = graph_.value(bias).name;
      const ValueId integer = add_initializer(bias_name, std::move(bias_codes.codes), bias_codes.scales, 0, id);
      graph_.set_input(id, 2, integer);
      erase_unused(bias);
    }
    // Nodes that share a weight share its codes where their scales agree.
    auto& shared = dequantized_weights_[{weight, axis}];
    const auto same = std::find_if(shared.begin(), shared.end(), [&](const auto& s) { return s.first == scales; });
    ValueId integer = kNoValue;
    if (same != shared.end()) {
      integer = same->second;
    } else {
      integer = add_initializer(weight_name, std::move(codes.codes), scales, axis, id);
      shared.emplace_back(std::move(scales), integer);
    }
    graph_.set_input(id, 1, integer);
    erase_unused(weight);
  }

  Graph graph_;
  const Quantizers& quantizers_;
  const QuantizeOptions& options_;
  const QuantGrid grid_;
  QuantizeReport report_;
  std::map<ValueId, Chosen> chosen_;
  std::map<std::pair<ValueId, int64_t>, std::vector<std::pair<std::vector<float>, ValueId>>> dequantized_weights_;
};

/// Quantisers chosen by calibration, and what the report says of them.
struct Choices {
  Quantizers quantizers;
  std::map<std::string, QuantizedTensor, std::less<>> tensors;  ///< by the group's name
  std::vector<WeightScales> weights;                            ///< in the order of the placement
};

Choices choose(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options) {
  Graph raised = graph;
  raise_opset(raised, least_opset(options));
  const Placement placement = require_placement(raised, options);
  const QuantGrid grid = activation_grid(options);
  Choices choices;
  std::map<ValueId, float> input_scales;
  for (const Placement::Group& group : placement.groups) {
    const TensorStats stats = stats_of(raised, group, calibration);
    RangeChoice range = choose_range(stats, grid, options.range);
    const QuantParams params = range.chosen.params;
    choices.quantizers.activations[name_of(raised, group)] = params;
    choices.tensors[name_of(raised, group)] = {
        .params = params, .min = stats.min(), .max = stats.max(), .range = std::move(range)};
    for (const ValueId member : group.members) input_scales[member] = params.scale;
  }
  for (const NodeId id : placement.weighted) {
    const Weighted w(raised, id, options);
    choices.weights.push_back(w.choose_scales(input_scales.at(w.node.inputs[0]), options));
    choices.quantizers.weights[w.output] = choices.weights.back().scales;
  }
  return choices;
}

nlohmann::json summary_of(const Calibration& calibration, const QuantizeOptions& options) {
  return {{"profile", to_string(options.profile)},
          {"activations", to_string(activation_grid(options).dtype)},
          {"weights", fmt::format("{} per channel, symmetric", to_string(weight_grid(options).dtype))},
          {"method", to_string(options.range.method)},
          {"percentile", options.range.percentile},
          {"samples", calibration.samples},
          {"data_digest", calibration.data_digest},
          {"version", SLIPWAY_VERSION}};
}

}  // namespace

QuantGrid activation_grid(const QuantizeOptions& options) {
  const bool portable = options.profile == QuantizeProfile::kPortable;
  if (options.activation_bits == 8) return portable ? kSymmetricInt8 : kAsymmetricUint8;
  if (options.activation_bits == 16 && portable) return kSymmetricInt16;
  fail(ErrorCode::kInvalidArgument,
       "Activations take 8 bits, or 16 with the portable profile; choose one of these: {} bits, profile {}",
       options.activation_bits, to_string(options.profile));
}

QuantGrid weight_grid(const QuantizeOptions& options) {
  if (options.weight_bits == 8) return kSymmetricInt8;
  if (options.weight_bits == 4) return kSymmetricInt4;
  fail(ErrorCode::kInvalidArgument, "Weights take 8 bits or 4; choose one of these: {} bits", options.weight_bits);
}

int64_t least_opset(const QuantizeOptions& options) {
  return options.activation_bits > 8 || options.weight_bits < 8 ? 21 : 13;
}

std::vector<std::string> tensors_to_calibrate(const Graph& graph, const QuantizeOptions& options) {
  Graph raised = graph;
  raise_opset(raised, least_opset(options));
  std::vector<std::string> names;
  for (const Placement::Group& group : place_quantizers(raised, options).groups)
    for (const ValueId source : group.sources) names.push_back(raised.value(source).name);
  return names;
}

Quantizers choose_quantizers(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options) {
  return choose(graph, calibration, options).quantizers;
}

QuantizedModel insert_quantizers(const Graph& graph, const Quantizers& quantizers, const QuantizeOptions& options) {
  return Inserter(graph, quantizers, options).run();
}

QuantizedModel quantize_static(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options) {
  const Choices choices = choose(graph, calibration, options);
  QuantizedModel model = insert_quantizers(graph, choices.quantizers, options);
  QuantizeReport& report = model.report;
  report.samples = calibration.samples;
  report.data_digest = calibration.data_digest;
  for (QuantizedTensor& tensor : report.tensors) {
    const QuantizedTensor& chosen = choices.tensors.find(tensor.group)->second;
    tensor.min = chosen.min;
    tensor.max = chosen.max;
    tensor.range = chosen.range;
  }
  for (size_t i = 0; i < report.weights.size(); ++i) {
    report.weights[i].dead_channels = choices.weights[i].dead_channels;
    report.weights[i].widened_channels = choices.weights[i].widened_channels;
  }
  model.graph.metadata["slipway.quantization"] = summary_of(calibration, options).dump();
  return model;
}

}  // namespace slipway
