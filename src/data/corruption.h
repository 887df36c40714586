#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "data/image.h"
#include "model/tensor.h"

namespace slipway {

/// Edge cases that verification puts to a model: what cameras and sensors do to a sample.
enum class Corruption {
  kDark,   ///< brightness × 0.3
  kNoise,  ///< Gaussian noise, σ = 8 % of the range (0.08 · 255 for pictures), seeded
  kBlur,   ///< Gaussian blur, σ = 1 pixel, edges repeated
};
inline constexpr std::array kCorruptions = {Corruption::kDark, Corruption::kNoise, Corruption::kBlur};

std::string_view to_string(Corruption kind);
Image corrupt(const Image& image, Corruption kind, uint64_t seed);
/// For arrays that are no pictures: noise with σ = 8 % of max − min, in the array's element type.
Tensor add_noise(const Tensor& array, uint64_t seed);

}  // namespace slipway
