#pragma once
#include <string_view>

#include "base/image.h"

namespace slipway {

/// Resampling as Pillow's Image.resize, bit for bit. `filter` is nearest, bilinear, bicubic, lanczos, hamming or box.
Image resize_image(const Image& image, int64_t height, int64_t width, std::string_view filter);
bool is_resize_filter(std::string_view filter);

}  // namespace slipway
