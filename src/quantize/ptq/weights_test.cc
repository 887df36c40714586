#include "quantize/ptq/weights.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "base/error.h"

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
  const WeightScales s = choose_weight_scales(weight, axis, bias, input_scale, kSymmetricInt8, where);
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

}  // namespace
}  // namespace slipway
