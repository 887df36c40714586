#pragma once
#include <cmath>
#include <cstdint>

namespace slipway {

enum class Int8Type : uint8_t { kU8, kS8 };

/// An integer tensor's encoding: real = scale·(q − zero_point). Every q that occurs lies in [lo, hi], a promise of the
/// producer (after a ReLU, lo is the zero point) from which exactness is proved: give the narrowest that is sure.
struct Int8Encoding {
  Int8Type type = Int8Type::kU8;
  int32_t zero_point = 0;
  int32_t lo = 0;
  int32_t hi = 255;
};

/// What a kernel needs of the CPU, from base/cpu.h.
enum class Isa : uint8_t { kBaseline, kAvx2, kAvx512Vnni };
bool isa_available(Isa isa);
const char* isa_name(Isa isa);

/// clamp(rne(f) + zero_point, lo, hi) without overflow; rne rounds half to even; NaN gives lo.
inline int32_t round_to_int8(float f, int32_t zero_point, int32_t lo, int32_t hi) {
  const auto low = static_cast<float>(lo - zero_point);
  const auto high = static_cast<float>(hi - zero_point);
  return static_cast<int32_t>(std::nearbyintf(f > low ? (f < high ? f : high) : low)) + zero_point;
}

inline int32_t load_int8(Int8Type type, const void* x, int64_t i) {
  return type == Int8Type::kU8 ? int32_t{static_cast<const uint8_t*>(x)[i]} : static_cast<const int8_t*>(x)[i];
}

}  // namespace slipway
