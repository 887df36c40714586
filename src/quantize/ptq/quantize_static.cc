// Static post-training quantisation. The placement says which values are quantised and which share a scale; the
// calibration gives each group its range; every quantised value v becomes v → QuantizeLinear → DequantizeLinear, whose
// result all readers of v take instead (graph outputs keep v). Weights become INT8 initialisers under a per-channel
// DequantizeLinear, biases INT32 ones in units of input scale times weight scale.
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

class Inserter {
 public:
  Inserter(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options)
      : graph_(graph), calibration_(calibration), options_(options), grid_(activation_grid(options)) {
    report_.options = options;
    report_.samples = calibration.samples;
    report_.data_digest = calibration.data_digest;
  }

  QuantizedModel run() {
    raise_opset(graph_, least_opset(options_));
    const Placement placement = place_quantizers(graph_, options_);
    if (placement.weighted.empty())
      fail(ErrorCode::kInvalidModel,
           "Nothing in the model can be quantised; it needs Conv, Gemm or MatMul with constant float32 weights: '{}'",
           graph_.name);
    for (const auto& [node, quantized, reason] : placement.decisions)
      report_.nodes.push_back({node_name(node), graph_.node(node).op_type, quantized, reason});
    for (const Placement::Group& group : placement.groups) choose(group);
    for (const NodeId node : placement.weighted) quantize_weights(node);
    for (const Placement::Group& group : placement.groups) insert(group);
    graph_.metadata["slipway.quantization"] = summary().dump();
    return {std::move(graph_), std::move(report_)};
  }

 private:
  struct Chosen {
    QuantParams params;
    ValueId scale = kNoValue, zero_point = kNoValue;
  };

  std::string node_name(NodeId id) const {
    const Node& node = graph_.node(id);
    return !node.name.empty() || node.output(0) == kNoValue ? node.name : graph_.value(node.output(0)).name;
  }

  void choose(const Placement::Group& group) {
    TensorStats stats;
    for (const ValueId source : group.sources) {
      const std::string& name = graph_.value(source).name;
      const auto found = calibration_.tensors.find(name);
      if (found == calibration_.tensors.end() || found->second.is_empty())
        fail(ErrorCode::kInvalidArgument,
             "The calibration has no values of a tensor; calibrate this model with these options: '{}'", name);
      stats.merge(found->second);
    }
    const RangeChoice choice = choose_range(stats, grid_, options_.range);
    const QuantParams params = choice.chosen.params;
    const std::string leader = graph_.value(group.sources.front()).name;
    const Chosen chosen{
        params, graph_.add_constant(graph_.fresh_name(leader + "_scale"), Tensor::scalar(params.scale)),
        graph_.add_constant(graph_.fresh_name(leader + "_zero_point"), zero_point_of(grid_, params.zero_point))};
    for (const ValueId member : group.members) {
      chosen_.emplace(member, chosen);
      report_.tensors.push_back({graph_.value(member).name, leader, params, stats.min(), stats.max(), choice});
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
    const Node& node = graph_.node(id);
    const std::string where = node.label();
    const float input_scale = chosen_.at(node.inputs[0]).params.scale;
    const ValueId weight = node.inputs[1], bias = node.input(2);
    const std::string weight_name = graph_.value(weight).name;
    const int64_t axis = weight_axis(node);
    const int64_t channels = graph_.constant(weight)->dims()[static_cast<size_t>(axis)];
    const Tensor* bias_values = graph_.constant(bias);
    // A bias that is not one value a channel (Gemm broadcasts any shape) stays float.
    const bool is_channel_bias = bias_values != nullptr && bias_values->dtype() == DType::kFloat32 &&
                                 bias_values->rank() == 1 && bias_values->elements() % channels == 0 &&
                                 (bias_values->elements() == channels || node.op_type == "ConvTranspose");
    const bool integer_bias = options_.integer_bias && is_channel_bias;
    WeightCodes codes = quantize_weight(*graph_.constant(weight), axis,
                                        integer_bias ? bias_values->values<float>() : std::span<const float>(),
                                        input_scale, fmt::format("'{}' of {}", weight_name, where));
    const auto [low, high] = std::minmax_element(codes.scales.begin(), codes.scales.end());
    report_.weights.push_back({weight_name, node_name(id), axis, channels, codes.dead_channels, codes.widened_channels,
                               *low, *high, codes.sqnr_db});

    if (integer_bias) {
      BiasCodes bias_codes = quantize_bias(*bias_values, codes.scales, input_scale);
      const std::string bias_name = graph_.value(bias).name;
      const ValueId integer = add_initializer(bias_name, std::move(bias_codes.codes), bias_codes.scales, 0, id);
      graph_.set_input(id, 2, integer);
      erase_unused(bias);
    }
    // Nodes that share a weight share its codes where their scales agree.
    auto& shared = dequantized_weights_[{weight, axis}];
    const auto same =
        std::find_if(shared.begin(), shared.end(), [&](const auto& s) { return s.first == codes.scales; });
    ValueId integer = kNoValue;
    if (same != shared.end()) {
      integer = same->second;
    } else {
      integer = add_initializer(weight_name, std::move(codes.codes), codes.scales, axis, id);
      shared.emplace_back(std::move(codes.scales), integer);
    }
    graph_.set_input(id, 1, integer);
    erase_unused(weight);
  }

  nlohmann::json summary() const {
    return {{"profile", to_string(options_.profile)},  {"activations", to_string(grid_.dtype)},
            {"weights", "i8 per channel, symmetric"},  {"method", to_string(options_.range.method)},
            {"percentile", options_.range.percentile}, {"samples", calibration_.samples},
            {"data_digest", calibration_.data_digest}, {"version", SLIPWAY_VERSION}};
  }

  Graph graph_;
  const Calibration& calibration_;
  const QuantizeOptions& options_;
  const QuantGrid grid_;
  QuantizeReport report_;
  std::map<ValueId, Chosen> chosen_;
  std::map<std::pair<ValueId, int64_t>, std::vector<std::pair<std::vector<float>, ValueId>>> dequantized_weights_;
};

}  // namespace

QuantGrid activation_grid(const QuantizeOptions& options) {
  const bool portable = options.profile == QuantizeProfile::kPortable;
  if (options.activation_bits == 8) return portable ? kSymmetricInt8 : kAsymmetricUint8;
  if (options.activation_bits == 16 && portable) return kSymmetricInt16;
  fail(ErrorCode::kInvalidArgument,
       "Activations take 8 bits, or 16 with the portable profile; choose one of these: {} bits, profile {}",
       options.activation_bits, to_string(options.profile));
}

int64_t least_opset(const QuantizeOptions& options) { return options.activation_bits > 8 ? 21 : 13; }

std::vector<std::string> tensors_to_calibrate(const Graph& graph, const QuantizeOptions& options) {
  Graph raised = graph;
  raise_opset(raised, least_opset(options));
  std::vector<std::string> names;
  for (const Placement::Group& group : place_quantizers(raised, options).groups)
    for (const ValueId source : group.sources) names.push_back(raised.value(source).name);
  return names;
}

QuantizedModel quantize_static(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options) {
  return Inserter(graph, calibration, options).run();
}

}  // namespace slipway
