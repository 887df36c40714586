// AveragePool and GlobalAveragePool of a dequantised tensor, then Relu or Clip, then QuantizeLinear become
// QAveragePool.
#include "engine/passes/passes.h"
#include "engine/passes/quantized.h"

namespace slipway {
namespace {

// A sum over the whole picture must be one, and fit int32.
bool sums_fit(const Shape& shape) {
  double pixels = 1;
  for (size_t i = 2; i < shape.rank(); ++i)
    if (shape[i].is_known()) pixels *= static_cast<double>(shape[i].value());
  return pixels > 0 && pixels * 511.0 <= 2147483647.0;
}

}  // namespace

bool quantize_pool(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node pool = graph.node(id);
    const bool global = pool.is("GlobalAveragePool");
    if (!pool.alive || (!global && !pool.is("AveragePool")) || pool.text("auto_pad", "NOTSET") != "NOTSET") continue;
    if (pool.integer("ceil_mode", 0) != 0) continue;
    const auto x = dequantized(graph, pool.inputs[0]);
    if (!x || !sums_fit(graph.value(x->codes).shape)) continue;
    const Tail tail = follow(graph, id, nullptr);
    if (!tail.y) continue;
    Attributes attributes = pool.attributes;
    attributes.erase("auto_pad");
    if (global) attributes.insert_or_assign("global", int64_t{1});
    attributes.insert_or_assign("x_zero_point", int64_t{x->quantization.zero_point});
    attributes.insert_or_assign("multiplier", static_cast<float>(static_cast<double>(x->quantization.scale) /
                                                                 static_cast<double>(tail.y->scale)));
    set_output_attributes(attributes, *tail.y, tail.bounds);
    rewrite(graph, tail.last,
            {.op_type = "QAveragePool",
             .domain = std::string(kFusedDomain),
             .name = pool.name,
             .inputs = {x->codes},
             .attributes = std::move(attributes)});
    changed = true;
  }
  return changed;
}

}  // namespace slipway
