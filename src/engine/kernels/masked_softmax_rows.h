#pragma once
#include <stdint.h>

/// The border between the masked softmax and its per-ISA loops: plain data, no inline code.
namespace slipway {

/// Dense rows of `count` elements, a distribution each: y = softmax(x·scale + mask). The mask is either of floats that
/// are added, or of booleans (bytes of 0 or 1) that keep x·scale where they are `keeps` and put `fill` elsewhere; there
/// is none when both are null. It advances by `mask_step` of 0 or 1 along a row and by `mask_pitch` between rows. With
/// `guard`, NaN gives 0. x and y may be the same.
struct MaskedSoftmaxBlock {
  const float* x;
  const float* added;
  const uint8_t* kept;
  float* y;
  int64_t rows, count, mask_pitch;
  float scale, fill;
  int32_t mask_step;
  bool keeps, guard;
};

/// Single-threaded, assumes no alignment.
using MaskedSoftmaxRun = void (*)(const MaskedSoftmaxBlock* block) noexcept;

extern const MaskedSoftmaxRun kMaskedSoftmaxBaseline;
extern const MaskedSoftmaxRun kMaskedSoftmaxAvx2;
extern const MaskedSoftmaxRun kMaskedSoftmaxAvx512;

}  // namespace slipway
