#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "model/dtype.h"

namespace slipway {

/// The values of an integer type of up to 32 bits.
struct IntegerRange {
  int64_t low = 0, high = 0;
};
inline IntegerRange integer_range(DType type) {
  const int bits = std::min(bits_of(type), 32);
  const bool is_signed = !to_string(type).starts_with('u');
  if (is_signed) return {-(int64_t{1} << (bits - 1)), (int64_t{1} << (bits - 1)) - 1};
  return {0, (int64_t{1} << bits) - 1};
}

/// Rounds to nearest even, adds the zero point, saturates; NaN becomes the lowest value.
inline double saturating_round(double value, int64_t zero_point, IntegerRange range) {
  const double rounded = std::nearbyint(value) + static_cast<double>(zero_point);
  if (!(rounded > static_cast<double>(range.low))) return static_cast<double>(range.low);
  return std::min(rounded, static_cast<double>(range.high));
}

}  // namespace slipway
