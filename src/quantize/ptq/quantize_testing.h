#pragma once
#include <string>

#include "model/graph.h"
#include "model/infer.h"
#include "quantize/ptq/quantize_static.h"

namespace slipway {

/// Parses a graph's statements (the text form without its first and last line) at opset 13, with shapes inferred.
inline Graph graph_of(const std::string& statements, int opset = 13) {
  Graph graph = parse_text("graph \"test\" ir 8 opset {\"\": " + std::to_string(opset) + "} {\n" + statements + "\n}");
  infer_shapes(graph);
  return graph;
}

/// A calibration in which every tensor spans [low, high] evenly.
inline Calibration calibration_of(const Graph& graph, const QuantizeOptions& options = {}, float low = -1.0f,
                                  float high = 1.0f) {
  Calibration calibration{.samples = 1, .data_digest = "digest", .tensors = {}};
  for (const std::string& name : tensors_to_calibrate(graph, options)) {
    std::vector<float> values;
    for (int i = 0; i <= 1000; ++i) values.push_back(low + (high - low) * static_cast<float>(i) / 1000.0f);
    calibration.tensors[name].observe(values);
  }
  return calibration;
}

/// "result = Op(inputs)" a line, in topological order; DequantizeLinear over constants is left out, its result shown
/// under its constant's name.
inline std::string nodes_of(const Graph& graph) {
  const auto name = [&](ValueId id) {
    if (id == kNoValue) return std::string("_");
    const Node* producer = graph.producer(id);
    const bool is_weight =
        producer != nullptr && producer->is("DequantizeLinear") && graph.value(producer->inputs[0]).is_constant();
    return graph.value(is_weight ? producer->inputs[0] : id).name;
  };
  std::string text;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.is("DequantizeLinear") && graph.value(node.inputs[0]).is_constant()) continue;
    text += graph.value(node.outputs[0]).name + " = " + node.op_type + "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) text += (i > 0 ? ", " : "") + name(node.inputs[i]);
    text += ")\n";
  }
  return text;
}

}  // namespace slipway
