#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/image.h"

namespace slipway {
namespace {

std::span<const std::byte> bytes_of_text(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string refusal_of(const std::string& file, ErrorCode code) {
  try {
    decode_image(bytes_of_text(file), "x");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "";
}

std::string little_endian(int64_t value) {
  std::string out;
  for (int i = 0; i < 4; ++i) out += static_cast<char>(value >> (8 * i) & 255);
  return out;
}

std::string bmp(int64_t width, int64_t height, int bits, const std::string& palette, const std::string& rows) {
  return "BM" + little_endian(0) + little_endian(0) + little_endian(54 + static_cast<int64_t>(palette.size())) +
         little_endian(40) + little_endian(width) + little_endian(height) + std::string("\1\0", 2) +
         static_cast<char>(bits) + std::string(1, '\0') + little_endian(0) + little_endian(0) + little_endian(0) +
         little_endian(0) + little_endian(static_cast<int64_t>(palette.size()) / 4) + little_endian(0) + palette + rows;
}

TEST(PlainImages, Bmp) {
  const Image expected{2, 1, 3, {1, 2, 3, 4, 5, 6}};
  const std::string first("\3\2\1\0", 4), second("\6\5\4\0", 4);  // blue first, rows of whole words
  EXPECT_EQ(decode_image(bytes_of_text(bmp(1, 2, 24, "", second + first)), "x"), expected);
  EXPECT_EQ(decode_image(bytes_of_text(bmp(1, -2, 24, "", first + second)), "x"), expected);
  EXPECT_EQ(decode_image(bytes_of_text(bmp(1, 2, 32, "", second + first)), "x"), expected);
  EXPECT_EQ(decode_image(bytes_of_text(bmp(1, -2, 8, first + second, std::string("\0###\1###", 8))), "x"), expected);
  const Image wide{1, 3, 3, {4, 5, 6, 1, 2, 3, 4, 5, 6}};
  EXPECT_EQ(decode_image(bytes_of_text(bmp(3, 1, 1, first + second, std::string("\xa0###", 4))), "x"), wide);
  EXPECT_EQ(decode_image(bytes_of_text(bmp(3, 1, 4, first + second, std::string("\x10\x10##", 4))), "x"), wide);
}

TEST(PlainImages, Pnm) {
  const Image gray{1, 3, 1, {0, 255, 128}}, color{1, 1, 3, {7, 8, 9}};
  EXPECT_EQ(decode_image(bytes_of_text(std::string("P5 3 1 255\n\0\xff\x80", 14)), "x"), gray);
  EXPECT_EQ(decode_image(bytes_of_text("P2\n# a note\n3 1\n255\n0 255 128\n"), "x"), gray);
  EXPECT_EQ(decode_image(bytes_of_text("P6 1 1 255\n\7\10\11"), "x"), color);
  EXPECT_EQ(decode_image(bytes_of_text("P3 1 1 255 7 8 9"), "x"), color);
  const Image bits{1, 3, 1, {0, 255, 0}};  // 1 is black
  EXPECT_EQ(decode_image(bytes_of_text("P1 3 1 101"), "x"), bits);
  EXPECT_EQ(decode_image(bytes_of_text("P4 3 1\n\xa0"), "x"), bits);
  EXPECT_EQ(decode_image(bytes_of_text("P2 2 1 15 15 3"), "x").pixels, (std::vector<uint8_t>{255, 51}));
}

TEST(PlainImages, WhatCantBeDecodedIsSaid) {
  const ErrorCode damaged = ErrorCode::kInvalidArgument, unsupported = ErrorCode::kUnsupported;
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const std::string whole = bmp(1, 2, 24, "", "12345678");
  for (size_t size = 2; size < whole.size(); ++size) says(refusal_of(whole.substr(0, size), damaged), "cut short");
  says(refusal_of(bmp(1, 1, 8, std::string(4, '\1'), std::string("\1###", 4)), damaged), "palette");
  says(refusal_of(bmp(1, 1, 16, "", "1234"), unsupported), "uncompressed");
  says(refusal_of(bmp(99999, 99999, 24, "", ""), damaged), "too large");
  says(refusal_of(bmp(-1, 1, 24, "", ""), damaged), "too large");
  for (const char* bad : {"P6 1 1 255\n12", "P5", "P2 2 1 9 1", "P2 1 1 9 10", "P2 1 1 0 0", "P5 2 2", "P1 1 1 2"})
    EXPECT_FALSE(refusal_of(bad, damaged).empty()) << bad;
  says(refusal_of("P5 99999 99999 255\n", damaged), "too large");
  says(refusal_of("P5 1 1 65535\n12", unsupported), "8 bits");
  says(refusal_of(std::string("II*\0####", 8), unsupported), "TIFF");
  says(refusal_of("RIFF####WEBPVP8 ", unsupported), "WebP");
  says(refusal_of(std::string("\0\0\0\x0cjP  \r\n", 10), unsupported), "JPEG 2000");
  says(refusal_of("GIF89a", damaged), "no JPEG");
}

}  // namespace
}  // namespace slipway
