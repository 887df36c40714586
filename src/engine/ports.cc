#include "engine/ports.h"

namespace slipway {

ModelPorts ports_of(const Graph& graph) {
  const auto list = [&](const std::vector<ValueId>& ids) {
    std::vector<ModelPort> ports;
    for (const ValueId id : ids) ports.push_back({graph.value(id).name, graph.value(id).dtype, graph.value(id).shape});
    return ports;
  };
  return {list(graph.inputs()), list(graph.outputs()), graph.metadata};
}

}  // namespace slipway
