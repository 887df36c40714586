#pragma once
// Internal to this folder: the ONNX schema (Debian's, IR version 8) and what later releases added to it.
#ifndef ONNX_ML
#define ONNX_ML 1
#endif
#ifndef ONNX_NAMESPACE
#define ONNX_NAMESPACE onnx
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <onnx/onnx-data_pb.h>
#pragma GCC diagnostic pop

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file_reader.h"
#include "base/hash.h"
#include "model/dtype.h"
#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

inline constexpr int64_t kMinOpset = 1, kMaxOpset = 27;
inline constexpr int64_t kMinIrVersion = 3;
/// Subgraphs inside subgraphs, and functions that call functions.
inline constexpr int kMaxDepth = 24;

/// ONNX's own operators have two names for their domain; ours is the empty one.
inline std::string canonical_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

// What releases after IR version 8 added, read from the unknown fields (later_schema.cc).
/// FunctionProto.attribute_proto: attributes with default values.
std::vector<onnx::AttributeProto> default_attributes(const onnx::FunctionProto& function);
/// FunctionProto.overload and NodeProto.overload: "" when absent.
std::string overload_of(const onnx::FunctionProto& function);
std::string overload_of(const onnx::NodeProto& node);
/// The element type by number, up to INT2; fails with kUnsupported naming `where` for what came later.
DType element_type(int number, const std::string& where);

/// A tensor's external file by its plain name, relative to the model's folder ("a/b", not "./a//b"). Fails with
/// kInvalidModel for one that leaves the folder (external.cc).
std::string external_location(const onnx::TensorProto& proto);
/// Its path. Fails with kNotFound when it is missing, kInvalidModel when a link leads out of the folder.
std::string external_path(const std::string& folder, const std::string& location);

/// External data files of one model, each read once, whole, into memory of our own (external.cc).
class ExternalData {
 public:
  /// `folder` holds the model; empty: every reference is refused.
  explicit ExternalData(std::string folder) : folder_(std::move(folder)) {}
  /// The file of a plain name; fails as external_path() and read_contents() do.
  std::shared_ptr<const FileContents> open(const std::string& location);
  /// The tensor's `bytes` bytes and what keeps them. Fails with kInvalidModel for a path that leaves the folder, an
  /// offset or length outside the file; kNotFound when the file is missing.
  std::pair<std::span<const std::byte>, std::shared_ptr<const void>> find(const onnx::TensorProto& proto, size_t bytes);

 private:
  std::string folder_;
  std::map<std::string, std::shared_ptr<const FileContents>> files_;
};

/// Parses a file, digesting its bytes as they pass where `hash` is given; returns their number. Fails with a sentence
/// that says what the file is when it is no ONNX model (import.cc).
uint64_t read_model(const std::string& path, onnx::ModelProto& proto, Sha256* hash = nullptr);
Graph import_model(onnx::ModelProto& proto, ExternalData external);

/// Sizes are checked against the data present before anything is allocated. Takes large raw data out of `proto`.
/// Fails with kInvalidModel or kUnsupported (tensor_proto.cc).
Tensor take_tensor(onnx::TensorProto& proto, ExternalData& external);
void to_proto(const Tensor& tensor, const std::string& name, onnx::TensorProto& proto);

/// Replaces each call of a model-local function by its body, in place, subgraphs included (inline_functions.cc).
void inline_functions(onnx::ModelProto& model);

/// Always fails: with the command that converts what lies in the folder.
[[noreturn]] void reject_folder(const std::string& path);
/// Fails with one sentence that says what the file is and which command helps, when it is a known other format
/// (not_onnx.cc). `path` is for the message and may be empty.
void reject_other_formats(std::span<const std::byte> bytes, const std::string& path);
/// The same for bytes that parse as no ONNX model; always fails.
[[noreturn]] void reject_unparsed(std::span<const std::byte> bytes, const std::string& path);

}  // namespace slipway
