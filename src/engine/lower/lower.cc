// THE list of tactics, likely fastest first; the reference ends it.
#include "engine/lower/lower.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace slipway {

std::span<const Tactic> all_tactics() {
  static const Tactic tactics[] = {
      integer_convolution(),
      integer_elementwise(),
      onednn_convolution(),
      onednn_deconvolution(),
      onednn_matmul(),
      onednn_pooling(),
      elementwise(),
      binary(),
      softmax(),
      normalization(),
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
  const Node& node = context.node;
  const bool plain = node.output(0) != kNoValue && (node.inputs.empty() || node.has_input(0));
  for (const Tactic& tactic : all_tactics()) {
    // A node without its first input or output is left to the reference.
    if (!plain && tactic.name != "reference") continue;
    const size_t first = candidates.size();
    tactic.propose(context, candidates);
    const auto constant = misplaced_constant(tactic, context);
    for (size_t i = first; constant && i < candidates.size(); ++i)
      if (candidates[i].rejected.empty()) candidates[i].rejected = fmt::format("input {} is a constant", *constant);
  }
  return candidates;
}

std::optional<size_t> misplaced_constant(const Tactic& tactic, const LowerContext& context) {
  for (size_t i = 0; i < context.constant_inputs.size(); ++i)
    if (context.is_constant(i) && (tactic.takes_constant == nullptr || !tactic.takes_constant(context.node, i)))
      return i;
  return std::nullopt;
}

Blob copy_blob(const void* data, size_t bytes) {
  AlignedBytes copy = allocate_aligned(bytes);
  if (bytes > 0) std::memcpy(copy.get(), data, bytes);
  return {std::move(copy), bytes};
}

Blob share_blob(const Tensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.raw()) % kAlignment != 0) return copy_blob(tensor.raw(), tensor.bytes());
  const auto owner = std::make_shared<const Tensor>(tensor);
  return {{owner, owner->raw()}, owner->bytes()};
}

BlobView require_blob(std::span<const BlobView> blobs, size_t index, size_t bytes) {
  if (index >= blobs.size() || blobs[index].size() != bytes)
    fail(ErrorCode::kInvalidModel, "A plan's packed weights do not fit their operator; build the plan again: blob {}",
         index);
  return blobs[index];
}

}  // namespace slipway
