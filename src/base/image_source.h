#pragma once
#include "base/image.h"

namespace slipway {

/// What is decoded, and how large it may be.
struct ImageSource {
  std::span<const std::byte> bytes;
  const std::string& name;
  int64_t max_pixels;
};

/// An empty picture. Fails with kInvalidArgument where it would be too large.
Image allocate_image(int64_t height, int64_t width, int64_t channels, const ImageSource& from);

Image decode_bmp(const ImageSource& from);  ///< uncompressed, of 1, 4, 8, 24 or 32 bits
Image decode_pnm(const ImageSource& from);  ///< P1 to P6, of at most 8 bits

}  // namespace slipway
