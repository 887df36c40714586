#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/ops/window.h"

namespace slipway {

/// A convolution at concrete sizes: x [batch, in_channels, …], w [out_channels, in_channels / group, …].
struct ConvGeometry {
  int64_t batch = 0, in_channels = 0, out_channels = 0, group = 1;
  Window window;
  Dims output() const;  ///< [batch, out_channels, …]
};

/// Fails with kInvalidModel, naming the node, where attributes and operands contradict each other.
ConvGeometry conv_geometry(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w);

/// The reference convolution for T = double and uint32_t (integers modulo 2^32: exact for int32 results). `bias`: one
/// a output channel, or empty.
template <typename T>
std::vector<T> convolve(const ConvGeometry& geometry, std::span<const T> x, std::span<const T> w,
                        std::span<const T> bias);

/// x − zero_point modulo 2^32, element by element; `zero_points` holds one, or one for each of `channels` equal
/// consecutive parts of x.
std::vector<uint32_t> centred(const Tensor& x, std::span<const int64_t> zero_points, int64_t channels);

}  // namespace slipway
