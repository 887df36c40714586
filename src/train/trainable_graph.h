#pragma once
#include <functional>
#include <map>
#include <vector>

#include "model/graph.h"
#include "train/libtorch.h"
#include "train/operators.h"

namespace slipway {

/// One node by its operator's libtorch form, or, where `function` is nullptr, by the reference evaluation. Fails with
/// kInvalidModel, naming the node, where shapes do not go together.
std::vector<at::Tensor> run_operator(const Graph& graph, const Node& node, OpFunction function,
                                     std::vector<at::Tensor> inputs);

/// Whether an input of a node is a float constant of several elements that its operator learns: a weight, an offset.
bool is_trained(const Graph& graph, const Node& node, size_t input);

/// A graph as a differentiable function: its float constants are leaves that can be trained. Any batch size.
class TrainableGraph {
 public:
  /// Called instead of the operator for a node that has one; inputs as libtorch tensors, undefined where absent.
  using Override = std::function<at::Tensor(std::vector<at::Tensor> inputs)>;
  /// Called with the value of each input and each node's outputs; what it returns is read instead.
  using Filter = std::function<at::Tensor(ValueId, at::Tensor)>;

  /// The graph, with types inferred, must outlive it. Fails with kUnsupported, naming the node, where a float that
  /// depends on the float inputs, or on what is_trained(), comes from an operator without a gradient.
  explicit TrainableGraph(const Graph& graph);

  const Graph& graph() const { return graph_; }
  /// The constants by value: float ones, which require a gradient once asked to, and the others.
  std::map<ValueId, at::Tensor>& constants() { return constants_; }
  std::map<NodeId, Override>& overrides() { return overrides_; }

  /// The outputs for inputs in the graph's order. Values are let go after their last use. Fails with kInvalidArgument
  /// for another number of inputs, kInvalidModel, naming the node, where shapes do not go together, and as the
  /// operators do.
  std::vector<at::Tensor> forward(std::vector<at::Tensor> inputs, const Filter& filter = {}) const;

 private:
  struct Step {
    NodeId id;
    OpFunction function;  ///< nullptr: the reference evaluation
  };
  std::vector<at::Tensor> compute(const Step& step, std::vector<at::Tensor> inputs) const;

  const Graph& graph_;
  std::vector<Step> steps_;
  std::vector<uint32_t> readers_;  ///< of each value, graph outputs included
  std::map<ValueId, at::Tensor> constants_;
  std::map<NodeId, Override> overrides_;
};

}  // namespace slipway
