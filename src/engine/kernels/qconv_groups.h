#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway {

constexpr int kQConvMaxLanes = 32;  // two vectors of AVX-512

/// 4 bytes of a pixel's input and their weights in one block; a step of 16-bit input fills the first 2 of 4.
struct QConvStep {
  int32_t offset = 0;  ///< bytes from the pixel
  std::array<std::array<int16_t, 4>, kQConvMaxLanes> w = {};
};

struct QConvGroups {
  std::vector<std::vector<int32_t>> groups;  ///< of indices of steps, the longest first, kStripMaxGroup at most
  std::vector<QConvStep> steps;              ///< maybe more than there were
};

/// Groups within which 16-bit sums of u8 inputs up to `hi` cannot overflow, `lanes` output channels wide.
QConvGroups group_steps(const std::vector<QConvStep>& steps, int lanes, int32_t hi);
/// How many steps group_steps() groups: those that could overflow alone count twice.
size_t count_steps(const std::vector<QConvStep>& steps, int lanes, int32_t hi);
/// For sums in 32 bits.
QConvGroups group_in_order(std::vector<QConvStep> steps);

}  // namespace slipway
