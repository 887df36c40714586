#include "serve/http/form_data.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

const std::string kType = "multipart/form-data; boundary=xYz";

std::optional<std::string> file_of(const std::string& type, const std::string& body) {
  const auto parts = form_parts(type, std::as_bytes(std::span(body)));
  if (!parts) return std::nullopt;
  const std::span<const std::byte> file = form_file(*parts);
  return std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

std::string part(const std::string& disposition, const std::string& content) {
  return "--xYz\r\nContent-Disposition: form-data" + disposition + "\r\nContent-Type: image/png\r\n\r\n" + content +
         "\r\n";
}

TEST(FormData, TheFileIsTaken) {
  const std::string bytes("\x89PNG\r\n--xY\0\r\n--", 14);
  const std::string file = part("; name=\"file\"; filename=\"a;b.png\"", bytes),
                    note = part("; name=\"note\"", "hello");
  for (const std::string& type :
       {kType, std::string("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"xYz\""), kType + " ; x=y"}) {
    EXPECT_EQ(file_of(type, file + "--xYz--\r\n"), bytes) << type;
    EXPECT_EQ(file_of(type, note + file + "--xYz--"), bytes);
    EXPECT_EQ(file_of(type, "before\r\n" + file + note + "--xYz--after"), bytes);
  }
  EXPECT_EQ(file_of(kType, note + "--xYz--"), "hello");
  EXPECT_EQ(file_of(kType, part("; name=\"f\"; filename*=UTF-8''a", "z") + "--xYz--"), "z");
  EXPECT_EQ(file_of(kType, part("; filename=\"\"", "") + "--xYz--"), "");
  EXPECT_EQ(file_of(kType, "--xYz \r\n\r\nbare\r\n--xYz--"), "bare");
  EXPECT_EQ(file_of("image/png", file), std::nullopt);
  EXPECT_EQ(file_of("", file), std::nullopt);
}

TEST(FormData, WhatIsNoFormIsRefused) {
  const std::string good = part("; filename=\"a\"", "abc") + "--xYz--";
  for (size_t cut = 0; cut + 20 < good.size(); ++cut)
    EXPECT_THROW(file_of(kType, good.substr(0, cut)), Error) << good.substr(0, cut);
  EXPECT_THROW(file_of(kType, "--xYz--"), Error);
  EXPECT_THROW(file_of(kType, "--xYz\r\n" + std::string(10'000, 'a') + "\r\n\r\nb\r\n--xYz--"), Error);
  EXPECT_THROW(file_of("multipart/form-data", good), Error);
  EXPECT_THROW(file_of("multipart/form-data; boundary=", good), Error);
  EXPECT_THROW(file_of("multipart/form-data; boundary=" + std::string(71, 'x'), good), Error);
  std::string many;
  for (int i = 0; i < 100; ++i) many += part("; name=\"n\"", "");
  EXPECT_THROW(file_of(kType, many + "--xYz--"), Error);
}

TEST(FormData, NoBytesBreakIt) {
  Random random(7);
  const std::string good = part("; name=\"n\"", "abc") + part("; filename=\"a\"", "\r\n--xY") + "--xYz--";
  for (int round = 0; round < 20'000; ++round) {
    std::string body = good, type = kType;
    for (int i = 0; i < 3; ++i) {
      std::string& text = random.below(4) == 0 ? type : body;
      text[random.below(text.size())] = "\r\n-xYz:;=\"a\0"[random.below(12)];
    }
    try {
      file_of(type, body);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    }
  }
}

}  // namespace
}  // namespace slipway
