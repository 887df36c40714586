#pragma once
#include <cstdint>

#include "model/dtype.h"

namespace slipway {

/// The integers that a tensor is quantised to: y = saturate(round_half_even(x / scale) + zero_point).
struct QuantGrid {
  DType dtype = DType::kInt8;
  bool symmetric = true;
  int32_t qmin = -127, qmax = 127;                  ///< what the real range is stretched over
  int32_t saturate_min = -128, saturate_max = 127;  ///< where the type itself ends
  bool operator==(const QuantGrid&) const = default;
};

inline constexpr QuantGrid kSymmetricInt8{DType::kInt8, true, -127, 127, -128, 127};
inline constexpr QuantGrid kAsymmetricUint8{DType::kUint8, false, 0, 255, 0, 255};
inline constexpr QuantGrid kSymmetricInt4{DType::kInt4, true, -7, 7, -8, 7};
inline constexpr QuantGrid kSymmetricInt16{DType::kInt16, true, -32767, 32767, -32768, 32767};

struct QuantParams {
  float scale = 1.0f;
  int32_t zero_point = 0;
  bool operator==(const QuantParams&) const = default;
};

/// Scale and zero point for the real range [low, high], widened to contain 0 and, where `min_real_range` is positive,
/// to be at least that long. A range too small for a normal scale gives scale 1 and zero point 0. Computed in double.
QuantParams params_for_range(double low, double high, const QuantGrid& grid, double min_real_range = 0);

/// Nearest integer, ties to even, for |x| < 2^51.
inline double round_half_even(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

/// saturate(round_half_even(x / scale) + zero_point), as ONNX QuantizeLinear does it in float.
int32_t quantize_value(float x, const QuantParams& params, const QuantGrid& grid);
inline float dequantize_value(int32_t q, const QuantParams& params) {
  return static_cast<float>(q - params.zero_point) * params.scale;
}

}  // namespace slipway
