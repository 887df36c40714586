#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// What a graph should give for some inputs, and how far from it a right implementation may be. Floats are rounded in
/// other places by other kernels; where that can change a result is found by evaluating the reference again with each
/// float that enters or leaves an operator moved by a random rounding error or two. What stays fixed under all of them
/// must be equal, integers and codes among it; what moves may be off by a multiple of its movement.
class Oracle {
 public:
  /// Evaluates the graph; fails as evaluate() does.
  Oracle(const Graph& graph, std::vector<Tensor> inputs);
  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }
  const std::vector<Tensor>& values() const { return values_; }  ///< by ValueId, where a node or the caller made one
  /// Empty when `actual` may be what the graph gives; otherwise the first output that may not, and how it differs.
  std::string difference(std::span<const Tensor> actual);
  /// Whether a shape anywhere in the graph follows from how values are rounded.
  bool may_change_shapes();

 private:
  std::string first_beyond(std::span<const Tensor> actual) const;
  void evaluate_again();
  std::vector<Tensor> operands_of(const Node& node) const;

  const Graph& graph_;
  std::vector<Tensor> inputs_, outputs_, values_;
  std::vector<std::vector<double>> movement_;  ///< by output and element; infinite where anything may come
  std::vector<bool> may_change_shape_;         ///< by output: sizes of it follow from values that move
  bool any_may_change_shape_ = false;
  int evaluations_ = 0;
};

}  // namespace slipway
