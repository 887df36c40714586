#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

/// Reads an ONNX file (up to opset 27, IR 3 and up): external data, raw and typed tensors, functions inlined, subgraphs
/// kept, Constant nodes and initialisers that are inputs too as constants, rewrites/ applied. Shapes are inferred.
/// Fails with kInvalidModel (what is wrong, where), kUnsupported (operator and node named), kNotFound, kIo.
Graph load_onnx(const std::string& path);
/// From bytes; external data is looked for in `folder` (empty: refused).
Graph parse_onnx(std::span<const std::byte> bytes, const std::string& folder = "");

/// Writes the graph as ONNX, whole or not at all. Fails with kUnsupported where a node of the fused domain remains.
void save_onnx(const Graph& graph, const std::string& path);
std::vector<std::byte> serialize_onnx(const Graph& graph);

/// A TensorProto file (ONNX's input_N.pb); fails with kInvalidModel.
Tensor load_tensor_pb(const std::string& path);
/// A file of a value that is declared so: a SequenceProto of tensors, an OptionalProto of either, else a TensorProto.
/// Fails with kInvalidModel.
Tensor load_value_pb(const std::string& path, DType declared);
void save_tensor_pb(const Tensor& tensor, const std::string& name, const std::string& path);

}  // namespace slipway
