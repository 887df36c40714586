// THE list of tactics, likely fastest first; the reference ends it.
#include "engine/lower/lower.h"

#include <cstring>

#include "base/error.h"

namespace slipway {

std::span<const Tactic> all_tactics() {
  static const Tactic tactics[] = {
      integer_convolution(),
      integer_elementwise(),
      onednn_convolution(),
      onednn_matmul(),
      onednn_pooling(),
      elementwise(),
      binary(),
      softmax(),
      movement(),
      layout_change(),
      reference(),
  };
  return tactics;
}

const Tactic& tactic_named(std::string_view name) {
  for (const Tactic& tactic : all_tactics())
    if (tactic.name == name) return tactic;
  fail(ErrorCode::kUnsupported, "This program has no such tactic; build the plan again: '{}'", name);
}

std::vector<Candidate> propose_candidates(const LowerContext& context) {
  std::vector<Candidate> candidates;
  const bool plain = !context.node.outputs.empty() && context.node.outputs[0] != kNoValue;
  for (const Tactic& tactic : all_tactics())  // a node without its first output is left to the reference
    if (plain || tactic.name == "reference") tactic.propose(context, candidates);
  return candidates;
}

Blob make_blob(size_t bytes) { return {allocate_aligned(bytes), bytes}; }

Blob copy_blob(const void* data, size_t bytes) {
  Blob blob = make_blob(bytes);
  if (bytes > 0) std::memcpy(blob.data.get(), data, bytes);
  return blob;
}

BlobView require_blob(std::span<const BlobView> blobs, size_t index, size_t bytes) {
  if (index >= blobs.size() || blobs[index].size() != bytes)
    fail(ErrorCode::kInvalidModel, "A plan's packed weights do not fit their operator; build the plan again: blob {}",
         index);
  return blobs[index];
}

}  // namespace slipway
