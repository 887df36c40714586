#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/random.h"

/// What tests of float kernels share: an error in units in the last place, and the values that go wrong.
namespace slipway {

/// |got − exact| in units in the last place of `exact` as a float. Infinite when one is NaN and the other not, when an
/// infinity or a zero's sign is missed. An overflow counts as 2^128.
inline double ulp_error(float got, double exact) {
  const double wrong = std::numeric_limits<double>::infinity();
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got) ? 0 : wrong;
  if (std::isinf(exact)) return got == static_cast<float>(exact) ? 0 : wrong;
  if (got == 0 && std::signbit(got) != std::signbit(exact)) return wrong;
  const auto reached = [](double v) { return std::abs(v) > 0x1p128 ? std::copysign(0x1p128, v) : v; };
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::abs(reached(static_cast<double>(got)) - reached(exact)) /
         std::ldexp(1.0, std::clamp(exponent - 24, -149, 104));
}

/// NaN, infinities, zeros, denormals, the largest and smallest, and where functions change their form.
inline std::vector<float> special_floats() {
  std::vector<float> values;
  for (const double v : {0.0,
                         0x1p-149,
                         0x1p-130,
                         0x1p-126,
                         0x1p-64,
                         0x1p-24,
                         0.25,
                         0.34657359,
                         0.41421356,
                         0.5,
                         0.70710678,
                         0.85,
                         1.0,
                         1.5,
                         2.5,
                         3.0,
                         4.0,
                         6.0,
                         9.01,
                         10.0,
                         15.0,
                         16.6,
                         17.33,
                         60.0,
                         87.33,
                         88.72,
                         88.73,
                         89.0,
                         103.97,
                         104.0,
                         110.0,
                         125.0,
                         200.0,
                         4194304.5,
                         8388607.5,
                         16777216.0,
                         1e20,
                         static_cast<double>(std::numeric_limits<float>::max()),
                         std::numeric_limits<double>::infinity()})
    for (const float sign : {1.0f, -1.0f}) {
      const float x = sign * static_cast<float>(v);
      values.insert(values.end(), {x, std::nextafter(x, 0.0f), std::nextafter(x, sign * 1e38f)});
    }
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  return values;
}

/// One in eight is special, half of the others have random bits, the rest are normal.
inline float hard_float(Random& random) {
  static const std::vector<float> kSpecial = special_floats();
  if (random.below(8) == 0) return kSpecial[random.below(kSpecial.size())];
  if (random.below(2) == 0) return static_cast<float>(random.normal() * 4);
  const auto bits = static_cast<uint32_t>(random.next());
  float x;
  static_assert(sizeof x == sizeof bits);
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace slipway
