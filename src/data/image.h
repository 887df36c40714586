#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slipway {

/// 8-bit picture, rows × columns × channels (1 grey, 3 RGB), dense.
struct Image {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

}  // namespace slipway
