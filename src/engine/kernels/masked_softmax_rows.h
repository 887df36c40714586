#pragma once
#include <stdint.h>

/// The border between the masked softmax and its per-ISA loops: plain data, no inline code.
namespace slipway {

/// One distribution of `count` elements: y = softmax(x·scale + mask). The mask is either of floats that are added, or
/// of booleans (bytes of 0 or 1) that keep x·scale where they are `keeps` and put `fill` elsewhere; there is none when
/// both are null. It advances by `mask_step` of 0 or 1 along the row. With `guard`, NaN gives 0. x and y may be the
/// same.
struct MaskedSoftmaxRow {
  const float* x;
  const float* added;
  const uint8_t* kept;
  float* y;
  int64_t count;
  float scale, fill;
  int32_t mask_step;
  bool keeps, guard;
};

/// Single-threaded, assumes no alignment.
using MaskedSoftmaxRun = void (*)(const MaskedSoftmaxRow* row) noexcept;

extern const MaskedSoftmaxRun kMaskedSoftmaxBaseline;
extern const MaskedSoftmaxRun kMaskedSoftmaxAvx2;
extern const MaskedSoftmaxRun kMaskedSoftmaxAvx512;

}  // namespace slipway
