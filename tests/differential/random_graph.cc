// A graph is written step by step: an operator of the whole registry, one of those that networks are made of, or a
// motif, a row of operators each of which reads the one before. Operands are the newest values more often than old
// ones.
#include "random_graph.h"

#include <algorithm>

#include "base/error.h"
#include "idioms.h"
#include "model/infer.h"
#include "model/op.h"

namespace slipway {
namespace {

using Names = std::vector<std::string_view>;

// What networks are made of, the frequent ones several times.
const Names kUsual = {"Conv",
                      "Conv",
                      "Conv",
                      "Relu",
                      "Relu",
                      "Clip",
                      "Add",
                      "Add",
                      "Mul",
                      "Sub",
                      "MatMul",
                      "Gemm",
                      "MaxPool",
                      "AveragePool",
                      "Concat",
                      "Transpose",
                      "Reshape",
                      "Sigmoid",
                      "Softmax",
                      "Split",
                      "Slice",
                      "Pad",
                      "Flatten",
                      "ReduceMean",
                      "Unsqueeze",
                      "Squeeze",
                      "Identity",
                      "Cast",
                      "HardSigmoid",
                      "HardSwish",
                      "LeakyRelu",
                      "Resize",
                      "PRelu",
                      "Div",
                      "Where",
                      "Expand",
                      "GlobalAveragePool",
                      "BatchNormalization",
                      "Gather",
                      "Tanh",
                      "Max",
                      "Min",
                      "Exp",
                      "Sqrt",
                      "Pow",
                      "Dropout",
                      "Erf",
                      "Sum"};

// Rows of operators that passes and kernels look for.
const std::vector<Names> kMotifs = {
    {"Conv", "BatchNormalization", "Add", "Relu"},
    {"Conv", "BatchNormalization", "Relu"},
    {"Conv", "Relu", "Conv", "Add", "Relu"},
    {"Conv", "Mul", "Add", "Clip"},
    {"Conv", "Sigmoid", "Mul"},
    {"Conv", "HardSigmoid", "Mul"},
    {"Conv", "Add", "Clip"},
    {"Conv", "Sub"},
    {"Conv", "PRelu"},
    {"GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"},
    {"GlobalAveragePool", "Flatten", "Gemm", "Relu", "Gemm"},
    {"MatMul", "Add", "Relu"},
    {"MatMul", "Add", "Add"},
    {"Gemm", "BatchNormalization", "Relu"},
    {"MatMul", "Mul", "Softmax", "MatMul"},
    {"Pad", "Conv"},
    {"Pad", "MaxPool"},
    {"Pad", "AveragePool"},
    {"Transpose", "Relu", "Transpose"},
    {"Transpose", "Add", "Transpose"},
    {"Transpose", "Conv", "Transpose"},
    {"Transpose", "Reshape", "Transpose"},
    {"Reshape", "Transpose", "Reshape"},
    {"Reshape", "Reshape"},
    {"Unsqueeze", "Squeeze"},
    {"Slice", "Slice"},
    {"Split", "Concat"},
    {"Concat", "Conv"},
    {"ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div"},
    {"BatchNormalization", "Relu"},
    {"Div", "Erf", "Add", "Mul", "Mul"},
    {"Cast", "Relu", "Cast"},
    {"Identity", "Dropout", "Identity"},
    {"ConvTranspose", "BatchNormalization", "Relu"},
    {"Resize", "Conv"},
    {"Shape", "Gather", "Unsqueeze", "Concat"},
    {"Shape", "Slice", "Concat"},
    {"QuantizeLinear", "DequantizeLinear", "Relu", "QuantizeLinear", "DequantizeLinear"},
    {"QuantizeLinear", "MaxPool", "DequantizeLinear"},
    {"QuantizeLinear", "Transpose", "DequantizeLinear"},
    {"QLinearConv", "DequantizeLinear"},
};

bool picks(const OpSpec& spec, int64_t opset) {
  return spec.domain.empty() && !spec.has(kNondeterministic) && spec.since <= opset && opset <= spec.until &&
         spec.eval != nullptr && !signature_of(spec, opset).deprecated;
}

std::string_view any_op(GraphWriter& w) {
  if (w.chance(0.6)) return w.any(kUsual);
  static const std::vector<const OpSpec*> ops = all_ops();
  for (;;) {
    const OpSpec& spec = *w.any(ops);
    if (picks(spec, w.style.opset)) return spec.name;
  }
}

void quantise_newest(GraphWriter& w) {
  if (w.style.quantised && !w.pool().empty() && w.chance(0.7)) w.quantise(w.pool().back());
}

// Exporters' way to keep the batch: its size is read from a shape and put before the others.
void reshape_by_shape(GraphWriter& w) {
  const ValueId x = w.from_pool({w.style.dtype}, 2, 4);
  if (x == kNoValue) return;
  const ValueId shape = w.apply("Shape", {x});
  const ValueId zero = w.constant(w.chance(0.5) ? Tensor::scalar<int64_t>(0) : Tensor::of<int64_t>({1}, {0}));
  ValueId first = shape == kNoValue ? kNoValue : w.apply("Gather", {shape, zero}, {{"axis", int64_t{0}}});
  if (first != kNoValue && w.tensor(zero).rank() == 0)
    first = w.style.opset >= 13 ? w.apply("Unsqueeze", {first, w.constant_ints({0})})
                                : w.apply("Unsqueeze", {first}, {{"axes", std::vector<int64_t>{0}}});
  if (first == kNoValue) return;
  std::vector<int64_t> rest = {-1};
  if (w.tensor(x).rank() == 4 && w.chance(0.5)) rest = {w.tensor(x).dims()[1], -1};
  const ValueId to = w.apply("Concat", {first, w.constant_ints(rest)}, {{"axis", int64_t{0}}});
  if (to != kNoValue) w.apply("Reshape", {x, to});
}

// What makes each row depend on all the others, and leaves the shape as it was.
void mix_rows(GraphWriter& w) {
  const ValueId x = w.from_pool({w.style.dtype}, 1, 4);
  if (x == kNoValue) return;
  static const Names whole = {"Softmax", "LogSoftmax", "CumSum"}, reduced = {"ReduceMean", "ReduceMax", "ReduceSum"};
  if (w.chance(0.3)) {
    const std::string_view op = w.any(whole);
    if (op == "CumSum")
      w.apply(op, {x, w.constant(Tensor::scalar<int64_t>(0))});
    else
      w.apply(op, {x}, {{"axis", int64_t{0}}});
    return;
  }
  const std::string_view op = w.any(reduced);
  const bool takes_axes = w.style.opset >= (op == "ReduceSum" ? 13 : 18);
  const ValueId one =
      takes_axes ? w.apply(op, {x, w.constant_ints({0})}) : w.apply(op, {x}, {{"axes", std::vector<int64_t>{0}}});
  static const Names together = {"Sub", "Mul", "Add", "Max"};
  if (one != kNoValue) w.apply(w.any(together), {x, one});
}

GraphWriter::Style style_of(Random& random) {
  const auto chance = [&](double p) { return random.uniform() < p; };
  constexpr int64_t kOpsets[] = {7,  8,  9,  10, 11, 12, 13, 13, 13, 13, 14, 15, 16, 17, 17,
                                 17, 17, 18, 18, 19, 20, 21, 21, 22, 23, 24, 26, 27, 27, 27};
  constexpr int64_t kBatches[] = {1, 1, 2, 3};
  GraphWriter::Style style;
  style.opset = kOpsets[random.below(std::size(kOpsets))];
  style.batch = kBatches[random.below(std::size(kBatches))];
  style.free_batch = chance(0.25);
  style.quantised = style.opset >= 10 && chance(0.3);
  if (chance(0.1)) style.prefix = "layer/1:";
  constexpr double kSpecial[] = {0.01, 0.1, 0.3, 0.5};
  if (chance(0.3)) style.special = kSpecial[random.below(std::size(kSpecial))];
  style.only_nan = chance(0.5);
  if (!style.quantised && chance(0.12))
    style.dtype = chance(0.4)                        ? DType::kFloat16
                  : chance(0.3)                      ? DType::kFloat64
                  : chance(0.5) && style.opset >= 13 ? DType::kBfloat16
                                                     : DType::kInt64;
  return style;
}

void choose_outputs(GraphWriter& w) {
  std::vector<ValueId> made;
  for (ValueId id = 0; id < w.graph.value_limit(); ++id)
    if (w.graph.value(id).producer != kNoNode) made.push_back(id);
  for (const ValueId id : made)
    if (w.graph.value(id).uses.empty() ? !w.chance(0.06) : w.chance(0.07)) w.graph.add_output(id);
  if (w.graph.outputs().empty() && !made.empty()) w.graph.add_output(made.back());
  if (w.chance(0.03) && !w.graph.inputs().empty()) w.graph.add_output(w.any(w.graph.inputs()));
  if (w.chance(0.02))
    for (ValueId id = 0; id < w.graph.value_limit(); ++id)
      if (w.graph.value(id).is_constant()) return w.graph.add_output(id);
}

}  // namespace

bool add_some_node(GraphWriter& w) { return w.add(any_op(w), 3); }

void erase_unused(Graph& graph, bool keep_inputs) {
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (v.alive && v.uses.empty() && !graph.is_output(id) && (v.is_constant() || (v.is_input && !keep_inputs)))
      graph.erase_value(id);
  }
}

RandomGraph random_graph(uint64_t seed) {
  Random random(seed);
  const GraphWriter::Style style = style_of(random);
  GraphWriter w(random.next(), style);
  w.graph.name = fmt::format("seed_{}", seed);
  const int64_t nodes = w.any({1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25});
  for (int64_t n = w.any({1, 1, 1, 2, 3}); n > 0; --n)
    w.input(w.random_tensor(w.chance(0.9) ? style.dtype : DType::kFloat32,
                            w.random_dims(w.any({0, 1, 2, 2, 3, 4, 4, 4, 4, 4, 5}))));
  quantise_newest(w);
  for (int tries = 0; tries < 60 && static_cast<int64_t>(w.graph.node_count()) < nodes; ++tries) {
    if (w.chance(0.03)) {
      reshape_by_shape(w);
    } else if (w.chance(0.06)) {
      write_idiom(w);
    } else if (w.chance(style.free_batch ? 0.03 : 0.003)) {
      mix_rows(w);
    } else if (w.chance(0.4)) {
      for (const std::string_view op : w.any(kMotifs))
        if (w.add(op)) quantise_newest(w);
    } else if (add_some_node(w)) {
      quantise_newest(w);
    }
  }
  choose_outputs(w);
  erase_unused(w.graph, w.chance(0.1));
  RandomGraph result;
  for (const ValueId id : w.graph.inputs()) result.inputs.push_back(w.tensor(id));
  result.graph = std::move(w.graph);
  infer_shapes(result.graph);
  return result;
}

}  // namespace slipway
