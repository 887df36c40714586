#pragma once
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/graph.h"
#include "train/libtorch.h"

namespace slipway {

/// One operator applied to libtorch tensors.
struct TorchCall {
  const Node& node;
  int64_t opset;
  std::vector<at::Tensor> inputs;  ///< undefined where absent

  bool has(size_t i) const { return i < inputs.size() && inputs[i].defined(); }
  /// The first input.
  const at::Tensor& x() const { return inputs[0]; }
  /// An integer input's elements.
  std::vector<int64_t> ints(size_t i) const;
  /// An input's only element.
  double number(size_t i) const;
  /// The attribute, or else the elements of input `i`, as in operators whose later opsets made inputs of attributes;
  /// nullopt when neither is there.
  std::optional<std::vector<int64_t>> list(std::string_view attribute, size_t i) const;
  /// The attribute as an axis of a tensor with so many dimensions, counted from the front.
  int64_t axis(int64_t fallback, int64_t rank) const;
  /// Fails with kUnsupported: what of the node has no gradient here, as a noun.
  [[noreturn]] void refuse(std::string_view what) const;
};
using OpFunction = std::vector<at::Tensor> (*)(const TorchCall&);

/// How a standard ONNX operator is computed by libtorch operations, through which gradients flow, whatever the float
/// type; nullptr when it has no such form here. The function fails with kUnsupported, naming the node, where its
/// attributes ask for a variant that has none. Numbers that shape a function (bounds of Clip, a single exponent of Pow,
/// the value of Pad, those of Resize) get no gradient.
OpFunction find_operator(const Node& node);

/// One row of the table that find_operator reads, which is the operators' families one after the other.
struct OperatorRow {
  std::string_view op;
  OpFunction function;
};
std::span<const OperatorRow> window_operators();     ///< convolution and pooling
std::span<const OperatorRow> movement_operators();   ///< what moves values or gives them another shape
std::span<const OperatorRow> reduction_operators();  ///< products, reductions, normalisation, softmax

/// `axes` counted from the front; all axes when there are none.
std::vector<int64_t> axes_from_front(const std::vector<int64_t>& axes, int64_t rank, const Node& node);

}  // namespace slipway
