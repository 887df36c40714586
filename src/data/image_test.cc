// Expected pixels come from Pillow 9.4 (libjpeg-turbo 2.1.5): FNV-1a of Image.tobytes(), after convert("RGB") or ("L").
#include "data/image.h"

#include <gtest/gtest.h>
#include <turbojpeg.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/preprocess.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

const std::string kImages = SLIPWAY_SOURCE_DIR "/tests/corpus/image_fuzz/";

uint64_t digest(const Image& image) { return fnv1a(image.pixels.data(), image.pixels.size()); }

/// Bytes of a linear congruential generator (Numerical Recipes), as the script that asked Pillow made them.
Image noise(int64_t width, int64_t height, int64_t channels) {
  Image image{height, width, channels, std::vector<uint8_t>(static_cast<size_t>(width * height * channels))};
  uint32_t state = 1;
  for (uint8_t& pixel : image.pixels) {
    state = state * 1664525u + 1013904223u;
    pixel = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

Image decode_file(const std::string& path) { return decode_image(read_file(path), path); }

struct Resize {
  int64_t width, height, channels, to_width, to_height;
  const char* filter;
  uint64_t expected;
};
constexpr Resize kResizes[] = {
    {32, 32, 3, 224, 224, "nearest", 0x7e99446916a287fau},
    {32, 32, 3, 224, 224, "lanczos", 0xb8a6ff054973da53u},
    {32, 32, 3, 224, 224, "bilinear", 0xdb634c15ebd9ecf2u},
    {32, 32, 3, 224, 224, "bicubic", 0x9f2d0c18b8ba931au},
    {32, 32, 3, 224, 224, "box", 0x7e99446916a287fau},
    {32, 32, 3, 224, 224, "hamming", 0xf9e3a6ed50fe242u},
    {64, 48, 3, 17, 13, "nearest", 0x13a147ba60981fdu},
    {64, 48, 3, 17, 13, "lanczos", 0xb407a532582271f8u},
    {64, 48, 3, 17, 13, "bilinear", 0x209fdb2d9e5dd7b8u},
    {64, 48, 3, 17, 13, "bicubic", 0xb2e1a9fe486c601cu},
    {64, 48, 3, 17, 13, "box", 0xb3220107bf7b34c4u},
    {64, 48, 3, 17, 13, "hamming", 0xcd9af0c50bb1ca89u},
    {97, 61, 1, 40, 61, "nearest", 0x420756622800fc00u},
    {97, 61, 1, 40, 61, "lanczos", 0xe8a8cfefb6d332fu},
    {97, 61, 1, 40, 61, "bilinear", 0x872c09ad57b7a7fcu},
    {97, 61, 1, 40, 61, "bicubic", 0x850eaf4a8d969429u},
    {97, 61, 1, 40, 61, "box", 0x3adc69ab96c9455fu},
    {97, 61, 1, 40, 61, "hamming", 0x2f8cb56f74e0a8ddu},
    {97, 61, 1, 97, 33, "nearest", 0x7df18dd6e97f546bu},
    {97, 61, 1, 97, 33, "lanczos", 0xd5b9a77a751835b7u},
    {97, 61, 1, 97, 33, "bilinear", 0x8c1544155e23c85au},
    {97, 61, 1, 97, 33, "bicubic", 0xad3f21ed124006f1u},
    {97, 61, 1, 97, 33, "box", 0x301531a5e4b0f793u},
    {97, 61, 1, 97, 33, "hamming", 0xc287554822262041u},
    {33, 47, 3, 71, 20, "nearest", 0x13e08b7398aced67u},
    {33, 47, 3, 71, 20, "lanczos", 0x913dcd86120a0fd3u},
    {33, 47, 3, 71, 20, "bilinear", 0xc9d971184f95f19u},
    {33, 47, 3, 71, 20, "bicubic", 0xce9231dd0acabe12u},
    {33, 47, 3, 71, 20, "box", 0xe63dd02387bb71bau},
    {33, 47, 3, 71, 20, "hamming", 0x915ff45e0e04e48au},
    {500, 375, 3, 341, 256, "nearest", 0x69c8543265a21532u},
    {500, 375, 3, 341, 256, "lanczos", 0x41e7bb93071a5b25u},
    {500, 375, 3, 341, 256, "bilinear", 0x534794e1e441cc44u},
    {500, 375, 3, 341, 256, "bicubic", 0x6379f48b0cdff7d3u},
    {500, 375, 3, 341, 256, "box", 0x3617e9850cbd8149u},
    {500, 375, 3, 341, 256, "hamming", 0x84b72328c0c56624u},
    {7, 5, 1, 1, 1, "nearest", 0xaf640e4c86024182u},
    {7, 5, 1, 1, 1, "lanczos", 0xaf63ea4c86020456u},
    {7, 5, 1, 1, 1, "bilinear", 0xaf63ea4c86020456u},
    {7, 5, 1, 1, 1, "bicubic", 0xaf63ea4c86020456u},
    {7, 5, 1, 1, 1, "box", 0xaf63ea4c86020456u},
    {7, 5, 1, 1, 1, "hamming", 0xaf63f54c86021707u},
    {1, 1, 3, 9, 4, "nearest", 0x644046466817fa71u},
    {1, 1, 3, 9, 4, "lanczos", 0x644046466817fa71u},
    {1, 1, 3, 9, 4, "bilinear", 0x644046466817fa71u},
    {1, 1, 3, 9, 4, "bicubic", 0x644046466817fa71u},
    {1, 1, 3, 9, 4, "box", 0x644046466817fa71u},
    {1, 1, 3, 9, 4, "hamming", 0x644046466817fa71u},
    {255, 3, 3, 10, 300, "nearest", 0xca96614a695e13f5u},
    {255, 3, 3, 10, 300, "lanczos", 0x450f363a876403fbu},
    {255, 3, 3, 10, 300, "bilinear", 0xa64840c726a43d69u},
    {255, 3, 3, 10, 300, "bicubic", 0x1b0d9d763e1c76ebu},
    {255, 3, 3, 10, 300, "box", 0xb3af5c1446e56645u},
    {255, 3, 3, 10, 300, "hamming", 0x7cce2794ad233b7du},
};

TEST(Image, ResizesAsPillow) {
  for (const Resize& r : kResizes) {
    const Image out = resize_image(noise(r.width, r.height, r.channels), r.to_height, r.to_width, r.filter);
    EXPECT_EQ(out.width, r.to_width);
    EXPECT_EQ(out.height, r.to_height);
    EXPECT_EQ(digest(out), r.expected) << r.width << "x" << r.height << " to " << r.to_width << "x" << r.to_height
                                       << " " << r.filter;
  }
}

TEST(Image, ResizedPixelsAsPillow) {
  const Image source = noise(6, 4, 1);
  EXPECT_EQ(resize_image(source, 3, 4, "bilinear").pixels,
            (std::vector<uint8_t>{104, 107, 116, 72, 176, 101, 166, 113, 164, 95, 85, 80}));
  EXPECT_EQ(resize_image(source, 3, 4, "lanczos").pixels,
            (std::vector<uint8_t>{95, 110, 101, 56, 194, 90, 185, 117, 169, 98, 79, 81}));
  EXPECT_EQ(resize_image(source, 4, 6, "bicubic"), source);
}

struct Decoded {
  const char* file;
  int64_t height, width, channels;
  uint64_t expected;
};
constexpr Decoded kDecoded[] = {
    {"bilevel.png", 5, 13, 1, 0x5b04e546a694241du},   {"cmyk.jpg", 15, 19, 3, 0xf73f281de8895e4eu},
    {"gray.jpg", 17, 23, 1, 0x5b13c9d273b0c126u},     {"gray.png", 11, 15, 1, 0xa96b49833bda0565u},
    {"gray_alpha.png", 9, 9, 1, 0x9d7fed8c13f88a61u}, {"palette.png", 11, 15, 3, 0xa4bda2e3efa2d47u},
    {"rgb.png", 11, 15, 3, 0xf99beaba7ed4fd9u},       {"rgb_420.jpg", 29, 37, 3, 0x8b08be43a3b7d4e5u},
    {"rgb_422.jpg", 29, 37, 3, 0x1f18d8c15fe36324u},  {"rgb_444_progressive.jpg", 19, 21, 3, 0x89d2f7284a8b7c52u},
    {"rgba.png", 7, 9, 3, 0x6d6f9b84d62937b8u},       {"rgb16.png", 2, 3, 3, 0xbe1aa5ceaa45228u},
};

TEST(Image, DecodesAsPillow) {
  for (const Decoded& d : kDecoded) {
    const Image image = decode_file(kImages + d.file);
    EXPECT_EQ(image.height, d.height) << d.file;
    EXPECT_EQ(image.width, d.width) << d.file;
    EXPECT_EQ(image.channels, d.channels) << d.file;
    EXPECT_EQ(digest(image), d.expected) << d.file;
  }
}

TEST(Image, PhotographsDecodeAndPreprocessAsPillow) {
  const std::string folder = assets_folder() + "/data/";
  if (!is_folder(folder + "imagenette")) GTEST_SKIP() << "no " << folder;
  const Preprocess how{
      .resize_shorter = 256, .crop_width = 224, .crop_height = 224, .scale = 1, .layout = "nhwc", .dtype = "u8"};
  const auto check = [&](const char* file, uint64_t decoded, uint64_t cropped) {
    const Image image = decode_file(folder + file);
    EXPECT_EQ(digest(image), decoded) << file;
    const Tensor input = preprocess_image(how, image);
    EXPECT_EQ(input.dims(), (Dims{224, 224, 3}));
    EXPECT_EQ(fnv1a(input.raw(), input.bytes()), cropped) << file;
  };
  check("imagenet_samples/n01440764_tench.jpg", 0x275d24e8725372c1u, 0xd067499d0618d188u);
  check("imagenet_samples/n02391049_zebra.jpg", 0x840ea71e5e86a2e8u, 0xe725552ae3fdb079u);
  check("imagenette/n03888257/ILSVRC2012_val_00038942.JPEG", 0x455f4ad28c38bc10u, 0x39ee3d2b49115d5bu);
}

TEST(Image, RefusesDamagedPictures) {
  const auto refusal = [](const std::string& path) { return error_of([&] { decode_file(path); }); };
  EXPECT_NE(refusal(kImages + "truncated.jpg").find("Premature end"), std::string::npos);
  EXPECT_NE(refusal(kImages + "truncated.jpg").find("truncated.jpg"), std::string::npos);
  EXPECT_NE(refusal(kImages + "bomb.png").find("too large"), std::string::npos);
  EXPECT_NE(error_of([] { decode_image({}, "x"); }).find("no JPEG, PNG, BMP or PNM"), std::string::npos);
  auto png = read_file(kImages + "rgb.png");
  png[60] ^= std::byte{1};
  EXPECT_NE(error_of([&] { decode_image(png, "flipped"); }).find("flipped"), std::string::npos);
}

TEST(Image, PngRoundTrip) {
  for (const int64_t channels : {1, 3}) {
    const Image image = noise(31, 17, channels);
    EXPECT_EQ(decode_image(encode_png(image), "round trip"), image);
  }
}

TEST(Image, GrayAndRgb) {
  const Image rgb{1, 3, 3, {255, 0, 0, 10, 20, 30, 255, 255, 255}};
  EXPECT_EQ(to_gray(rgb).pixels, (std::vector<uint8_t>{76, 18, 255}));
  EXPECT_EQ(to_rgb(Image{1, 2, 1, {7, 8}}).pixels, (std::vector<uint8_t>{7, 7, 7, 8, 8, 8}));
}

/// A progressive JPEG, its last scan written `repeats` times more.
std::vector<std::byte> progressive(const Image& image, int repeats) {
  unsigned char* made = nullptr;
  unsigned long size = 0;
  const tjhandle jpeg = tjInitCompress();
  EXPECT_EQ(tjCompress2(jpeg, image.pixels.data(), static_cast<int>(image.width), 0, static_cast<int>(image.height),
                        TJPF_RGB, &made, &size, TJSAMP_420, 75, TJFLAG_PROGRESSIVE),
            0);
  std::vector<std::byte> bytes(reinterpret_cast<std::byte*>(made), reinterpret_cast<std::byte*>(made) + size);
  tjFree(made);
  tjDestroy(jpeg);
  size_t last = bytes.size();
  for (size_t i = 0; i + 1 < bytes.size(); ++i)
    if (bytes[i] == std::byte{0xff} && bytes[i + 1] == std::byte{0xda}) last = i;
  const std::vector<std::byte> scan(bytes.begin() + static_cast<std::ptrdiff_t>(last), bytes.end() - 2);
  for (int i = 0; i < repeats; ++i) bytes.insert(bytes.end() - 2, scan.begin(), scan.end());
  return bytes;
}

TEST(Image, ManyScansNeedASmallPicture) {
  const Image picture = noise(64, 48, 3);
  const int64_t pixels = 64 * 48;
  const std::vector<std::byte> plain = progressive(picture, 0), many = progressive(picture, 100);
  EXPECT_EQ(decode_image(plain, "plain", pixels).width, 64) << "an ordinary progressive one of the largest size";
  EXPECT_THROW(decode_image(plain, "plain", pixels - 1), Error);
  const auto refused = [&](int64_t max_pixels) {
    try {
      decode_image(many, "many", max_pixels);
      return std::string();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
  };
  EXPECT_NE(refused(pixels).find("too many scans"), std::string::npos) << refused(pixels);
  EXPECT_NE(refused(6 * pixels).find("too many scans"), std::string::npos);
  EXPECT_EQ(refused(10 * pixels).find("too many scans"), std::string::npos);
}

}  // namespace
}  // namespace slipway
