// An activation after a fused Conv or Gemm becomes its attribute: the operators Relu, Clip, LeakyRelu, Tanh, HardSwish
// and HardSigmoid, and the patterns x·Sigmoid(x) (SiLU), x·HardSigmoid(x; 1/6, 1/2) and x·Clip(x+3, 0, 6)/6 (HardSwish,
// with the division anywhere). Elu and Sigmoid stay alone: in oneDNN's epilogues small results of them lose their
// digits or vanish.
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

std::optional<Activation> single_op(const Graph& graph, const Node& node) {
  if (!node.domain.empty() || node.outputs.size() != 1) return std::nullopt;
  const std::string& op = node.op_type;
  const ValueId x = node.input(0);
  if (op == "Relu" || op == "Tanh" || op == "HardSwish") return Activation{op, 0, 0, x};
  if (op == "LeakyRelu") return Activation{op, node.real("alpha", 0.01f), 0, x};
  if (op == "HardSigmoid") return Activation{op, node.real("alpha", 0.2f), node.real("beta", 0.5f), x};
  if (op == "Clip")
    if (const auto bounds = bounds_of(graph, node)) return Activation{op, bounds->lo, bounds->hi, x};
  return std::nullopt;
}

bool near(std::optional<float> value, float expected) {
  return value && std::abs(*value - expected) <= 1e-6f * std::abs(expected);
}

// The other operand of a binary operator with a scalar close to `expected`.
ValueId beside_scalar(const Graph& graph, const Node& node, std::string_view op, float expected) {
  if (!node.is(op)) return kNoValue;
  if (near(scalar(graph, node.inputs[1]), expected)) return node.inputs[0];
  return op != "Div" && near(scalar(graph, node.inputs[0]), expected) ? node.inputs[1] : kNoValue;
}

ValueId divided_by_six(const Graph& graph, const Node& node) {
  const ValueId divided = beside_scalar(graph, node, "Div", 6.0f);
  return divided != kNoValue ? divided : beside_scalar(graph, node, "Mul", 1.0f / 6.0f);
}

// x when the value is Clip(x+3, 0, 6), kNoValue otherwise.
ValueId clipped_plus_three(const Graph& graph, ValueId value) {
  const Node* clip = made_by(graph, value, "Clip");
  const auto bounds = clip == nullptr ? std::nullopt : bounds_of(graph, *clip);
  if (!bounds || bounds->lo != 0.0f || bounds->hi != 6.0f) return kNoValue;
  const Node* plus = made_by(graph, clip->inputs[0], "Add");
  return plus == nullptr ? kNoValue : beside_scalar(graph, *plus, "Add", 3.0f);
}

// The product x·gate(x), `six` telling that a division by six follows it.
std::optional<Activation> gated(const Graph& graph, const Node& product, bool six) {
  if (!product.is("Mul")) return std::nullopt;
  for (size_t side : {size_t{0}, size_t{1}}) {
    const ValueId x = product.inputs[side], gate = product.inputs[1 - side];
    const Node* maker = graph.producer(gate);
    if (maker == nullptr) continue;
    if (clipped_plus_three(graph, gate) == x && six) return Activation{"HardSwish", 0, 0, x};
    if (six) continue;
    if (maker->is("Sigmoid") && maker->inputs[0] == x) return Activation{"SiLU", 0, 0, x};
    if (maker->is("HardSigmoid") && maker->inputs[0] == x && near(maker->real("alpha", 0.2f), 1.0f / 6.0f) &&
        maker->real("beta", 0.5f) == 0.5f)
      return Activation{"HardSwish", 0, 0, x};
    const ValueId divided = divided_by_six(graph, *maker);
    if (divided != kNoValue && clipped_plus_three(graph, divided) == x) return Activation{"HardSwish", 0, 0, x};
  }
  return std::nullopt;
}

std::optional<Activation> find_activation(const Graph& graph, const Node& node) {
  if (auto found = single_op(graph, node)) return found;
  if (auto found = gated(graph, node, false)) return found;
  const ValueId whole = node.inputs.size() == 2 ? divided_by_six(graph, node) : kNoValue;
  const Node* product = graph.producer(whole);
  return product == nullptr ? std::nullopt : gated(graph, *product, true);
}

// Whether every path from x ends in `last`, so that nothing else reads x or what lies between.
bool closed(const Graph& graph, ValueId x, NodeId last, int depth = 0) {
  const std::vector<Use>& uses = graph.value(x).uses;
  if (graph.is_output(x) || depth > 4 || uses.size() > 4) return false;
  return std::all_of(uses.begin(), uses.end(), [&](const Use& use) {
    const Node& user = graph.node(use.node);
    return use.node == last || (user.outputs.size() == 1 && closed(graph, user.outputs[0], last, depth + 1));
  });
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
    if (!found || found->input == kNoValue || !closed(graph, found->input, id)) continue;
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
