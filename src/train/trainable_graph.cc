// The interpreter: nodes in topological order, each by its operator's libtorch form. What does not depend on float
// inputs (shapes, indices, constants) may also come from the reference evaluation, which has no gradient and needs
// none.
#include "train/trainable_graph.h"

#include "base/error.h"
#include "model/evaluate.h"
#include "train/operators.h"
#include "train/tensors.h"

namespace slipway {

TrainableGraph::TrainableGraph(const Graph& graph) : graph_(graph), order_(graph.topological_order()) {
  std::vector<bool> flows(static_cast<size_t>(graph.value_limit()), false);  // a gradient may pass
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& value = graph.value(id);
    if (!value.alive) continue;
    if (value.is_constant() && value.dtype != DType::kString) constants_[id] = to_torch(*value.constant);
    flows[static_cast<size_t>(id)] = value.is_input && is_float(value.dtype);
  }
  for (const NodeId id : order_) {
    const Node& node = graph.node(id);
    bool reached = false;
    for (const ValueId input : node.inputs) reached |= input != kNoValue && flows[static_cast<size_t>(input)];
    if (!reached) continue;
    if (find_operator(node) == nullptr)
      fail(ErrorCode::kUnsupported,
           "Training can't go through this operator, which has no gradient here; quantise after training instead "
           "(slipway quantize): {}",
           node.label());
    for (const ValueId output : node.outputs)
      if (output != kNoValue && is_float(graph.value(output).dtype)) flows[static_cast<size_t>(output)] = true;
  }
}

std::vector<at::Tensor> TrainableGraph::compute(NodeId id, std::vector<at::Tensor> inputs) const {
  const Node& node = graph_.node(id);
  if (const auto override = overrides_.find(id); override != overrides_.end())
    return {override->second(std::move(inputs))};
  if (const OpFunction function = find_operator(node)) return function({node, graph_.opset(), std::move(inputs)});
  std::vector<Tensor> values(inputs.size());
  std::vector<const Tensor*> pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    values[i] = from_torch(inputs[i]);
    pointers[i] = &values[i];
  }
  std::vector<at::Tensor> outputs;
  for (const Tensor& tensor : evaluate_node(graph_, node, pointers))
    outputs.push_back(tensor.defined() ? to_torch(tensor) : at::Tensor());
  return outputs;
}

std::vector<at::Tensor> TrainableGraph::forward(std::vector<at::Tensor> inputs, const Filter& filter) const {
  std::vector<at::Tensor> values(static_cast<size_t>(graph_.value_limit()));
  std::vector<size_t> readers(values.size(), 0);
  for (const NodeId id : order_)
    for (const ValueId input : graph_.node(id).inputs)
      if (input != kNoValue) ++readers[static_cast<size_t>(input)];
  for (const ValueId output : graph_.outputs()) ++readers[static_cast<size_t>(output)];
  const auto put = [&](ValueId id, at::Tensor tensor) {
    values[static_cast<size_t>(id)] = filter ? filter(id, std::move(tensor)) : std::move(tensor);
  };
  for (size_t i = 0; i < graph_.inputs().size(); ++i) put(graph_.inputs()[i], std::move(inputs[i]));
  const auto get = [&](ValueId id) {
    if (const auto constant = constants_.find(id); constant != constants_.end()) return constant->second;
    at::Tensor& value = values[static_cast<size_t>(id)];
    if (--readers[static_cast<size_t>(id)] == 0) return std::exchange(value, {});
    return value;
  };
  for (const NodeId id : order_) {
    const Node& node = graph_.node(id);
    std::vector<at::Tensor> arguments;
    for (const ValueId input : node.inputs) arguments.push_back(input == kNoValue ? at::Tensor() : get(input));
    std::vector<at::Tensor> results = compute(id, std::move(arguments));
    for (size_t i = 0; i < node.outputs.size() && i < results.size(); ++i)
      if (node.outputs[i] != kNoValue) put(node.outputs[i], std::move(results[i]));
  }
  std::vector<at::Tensor> outputs;
  for (const ValueId id : graph_.outputs()) outputs.push_back(get(id));
  return outputs;
}

}  // namespace slipway
