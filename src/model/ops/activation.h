#pragma once
#include <string_view>

namespace slipway {

/// An activation that a fused operator may carry in its attributes `activation`, `alpha` and `beta`. NaN stays NaN.
using Activation = float (*)(float x, float alpha, float beta);
/// Null when there is none of this name.
Activation activation_named(std::string_view name);

}  // namespace slipway
