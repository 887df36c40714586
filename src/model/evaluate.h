#pragma once
#include <functional>
#include <span>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// Called with every value that a node computed, in order.
using ValueObserver = std::function<void(ValueId, const Tensor&)>;

/// The reference: runs the graph node by node with each operator's reference evaluation. `inputs` in the order of
/// graph.inputs(), any size that fits the symbolic shapes. Returns the outputs in order. Fails with kInvalidArgument
/// when an input does not match, kUnsupported at an operator without evaluation. Values are freed after their last use.
std::vector<Tensor> evaluate(const Graph& graph, std::span<const Tensor> inputs, const ValueObserver& observe = {});

/// One node on concrete inputs (nullptr where absent): for constant folding and tests.
std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node, std::span<const Tensor* const> inputs);

/// Runs a subgraph of the node at hand on inputs of its own; what it captures is the caller's to bind.
using SubgraphRunner = std::function<std::vector<Tensor>(const Graph& subgraph, std::span<const Tensor> inputs)>;

/// One node of any graph on concrete inputs and captures, its subgraphs run by `run`.
std::vector<Tensor> evaluate_node(const Graph& graph, const Node& node, std::span<const Tensor* const> inputs,
                                  const SubgraphRunner& run);

/// Fails with kInvalidArgument, naming the input, unless dtype, rank and known dimensions agree and equal symbols have
/// equal sizes.
void require_inputs_match(const Graph& graph, std::span<const Tensor> inputs);

}  // namespace slipway
