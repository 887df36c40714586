#pragma once
#include <string>
#include <vector>

#include "model/graph.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

/// Where Q/DQ pairs go.
struct Placement {
  struct Group {
    std::vector<ValueId> members;  ///< quantised values that share one scale, in topological order
    std::vector<ValueId> sources;  ///< those whose values the others only move: their union is the group's range
  };
  struct Decision {
    NodeId node;
    bool quantized;
    std::string reason;
  };
  std::vector<Group> groups;
  std::vector<NodeId> weighted;  ///< nodes whose constant weights become INT8
  std::vector<Decision> decisions;
};

/// Fails with kInvalidArgument for a malformed regular expression, or an excluded name that no node has.
Placement place_quantizers(const Graph& graph, const QuantizeOptions& options);

}  // namespace slipway
