#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// What makes a model the same model: its ONNX file and every file that this one refers to (external data of
/// initialisers, attributes, subgraphs and functions).
struct ModelIdentity {
  /// SHA-256: of the ONNX file where it refers to no other; else of the text
  ///   "slipway model\n" SHA-256 of the ONNX file "\n"
  ///   and, by data file in the order of names: SHA-256 " " bytes of the name " " name "\n".
  /// A data file counts whole, by its name relative to the ONNX file's folder; the ONNX file's own name does not count.
  std::string sha256;
  uint64_t bytes = 0;                   ///< of all files together
  std::vector<std::string> data_files;  ///< names relative to the ONNX file's folder, sorted
};

/// Reads the files through without keeping them. Fails as load_onnx() does, as far as it gets: for a file that is no
/// ONNX, and for data files that are missing or lie outside the model's folder.
ModelIdentity identify_model(const std::string& path);
/// load_onnx(), with the identity of the very bytes that the graph is made of.
Graph load_onnx(const std::string& path, ModelIdentity& identity);
/// The paths of all its files, the ONNX file first. Fails as identify_model() does.
std::vector<std::string> model_files(const std::string& path);
/// Copies a model: its ONNX file to `to`, its data files into the same folder under their own names; each appears
/// whole or not at all, the ONNX file last. Returns the identity of what was copied. Fails as identify_model() does,
/// and with kInvalidArgument where a copy would replace a file that is there, or one of the model's own files.
ModelIdentity copy_model(const std::string& path, const std::string& to);

}  // namespace slipway
