// x times a gate of x becomes one operator: Gelu by the error function or by tanh (D. Hendrycks and K. Gimpel,
// "Gaussian Error Linear Units", 2016), Swish (x·sigmoid(α·x), SiLU among them), HardSwish. Exporters write them in
// many orders, so the arithmetic around a gate G is read as what it computes, P(x) + Q(x)·G(U(x)) with polynomials of
// degree up to three, and compared with that of each function:
//   Gelu        P = x/2, Q = ±x/2, G = erf, U = ±x/√2             (also 1 − erf(−x/√2))
//   Gelu, tanh  P = x/2, Q = ±x/2, G = tanh, U = ±√(2/π)·(x + 0.044715·x³)
//   Gelu, tanh  P = 0, Q = x, G = sigmoid, U = √(8/π)·(x + 0.044715·x³)
//   Swish       P = 0, Q = x, G = sigmoid, U = α·x
//   HardSwish   P = 0, Q = x/h, G = clip to 0 … h, U = h·(x + 3)/6    (h = 1: also HardSigmoid)
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

using Polynomial = std::array<double, 4>;  ///< coefficients of 1, x, x², x³

constexpr double kCubic = 0.044715;
constexpr int kMaxSteps = 16;      ///< operators around a gate
constexpr size_t kMaxReaders = 5;  ///< in a row after a gate

bool is_zero(const Polynomial& p) { return p == Polynomial{}; }

/// P + Q·G.
struct Gated {
  Polynomial plain = {}, gated = {};
};

/// Reads values as polynomials in `x` and a gate's result (kNoValue: without), noting the nodes that it goes through.
class Reader {
 public:
  Reader(const Graph& graph, ValueId x, ValueId gate) : graph_(graph), x_(x), gate_(gate) {}

  std::optional<Gated> read(ValueId value) {
    if (value == kNoValue) return std::nullopt;
    if (value == x_) return Gated{.plain = {0, 1}};
    if (value == gate_) return Gated{.gated = {1}};
    if (const auto number = scalar(graph_, value)) {
      if (graph_.value(value).shape.rank() > graph_.value(x_).shape.rank()) return std::nullopt;
      return Gated{.plain = {static_cast<double>(*number)}};
    }
    const Node* node = graph_.producer(value);
    if (node == nullptr || !node->domain.empty() || node->outputs.size() != 1 || ++steps_ > kMaxSteps)
      return std::nullopt;
    nodes_.push_back(graph_.value(value).producer);
    return read(*node);
  }

  const std::vector<NodeId>& nodes() const { return nodes_; }

 private:
  std::optional<Gated> read(const Node& node) {
    const std::string& op = node.op_type;
    if (op != "Add" && op != "Sub" && op != "Mul" && op != "Div" && op != "Neg" && op != "Pow") return std::nullopt;
    const auto a = read(node.inputs[0]);
    if (!a || op == "Neg") return a ? std::optional(weighted(*a, -1, Gated{}, 0)) : std::nullopt;
    const auto b = read(node.inputs[1]);
    if (!b) return std::nullopt;
    if (op == "Add" || op == "Sub") return weighted(*a, 1, *b, op == "Add" ? 1 : -1);
    if (op == "Mul") return product(*a, *b);
    const double number = b->plain[0];
    if (!is_zero(b->gated) || b->plain != Polynomial{number}) return std::nullopt;
    if (op == "Div") return number == 0 ? std::nullopt : std::optional(weighted(*a, 1 / number, Gated{}, 0));
    if (number != 2 && number != 3) return std::nullopt;
    const auto square = product(*a, *a);
    return square && number == 3 ? product(*square, *a) : square;
  }

  static Gated weighted(const Gated& a, double factor_a, const Gated& b, double factor_b) {
    Gated sum;
    for (size_t i = 0; i < 4; ++i) {
      sum.plain[i] = factor_a * a.plain[i] + factor_b * b.plain[i];
      sum.gated[i] = factor_a * a.gated[i] + factor_b * b.gated[i];
    }
    return sum;
  }

  static bool add_product(const Polynomial& a, const Polynomial& b, Polynomial& to) {
    for (size_t i = 0; i < 4; ++i)
      for (size_t k = 0; k < 4; ++k) {
        if (a[i] == 0 || b[k] == 0) continue;
        if (i + k > 3) return false;
        to[i + k] += a[i] * b[k];
      }
    return true;
  }

  static std::optional<Gated> product(const Gated& a, const Gated& b) {
    Gated y;
    if (!is_zero(a.gated) && !is_zero(b.gated)) return std::nullopt;
    if (!add_product(a.plain, b.plain, y.plain) || !add_product(a.plain, b.gated, y.gated) ||
        !add_product(a.gated, b.plain, y.gated))
      return std::nullopt;
    return y;
  }

  const Graph& graph_;
  const ValueId x_, gate_;
  std::vector<NodeId> nodes_;
  int steps_ = 0;
};

// Equal but for constants rounded to float or to seven digits.
bool near(const Polynomial& p, const Polynomial& expected) {
  for (size_t i = 0; i < 4; ++i)
    if (!(std::abs(p[i] - expected[i]) <= 1e-6 * std::abs(expected[i]))) return false;
  return true;
}

struct Function {
  std::string op;
  int since;  ///< the opset that brought the operator
  Attributes attributes = {};
};

std::optional<Function> gelu_of(const std::string& gate, const Gated& y, const Polynomial& u) {
  const double sign = y.gated[1] < 0 ? -1 : 1, slope = std::sqrt(2 / std::numbers::pi);
  if (!near(y.plain, {0, 0.5}) || !near(y.gated, {0, sign * 0.5})) return std::nullopt;
  if (gate == "Erf" && near(u, {0, sign / std::numbers::sqrt2})) return Function{"Gelu", 20};
  if (gate == "Tanh" && near(u, {0, sign * slope, 0, sign * slope * kCubic}))
    return Function{"Gelu", 20, {{"approximate", std::string("tanh")}}};
  return std::nullopt;
}

std::optional<Function> function_of(const Graph& graph, const Node& gate, const Gated& y, const Polynomial& u) {
  if (gate.is("Erf") || gate.is("Tanh")) return gelu_of(gate.op_type, y, u);
  if (!is_zero(y.plain)) return std::nullopt;
  if (gate.is("Sigmoid")) {
    const double slope = std::sqrt(8 / std::numbers::pi);
    if (!near(y.gated, {0, 1})) return std::nullopt;
    if (near(u, {0, slope, 0, slope * kCubic})) return Function{"Gelu", 20, {{"approximate", std::string("tanh")}}};
    if (near(u, {0, 1})) return Function{"Swish", 24};
    // Within what the kernel takes.
    if (u[1] < 0x1p-6 || u[1] > 0x1p6 || u != Polynomial{0, u[1]}) return std::nullopt;
    return Function{"Swish", 24, {{"alpha", static_cast<float>(u[1])}}};
  }
  const bool hard = gate.is("HardSigmoid");
  const double slope = hard ? static_cast<double>(gate.real("alpha", 0.2f)) : 1;
  const double offset = hard ? static_cast<double>(gate.real("beta", 0.5f)) : 0;
  const auto bounds = hard ? std::optional(Bounds{0, 1}) : bounds_of(graph, gate);
  if (!bounds || bounds->lo != 0 || !(bounds->hi > 0) || !std::isfinite(bounds->hi)) return std::nullopt;
  const double high = static_cast<double>(bounds->hi);
  Polynomial argument = u;
  for (double& c : argument) c *= slope;
  argument[0] += offset;
  if (!near(argument, {high / 2, high / 6}) || !near(y.gated, {0, 1 / high})) return std::nullopt;
  return Function{"HardSwish", 14};
}

// What the gate's argument may be a polynomial of: everything that leads to it by arithmetic, nearest first.
std::vector<ValueId> arguments_of(const Graph& graph, ValueId argument) {
  std::vector<ValueId> found = {argument};
  for (size_t i = 0; i < found.size() && found.size() < kMaxSteps; ++i) {
    const Node* node = graph.producer(found[i]);
    if (node == nullptr || !node->domain.empty()) continue;
    const std::string& op = node->op_type;
    if (op != "Add" && op != "Mul" && op != "Div" && op != "Neg" && op != "Pow" && op != "Sub") continue;
    for (ValueId v : node->inputs)
      if (v != kNoValue && !graph.value(v).is_constant() && std::find(found.begin(), found.end(), v) == found.end())
        found.push_back(v);
  }
  return found;
}

bool is_allowed(const Graph& graph, const PassContext& context, const Function& function) {
  // Swish is too young for most who read what is exported.
  return !context.standard_onnx || (graph.opset() >= function.since && function.op != "Swish");
}

// Replaces `last` when it is one of the functions of x by that gate.
bool fuse_to(Graph& graph, NodeId gate_id, ValueId x, NodeId last, const PassContext& context) {
  const Node& gate = graph.node(gate_id);
  Reader argument(graph, x, kNoValue), whole(graph, x, gate.outputs[0]);
  const auto u = argument.read(gate.inputs[0]);
  const auto y = u ? whole.read(graph.node(last).outputs[0]) : std::nullopt;
  if (!y || is_zero(y->gated)) return false;
  const auto function = function_of(graph, gate, *y, u->plain);
  if (!function || !is_allowed(graph, context, *function)) return false;
  std::vector<NodeId> nodes = argument.nodes();
  nodes.insert(nodes.end(), whole.nodes().begin(), whole.nodes().end());
  nodes.push_back(gate_id);
  if (!read_only_within(graph, nodes, last)) return false;
  const bool ours = graph.opset() < function->since;
  rewrite(graph, last,
          {.op_type = function->op,
           .domain = ours ? std::string(kFusedDomain) : "",
           .inputs = {x},
           .attributes = function->attributes});
  return true;
}

bool fuse_gate(Graph& graph, NodeId gate, const PassContext& context) {
  std::vector<NodeId> readers;
  for (NodeId at = graph.only_user(graph.node(gate).outputs[0]); at != kNoNode && readers.size() < kMaxReaders;
       at = graph.node(at).outputs.size() == 1 ? graph.only_user(graph.node(at).outputs[0]) : kNoNode)
    readers.push_back(at);
  for (ValueId x : arguments_of(graph, graph.node(gate).inputs[0])) {
    const Value& v = graph.value(x);
    if (v.dtype != DType::kFloat32 || !v.shape.has_rank() || v.uses.size() < 2) continue;
    for (NodeId last : readers)
      if (fuse_to(graph, gate, x, last, context)) return true;
  }
  return false;
}

}  // namespace

bool fuse_gelu(Graph& graph, const PassContext& context) {
  bool changed = false;
  for (NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || node.outputs.size() != 1 || node.input(0) == kNoValue) continue;
    if (node.is("Erf") || node.is("Tanh") || node.is("Sigmoid") || node.is("HardSigmoid") || node.is("Clip"))
      changed |= fuse_gate(graph, id, context);
  }
  return changed;
}

}  // namespace slipway
