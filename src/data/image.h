#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// 8-bit picture, rows × columns × channels (1 grey, 3 RGB), dense.
struct Image {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;
  bool operator==(const Image&) const = default;
};

inline constexpr int64_t kMaxImageSide = 16384;
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 27;
inline constexpr int64_t kMaxImageScans = 16;  ///< of the largest picture; smaller ones may have more

/// Decodes a JPEG or PNG, told by its first bytes. Equals Pillow's Image.open(…).convert("RGB"), or "L" where the file
/// is grey; 16-bit samples keep their high byte, transparency is dropped, the EXIF orientation is not applied.
/// Fails with kInvalidArgument naming `name` when damaged, cut short, larger than `max_pixels` or kMaxImageSide, or of
/// so many progressive scans that decoding takes longer than the largest picture's, kUnsupported for other formats.
Image decode_image(std::span<const std::byte> bytes, const std::string& name, int64_t max_pixels = kMaxImagePixels);

/// A PNG file's bytes.
std::vector<std::byte> encode_png(const Image& image);

/// Resampling as Pillow's Image.resize, bit for bit. `filter` is nearest, bilinear, bicubic, lanczos, hamming or box.
Image resize_image(const Image& image, int64_t height, int64_t width, std::string_view filter);
bool is_resize_filter(std::string_view filter);

/// Grey from RGB as Pillow's convert("L"), RGB from grey by repetition.
Image to_gray(const Image& image);
Image to_rgb(const Image& image);

}  // namespace slipway
