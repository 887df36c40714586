// An activation after a fused Conv or Gemm becomes its attribute: Relu, Clip, LeakyRelu, Tanh, HardSwish, HardSigmoid
// and SiLU, which is Swish of alpha 1. Elu, Sigmoid and Gelu stay alone: in oneDNN's epilogues small results of them
// lose their digits or vanish.
#include <algorithm>
#include <cmath>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

struct Activation {
  std::string name;
  float alpha = 0, beta = 0;
  ValueId input = kNoValue;
};

std::optional<Activation> find_activation(const Graph& graph, const Node& node) {
  if ((!node.domain.empty() && node.domain != kFusedDomain) || node.outputs.size() != 1) return std::nullopt;
  const std::string& op = node.op_type;
  const ValueId x = node.input(0);
  if (op == "Relu" || op == "Tanh" || op == "HardSwish") return Activation{op, 0, 0, x};
  if (op == "Swish" && node.real("alpha", 1) == 1) return Activation{"SiLU", 0, 0, x};
  if (op == "LeakyRelu") return Activation{op, node.real("alpha", 0.01f), 0, x};
  if (op == "HardSigmoid") return Activation{op, node.real("alpha", 0.2f), node.real("beta", 0.5f), x};
  if (op == "Clip")
    if (const auto bounds = bounds_of(graph, node)) return Activation{op, bounds->lo, bounds->hi, x};
  return std::nullopt;
}

// A bound on top of an earlier one: Clip(Relu(x)), Relu(Clip(x)).
bool combine(const Node& linear, Activation& next) {
  const std::string before = linear.text("activation", "");
  if (before.empty()) return true;
  if ((before != "Relu" && before != "Clip") || (next.name != "Relu" && next.name != "Clip")) return false;
  constexpr float kInfinity = INFINITY;
  const Bounds first = before == "Relu" ? Bounds{0, kInfinity}
                                        : Bounds{linear.real("alpha", -kInfinity), linear.real("beta", kInfinity)};
  const Bounds second = next.name == "Relu" ? Bounds{0, kInfinity} : Bounds{next.alpha, next.beta};
  next.name = "Clip";
  next.alpha = std::clamp(first.lo, second.lo, second.hi);
  next.beta = std::clamp(first.hi, second.lo, second.hi);
  return true;
}

}  // namespace

bool fuse_activation(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive || graph.node(id).inputs.empty()) continue;
    auto found = find_activation(graph, graph.node(id));
    if (!found || found->input == kNoValue || graph.only_user(found->input) != id) continue;
    if (!same_type(graph, found->input, graph.node(id).outputs[0])) continue;  // a constant [1,1,…] raised the rank
    const Node* linear = graph.producer(found->input);
    if (linear == nullptr || !(linear->is_fused("Conv") || linear->is_fused("Gemm")) || !combine(*linear, *found))
      continue;
    NodeSpec spec{.op_type = linear->op_type,
                  .domain = linear->domain,
                  .name = linear->name,
                  .inputs = linear->inputs,
                  .attributes = linear->attributes};
    spec.attributes.insert_or_assign("activation", found->name);
    if (found->alpha != 0 || found->beta != 0 || found->name == "Clip") {
      spec.attributes.insert_or_assign("alpha", found->alpha);
      spec.attributes.insert_or_assign("beta", found->beta);
    }
    rewrite(graph, id, std::move(spec));
    changed = true;
  }
  return changed;
}

}  // namespace slipway
