// Conv between DequantizeLinear and QuantizeLinear becomes QConv, with the bias as int32 and, where they follow, Relu
// or Clip, the residual Add (quantised before it or not) and the last quantiser. Without a quantiser the result is
// FP32.
#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"

namespace slipway {
namespace {

bool convert(Graph& graph, NodeId id, const Positions& positions) {
  const Node conv = graph.node(id);
  if (conv.text("auto_pad", "NOTSET") != "NOTSET") return false;
  const auto x = dequantized(graph, conv.inputs[0]);
  const auto rows = quantized_weights(graph, conv.inputs[1], 0);
  if (!x || !rows) return false;
  const Tail tail = follow(graph, id, &positions);
  const auto linear = integer_linear(graph, *rows, conv.input(2), x->quantization, graph.value(conv.outputs[0]).name);
  if (!linear) return false;
  NodeSpec spec{.op_type = "QConv",
                .domain = std::string(kFusedDomain),
                .name = conv.name,
                .inputs = {x->codes, linear->weights, linear->bias},
                .attributes = epilogue_attributes(tail, x->quantization, *linear)};
  for (const char* name : {"kernel_shape", "strides", "pads", "dilations", "group"})
    if (const auto it = conv.attributes.find(name); it != conv.attributes.end()) spec.attributes.insert(*it);
  if (tail.residual) spec.inputs.push_back(tail.residual->codes);
  if (!tail.residual && linear->bias == kNoValue) spec.inputs.pop_back();
  rewrite(graph, tail.last, std::move(spec));
  return true;
}

}  // namespace

bool quantize_conv(Graph& graph, const PassContext&) {
  bool changed = false;
  const std::vector<NodeId> order = graph.topological_order();
  const Positions positions = positions_of(order);
  for (NodeId id : order)
    if (graph.node(id).alive && graph.node(id).is("Conv")) changed |= convert(graph, id, positions);
  return changed;
}

}  // namespace slipway
