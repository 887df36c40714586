#pragma once
#include <cstdint>

/// Normalisation of FP32 rows on the best instruction set that this CPU has and ONEDNN_MAX_CPU_ISA allows. Computed in
/// double and rounded once, as by the reference evaluation in model/ops, NaN, infinities and the sign of zero included.
namespace slipway {

/// y = (x − mean) / √(variance + epsilon)·scale + bias for each of `rows` dense rows of `count` elements.
struct RowNormalization {
  int64_t rows = 0, count = 0;
  double epsilon = 1e-5;
  bool centre = true;    ///< without, the mean is taken for 0 (RMSNormalization)
  int64_t channels = 0;  ///< above 0: row r has one scale and bias, those of channel r mod channels
  /// Without channels, whether scale and bias hold `count` elements or one.
  bool whole_scale = true, whole_bias = true;

  /// On up to `threads` threads. No bias when it is null; y may be x.
  void run(const float* x, const float* scale, const float* bias, float* y, int threads) const noexcept;
};

}  // namespace slipway
