#pragma once
#include "model/onnx/rewrites/rewrite.h"

namespace slipway {

// What the rules of attention share (grouped_attention.cc).

/// [B, S, heads · size] as [B, heads, S, size].
ValueId heads_of(Rewrite& r, ValueId x, int64_t heads);

/// Angles for each position, broadcasting to a head's first `half` numbers.
struct RotaryAngles {
  ValueId cosine, sine;
  int64_t half;
  bool interleaved;  ///< neighbours are a pair, else a number of the first half and one of the second
  bool whole;        ///< a head has no more than 2 · half numbers; else the rest stays as it is
};
/// Pairs of numbers along the last of four axes, turned by their angle: J. Su et al., "RoFormer: Enhanced Transformer
/// with Rotary Position Embedding", 2021.
ValueId turned_pairs(Rewrite& r, ValueId x, const RotaryAngles& angles);

/// The rule of GroupQueryAttention.
void grouped_attention(Rewrite& r);

}  // namespace slipway
