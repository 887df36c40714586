#pragma once
#include <cstdint>

#include "model/shape.h"

/// Softmax of scaled and masked rows on the best instruction set that this CPU has and ONEDNN_MAX_CPU_ISA allows. NaN
/// and infinities come out as by the reference evaluation in model/ops/masked_softmax.cc; the error is that of
/// kernels/elementwise.h's softmax.
namespace slipway {

/// y = softmax(x·scale + mask) along the last axis of `dims`, row-major.
struct MaskedSoftmax {
  Dims dims;
  Dims mask_dims = {};   ///< broadcasts to `dims`
  bool adds = false;     ///< there is a mask, of floats that are added
  bool selects = false;  ///< there is a mask, of booleans: `fill` stands where they are not `keeps`
  bool keeps = true;
  float scale = 1, fill = 0;
  bool guard = false;  ///< NaN gives 0

  /// On up to `threads` threads; y may be x.
  void run(const float* x, const void* mask, float* y, int threads) const noexcept;

 private:
  void run_rows(const float* x, const void* mask, float* y, int64_t begin, int64_t end) const noexcept;
};

}  // namespace slipway
