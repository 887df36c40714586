#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
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

/// Decodes a JPEG, PNG, BMP or PNM, told by its first bytes. Equals Pillow's Image.open(…).convert("RGB"), or "L" where
/// the file is grey (a BMP is RGB); 16-bit samples keep their high byte, transparency is dropped, the EXIF orientation
/// is not applied. Fails with kInvalidArgument naming `name` when it is none, damaged, cut short, larger than
/// `max_pixels` or kMaxImageSide, or of so many progressive scans that decoding takes longer than the largest
/// picture's; kUnsupported for another known format or form of one.
Image decode_image(std::span<const std::byte> bytes, const std::string& name, int64_t max_pixels = kMaxImagePixels);

/// A PNG file's bytes.
std::vector<std::byte> encode_png(const Image& image);

/// Grey from RGB as Pillow's convert("L"), RGB from grey by repetition.
Image to_gray(const Image& image);
Image to_rgb(const Image& image);

}  // namespace slipway
