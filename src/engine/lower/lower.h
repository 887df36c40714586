#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "engine/layout.h"
#include "model/graph.h"

namespace slipway {

/// A node to lower, with concrete shapes. While a plan is built its constants are there; when one is opened they are
/// not: then the packed blobs stand for them.
struct LowerContext {
  const Graph& graph;
  const Node& node;
  int threads = 1;
  std::vector<bool> constant_inputs;  ///< by input index

  bool is_constant(size_t i) const { return i < constant_inputs.size() && constant_inputs[i]; }
  bool has_input(size_t i) const { return node.has_input(i); }
  Dims input_dims(size_t i) const { return graph.value(node.inputs[i]).shape.to_dims(); }
  DType input_dtype(size_t i) const { return graph.value(node.inputs[i]).dtype; }
  Dims output_dims(size_t i = 0) const { return graph.value(node.outputs[i]).shape.to_dims(); }
  DType output_dtype(size_t i = 0) const { return graph.value(node.outputs[i]).dtype; }
  /// The constant's tensor; building only.
  const Tensor& constant(size_t i) const { return *graph.constant(node.inputs[i]); }
};

/// What a kernel keeps per session (oneDNN's memory objects).
class KernelState {
 public:
  virtual ~KernelState() = default;
};

struct KernelArgs {
  const void* const* inputs;  ///< by input index of the node; null where absent or packed
  void* const* outputs;
  std::byte* scratch;
  KernelState* state;
  int threads;
  /// Compute so that NaN and infinities come out as the reference gives them, in a slower way if need be. Of note where
  /// the candidate `loses_special`.
  bool faithful = false;
};

/// A prepared step: immutable, shared by all sessions of a plan.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual size_t scratch_bytes() const { return 0; }
  virtual std::unique_ptr<KernelState> make_state() const { return nullptr; }
  virtual void run(const KernelArgs& args) const = 0;
};

/// One way to run a node, accepted with its layouts or rejected with the reason.
struct Candidate {
  std::string tactic;          ///< name of the tactic's row
  std::string variant;         ///< what the tactic needs to make the same kernel again
  std::vector<Layout> inputs;  ///< by input index; constants have kPlain
  std::vector<Layout> outputs;
  std::string rejected = {};
  int inplace_input = -1;  ///< output 0 may share this input's buffer
  /// Not run faithfully, it gives the right result only where its inputs, sums and products are finite.
  bool loses_special = false;
  bool view = false;  ///< output 0 is this input's bytes (inplace_input), unchanged
};

/// Packed weights, 64-byte aligned.
struct Blob {
  std::shared_ptr<const std::byte[]> data;
  size_t bytes = 0;
};
using BlobView = std::span<const std::byte>;

/// One row of THE list of tactics.
struct Tactic {
  std::string_view name;
  /// Appends candidates when the tactic knows the operator; does nothing otherwise.
  void (*propose)(const LowerContext&, std::vector<Candidate>&);
  /// Constants in the form the kernel wants; may be null when there are none.
  std::vector<Blob> (*pack)(const LowerContext&, const Candidate&);
  /// Fails with kUnsupported when this machine or library can't, kInvalidModel when a blob does not fit.
  std::unique_ptr<Kernel> (*create)(const LowerContext&, const Candidate&, std::span<const BlobView>);
  /// Whether the operand may be a constant: then `pack` keeps it, or the kernel does not read it. Null: never.
  bool (*takes_constant)(const Node&, size_t input);
};

std::span<const Tactic> all_tactics();
const Tactic& tactic_named(std::string_view name);
/// What every tactic proposes. A candidate whose kernel would have to read a constant at run time is rejected.
std::vector<Candidate> propose_candidates(const LowerContext& context);
/// The first operand that is a constant and may not be one for this tactic.
std::optional<size_t> misplaced_constant(const Tactic& tactic, const LowerContext& context);

Blob copy_blob(const void* data, size_t bytes);
/// The tensor's own bytes where they lie well, else a copy.
Blob share_blob(const Tensor& tensor);
/// Fails with kInvalidModel unless there is a blob `index` of exactly `bytes`.
BlobView require_blob(std::span<const BlobView> blobs, size_t index, size_t bytes);

/// "2.6.3"
std::string onednn_version();

// The tactics, one file each.
Tactic onednn_convolution();
Tactic onednn_deconvolution();
Tactic onednn_matmul();
Tactic onednn_pooling();
Tactic elementwise();
Tactic binary();
Tactic softmax();
Tactic normalization();
Tactic integer_convolution();
Tactic integer_elementwise();
Tactic movement();
Tactic layout_change();
Tactic reference();

}  // namespace slipway
