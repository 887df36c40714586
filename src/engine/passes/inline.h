#pragma once
#include <span>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// Puts a node's subgraph in the place of that node, once or several times.
class BodyInliner {
 public:
  /// `keeps_shapes`: what is known of the body's values holds in each copy; without, only their types do.
  BodyInliner(Graph& graph, const Graph& body, NodeId node, bool keeps_shapes);
  /// Adds the body's nodes, reading these values as its inputs. What its outputs are in the graph around it: values of
  /// the copy, captures, constants or some of `inputs`.
  std::vector<ValueId> copy(std::span<const ValueId> inputs);

 private:
  void copy_node(const Node& node);
  std::vector<ValueId> copies_of(const std::vector<ValueId>& values) const;

  Graph& graph_;
  const Graph& body_;
  const NodeId node_;
  const bool keeps_shapes_;
  std::vector<ValueId> copies_;  ///< by the body's ids; constants and captures are the same in each copy
};

}  // namespace slipway
