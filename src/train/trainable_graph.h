#pragma once
#include <functional>
#include <map>
#include <vector>

#include "model/graph.h"
#include "train/libtorch.h"

namespace slipway {

/// A graph as a differentiable function: its float constants are leaves that can be trained. Any batch size.
class TrainableGraph {
 public:
  /// Called instead of the operator for a node that has one; inputs as libtorch tensors, undefined where absent.
  using Override = std::function<at::Tensor(std::vector<at::Tensor> inputs)>;
  /// Called with the value of each input and each node's outputs; what it returns is read instead.
  using Filter = std::function<at::Tensor(ValueId, at::Tensor)>;

  /// The graph must outlive it. Fails with kUnsupported, naming the node, where a value that depends on the inputs goes
  /// through an operator without a gradient.
  explicit TrainableGraph(const Graph& graph);

  const Graph& graph() const { return graph_; }
  /// The constants by value: float ones, which require a gradient once asked to, and the others.
  std::map<ValueId, at::Tensor>& constants() { return constants_; }
  std::map<NodeId, Override>& overrides() { return overrides_; }

  /// The outputs for inputs in the graph's order. Values are let go after their last use.
  std::vector<at::Tensor> forward(std::vector<at::Tensor> inputs, const Filter& filter = {}) const;

 private:
  std::vector<at::Tensor> compute(NodeId id, std::vector<at::Tensor> inputs) const;

  const Graph& graph_;
  std::vector<NodeId> order_;
  std::map<ValueId, at::Tensor> constants_;
  std::map<NodeId, Override> overrides_;
};

}  // namespace slipway
