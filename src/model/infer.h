#pragma once
#include <functional>
#include <map>
#include <span>
#include <string>

#include "model/graph.h"

namespace slipway {

/// Fills in types and shapes of every value from the inputs on, in place, subgraphs included; symbolic dimensions stay
/// symbolic. Fails with kInvalidModel where the model contradicts itself, kUnsupported at an unknown operator.
void infer_shapes(Graph& graph);

class InferContext;

/// Called with each node of the graph itself (not of its subgraphs), in topological order, once its results are known.
/// It may name dimensions that are still unknown.
using InferObserver = std::function<void(InferContext&)>;

/// Forgets every shape but the inputs' and constants' and infers anew, watched by `observe`.
void infer_shapes_anew(Graph& graph, const InferObserver& observe);

/// The inputs' free dimensions as people name them: by symbol, else "input.axis"; each once.
std::vector<std::string> free_dims(const Graph& graph);

/// Gives symbols (and dimensions named "input.axis", e.g. "images.0") concrete sizes, forgets the shapes inside and
/// infers anew. Fails with kInvalidArgument for a name that no input has.
void bind_dims(Graph& graph, const std::map<std::string, int64_t>& sizes);

/// Sets every free first dimension of the inputs to `batch` and every other free dimension named in `sizes`;
/// fails with kInvalidArgument naming a dimension that is still free, and when the batch is fixed to another size, with
/// kUnsupported where an input is no tensor.
void bind_batch(Graph& graph, int64_t batch, const std::map<std::string, int64_t>& sizes = {});

/// Gives every input the type and shape of the tensor for it, axes of length 0 included, its symbols their sizes, and
/// infers anew. The tensors fit the inputs (require_inputs_match). Sequences and optionals keep the declared type, for
/// nothing more can be known of what is read from them before it is read.
void bind_inputs(Graph& graph, std::span<const Tensor> tensors);

}  // namespace slipway
