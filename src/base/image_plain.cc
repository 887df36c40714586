// The formats without compression. BMP: headers, a palette, rows of whole 32-bit words from the bottom up (top down
// where the height is negative). PNM: a header in text, then bits, bytes, or numbers in text.
#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/image_source.h"

namespace slipway {
namespace {

[[noreturn]] void refuse_damaged(const char* format, const char* what, const ImageSource& from) {
  fail(ErrorCode::kInvalidArgument, "The {} can't be decoded; replace or remove it ({}): {}", format, what, from.name);
}

constexpr int64_t kBmpHeader = 54, kWindowsHeader = 40, kPaletteEntry = 4;
constexpr uint32_t kNoCompression = 0, kMasks = 3;

}  // namespace

Image decode_bmp(const ImageSource& from) {
  const auto size = static_cast<int64_t>(from.bytes.size());
  const auto byte = [&](int64_t at) { return std::to_integer<uint8_t>(from.bytes[static_cast<size_t>(at)]); };
  const auto word = [&](int64_t at) {
    uint32_t value = 0;
    for (int64_t i = 3; i >= 0; --i) value = value << 8 | byte(at + i);
    return value;
  };
  if (size < kBmpHeader) refuse_damaged("BMP", "it is cut short", from);
  const int64_t header = word(14), bits = byte(28), begin = word(10);
  const int64_t width = static_cast<int32_t>(word(18)), rows = static_cast<int32_t>(word(22));
  const uint32_t compression = word(30);
  const bool usual_masks = compression == kMasks && bits == 32 && size >= 66 && word(54) == 0xff0000 &&
                           word(58) == 0xff00 && word(62) == 0xff;
  const bool palette = bits == 1 || bits == 4 || bits == 8;
  if (header < kWindowsHeader || byte(29) != 0 || (!palette && bits != 24 && bits != 32) ||
      (compression != kNoCompression && !usual_masks))
    fail(ErrorCode::kUnsupported,
         "Only uncompressed BMP files of 1, 4, 8, 24 or 32 bits are decoded; save it as PNG: {}", from.name);
  const int64_t height = std::abs(rows);
  const int64_t stride = (width * bits + 31) / 32 * 4, colors_at = 14 + header;
  int64_t colors = word(46);
  if (palette && (colors == 0 || colors > 1 << bits)) colors = 1 << bits;
  const bool possible = width >= 1 && height >= 1 && width <= kMaxImageSide && height <= kMaxImageSide;
  if (possible &&
      (begin > size || stride * height > size - begin || (palette && colors_at + kPaletteEntry * colors > size)))
    refuse_damaged("BMP", "it is cut short", from);
  Image image = allocate_image(height, width, 3, from);
  uint8_t* to = image.pixels.data();
  for (int64_t y = 0; y < image.height; ++y) {
    const int64_t row = begin + stride * (rows < 0 ? y : image.height - 1 - y);
    for (int64_t x = 0; x < image.width; ++x, to += 3) {
      int64_t at = row + x * bits / 8;
      if (palette) {
        const int64_t index = byte(at) >> (8 - bits - x * bits % 8) & ((1 << bits) - 1);
        if (index >= colors) refuse_damaged("BMP", "a colour is not in its palette", from);
        at = colors_at + kPaletteEntry * index;
      }
      for (int64_t c = 0; c < 3; ++c) to[c] = byte(at + 2 - c);
    }
  }
  return image;
}

Image decode_pnm(const ImageSource& from) {
  size_t at = 2;
  const auto next = [&] { return at < from.bytes.size() ? std::to_integer<int>(from.bytes[at]) : -1; };
  const auto is_digit = [](int c) { return c >= '0' && c <= '9'; };
  const auto number = [&](bool one_digit) {
    while (next() == '#' || next() == ' ' || (next() >= '\t' && next() <= '\r'))
      if (next() == '#')
        while (next() != '\n' && next() != -1) ++at;
      else
        ++at;
    if (!is_digit(next())) refuse_damaged("PNM", "a number is missing", from);
    int64_t value = 0;
    do value = std::min<int64_t>(value * 10 + next() - '0', INT32_MAX), ++at;
    while (is_digit(next()) && !one_digit);
    return value;
  };
  const int kind = std::to_integer<int>(from.bytes[1]) - '0';
  const bool plain = kind <= 3, bitmap = kind == 1 || kind == 4;
  const int64_t width = number(false), height = number(false), most = bitmap ? 1 : number(false);
  if (most > 255)
    fail(ErrorCode::kUnsupported, "Only PNM files of at most 8 bits are decoded; save it as PNG: {}", from.name);
  if (most < 1) refuse_damaged("PNM", "its largest value is 0", from);
  ++at;  // one blank
  const int64_t channels = kind == 3 || kind == 6 ? 3 : 1, samples = width * channels;
  const int64_t bytes_a_row = kind == 4 ? (samples + 7) / 8 : samples;  // at least, where they are text
  const bool possible = width <= kMaxImageSide && height <= kMaxImageSide;
  if (possible && bytes_a_row * height > static_cast<int64_t>(from.bytes.size()) - static_cast<int64_t>(at))
    refuse_damaged("PNM", "it is cut short", from);
  Image image = allocate_image(height, width, channels, from);
  uint8_t* to = image.pixels.data();
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < samples; ++x) {
      int64_t value = 0;
      if (plain) {
        value = number(bitmap);
      } else {
        value = std::to_integer<int>(from.bytes[at + static_cast<size_t>(y * bytes_a_row + (bitmap ? x / 8 : x))]);
        if (bitmap) value = value >> (7 - x % 8) & 1;
      }
      if (value > most) refuse_damaged("PNM", "a value is larger than its header says", from);
      *to++ = static_cast<uint8_t>(bitmap ? 255 * (1 - value) : (value * 255 + most / 2) / most);
    }
  return image;
}

}  // namespace slipway
