#pragma once
#include <span>

#include "model/graph.h"

namespace slipway {

/// Bounds below this are proofs: no sum or product on the way to such a value overflowed, so it is neither NaN nor
/// infinite. With room for what activations multiply by on their way.
inline constexpr double kProvenMagnitude = 0x1p120;
/// What a run's guards prove of a tensor, or else the rest of the run is computed faithfully. Far above what networks
/// hold, and far enough below kProvenMagnitude that one proof carries over many layers.
inline constexpr float kGuardMagnitude = 0x1p30f;

/// What a node makes of operands that are finite and bounded.
struct Magnitude {
  double result;             ///< |y| ≤ result
  double before_activation;  ///< of a fused operator's sum and its residual; else as the result
};

/// The largest |c| of floats; infinity where one is NaN or infinite.
double constant_magnitude(const Tensor& constant);
/// `inputs`: bounds by the node's input, infinity where nothing is known; the weights' own numbers are read from
/// `graph`'s constants. Infinity where the operator has no rule here, which is always right.
Magnitude node_magnitude(const Graph& graph, const Node& node, std::span<const double> inputs);

}  // namespace slipway
