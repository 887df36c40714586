#include "quantize/ptq/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

struct Coded {
  Tensor codes;
  std::vector<float> scales;
  int64_t dead_channels = 0, widened_channels = 0;
};

/// INT8 with the scales that are chosen for it.
Coded quantize(const Tensor& weight, int64_t axis, std::span<const float> bias, float input_scale,
               const std::string& where) {
  const WeightScales s =
      choose_weight_scales(weight, axis, bias, input_scale, kSymmetricInt8, RangeMethod::kMse, where);
  return {quantize_weight(weight, axis, s.scales, kSymmetricInt8, where).codes, s.scales, s.dead_channels,
          s.widened_channels};
}

TEST(Weights, PerChannelSymmetric) {
  const Tensor w = Tensor::of<float>({2, 3}, {1.27f, -0.635f, 0.005f, 2.54f, -2.54f, 0.01f});
  const Coded rows = quantize(w, 0, {}, 1.0f, "w");
  EXPECT_EQ(rows.scales, (std::vector<float>{1.27f / 127, 2.54f / 127}));
  EXPECT_EQ(rows.codes.values<int8_t>()[0], 127);
  EXPECT_EQ(rows.codes.values<int8_t>()[3], 127);
  EXPECT_EQ(rows.codes.values<int8_t>()[4], -127);
  const Coded columns = quantize(w, 1, {}, 1.0f, "w");
  ASSERT_EQ(columns.scales.size(), 3u);
  EXPECT_EQ(columns.scales[1], 2.54f / 127);
  EXPECT_EQ(columns.codes.values<int8_t>()[0], 64);  // 63.5 rounds to even
}

TEST(Weights, DeadChannelKeepsItsBias) {
  const Tensor w = Tensor::of<float>({3, 2}, {0, 0, 0, 0, 1, -1});
  const Tensor bias = Tensor::of<float>({3}, {0.0f, 0.37f, 2.0f});
  const Coded codes = quantize(w, 0, bias.values<float>(), 0.05f, "w");
  EXPECT_EQ(codes.dead_channels, 2);
  EXPECT_EQ(codes.scales[0], 1.0f);
  const BiasCodes b = quantize_bias(bias, codes.scales, 0.05f);
  for (size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(static_cast<float>(b.codes.values<int32_t>()[c]) * b.scales[c], bias.values<float>()[c],
                std::max(1e-5, 0.5 * b.scales[c]))
        << c;
  EXPECT_LT(b.scales[1] / 0.37f, 1e-4f);
}

TEST(Weights, ScaleGrowsUntilTheBiasFits) {
  const Tensor w = Tensor::of<float>({2, 1}, {1e-9f, 1.0f});
  const Tensor bias = Tensor::of<float>({2}, {100.0f, 100.0f});
  const Coded codes = quantize(w, 0, bias.values<float>(), 1e-3f, "w");
  EXPECT_EQ(codes.widened_channels, 1);
  const BiasCodes b = quantize_bias(bias, codes.scales, 1e-3f);
  EXPECT_NEAR(b.codes.values<int32_t>()[0], 0x1p30, 256);
  EXPECT_NEAR(static_cast<double>(b.codes.values<int32_t>()[0]) * b.scales[0], 100.0, 1e-3);
  EXPECT_EQ(codes.scales[1], 1.0f / 127);
}

TEST(Weights, TinyScalesNeverMakeDenormalUnits) {
  const Tensor w = Tensor::of<float>({1, 1}, {1e-30f});
  const Tensor bias = Tensor::of<float>({1}, {0.0f});
  const Coded codes = quantize(w, 0, bias.values<float>(), 1e-20f, "w");
  EXPECT_GE(quantize_bias(bias, codes.scales, 1e-20f).scales[0], FLT_MIN);
}

TEST(Weights, NotFiniteIsRefusedByName) {
  for (const float bad : {NAN, INFINITY}) {
    const Tensor w = Tensor::of<float>({1, 2}, {1.0f, bad});
    try {
      quantize(w, 0, {}, 1.0f, "'w' of Conv 'c'");
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidModel);
      EXPECT_NE(std::string(error.what()).find("'w' of Conv 'c'"), std::string::npos);
    }
    const Tensor bias = Tensor::of<float>({1}, {bad});
    EXPECT_THROW(quantize(Tensor::of<float>({1, 1}, {1.0f}), 0, bias.values<float>(), 1.0f, "w"), Error);
  }
}

double squared_error(std::span<const float> values, double scale) {
  double sum = 0;
  for (const float w : values) {
    const double code = std::clamp(round_half_even(w / scale), -8.0, 7.0);
    sum += (w - code * scale) * (w - code * scale);
  }
  return sum;
}

TEST(Weights, FourBitScaleHasTheLeastSquaredError) {
  Random random(3);
  for (const size_t count : {1u, 2u, 9u, 27u, 500u}) {
    for (int round = 0; round < 20; ++round) {
      std::vector<float> values(count);
      // Normal, heavy-tailed and skewed channels.
      for (float& w : values) {
        const double x = random.normal();
        w = static_cast<float>(0.1 * (round % 3 == 0 ? x : round % 3 == 1 ? x * x * x : std::fabs(x) - 0.5));
      }
      const float scale = least_squares_scale(values, kSymmetricInt4);
      const double best = squared_error(values, scale);
      float largest = 0;
      for (const float w : values) largest = std::max(largest, std::fabs(w));
      for (int i = 0; i < 3000; ++i) {
        const double other = largest / 7 * std::exp2(1 - i / 500.0);
        EXPECT_LE(best, squared_error(values, other) * (1 + 1e-6) + 1e-13 * largest * largest)
            << count << " weights, round " << round << ": " << scale << " or " << other;
      }
    }
  }
}

TEST(Weights, FourBitScaleFindsTheGridThatWeightsLieOn) {
  EXPECT_FLOAT_EQ(least_squares_scale(std::vector<float>{0.7f, -0.1f, 0.5f, -0.3f}, kSymmetricInt4), 0.1f);
  EXPECT_FLOAT_EQ(least_squares_scale(std::vector<float>{-0.8f, 0.1f, 0.7f}, kSymmetricInt4), 0.1f);  // down to −8
  EXPECT_FLOAT_EQ(least_squares_scale(std::vector<float>{0.25f, -0.25f, 0.25f}, kSymmetricInt4), 0.25f);
  EXPECT_EQ(least_squares_scale(std::vector<float>{0, 0}, kSymmetricInt4), 0);
}

TEST(Weights, FourBitsClipUnlessMinmaxIsAsked) {
  Tensor w(DType::kFloat32, {2, 300});
  Random random(4);
  for (float& x : w.mutable_values<float>()) x = static_cast<float>(random.normal());
  w.mutable_values<float>()[7] = -10.0f;
  w.mutable_values<float>()[307] = 7.0f;
  const auto choose = [&](RangeMethod method) {
    return choose_weight_scales(w, 0, {}, 1.0f, kSymmetricInt4, method, "w").scales;
  };
  EXPECT_EQ(choose(RangeMethod::kMinMax), (std::vector<float>{10.0f / 7, 1.0f}));
  const auto clipped = choose(RangeMethod::kMse);
  EXPECT_LT(clipped[0], 0.9f);
  EXPECT_LT(clipped[1], 0.8f);
  EXPECT_EQ(choose(RangeMethod::kEntropy), clipped);
  const WeightCodes codes = quantize_weight(w, 0, clipped, kSymmetricInt4, "w");
  EXPECT_EQ(codes.codes.dtype(), DType::kInt4);
  EXPECT_EQ(codes.codes.bytes(), 300u);
  EXPECT_EQ(to_ints(codes.codes)[7], -8);
  EXPECT_EQ(to_ints(codes.codes)[307], 7);
  EXPECT_GT(codes.sqnr_db, quantize_weight(w, 0, choose(RangeMethod::kMinMax), kSymmetricInt4, "w").sqnr_db + 2);
}

TEST(Weights, FourBitScalesKeepTheRulesOfBiases) {
  const Tensor w = Tensor::of<float>({2, 3}, {0, 1e-9f, 1, 0, 1e-9f, -1});  // channels are columns
  const Tensor bias = Tensor::of<float>({3}, {0.37f, 100.0f, 0.5f});
  const WeightScales s =
      choose_weight_scales(w, 1, bias.values<float>(), 1e-3f, kSymmetricInt4, RangeMethod::kMse, "w");
  EXPECT_EQ(s.dead_channels, 1);
  EXPECT_EQ(s.widened_channels, 1);
  const BiasCodes b = quantize_bias(bias, s.scales, 1e-3f);
  for (size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(static_cast<double>(b.codes.values<int32_t>()[c]) * b.scales[c], bias.values<float>()[c], 1e-3) << c;
}

}  // namespace
}  // namespace slipway
