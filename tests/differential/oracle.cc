// Tolerance by random perturbation of the reference's arithmetic, after stochastic arithmetic (Vignes, "A stochastic
// arithmetic for reliable scientific computation", 1993). Kernels sum in other orders, so each product's operands are
// moved as well as each result; operators that only choose among their operands, or move them, are exact and move
// nothing. Values are moved relatively, so zeros, infinities and NaNs stay. Most outputs need one evaluation; only one
// that is off asks for more, up to a number at which a tie that falls either way has shown both.
#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "model/evaluate.h"
#include "model/op.h"
#include "node_alone.h"

namespace slipway {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kFirstEvaluations = 6, kMostEvaluations = 60;
/// How many times its movement a float may be off.
constexpr double kMargin = 6;
/// Without any evaluation: what every float may be off.
constexpr double kRelative = 1e-6, kSmallest = 1e-42;

bool is_exact(const Graph& graph, const Node& node) {
  static const std::set<std::string_view> choosing = {
      "Relu",     "Clip",   "Max",    "Min",      "Abs",     "Neg",           "Where",           "Sign",
      "Identity", "Ceil",   "Floor",  "Round",    "MaxPool", "GlobalMaxPool", "ReduceMax",       "ReduceMin",
      "TopK",     "Not",    "Cast",   "CastLike", "Shape",   "Size",          "Compress",        "Dropout",
      "NonZero",  "Unique", "IsNaN",  "IsInf",    "EyeLike", "Constant",      "ConstantOfShape", "ReverseSequence",
      "Trilu",    "Pad",    "ArgMax", "ArgMin",   "OneHot"};
  const OpSpec* spec = find_op(graph, node);
  // The engine computes half precision in single, so a Cast to it may round nothing.
  if (node.is("Cast") || node.is("CastLike")) {
    const DType to = graph.value(node.outputs[0]).dtype;
    if (to == DType::kFloat16 || to == DType::kBfloat16) return false;
  }
  return spec == nullptr || spec->has(kMovesOnly) || spec->has(kViews) || choosing.contains(node.op_type);
}

/// One rounding error of the type, times a few.
double rounding_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-48;
    case DType::kFloat16:
      return 0x1p-10;
    case DType::kBfloat16:
      return 0x1p-7;
    default:
      return 0x1p-20;
  }
}

/// One rounding error of a denormal number of the type, times a few.
double smallest_of(DType dtype) {
  return dtype == DType::kBfloat16 ? 0x1p-131 : dtype == DType::kFloat16 ? 0x1p-22 : kSmallest;
}

Tensor moved(const Tensor& t, Random& random) {
  if (!is_float(t.dtype()) || t.elements() == 0) return t;
  std::vector<double> values = to_doubles(t);
  const double step = rounding_of(t.dtype()), smallest = smallest_of(t.dtype());
  for (double& v : values)
    if (v != 0 && std::isfinite(v)) v += std::max(std::fabs(v) * step, smallest) * (2 * random.uniform() - 1);
  return from_doubles(t.dtype(), t.dims(), values);
}

/// A subgraph with each result that is rounded moved. `root` gives its opsets where it names none.
std::vector<Tensor> evaluate_moved(const Graph& root, const Graph& body, std::span<const Tensor> inputs,
                                   std::span<const Tensor* const> captures, Random& random) {
  Graph named;
  const Graph* graph = &body;
  if (body.opsets.empty()) {
    named = body;
    named.opsets = root.opsets;
    graph = &named;
  }
  std::vector<Tensor> values(static_cast<size_t>(graph->value_limit()));
  for (ValueId id = 0; id < graph->value_limit(); ++id) {
    const Value& v = graph->value(id);
    if (v.is_constant()) values[static_cast<size_t>(id)] = *v.constant;
    if (v.alive && v.capture >= 0) values[static_cast<size_t>(id)] = *captures[static_cast<size_t>(v.capture)];
  }
  for (size_t i = 0; i < inputs.size(); ++i) values[static_cast<size_t>(graph->inputs()[i])] = inputs[i];
  for (const NodeId id : graph->topological_order()) {
    const Node& node = graph->node(id);
    const auto refs = [&](const std::vector<ValueId>& ids) {
      std::vector<const Tensor*> list;
      for (ValueId v : ids) list.push_back(v == kNoValue ? nullptr : &values[static_cast<size_t>(v)]);
      return list;
    };
    const std::vector<const Tensor*> read = refs(node.inputs), captured = refs(node.captures);
    std::vector<Tensor> results =
        evaluate_node(*graph, node, read, [&](const Graph& inner, std::span<const Tensor> given) {
          return evaluate_moved(*graph, inner, given, captured, random);
        });
    const bool exact = is_exact(*graph, node);
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue)
        values[static_cast<size_t>(node.outputs[i])] = exact ? results[i] : moved(results[i], random);
  }
  std::vector<Tensor> outputs;
  for (const ValueId id : graph->outputs()) outputs.push_back(values[static_cast<size_t>(id)]);
  return outputs;
}

// Numbers of the result that cancelled, all but rounding errors of far larger terms: a quarter of them become 0, which
// another order of summing may give. What divides by them shows it.
Tensor cancelled(const Tensor& t, const Tensor& expected, Random& random) {
  if (!is_float(t.dtype()) || t.elements() == 0) return t;
  std::vector<double> values = to_doubles(t);
  const std::vector<double> unmoved = to_doubles(expected);
  double largest = 0;
  for (const double v : unmoved)
    if (std::isfinite(v)) largest = std::max(largest, std::fabs(v));
  for (size_t k = 0; k < values.size(); ++k) {
    const bool small = std::fabs(unmoved[k]) < largest * 0x1p-16;
    if (small && std::fabs(values[k] - unmoved[k]) > std::fabs(unmoved[k]) / 4 && random.below(4) == 0) values[k] = 0;
  }
  return from_doubles(t.dtype(), t.dims(), values);
}

// The smallest gates, of which each half becomes 0: where x·Sigmoid(x) is the activation of a product, oneDNN's
// exponential 2^n·m is 2^(n-1)·m·2, and the first factor is 0 from n = -126 down.
Tensor vanished(Tensor gates, Random& random) {
  if (gates.dtype() != DType::kFloat32) return gates;
  for (float& v : gates.mutable_values<float>())
    if (std::fabs(v) < 0x1p-125f && random.below(2) == 0) v = 0;
  return gates;
}

// Where the second is there at all.
bool same_dims(std::span<const Tensor> a, std::span<const Tensor> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Tensor& x, const Tensor& y) { return !y.defined() || x.dims() == y.dims(); });
}

// Whether moving the operands left the function's domain, as a root's of a negative number does: Pow(-2, 1.000001).
bool left_domain(std::span<const Tensor> moved, std::span<const Tensor> expected) {
  for (size_t i = 0; i < moved.size(); ++i) {
    if (!expected[i].defined() || !is_float(expected[i].dtype())) continue;
    const std::vector<double> a = to_doubles(moved[i]), e = to_doubles(expected[i]);
    for (size_t k = 0; k < e.size(); ++k)
      if (std::isnan(a[k]) && !std::isnan(e[k])) return true;
  }
  return false;
}

// For each element of a result whether an operand is infinite there, or anywhere if it has another number of elements.
std::vector<bool> infinities_of(std::span<const Tensor> operands, size_t count) {
  std::vector<bool> infinite(count, false);
  for (const Tensor& t : operands) {
    if (!is_float(t.dtype()) || t.dtype() == DType::kFloat16) continue;
    const std::vector<double> values = to_doubles(t);
    const auto is_infinite = [](double v) { return std::isinf(v); };
    const bool anywhere = values.size() != count && std::any_of(values.begin(), values.end(), is_infinite);
    for (size_t k = 0; k < count; ++k)
      if (anywhere || (values.size() == count && is_infinite(values[k]))) infinite[k] = true;
  }
  return infinite;
}

/// Whether the node may leave the type's range in one order of computing and not in another: a result became infinite,
/// large numbers are summed, half precision, which the engine computes in single, became infinite or nearly 0, which
/// for BF16 is told from a 0 among the operands, or a tangent is near a pole, beyond which it has the other sign.
bool may_leave_range(const OpSpec* spec, std::span<const Tensor> operands, std::span<const Tensor> results) {
  bool large = false, tiny = false, zero = false;
  for (const Tensor& t : operands) {
    if (!is_float(t.dtype())) continue;
    for (const double v : to_doubles(t)) {
      large |= std::isfinite(v) && std::fabs(v) > 1e18;
      tiny |= v != 0 && std::fabs(v) < 0x1p-120;
      zero |= v == 0;
    }
  }
  const bool to_bfloat =
      std::any_of(results.begin(), results.end(), [](const Tensor& t) { return t.dtype() == DType::kBfloat16; });
  if (to_bfloat && tiny) return true;  // it may stay what it was
  if (to_bfloat && !zero)
    for (const Tensor& t : results)
      if (t.dtype() == DType::kBfloat16)
        for (const double v : to_doubles(t))
          if (std::fabs(v) < 0x1p-120) return true;
  if (large && (spec == nullptr || !spec->has(kElementwise))) return true;
  if (spec != nullptr && spec->name == "Tan") {
    const auto above = [](const Tensor& t, double most) {
      const std::vector<double> values = to_doubles(t);
      return std::any_of(values.begin(), values.end(), [&](double v) { return std::fabs(v) > most; });
    };
    if (above(operands[0], 100) || above(results[0], 30)) return true;
  }
  return std::any_of(results.begin(), results.end(), [&](const Tensor& t) {
    if (!is_float(t.dtype())) return false;
    const bool half = t.dtype() == DType::kFloat16;
    const std::vector<double> values = to_doubles(t);
    const std::vector<bool> was_infinite = infinities_of(operands, values.size());
    for (size_t k = 0; k < values.size(); ++k)
      if ((std::isinf(values[k]) && !was_infinite[k]) || (half && std::fabs(values[k]) < 0x1p-20)) return true;
    return false;
  });
}

/// A graph of one node; the nodes of its subgraphs move what they round.
std::vector<Tensor> node_moved(const Graph& alone, std::span<const Tensor> inputs, Random& random) {
  const NodeId id = alone.topological_order()[0];
  if (alone.node(id).captures.empty() && !require_op(alone, alone.node(id)).has(kHasSubgraph))
    return evaluate(alone, inputs);
  return evaluate_moved(alone, alone, inputs, {}, random);
}

double distance(double a, double b) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return 0;
  const double d = std::fabs(a - b);
  return std::isfinite(d) ? d : kInfinity;
}

}  // namespace

Oracle::Oracle(const Graph& graph, std::vector<Tensor> inputs) : graph_(graph), inputs_(std::move(inputs)) {
  values_.resize(static_cast<size_t>(graph.value_limit()));
  for (size_t i = 0; i < inputs_.size(); ++i) values_[static_cast<size_t>(graph.inputs()[i])] = inputs_[i];
  for (ValueId id = 0; id < graph.value_limit(); ++id)
    if (graph.value(id).alive && graph.value(id).is_constant())
      values_[static_cast<size_t>(id)] = *graph.value(id).constant;
  outputs_ = evaluate(graph, inputs_, [&](ValueId id, const Tensor& t) { values_[static_cast<size_t>(id)] = t; });
  for (const Tensor& t : outputs_) movement_.emplace_back(static_cast<size_t>(t.elements()), 0.0);
  may_change_shape_.resize(outputs_.size());
}

std::vector<Tensor> Oracle::operands_of(const Node& node) const {
  std::vector<Tensor> operands;
  for (const auto* list : {&node.inputs, &node.captures})
    for (const ValueId id : *list)
      if (id != kNoValue) operands.push_back(values_[static_cast<size_t>(id)]);
  return operands;
}

void Oracle::evaluate_again() {
  Random random(static_cast<uint64_t>(++evaluations_));
  std::vector<Tensor> values = values_;
  std::vector<bool> derailed(values.size());  // what follows from it may be anything
  for (const NodeId id : graph_.topological_order()) {
    const Node& node = graph_.node(id);
    const auto derail = [&] {
      for (const ValueId out : node.outputs)
        if (out != kNoValue) derailed[static_cast<size_t>(out)] = true;
    };
    const auto reads_derailed = [&](const std::vector<ValueId>& read) {
      return std::any_of(read.begin(), read.end(),
                         [&](ValueId v) { return v != kNoValue && derailed[static_cast<size_t>(v)]; });
    };
    if (reads_derailed(node.inputs) || reads_derailed(node.captures)) {
      derail();
      continue;
    }
    NodeAlone alone = node_alone(graph_, {node.op_type, node.domain, node.name, node.inputs, node.attributes},
                                 node.captures, node.outputs.size(), values);
    const bool exact = is_exact(graph_, node);
    std::vector<Tensor> expected;
    for (const ValueId out : node.outputs)
      expected.push_back(out == kNoValue ? Tensor() : values_[static_cast<size_t>(out)]);
    if (!exact && may_leave_range(find_op(graph_, node), operands_of(node), expected)) {
      derail();
      continue;
    }
    std::vector<Tensor> results;
    for (const bool move_operands : {true, false}) {
      if (move_operands && exact) continue;
      if (move_operands) {
        for (Tensor& t : alone.inputs) t = moved(t, random);
        for (ValueId v = 0; v < alone.graph.value_limit(); ++v)
          if (alone.graph.value(v).is_constant())
            alone.graph.set_constant(v, moved(*alone.graph.value(v).constant, random));
      } else if (!exact) {
        alone = node_alone(graph_, {node.op_type, node.domain, node.name, node.inputs, node.attributes}, node.captures,
                           node.outputs.size(), values);
      }
      try {
        results = node_moved(alone.graph, alone.inputs, random);
        if (same_dims(results, expected) && !(move_operands && left_domain(results, expected))) break;
      } catch (const Error&) {
        results.clear();
      }
    }
    if (!same_dims(results, expected)) {
      any_may_change_shape_ = true;
      derail();
      continue;
    }
    for (size_t i = 0; i < results.size(); ++i)
      if (node.outputs[i] != kNoValue)
        values[static_cast<size_t>(node.outputs[i])] =
            exact ? results[i] : moved(cancelled(results[i], expected[i], random), random);
    if (node.is("Sigmoid")) {
      Tensor& gates = values[static_cast<size_t>(node.outputs[0])];
      gates = vanished(std::move(gates), random);
    }
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (derailed[static_cast<size_t>(graph_.outputs()[i])]) {
      const Shape& shape = graph_.value(graph_.outputs()[i]).shape;
      may_change_shape_[i] = !shape.has_rank() || std::any_of(shape.dims().begin(), shape.dims().end(),
                                                              [](const Dim& d) { return d.is_unknown(); });
      std::fill(movement_[i].begin(), movement_[i].end(), kInfinity);
      continue;
    }
    const std::vector<double> e = to_doubles(outputs_[i]),
                              a = to_doubles(values[static_cast<size_t>(graph_.outputs()[i])]);
    for (size_t k = 0; k < e.size(); ++k) movement_[i][k] = std::max(movement_[i][k], distance(a[k], e[k]));
  }
}

std::string Oracle::first_beyond(std::span<const Tensor> actual) const {
  if (actual.size() != outputs_.size()) return fmt::format("{} outputs instead of {}", actual.size(), outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Tensor &a = actual[i], &e = outputs_[i];
    const bool other_dims = a.dims() != e.dims();
    if (a.dtype() != e.dtype() || (other_dims && !may_change_shape_[i]))
      return fmt::format("output {} is {}{} instead of {}{}", i, to_string(a.dtype()), to_string(a.dims()),
                         to_string(e.dtype()), to_string(e.dims()));
    if (other_dims) continue;
    const std::vector<double> got = to_doubles(a), want = to_doubles(e);
    for (size_t k = 0; k < want.size(); ++k) {
      const double off = distance(got[k], want[k]);
      const double base =
          is_float(e.dtype()) && std::isfinite(want[k])
              ? smallest_of(e.dtype()) + std::max(kRelative, rounding_of(e.dtype())) * std::fabs(want[k])
              : 0;
      if (off > base + kMargin * movement_[i][k])
        return fmt::format("output {} element {} of {} is {} instead of {}", i, k, want.size(), got[k], want[k]);
    }
  }
  return "";
}

bool Oracle::may_change_shapes() {
  while (!any_may_change_shape_ && evaluations_ < kMostEvaluations) evaluate_again();
  return any_may_change_shape_;
}

std::string Oracle::difference(std::span<const Tensor> actual) {
  std::string found = first_beyond(actual);
  for (const int evaluations : {kFirstEvaluations, kMostEvaluations}) {
    if (found.empty()) return found;
    while (evaluations_ < evaluations) evaluate_again();
    found = first_beyond(actual);
  }
  return found;
}

}  // namespace slipway
