// The 8-bit floats of ONNX and the 4-bit one. They differ in exponent bits, mantissa bits, bias and special codes;
// codes without the sign grow with the number, so that rounding up past a power of two is plain counting.
#include "model/small_float.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace slipway {
namespace {

struct Format {
  int mantissa_bits, bias;
  uint8_t sign, largest;  ///< codes: of the sign bit, of the largest number
  int infinity;           ///< −1: there is none
  int nan;                ///< −1: there is none
  bool negative_zero;
};

Format format_of(DType type) {
  switch (type) {
    case DType::kFloat8E4M3FN:
      return {3, 7, 0x80, 0x7e, -1, 0x7f, true};
    case DType::kFloat8E4M3FNUZ:
      return {3, 8, 0x80, 0x7f, -1, 0x80, false};
    case DType::kFloat8E5M2:
      return {2, 15, 0x80, 0x7b, 0x7c, 0x7f, true};
    case DType::kFloat8E5M2FNUZ:
      return {2, 16, 0x80, 0x7f, -1, 0x80, false};
    default:  // kFloat4E2M1
      return {1, 1, 0x08, 0x07, -1, -1, true};
  }
}

constexpr int kScaleBias = 127;  // of kFloat8E8M0
constexpr uint8_t kScaleLargest = 0xfe, kScaleNan = 0xff;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

uint8_t encode_scale(double value, const SmallFloatRules& rules) {
  using Round = SmallFloatRules::Round;
  if (std::isnan(value) || value < 0) return kScaleNan;
  const double smallest = std::ldexp(1.0, -kScaleBias), largest = std::ldexp(1.0, kScaleLargest - kScaleBias);
  if (value < smallest) return rules.saturate ? 0 : kScaleNan;
  if (value > largest) return rules.saturate ? kScaleLargest : kScaleNan;
  int exponent = 0;
  const double fraction = 2 * std::frexp(value, &exponent);  // in [1, 2), of 2^(exponent − 1)
  const bool up = rules.round == Round::kUp ? fraction > 1 : rules.round == Round::kNearest && fraction >= 1.5;
  return static_cast<uint8_t>(std::min(exponent - 1 + kScaleBias + (up ? 1 : 0), int{kScaleLargest}));
}

}  // namespace

float decode_small_float(DType type, uint8_t code) {
  if (type == DType::kFloat8E8M0) return code == kScaleNan ? kNan : std::ldexp(1.0f, code - kScaleBias);
  const Format f = format_of(type);
  const float sign = (code & f.sign) != 0 ? -1.0f : 1.0f;
  const int magnitude = code & (f.sign - 1);
  if (code == f.nan || (f.negative_zero && magnitude > f.largest && magnitude != f.infinity)) return kNan;
  if (magnitude == f.infinity) return sign * std::numeric_limits<float>::infinity();
  const int exponent = magnitude >> f.mantissa_bits;
  const float fraction = std::ldexp(static_cast<float>(magnitude & ((1 << f.mantissa_bits) - 1)), -f.mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - f.bias);
  return sign * std::ldexp(1.0f + fraction, exponent - f.bias);
}

uint8_t encode_small_float(DType type, double value, const SmallFloatRules& rules) {
  if (type == DType::kFloat8E8M0) return encode_scale(value, rules);
  const Format f = format_of(type);
  const uint8_t sign = std::signbit(value) ? f.sign : uint8_t{0};
  const auto signed_code = [&](int magnitude) {
    return static_cast<uint8_t>(magnitude == 0 && !f.negative_zero ? 0 : magnitude | sign);
  };
  if (std::isnan(value)) return f.nan < 0 ? f.sign : f.negative_zero ? signed_code(f.nan) : uint8_t(f.nan);
  const double size = std::fabs(value);
  int code = f.largest + 1;
  if (size < 2.0 * decode_small_float(type, f.largest)) {
    const int lowest = 1 - f.bias, exponent = size == 0 ? lowest : std::max(std::ilogb(size), lowest);
    const auto steps = static_cast<int>(std::nearbyint(std::ldexp(size, f.mantissa_bits - exponent)));
    code = steps + ((exponent - lowest) << f.mantissa_bits);
  }
  if (code <= f.largest) return signed_code(code);
  if (rules.saturate || f.nan < 0) return signed_code(f.largest);
  if (f.infinity >= 0) return signed_code(f.infinity);
  return f.negative_zero ? signed_code(f.nan) : static_cast<uint8_t>(f.nan);
}

}  // namespace slipway
