// Pictures in and out: JPEG through libjpeg-turbo (accurate integer DCT and fancy upsampling, Pillow's defaults), PNG
// through libspng; formats without compression are in image_plain.cc. Dimensions are read from the header and bounded
// before pixels are allocated; so are the scans of a JPEG, each of which goes over all pixels however few bytes it has.
#include "base/image.h"

#include <spng.h>
#include <turbojpeg.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "base/error.h"
#include "base/image_source.h"

namespace slipway {
namespace {

struct JpegHandle {
  tjhandle handle = tjInitDecompress();
  ~JpegHandle() {
    if (handle != nullptr) tjDestroy(handle);
  }
};

struct SpngFree {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};
using SpngContext = std::unique_ptr<spng_ctx, SpngFree>;

/// Pillow takes every CMYK JPEG to be inverted, as Adobe writes them.
Image from_inverted_cmyk(const Image& cmyk, const ImageSource& from) {
  Image rgb = allocate_image(cmyk.height, cmyk.width, 3, from);
  for (size_t i = 0; i < cmyk.pixels.size() / 4; ++i)
    for (size_t c = 0; c < 3; ++c) {
      const int black = cmyk.pixels[4 * i + 3], product = (255 - cmyk.pixels[4 * i + c]) * black + 128;
      rgb.pixels[3 * i + c] = static_cast<uint8_t>(black - ((product >> 8) + product) / 256);
    }
  return rgb;
}

/// The SOS markers of a JPEG (ITU-T T.81, B.1.1.2): outside a marker segment 0xff begins a marker, unless 0 follows.
int64_t count_scans(std::span<const std::byte> bytes) {
  constexpr int kStuffed = 0x00, kTem = 0x01, kRst0 = 0xd0, kSoi = 0xd8, kEoi = 0xd9, kSos = 0xda, kFill = 0xff;
  const auto at = [&](size_t i) { return std::to_integer<int>(bytes[i]); };
  int64_t scans = 0;
  for (size_t i = 0; i + 4 <= bytes.size();) {
    const int marker = at(i + 1);
    if (at(i) != 0xff || marker == kFill) {
      ++i;
    } else if (marker == kStuffed || marker == kTem || (marker >= kRst0 && marker <= kSoi)) {
      i += 2;
    } else if (marker == kEoi) {
      break;
    } else {
      scans += marker == kSos ? 1 : 0;
      i += 2 + static_cast<size_t>(std::max(2, at(i + 2) * 256 + at(i + 3)));
    }
  }
  return scans;
}

Image decode_jpeg(const ImageSource& from) {
  const std::span<const std::byte> bytes = from.bytes;
  const std::string& name = from.name;
  const JpegHandle jpeg;
  if (jpeg.handle == nullptr) fail(ErrorCode::kInternal, "libjpeg-turbo could not start");
  const auto refuse = [&] {
    if (std::string_view(tjGetErrorStr2(jpeg.handle)).find("nsufficient memory") != std::string_view::npos)
      throw std::bad_alloc();
    fail(ErrorCode::kInvalidArgument, "The JPEG can't be decoded; replace or remove it ({}): {}",
         tjGetErrorStr2(jpeg.handle), name);
  };
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0, height = 0, subsampling = 0, colors = 0;
  if (tjDecompressHeader3(jpeg.handle, data, bytes.size(), &width, &height, &subsampling, &colors) != 0) refuse();
  const bool gray = colors == TJCS_GRAY, cmyk = colors == TJCS_CMYK || colors == TJCS_YCCK;
  Image image = allocate_image(height, width, gray ? 1 : cmyk ? 4 : 3, from);
  if (const int64_t scans = count_scans(bytes), most = kMaxImageScans * from.max_pixels / (image.height * image.width);
      scans > most)
    fail(ErrorCode::kInvalidArgument,
         "The JPEG has too many scans for its size; save it again, not progressive: {} scans (at most {}) of {}x{} in "
         "{}",
         scans, most, width, height, name);
  const int format = gray ? TJPF_GRAY : cmyk ? TJPF_CMYK : TJPF_RGB;
  if (tjDecompress2(jpeg.handle, data, bytes.size(), image.pixels.data(), width, 0, height, format,
                    TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS) != 0) {
    const std::string_view message = tjGetErrorStr2(jpeg.handle);
    const bool harmless = tjGetErrorCode(jpeg.handle) == TJERR_WARNING &&
                          message.find("remature end") == std::string_view::npos &&
                          message.find("bad Huffman") == std::string_view::npos;
    if (!harmless) refuse();
  }
  return cmyk ? from_inverted_cmyk(image, from) : image;
}

Image decode_png(const ImageSource& from) {
  const std::span<const std::byte> bytes = from.bytes;
  const std::string& name = from.name;
  const SpngContext context(spng_ctx_new(0));
  if (context == nullptr) fail(ErrorCode::kInternal, "libspng could not start");
  const auto check = [&](int status) {
    if (status == SPNG_EMEM) throw std::bad_alloc();
    if (status != 0)
      fail(ErrorCode::kInvalidArgument, "The PNG can't be decoded; replace or remove it ({}): {}",
           spng_strerror(status), name);
  };
  spng_ihdr header{};
  check(spng_set_image_limits(context.get(), kMaxImageSide, kMaxImageSide));
  check(spng_set_chunk_limits(context.get(), size_t{1} << 24, size_t{1} << 26));
  check(spng_set_png_buffer(context.get(), bytes.data(), bytes.size()));
  check(spng_get_ihdr(context.get(), &header));
  Image rgb = allocate_image(header.height, header.width, 3, from);
  check(spng_decode_image(context.get(), rgb.pixels.data(), rgb.pixels.size(), SPNG_FMT_RGB8, 0));
  const bool gray =
      header.color_type == SPNG_COLOR_TYPE_GRAYSCALE || header.color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
  if (!gray) return rgb;
  Image image = allocate_image(rgb.height, rgb.width, 1, from);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = rgb.pixels[3 * i];
  return image;
}

}  // namespace

Image allocate_image(int64_t height, int64_t width, int64_t channels, const ImageSource& from) {
  if (height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide || height * width > from.max_pixels)
    fail(ErrorCode::kInvalidArgument, "The picture is too large (at most {} a side, {} pixels): {}x{} in {}",
         kMaxImageSide, from.max_pixels, width, height, from.name);
  return {height, width, channels, std::vector<uint8_t>(static_cast<size_t>(height * width * channels))};
}

Image decode_image(std::span<const std::byte> bytes, const std::string& name, int64_t max_pixels) {
  const ImageSource from{bytes, name, std::min(max_pixels, kMaxImagePixels)};
  const auto at = [&](size_t i) { return i < bytes.size() ? std::to_integer<int>(bytes[i]) : -1; };
  if (at(0) == 0xff && at(1) == 0xd8) return decode_jpeg(from);
  if (at(0) == 0x89 && at(1) == 'P' && at(2) == 'N' && at(3) == 'G') return decode_png(from);
  if (at(0) == 'B' && at(1) == 'M') return decode_bmp(from);
  if (at(0) == 'P' && at(1) >= '1' && at(1) <= '6') return decode_pnm(from);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool tiff = text.starts_with("II*") || text.starts_with(std::string_view("MM\0*", 4));
  const bool webp = text.starts_with("RIFF") && text.substr(std::min<size_t>(8, text.size())).starts_with("WEBP");
  const bool jpeg2000 = text.starts_with(std::string_view("\0\0\0\x0cjP  ", 8)) || text.starts_with("\xff\x4f\xff\x51");
  if (tiff || webp || jpeg2000)
    fail(ErrorCode::kUnsupported, "{} pictures are not decoded; save it as PNG: {}",
         tiff   ? "TIFF"
         : webp ? "WebP"
                : "JPEG 2000",
         name);
  fail(ErrorCode::kInvalidArgument, "The picture is no JPEG, PNG, BMP or PNM; convert it: {}", name);
}

std::vector<std::byte> encode_png(const Image& image) {
  const SpngContext context(spng_ctx_new(SPNG_CTX_ENCODER));
  if (context == nullptr) fail(ErrorCode::kInternal, "libspng could not start");
  const auto check = [&](int status) {
    if (status != 0) fail(ErrorCode::kInternal, "The picture can't be written as PNG: {}", spng_strerror(status));
  };
  spng_ihdr header{};
  header.width = static_cast<uint32_t>(image.width);
  header.height = static_cast<uint32_t>(image.height);
  header.bit_depth = 8;
  header.color_type = image.channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
  check(spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1));
  check(spng_set_ihdr(context.get(), &header));
  check(spng_encode_image(context.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE));
  size_t size = 0;
  int status = 0;
  const std::unique_ptr<void, decltype(&std::free)> buffer(spng_get_png_buffer(context.get(), &size, &status),
                                                           &std::free);
  check(status);
  const auto* begin = static_cast<const std::byte*>(buffer.get());
  return {begin, begin + size};
}

Image to_gray(const Image& image) {
  if (image.channels == 1) return image;
  Image gray{image.height, image.width, 1, std::vector<uint8_t>(image.pixels.size() / 3)};
  for (size_t i = 0; i < gray.pixels.size(); ++i) {
    const uint8_t* rgb = &image.pixels[3 * i];
    gray.pixels[i] = static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
  }
  return gray;
}

Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image rgb{image.height, image.width, 3, std::vector<uint8_t>(image.pixels.size() * 3)};
  for (size_t i = 0; i < rgb.pixels.size(); ++i) rgb.pixels[i] = image.pixels[i / 3];
  return rgb;
}

}  // namespace slipway
