#pragma once
#include "model/graph.h"

namespace slipway {

/// Rewrites the graph for a later version of ONNX's own operator set: attributes that became inputs, changed defaults.
/// Does nothing when the graph is at `target` or beyond. Fails with kUnsupported, naming the node, where an operator's
/// later meaning can't express the earlier one.
void raise_opset(Graph& graph, int64_t target);

}  // namespace slipway
