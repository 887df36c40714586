#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/passes/match.h"
#include "model/graph.h"

namespace slipway {

// Reading QDQ patterns: shared by the passes that turn them into integer operators.

/// real = (code − zero_point) · scale, one pair for a whole 8-bit tensor.
struct Quantization {
  float scale = 1;
  int32_t zero_point = 0;
  DType dtype = DType::kInt8;  ///< i8 or u8
  bool operator==(const Quantization&) const = default;
  int32_t lowest() const { return dtype == DType::kInt8 ? -128 : 0; }
  int32_t highest() const { return dtype == DType::kInt8 ? 127 : 255; }
  /// The code of a real number, as QuantizeLinear gives it; infinities saturate.
  int32_t code(float real) const;
};

/// Of a QuantizeLinear or DequantizeLinear node with constant parameters, per tensor, 8 bits, FP32 on its real side.
std::optional<Quantization> quantization_of(const Graph& graph, const Node& node);

struct QuantizedValue {
  ValueId codes;
  Quantization quantization;
};
/// The codes behind a value that such a DequantizeLinear makes of something that is not constant.
std::optional<QuantizedValue> dequantized(const Graph& graph, ValueId value);

/// Constant weights as i8 with a scale for each output channel.
struct QuantizedWeights {
  Tensor codes;                 ///< i8, zero point 0
  ValueId constant = kNoValue;  ///< set when `codes` is this constant unchanged
  std::vector<double> scales;
};
/// DequantizeLinear of constant 8- or 4-bit weights, per tensor or along `axis`; nothing where a code less its zero
/// point leaves i8.
std::optional<QuantizedWeights> quantized_weights(const Graph& graph, ValueId value, int64_t axis);

/// A linear operator's weights, bias and factors, ready for an integer operator. `x`: the input's parameters.
struct IntegerLinear {
  ValueId weights, bias = kNoValue;
  std::vector<double> products;  ///< x scale · weight scale for each channel
  std::vector<double> addend;    ///< the bias for each channel in reals, where it is not in `bias`; empty: none
};
/// `rows` holds each output channel's weights contiguously. Nothing when a sum could leave int32, or the bias is not
/// constant or not finite. Adds constants to the graph, named after `base`.
std::optional<IntegerLinear> integer_linear(Graph& graph, const QuantizedWeights& rows, ValueId bias,
                                            const Quantization& x, const std::string& base);

/// What follows a linear operator up to where its result is quantised, or is left as floats.
struct Tail {
  NodeId last = kNoNode;            ///< the node that the integer operator takes the place of
  std::optional<Quantization> y;    ///< absent: floats
  Bounds bounds;                    ///< of y, in reals
  std::optional<Quantization> mid;  ///< quantised before the residual is added
  Bounds mid_bounds;
  std::optional<QuantizedValue> residual;
};
using Positions = std::unordered_map<NodeId, size_t>;
Positions positions_of(const std::vector<NodeId>& order);
/// Follows single uses from the node's output. With `positions`, Adds of a quantised tensor of the same shape count as
/// residuals, except where the other side comes from a convolution further down: that one takes the sum.
Tail follow(const Graph& graph, NodeId linear, const Positions* positions);

/// multiplier, addend, mid_*, residual_*, y_* and f_* as the fused operators define them.
Attributes epilogue_attributes(const Tail& tail, const Quantization& x, const IntegerLinear& linear);
/// y_dtype, y_zero_point, y_lo, y_hi.
void set_output_attributes(Attributes& attributes, const Quantization& y, const Bounds& bounds);

}  // namespace slipway
