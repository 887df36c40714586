#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/graph.h"
#include "quantize/calibrate/calibration.h"
#include "quantize/calibrate/range.h"

namespace slipway {

enum class QuantizeProfile {
  kPortable,  ///< symmetric signed activations, zero points 0: TensorRT, OpenVINO, ONNX Runtime
  kCpu,       ///< asymmetric unsigned activations: twice the resolution after ReLU, refused by TensorRT
};
/// "portable", "cpu".
std::string_view to_string(QuantizeProfile profile);
/// Fails with kInvalidArgument, listing the profiles.
QuantizeProfile parse_quantize_profile(std::string_view name);

struct QuantizeOptions {
  QuantizeProfile profile = QuantizeProfile::kPortable;
  int activation_bits = 8;                 ///< or 16: symmetric INT16 (opset 21), portable profile only
  int weight_bits = 8;                     ///< or 4: INT4, packed two a byte (opset 21)
  RangeOptions range = {};                 ///< of activations; kMinMax also keeps 4-bit weights from being clipped
  std::vector<std::string> op_types = {};  ///< operators to quantise; empty: default_quantized_ops()
  std::vector<std::string> exclude = {};   ///< nodes by name (or name of their first output) that stay float
  std::vector<std::string> exclude_regex =
      {};  ///< the same by ECMAScript regular expressions that match the whole name
  /// false: a convolution that feeds a residual Add keeps its result unquantised, so that the Add fuses into it (the
  /// other branch is quantised). true: both branches are, which ONNX Runtime's own integer kernels need.
  bool quantize_both_add_inputs = false;
  bool integer_bias = true;  ///< INT32 biases; false: float, which TensorRT wants
  bool operator==(const QuantizeOptions&) const = default;
};

/// Conv, Gemm, MatMul, Add, AveragePool, GlobalAveragePool, MaxPool, Concat; operators that only move values follow
/// what they stand between.
const std::vector<std::string>& default_quantized_ops();
/// Fails with kInvalidArgument where profile and bits contradict each other.
QuantGrid activation_grid(const QuantizeOptions& options);
/// Fails with kInvalidArgument for bits that have no grid.
QuantGrid weight_grid(const QuantizeOptions& options);
/// 13, or 21 for INT16 and INT4.
int64_t least_opset(const QuantizeOptions& options);

struct QuantizedTensor {
  std::string name, group;  ///< tensors of one group share range, scale and zero point
  QuantParams params;
  float min = 0, max = 0;  ///< observed over the group
  RangeChoice range;
};
struct QuantizedWeight {
  std::string name, node;
  int64_t axis = 0, channels = 0;
  int64_t dead_channels = 0;     ///< all weights zero
  int64_t widened_channels = 0;  ///< scale raised so that the bias fits INT32
  float min_scale = 0, max_scale = 0;
  double sqnr_db = 0;
};
struct NodeDecision {
  std::string name, op_type;
  bool quantized = false;
  std::string reason;  ///< why it stays float; empty when quantised
};
struct QuantizeReport {
  QuantizeOptions options;
  int64_t samples = 0;
  std::string data_digest;
  std::vector<QuantizedTensor> tensors;
  std::vector<QuantizedWeight> weights;
  std::vector<NodeDecision> nodes;  ///< every node of the float graph, in topological order
};
nlohmann::json to_json(const QuantizeReport& report);

struct QuantizedModel {
  Graph graph;
  QuantizeReport report;
};

/// The numbers of every quantiser of a placement: chosen by calibration, or learned in training.
struct Quantizers {
  std::map<std::string, QuantParams, std::less<>> activations;     ///< by name of a group's first source
  std::map<std::string, std::vector<float>, std::less<>> weights;  ///< scales a channel, by name of a node's output
  bool operator==(const Quantizers&) const = default;
};

/// Names of the values whose ranges quantize_static will ask of the calibration, in topological order.
std::vector<std::string> tensors_to_calibrate(const Graph& graph, const QuantizeOptions& options = {});

/// Those that quantize_static takes. Fails as it does.
Quantizers choose_quantizers(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options = {});

/// The graph with these quantisers written out as standard ONNX, in the way of quantize_static. The report's ranges are
/// empty. Fails with kInvalidArgument where a quantiser is missing or a scale is not a positive number, kInvalidModel
/// and kUnsupported as quantize_static.
QuantizedModel insert_quantizers(const Graph& graph, const Quantizers& quantizers, const QuantizeOptions& options = {});

/// Static post-training quantisation: the graph (BatchNorm folded, shapes inferred) with QuantizeLinear and
/// DequantizeLinear pairs around what is quantised, per channel symmetric INT8 or INT4 weights as initialisers, INT32
/// biases, standard ONNX (opset raised to 13, or 21 for INT16 and INT4), how it was made in metadata
/// "slipway.quantization". Fails with kInvalidModel where a weight is NaN or infinite (tensor and node named) or
/// nothing can be quantised, kInvalidArgument where the calibration lacks a tensor or an option contradicts another,
/// kUnsupported where the opset can't be raised.
QuantizedModel quantize_static(const Graph& graph, const Calibration& calibration, const QuantizeOptions& options = {});

}  // namespace slipway
