#include "base/visible.h"

#include <gtest/gtest.h>

namespace slipway {
namespace {

TEST(Visible, TextStaysAndControlCharactersDoNot) {
  EXPECT_EQ(visible("plain, größer, 모델, 🙂"), "plain, größer, 모델, 🙂");
  EXPECT_EQ(visible("\x1b[2J\r\a\x7f"), "\\x1b[2J\\x0d\\x07\\x7f");
  EXPECT_EQ(visible(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(visible("\xc2\x9b"
                    "31m\xc2\xa0"),
            "\\xc2\\x9b31m\xc2\xa0");
  EXPECT_EQ(visible("a\nb\tc"), "a\\x0ab\\x09c");
  EXPECT_EQ(visible("a\nb\tc\r", true), "a\nb\tc\\x0d");
}

TEST(Visible, WhatIsNoUtf8IsSpelledOut) {
  for (const char* bad : {"\xff", "\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xf0\x9f\x99"}) {
    const std::string shown = visible(bad);
    EXPECT_EQ(shown.size(), 4 * std::string_view(bad).size()) << shown;
    EXPECT_EQ(visible(shown), shown);
  }
  EXPECT_EQ(visible("x\xe2\x82y"), "x\\xe2\\x82y");
}

}  // namespace
}  // namespace slipway
