// Add of two dequantised tensors of the same shape, then Relu or Clip, then QuantizeLinear becomes QAdd.
#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"

namespace slipway {

bool quantize_add(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node add = graph.node(id);
    if (!add.alive || !add.is("Add") || !same_type(graph, add.inputs[0], add.inputs[1])) continue;
    const auto a = dequantized(graph, add.inputs[0]), b = dequantized(graph, add.inputs[1]);
    if (!a || !b) continue;
    const Tail tail = follow(graph, id, nullptr);
    if (!tail.y) continue;
    const double y_scale = static_cast<double>(tail.y->scale);
    const auto factor = [&](const QuantizedValue& v) {
      return static_cast<float>(static_cast<double>(v.quantization.scale) / y_scale);
    };
    Attributes attributes{{"a_multiplier", factor(*a)},
                          {"a_zero_point", int64_t{a->quantization.zero_point}},
                          {"b_multiplier", factor(*b)},
                          {"b_zero_point", int64_t{b->quantization.zero_point}}};
    set_output_attributes(attributes, *tail.y, tail.bounds);
    rewrite(graph, tail.last,
            {.op_type = "QAdd",
             .domain = std::string(kFusedDomain),
             .name = add.name,
             .inputs = {a->codes, b->codes},
             .attributes = std::move(attributes)});
    changed = true;
  }
  return changed;
}

}  // namespace slipway
