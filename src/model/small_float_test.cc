#include "model/small_float.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/tensor.h"

namespace slipway {
namespace {

constexpr DType kSmall[] = {DType::kFloat8E4M3FN,   DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2,
                            DType::kFloat8E5M2FNUZ, DType::kFloat4E2M1,     DType::kFloat8E8M0};
constexpr double kInfinite = std::numeric_limits<double>::infinity();

int codes_of(DType type) { return type == DType::kFloat4E2M1 ? 16 : 256; }

TEST(SmallFloat, EveryNumberComesBackAsItsCode) {
  for (DType type : kSmall)
    for (int code = 0; code < codes_of(type); ++code) {
      const float value = decode_small_float(type, static_cast<uint8_t>(code));
      if (std::isnan(value)) continue;
      EXPECT_EQ(encode_small_float(type, value, {.saturate = false}), code) << to_string(type) << " " << value;
    }
}

TEST(SmallFloat, TheLargestNumbersAreTheFormats) {
  EXPECT_EQ(decode_small_float(DType::kFloat8E4M3FN, 0x7e), 448);
  EXPECT_EQ(decode_small_float(DType::kFloat8E4M3FNUZ, 0x7f), 240);
  EXPECT_EQ(decode_small_float(DType::kFloat8E5M2, 0x7b), 57344);
  EXPECT_EQ(decode_small_float(DType::kFloat8E5M2FNUZ, 0x7f), 57344);
  EXPECT_EQ(decode_small_float(DType::kFloat4E2M1, 7), 6);
  EXPECT_EQ(decode_small_float(DType::kFloat8E8M0, 127), 1);
  EXPECT_EQ(decode_small_float(DType::kFloat8E8M0, 0), std::ldexp(1.0f, -127));
}

TEST(SmallFloat, RoundsToTheNearestAndTiesToEven) {
  for (DType type : kSmall) {
    if (type == DType::kFloat8E8M0) continue;
    const int largest = encode_small_float(type, kInfinite);
    for (int code = 0; code < largest; ++code) {
      const double low = decode_small_float(type, static_cast<uint8_t>(code));
      const double high = decode_small_float(type, static_cast<uint8_t>(code + 1)), middle = (low + high) / 2;
      EXPECT_EQ(encode_small_float(type, middle), code + code % 2) << to_string(type) << " " << middle;
      EXPECT_EQ(encode_small_float(type, std::nextafter(middle, 0.0)), code);
      EXPECT_EQ(encode_small_float(type, std::nextafter(middle, kInfinite)), code + 1);
    }
  }
}

TEST(SmallFloat, BeyondTheLargestItSaturatesUnlessToldNotTo) {
  const SmallFloatRules kLoose{.saturate = false};
  EXPECT_EQ(encode_small_float(DType::kFloat8E4M3FN, 1e6), 0x7e);
  EXPECT_EQ(encode_small_float(DType::kFloat8E4M3FN, 464), 0x7e);  // half a step beyond, to even
  EXPECT_EQ(encode_small_float(DType::kFloat8E4M3FN, -1e6, kLoose), 0xff);
  EXPECT_EQ(encode_small_float(DType::kFloat8E4M3FNUZ, 1e6, kLoose), 0x80);
  EXPECT_EQ(encode_small_float(DType::kFloat8E5M2, -kInfinite), 0xfb);
  EXPECT_EQ(encode_small_float(DType::kFloat8E5M2, -kInfinite, kLoose), 0xfc);
  EXPECT_EQ(encode_small_float(DType::kFloat4E2M1, -kInfinite, kLoose), 0xf);
}

TEST(SmallFloat, ZerosAndNan) {
  EXPECT_EQ(encode_small_float(DType::kFloat8E5M2, -0.0), 0x80);
  EXPECT_EQ(encode_small_float(DType::kFloat8E5M2FNUZ, -0.0), 0);
  EXPECT_EQ(encode_small_float(DType::kFloat8E5M2FNUZ, -1e-9), 0);
  for (DType type : kSmall) {
    const float nan = decode_small_float(type, encode_small_float(type, std::nan("")));
    EXPECT_EQ(std::isnan(nan), type != DType::kFloat4E2M1) << to_string(type);
  }
}

TEST(SmallFloat, ScalesArePowersOfTwo) {
  using Round = SmallFloatRules::Round;
  const auto code = [](double v, Round round, bool saturate = true) {
    return encode_small_float(DType::kFloat8E8M0, v, {.saturate = saturate, .round = round});
  };
  EXPECT_EQ(code(1.25, Round::kUp), 128);
  EXPECT_EQ(code(1.25, Round::kDown), 127);
  EXPECT_EQ(code(1.25, Round::kNearest), 127);
  EXPECT_EQ(code(1.5, Round::kNearest), 128);
  EXPECT_EQ(code(0, Round::kUp), 0);
  EXPECT_EQ(code(0, Round::kNearest, false), 0xff);
  EXPECT_EQ(code(1e300, Round::kUp), 0xfe);
  EXPECT_EQ(code(1e300, Round::kUp, false), 0xff);
  EXPECT_EQ(code(-2, Round::kUp), 0xff);
}

TEST(SmallFloat, TensorsPackSmallTypes) {
  const std::vector<double> values = {-2, -1, 0, 1, 1};
  const Tensor twos = from_doubles(DType::kInt2, {5}, values);
  EXPECT_EQ(twos.bytes(), 2u);
  EXPECT_EQ(static_cast<int>(twos.raw()[0]), 0b01'00'11'10);
  EXPECT_EQ(to_doubles(twos), values);
  EXPECT_EQ(to_ints(from_doubles(DType::kUint2, {3}, std::vector<double>{3, 2, 5})), (std::vector<int64_t>{3, 2, 1}));
  const Tensor halves = from_doubles(DType::kFloat4E2M1, {3}, std::vector<double>{-0.5, 6, 2.4});
  EXPECT_EQ(halves.bytes(), 2u);
  EXPECT_EQ(to_doubles(halves), (std::vector<double>{-0.5, 6, 2}));
}

}  // namespace
}  // namespace slipway
