// The interpreter: nodes in topological order, each by its operator's libtorch form. What makes no floats or takes none
// (shapes, indices, masks) comes from the reference evaluation, which has no gradient and needs none, and whose integer
// arithmetic is the models'.
#include "train/trainable_graph.h"

#include <algorithm>

#include "base/error.h"
#include "model/evaluate.h"
#include "train/tensors.h"

namespace slipway {
namespace {

// A type that inference left open may be a float.
bool may_be_float(const Graph& graph, ValueId id) {
  if (id == kNoValue) return false;
  const DType dtype = graph.value(id).dtype;
  return dtype == DType::kUndefined || is_float(dtype);
}

bool any_float(const Graph& graph, const std::vector<ValueId>& ids) {
  return std::any_of(ids.begin(), ids.end(), [&](ValueId id) { return may_be_float(graph, id); });
}

// Sizes are read off the tensor, without copying it for the reference.
bool asks_for_sizes(const Node& node) { return node.is("Shape") || node.is("Size"); }

[[noreturn]] void reject(const Node& node, const char* what) {
  fail(ErrorCode::kInvalidModel, "The values do not go together at {}: {}", node.label(), what);
}

}  // namespace

bool is_trained(const Graph& graph, const Node& node, size_t input) {
  static constexpr std::string_view kWeighted[] = {"Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu",
                                                   "Add",  "Sub",           "Mul",  "Div"};
  static constexpr std::string_view kNormalizing[] = {"BatchNormalization", "LayerNormalization",
                                                      "InstanceNormalization", "GroupNormalization"};
  const auto is_in = [&](auto& list) {
    return std::find(std::begin(list), std::end(list), node.op_type) != std::end(list);
  };
  const Tensor* constant = graph.constant(node.input(input));
  return constant != nullptr && constant->dtype() == DType::kFloat32 && constant->elements() > 1 &&
         (is_in(kWeighted) || (is_in(kNormalizing) && (input == 1 || input == 2)));
}

TrainableGraph::TrainableGraph(const Graph& graph)
    : graph_(graph), readers_(static_cast<size_t>(graph.value_limit()), 0) {
  std::vector<bool> flows(readers_.size(), false);  // a gradient may pass
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& value = graph.value(id);
    if (!value.alive) continue;
    if (value.is_constant() && value.dtype != DType::kString) constants_[id] = to_torch(*value.constant);
    flows[static_cast<size_t>(id)] = value.is_input && is_float(value.dtype);
  }
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const bool makes_floats = any_float(graph, node.outputs);
    const bool differentiable = (makes_floats && any_float(graph, node.inputs)) || asks_for_sizes(node);
    steps_.push_back({id, differentiable ? find_operator(node) : nullptr});
    for (const ValueId input : node.inputs)
      if (input != kNoValue) ++readers_[static_cast<size_t>(input)];
    bool reached = false;
    for (size_t i = 0; i < node.inputs.size(); ++i) reached |= is_trained(graph, node, i);
    for (const auto* list : {&node.inputs, &node.captures})
      for (const ValueId input : *list) reached |= input != kNoValue && flows[static_cast<size_t>(input)];
    if (!reached || !makes_floats) continue;
    if (steps_.back().function == nullptr)
      fail(ErrorCode::kUnsupported,
           "Training can't go through this operator, which has no gradient here; quantise after training instead "
           "(slipway quantize): {}",
           node.label());
    for (const ValueId output : node.outputs)
      if (may_be_float(graph, output)) flows[static_cast<size_t>(output)] = true;
  }
  for (const ValueId output : graph.outputs()) ++readers_[static_cast<size_t>(output)];
}

std::vector<at::Tensor> TrainableGraph::compute(const Step& step, std::vector<at::Tensor> inputs) const {
  if (const auto override = overrides_.find(step.id); override != overrides_.end())
    return {override->second(std::move(inputs))};
  return run_operator(graph_, graph_.node(step.id), step.function, std::move(inputs));
}

std::vector<at::Tensor> run_operator(const Graph& graph, const Node& node, OpFunction function,
                                     std::vector<at::Tensor> inputs) {
  if (function != nullptr) {
    try {
      return function({node, graph.opset(), std::move(inputs)});
    } catch (const Error&) {
      throw;
    } catch (const c10::Error& error) {
      reject(node, error.what_without_backtrace());
    } catch (const std::exception& error) {
      reject(node, error.what());
    }
  }
  std::vector<Tensor> values(inputs.size());
  std::vector<const Tensor*> pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    values[i] = from_torch(inputs[i]);
    pointers[i] = &values[i];
  }
  std::vector<at::Tensor> outputs;
  for (const Tensor& tensor : evaluate_node(graph, node, pointers))
    outputs.push_back(tensor.defined() ? to_torch(tensor) : at::Tensor());
  return outputs;
}

std::vector<at::Tensor> TrainableGraph::forward(std::vector<at::Tensor> inputs, const Filter& filter) const {
  if (inputs.size() != graph_.inputs().size())
    fail(ErrorCode::kInvalidArgument, "The model takes another number of inputs: {} wanted, {} given",
         graph_.inputs().size(), inputs.size());
  std::vector<at::Tensor> values(readers_.size());
  std::vector<uint32_t> readers = readers_;
  for (const auto& [id, constant] : constants_) values[static_cast<size_t>(id)] = constant;
  const auto put = [&](ValueId id, at::Tensor tensor) {
    values[static_cast<size_t>(id)] = filter ? filter(id, std::move(tensor)) : std::move(tensor);
  };
  const auto get = [&](ValueId id) {
    at::Tensor& value = values[static_cast<size_t>(id)];
    if (--readers[static_cast<size_t>(id)] == 0) return std::exchange(value, {});
    return value;
  };
  for (size_t i = 0; i < graph_.inputs().size(); ++i) put(graph_.inputs()[i], std::move(inputs[i]));
  for (const Step& step : steps_) {
    const Node& node = graph_.node(step.id);
    std::vector<at::Tensor> arguments;
    arguments.reserve(node.inputs.size());
    for (const ValueId input : node.inputs) arguments.push_back(input == kNoValue ? at::Tensor() : get(input));
    std::vector<at::Tensor> results = compute(step, std::move(arguments));
    for (size_t i = 0; i < node.outputs.size() && i < results.size(); ++i)
      if (node.outputs[i] != kNoValue) put(node.outputs[i], std::move(results[i]));
  }
  std::vector<at::Tensor> outputs;
  for (const ValueId id : graph_.outputs()) outputs.push_back(get(id));
  return outputs;
}

}  // namespace slipway
