#pragma once
#include <cstdint>

#include "model/dtype.h"

namespace slipway {

/// How a number becomes an 8-bit float (ONNX Cast's attributes).
struct SmallFloatRules {
  bool saturate = true;  ///< beyond the largest: the largest; else infinity or NaN
  enum class Round { kUp, kDown, kNearest } round = Round::kUp;  ///< of kFloat8E8M0 alone; ties go up
};

/// A code of one of the types of is_small_float() as the number it stands for, exactly.
float decode_small_float(DType type, uint8_t code);
/// The code for a number: rounded to nearest even, but for kFloat8E8M0, which holds powers of two and no sign (a
/// negative number is NaN there). kFloat4E2M1 has neither infinity nor NaN: the first saturates, the second is −0.
uint8_t encode_small_float(DType type, double value, const SmallFloatRules& rules = {});

}  // namespace slipway
