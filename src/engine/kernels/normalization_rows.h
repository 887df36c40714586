#pragma once
#include <stdint.h>

/// The border between the normalisation kernels and their per-ISA loops: plain data, no inline code.
namespace slipway {

/// Dense rows of `count` elements, each normalised alone: y = (x − mean) / √(variance + epsilon)·scale + bias. Without
/// centring the mean is taken for 0, so that the variance is the mean square. Scale and bias are the same for each row;
/// along it they advance by their step of 0 or 1. No bias when it is null. x and y may be the same.
struct NormalizationBlock {
  const float *x, *scale, *bias;
  float* y;
  int64_t rows, count;
  double epsilon;
  int32_t scale_step, bias_step;
  bool centre;
};

/// Single-threaded, assumes no alignment.
using NormalizationRun = void (*)(const NormalizationBlock* block) noexcept;

extern const NormalizationRun kNormalizationBaseline;
extern const NormalizationRun kNormalizationAvx2;
extern const NormalizationRun kNormalizationAvx512;

}  // namespace slipway
