// Floats to text and text to numbers, against the standard library over random bit patterns and at the borders.
#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/half.h"
#include "base/random.h"
#include "serve/json/float_text.h"
#include "serve/json/json_tensor.h"

namespace slipway {
namespace {

std::string text_of(float value) {
  char text[kFloatTextSize];
  return {text, write_float(text, value)};
}

/// Significant digits and exponent, however the number is written.
std::string canonical(std::string_view text) {
  std::string digits;
  int exponent = 0;
  bool behind_point = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == 'e') {
      exponent += std::stoi(std::string(text.substr(i + 1)));
      break;
    }
    if (text[i] == '.') behind_point = true;
    if (text[i] < '0' || text[i] > '9') continue;
    digits += text[i];
    exponent -= behind_point;
  }
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back(), ++exponent;
  const size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  return digits.substr(first) + "e" + std::to_string(exponent);
}

TEST(FloatText, IsTheShortestThatReadsBack) {
  Random random(1);
  for (int i = 0; i < 300'000; ++i) {
    uint32_t bits = static_cast<uint32_t>(random.next());
    if (i % 3 == 0) bits = (bits & 0x807fffff) | static_cast<uint32_t>(118 + random.below(20)) << 23;  // around 1
    if (i % 7 == 0) bits &= 0xff800000;                                                                // powers of two
    const float value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    const std::string text = text_of(value);
    float back = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), back);
    ASSERT_EQ(read.ptr, text.data() + text.size()) << text;
    ASSERT_EQ(std::bit_cast<uint32_t>(back), bits) << text;
    char expected[64];
    const auto end = std::to_chars(expected, expected + 64, value, std::chars_format::scientific).ptr;
    if (value != 0) {
      ASSERT_EQ(canonical(text), canonical({expected, end})) << text;
    }
  }
}

TEST(FloatText, LooksAsJsonWantsIt) {
  EXPECT_EQ(text_of(0), "0");
  EXPECT_EQ(text_of(-0.0f), "-0");
  EXPECT_EQ(text_of(1), "1");
  EXPECT_EQ(text_of(-100), "-100");
  EXPECT_EQ(text_of(0.1f), "0.1");
  EXPECT_EQ(text_of(-12.5f), "-12.5");
  EXPECT_EQ(text_of(0.0001f), "0.0001");
  EXPECT_EQ(text_of(0.00001234f), "0.00001234");
  EXPECT_EQ(text_of(1e-6f), "1e-6");
  EXPECT_EQ(text_of(16777216), "16777216");
  EXPECT_EQ(text_of(123456789), "123456790");
  EXPECT_EQ(text_of(1e15f), "1000000000000000");
  EXPECT_EQ(text_of(1e20f), "1e20");
  EXPECT_EQ(text_of(std::numeric_limits<float>::max()), "3.4028235e38");
  EXPECT_EQ(text_of(std::numeric_limits<float>::denorm_min()), "1e-45");
  EXPECT_EQ(text_of(NAN), "null");
  EXPECT_EQ(text_of(-INFINITY), "null");
  char text[kFloatTextSize];
  EXPECT_EQ(std::string(text, write_double(text, 0.1)), "0.1");
  EXPECT_EQ(std::string(text, write_double(text, INFINITY)), "null");
}

/// One number as the only element of a tensor.
template <typename T>
T parse_one(const std::string& number, DType dtype = dtype_of<T>) {
  std::string text = "[" + number + "]";
  const size_t size = text.size();
  text.append(16, '7');  // what stands behind must not matter
  const TensorBytes bytes = parse_json_tensor(std::string_view(text).substr(0, size), dtype, Dims{1}, "x");
  T value;
  EXPECT_EQ(bytes.size, sizeof value);
  std::memcpy(&value, bytes.data.get(), sizeof value);
  return value;
}

std::string random_decimal(Random& random) {
  std::string text = random.below(2) ? "-" : "";
  const uint64_t whole = random.below(4);
  if (whole == 0) {
    text += '0';
  } else {
    text += static_cast<char>('1' + random.below(9));
    for (uint64_t i = random.below(whole == 3 ? 25 : 4); i > 0; --i) text += static_cast<char>('0' + random.below(10));
  }
  if (random.below(4) != 0) {
    text += '.';
    for (uint64_t i = 1 + random.below(random.below(5) == 0 ? 30 : 11); i > 0; --i)
      text += static_cast<char>('0' + random.below(10));
  }
  if (random.below(3) == 0) text += fmt::format("{}{}", random.below(2) ? "e" : "E+", random.below(30));
  if (random.below(3) == 0 && text.find_first_of("eE") == text.npos) text += fmt::format("e-{}", random.below(50));
  return text;
}

TEST(NumberText, RealsRoundAsTheStandardLibraryDoes) {
  Random random(2);
  for (int i = 0; i < 200'000; ++i) {
    const std::string text = random_decimal(random);
    double wide = 0;
    float narrow = 0;
    ASSERT_EQ(std::from_chars(text.data(), text.data() + text.size(), wide).ec, std::errc()) << text;
    ASSERT_EQ(std::bit_cast<uint64_t>(parse_one<double>(text)), std::bit_cast<uint64_t>(wide)) << text;
    if (std::from_chars(text.data(), text.data() + text.size(), narrow).ec != std::errc() || !std::isfinite(narrow))
      continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(parse_one<float>(text)), std::bit_cast<uint32_t>(narrow)) << text;
  }
}

TEST(NumberText, FloatsOnTheBorderOfTwoRoundOnce) {
  Random random(3);
  for (int i = 0; i < 20'000; ++i) {
    const auto f = std::bit_cast<float>(static_cast<uint32_t>(0x3f800000 + random.below(1 << 23)));
    const double middle = (double{f} + double{std::nextafter(f, 4.0f)}) / 2;
    // A digit beyond what a double holds decides.
    for (const char* more : {"", "00000000000001", "1"}) {
      const std::string text = fmt::format("{:.26f}{}", middle, more);
      float expected = 0;
      std::from_chars(text.data(), text.data() + text.size(), expected);
      ASSERT_EQ(parse_one<float>(text), expected) << text;
    }
  }
  for (int i = 0; i < 20'000; ++i) {  // 16 digits: the double alone would lie on the border
    const auto f = std::bit_cast<float>(static_cast<uint32_t>(0x3f000000 + random.below(6'000'000)));
    const std::string text = fmt::format("{:.16f}", (double{f} + double{std::nextafter(f, 4.0f)}) / 2);
    float expected = 0;
    std::from_chars(text.data(), text.data() + text.size(), expected);
    ASSERT_EQ(parse_one<float>(text), expected) << text;
  }
  EXPECT_EQ(parse_one<float>("0.5000000298023224"), 0.50000006f);
}

TEST(NumberText, EveryFloatComesBack) {
  Random random(4);
  for (int i = 0; i < 200'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random.next()));
    if (std::isfinite(value)) {
      ASSERT_EQ(parse_one<float>(text_of(value)), value);
    }
  }
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    if (std::isfinite(half_to_float(h))) {
      ASSERT_EQ(parse_one<uint16_t>(text_of(half_to_float(h)), DType::kFloat16), h);
    }
    if (std::isfinite(bfloat16_to_float(h))) {
      ASSERT_EQ(parse_one<uint16_t>(text_of(bfloat16_to_float(h)), DType::kBfloat16), h);
    }
  }
}

TEST(NumberText, IntegersAreExactUpToTheirLimits) {
  EXPECT_EQ(parse_one<int64_t>("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parse_one<int64_t>("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parse_one<uint64_t>("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(parse_one<int64_t>("9007199254740993"), 9007199254740993);
  EXPECT_EQ(parse_one<int8_t>("-128"), -128);
  EXPECT_EQ(parse_one<uint8_t>("255"), 255);
  EXPECT_EQ(parse_one<uint16_t>("-0"), 0);
  EXPECT_EQ(parse_one<int32_t>("-2147483648"), INT32_MIN);
}

std::string refusal(const std::string& number, DType dtype) {
  try {
    parse_one<uint64_t>(number, dtype);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(NumberText, WhatDoesNotFitIsRefused) {
  const std::string range = "out of range", number = "must be a number", integer = "no fraction";
  for (const auto& [text, dtype, sentence] : std::initializer_list<std::tuple<const char*, DType, std::string>>{
           {"128", DType::kInt8, range},
           {"-129", DType::kInt8, range},
           {"256", DType::kUint8, range},
           {"-1", DType::kUint8, range},
           {"-1", DType::kUint64, range},
           {"65536", DType::kUint16, range},
           {"32768", DType::kInt16, range},
           {"4294967296", DType::kUint32, range},
           {"2147483648", DType::kInt32, range},
           {"9223372036854775808", DType::kInt64, range},
           {"-9223372036854775809", DType::kInt64, range},
           {"18446744073709551616", DType::kUint64, range},
           {"99999999999999999999999999999999", DType::kInt64, range},
           {"1e39", DType::kFloat32, range},
           {"3.4028236e38", DType::kFloat32, range},
           {"-1e400", DType::kFloat64, range},
           {"1e99999999999999999999", DType::kFloat64, range},
           {"1234567890123456789012345678901234567890", DType::kFloat32, range},
           {"65520", DType::kFloat16, range},
           {"3.4e38", DType::kBfloat16, ""},
           {"3.3999e38", DType::kBfloat16, range},
           {"1.5", DType::kInt32, integer},
           {"1.0", DType::kInt32, integer},
           {"1e3", DType::kUint64, integer},
           {"NaN", DType::kFloat32, number},
           {"Infinity", DType::kFloat64, number},
           {"-Infinity", DType::kFloat64, number},
           {"null", DType::kFloat32, number},
           {"\"1\"", DType::kFloat32, number},
           {"true", DType::kInt64, number},
           {"-", DType::kInt64, number},
           {"+1", DType::kInt64, number},
           {".5", DType::kFloat32, number},
           {"1.", DType::kFloat32, number},
           {"1e", DType::kFloat32, number},
           {"01", DType::kInt64, "separated by commas"},
           {"0x10", DType::kInt64, "separated by commas"},
           {"2", DType::kBool, "true or false"},
           {"maybe", DType::kBool, "true or false"},
           {"5", DType::kString, "must be a string"},
       }) {
    const std::string said = refusal(text, dtype);
    if (sentence.empty()) continue;
    EXPECT_NE(said.find(sentence), said.npos) << text << " " << datatype_name(dtype) << ": " << said;
    EXPECT_NE(said.find("'x'"), said.npos) << said;
  }
}

TEST(NumberText, WhatIsTooSmallIsZero) {
  EXPECT_EQ(parse_one<float>("1e-46"), 0);
  EXPECT_EQ(parse_one<double>("1e-400"), 0);
  EXPECT_EQ(parse_one<double>("123456e-999999999999"), 0);
  EXPECT_EQ(parse_one<double>("0e999999999"), 0);
  EXPECT_TRUE(std::signbit(parse_one<float>("-0.0")));
  EXPECT_TRUE(std::signbit(parse_one<float>("-1e-99")));
  EXPECT_EQ(parse_one<double>("0." + std::string(400, '0') + "1e401"), 1);
}

}  // namespace
}  // namespace slipway
