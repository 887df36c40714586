#pragma once
#include <cstddef>

namespace slipway {

/// Room that the functions below need, more than they use.
inline constexpr size_t kFloatTextSize = 40;

/// The shortest decimal number that reads back as `value`, the nearest to it of those, as JSON takes it: "0.1", "-3",
/// "1e-8"; null for NaN and infinities. Returns the end. Source: Giulietti, "The Schubfach way to render doubles"
/// (2020), section 9, for binary32.
char* write_float(char* out, float value);

/// The same for binary64.
char* write_double(char* out, double value);

}  // namespace slipway
