#pragma once
#include <vector>

#include "model/graph.h"
#include "train/libtorch.h"

namespace slipway {

/// One operator applied to libtorch tensors.
struct OpCall {
  const Node& node;
  int64_t opset;
  std::vector<at::Tensor> inputs;  ///< undefined where absent

  bool has(size_t i) const { return i < inputs.size() && inputs[i].defined(); }
  /// An integer input's elements.
  std::vector<int64_t> ints(size_t i) const;
};
using OpFunction = std::vector<at::Tensor> (*)(const OpCall&);

/// How a standard ONNX operator is computed by libtorch operations, through which gradients flow; nullptr when it has
/// no such form here. The function fails with kUnsupported, naming the node, where its attributes ask for a variant
/// that has none.
OpFunction find_operator(const Node& node);

}  // namespace slipway
