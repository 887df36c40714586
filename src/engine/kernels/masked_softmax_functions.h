#pragma once
// Softmax of scaled and masked rows, written once over a vector type; included by the per-ISA files alone, after
// elementwise_functions.h. Scores are computed twice, for their peak and for their powers: that costs less than keeping
// them.

namespace slipway {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

inline Ints load_bytes(const uint8_t* bytes, int64_t n) {
  Bytes loaded = {};
  if (n >= kLanes)
    __builtin_memcpy(&loaded, bytes, kLanes);
  else
    __builtin_memcpy(&loaded, bytes, (size_t)n);
  return __builtin_convertvector(loaded, Ints);
}

// The first n elements, `rest` after them.
inline Floats first_of(Floats v, int64_t n, float rest) {
  if (n >= kLanes) return v;
  float parts[kLanes];
  store(parts, v);
  return load(parts, n, rest);
}

enum class Mask { kNone, kAdded, kKept };

template <Mask kMask>
inline Floats scores(const MaskedSoftmaxBlock& r, int64_t i, int64_t n) {
  Floats v = load_some(r.x + i, n, 0) * r.scale;
  if (kMask == Mask::kAdded) {
    v += n < kLanes ? take(r.added + i * r.mask_step, r.mask_step, n) : take(r.added + i * r.mask_step, r.mask_step);
  } else if (kMask == Mask::kKept) {
    const Ints kept = r.mask_step ? load_bytes(r.kept + i, n) : Ints{} + (int32_t)*r.kept;
    v = select(kept == (int32_t)r.keeps, v, splat(r.fill));
  }
  return first_of(v, n, -__builtin_inff());
}

template <Mask kMask>
void masked_softmax_row(const MaskedSoftmaxBlock& r) {
  Floats highest = splat(-__builtin_inff());
  for_vectors(r.count, [&](int64_t i, int64_t n) { highest = above(scores<kMask>(r, i, n), highest); });
  const Floats peak = splat(largest(highest));
  Doubles sum = {};
  for_vectors(r.count, [&](int64_t i, int64_t n) {
    const Floats e = exp_of(shift(scores<kMask>(r, i, n), peak));
    sum += halves(e);
    store_some(r.y + i, e, n);
  });
  const float inverse = (float)(1 / total(sum));
  for_vectors(r.count, [&](int64_t i, int64_t n) {
    const Floats y = load_some(r.y + i, n, 0) * inverse;
    store_some(r.y + i, r.guard ? select(y == y, y, Floats{}) : y, n);
  });
}

template <Mask kMask>
void masked_softmax_rows(MaskedSoftmaxBlock block) {
  for (int64_t r = 0; r < block.rows; ++r) {
    masked_softmax_row<kMask>(block);
    block.x += block.count;
    block.y += block.count;
    if (kMask == Mask::kAdded) block.added += block.mask_pitch;
    if (kMask == Mask::kKept) block.kept += block.mask_pitch;
  }
}

void masked_softmax(const MaskedSoftmaxBlock* block) noexcept {
  if (block->added) return masked_softmax_rows<Mask::kAdded>(*block);
  if (block->kept) return masked_softmax_rows<Mask::kKept>(*block);
  masked_softmax_rows<Mask::kNone>(*block);
}

}  // namespace
}  // namespace slipway
