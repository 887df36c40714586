#include "quantize/calibrate/range.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace slipway {
namespace {

constexpr QuantGrid kFullInt8{DType::kInt8, false, -127, 127, -128, 127};
constexpr QuantGrid kSymmetricUint8{DType::kUint8, true, 0, 255, 0, 255};
constexpr QuantGrid kWholeInt8{DType::kInt8, true, -128, 127, -128, 127};

/// ReLU of a Gaussian with 0.1 % wide outliers.
std::vector<float> relu_gaussian(uint64_t seed, size_t count = 200000) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& x : values)
    x = static_cast<float>(std::max(0.0, random.normal() * (random.below(1000) == 0 ? 5.0 : 1.0)));
  return values;
}

double true_sqnr_db(std::span<const float> values, const QuantParams& params, const QuantGrid& grid) {
  double signal = 0, noise = 0;
  for (const float x : values) {
    const double error = x - static_cast<double>(dequantize_value(quantize_value(x, params, grid), params));
    signal += double{x} * x;
    noise += error * error;
  }
  return 10 * std::log10(signal / noise);
}

TensorStats stats_of(std::span<const float> values) {
  TensorStats stats;
  stats.observe(values);
  return stats;
}

// Expectations as ONNX Runtime's test_quant_util.py states them.
TEST(ParamsForRange, PublishedExpectations) {
  const auto expect = [](double low, double high, const QuantGrid& grid, int zero_point, double scale,
                         double min_real_range = 0) {
    const QuantParams params = params_for_range(low, high, grid, min_real_range);
    EXPECT_EQ(params.zero_point, zero_point) << low << ' ' << high;
    EXPECT_EQ(params.scale, static_cast<float>(scale)) << low << ' ' << high;
  };
  expect(0, 0, kSymmetricInt8, 0, 1);
  expect(1, -1, kSymmetricInt8, 0, 1);
  expect(-1, 2, kSymmetricInt8, 0, 2.0 / 127);
  expect(-1, 2, kFullInt8, -42, 3.0 / 254);
  expect(-1, 2, kSymmetricUint8, 128, 4.0 / 255);
  expect(-1, 2, kAsymmetricUint8, 85, 3.0 / 255);
  expect(-FLT_MIN * 0.1, FLT_MIN * 0.1, kSymmetricInt8, 0, 1);
  expect(0, 0, kAsymmetricUint8, 0, 1e-4 / 255, 1e-4);
  expect(0, 0, kWholeInt8, 0, 2e-4 / 255, 1e-4);
  expect(-FLT_MAX, FLT_MAX, kSymmetricInt8, 0, FLT_MAX / 127.0);
  expect(0, 6, kAsymmetricUint8, 0, 6.0 / 255);
  expect(-6, 0, kAsymmetricUint8, 255, 6.0 / 255);
}

// The ONNX node test "quantizelinear": scale 2, zero point 128.
TEST(QuantizeValue, SpotVectorAndTies) {
  const QuantParams params{2.0f, 128};
  const std::vector<float> x = {0, 2, 3, 1000, -254, -1000};
  const std::vector<int32_t> expected = {128, 129, 130, 255, 1, 0};
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(quantize_value(x[i], params, kAsymmetricUint8), expected[i]);
  const QuantParams unit{1.0f, 0};
  const std::vector<float> ties = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
  const std::vector<int32_t> even = {0, 2, 2, 0, -2};
  for (size_t i = 0; i < ties.size(); ++i) EXPECT_EQ(quantize_value(ties[i], unit, kSymmetricInt8), even[i]);
  EXPECT_EQ(quantize_value(INFINITY, unit, kSymmetricInt8), 127);
  EXPECT_EQ(quantize_value(-INFINITY, unit, kSymmetricInt8), -128);
}

TEST(QuantizeValue, EveryCodeSurvivesTheRoundTrip) {
  for (const float scale : {0.00369204697f, 1.0f / 3, 7.0f, FLT_MIN}) {
    for (const int32_t zero_point : {0, 3, 128, 255})
      for (int32_t q = 0; q < 256; ++q)
        EXPECT_EQ(quantize_value(dequantize_value(q, {scale, zero_point}), {scale, zero_point}, kAsymmetricUint8), q);
    for (int32_t q = -128; q < 128; ++q)
      EXPECT_EQ(quantize_value(dequantize_value(q, {scale, 0}), {scale, 0}, kSymmetricInt8), q);
  }
}

TEST(EstimateSqnr, AgreesWithTheValues) {
  const std::vector<float> values = relu_gaussian(7);
  const TensorStats stats = stats_of(values);
  for (const QuantGrid& grid : {kSymmetricInt8, kAsymmetricUint8})
    for (const double high : {double{stats.max()}, 5.0, 3.0}) {
      const QuantParams params = params_for_range(0, high, grid);
      EXPECT_NEAR(estimate_sqnr_db(stats, params, grid), true_sqnr_db(values, params, grid), 0.05) << high;
    }
}

// A full-scale uniform signal has SQNR 20·log10(levels) exactly: step s over [−1, 1], noise s²/12, signal 1/3.
TEST(EstimateSqnr, UniformSignalClosedForm) {
  std::vector<float> values(1 << 18);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = -1.0f + (static_cast<float>(i) + 0.5f) * 2.0f / static_cast<float>(values.size());
  const double estimated = estimate_sqnr_db(stats_of(values), params_for_range(-1, 1, kSymmetricInt8), kSymmetricInt8);
  EXPECT_NEAR(estimated, 20 * std::log10(254.0), 0.05);
}

TEST(EstimateSqnr, WholeStepsAreFreeOfNoise) {
  const TensorStats stats = stats_of(std::vector<float>(100, 3.0f));
  EXPECT_GT(choose_range(stats, kSymmetricInt8).chosen.sqnr_db, 140);  // the scale itself is rounded to float
  EXPECT_EQ(choose_range(stats_of(std::vector<float>(10, 0.0f)), kSymmetricInt8).chosen.params, (QuantParams{1.0f, 0}));
  EXPECT_EQ(choose_range(TensorStats(), kSymmetricInt8).chosen.params, (QuantParams{1.0f, 0}));
}

TEST(ChooseRange, MseIsNeverWorseThanTheOthers) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<float> values = relu_gaussian(seed);
    for (const QuantGrid& grid : {kSymmetricInt8, kAsymmetricUint8}) {
      const RangeChoice choice = choose_range(stats_of(values), grid);
      ASSERT_EQ(choice.candidates.size(), 4u);
      EXPECT_EQ(choice.chosen.method, RangeMethod::kMse);
      const double mse = true_sqnr_db(values, choice.chosen.params, grid);
      for (const RangeCandidate& other : choice.candidates)
        EXPECT_GE(mse, true_sqnr_db(values, other.params, grid) - 0.1) << to_string(other.method);
      EXPECT_LT(choice.chosen.high, choice.candidates[0].high);
    }
  }
}

TEST(ChooseRange, EntropyNeedsTheZeroBinAndThenWorks) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    std::vector<float> values = relu_gaussian(seed);
    // What batch normalisation leaves of ReLU's zeros: a spike of tiny positive values.
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] == 0) values[i] = 1e-6f;
    const TensorStats stats = stats_of(values);
    const auto sqnr = [&](double threshold) {
      return true_sqnr_db(values, params_for_range(0, threshold, kSymmetricInt8), kSymmetricInt8);
    };
    const double fixed = sqnr(entropy_threshold(stats, 128)), raw = sqnr(entropy_threshold(stats, 128, false));
    EXPECT_GT(fixed, 20) << seed;
    EXPECT_GT(fixed, raw + 5) << seed;
  }
}

TEST(ChooseRange, EntropyIsGuarded) {
  // A few far values carry all the energy: entropy would clip them away.
  std::vector<float> values = relu_gaussian(9, 100000);
  for (size_t i = 0; i < 20; ++i) values[i * 1000] = 60.0f + static_cast<float>(i % 5);
  const RangeChoice choice = choose_range(stats_of(values), kSymmetricInt8, {.method = RangeMethod::kEntropy});
  EXPECT_FALSE(choice.note.empty());
  EXPECT_EQ(choice.chosen.method, RangeMethod::kMse);
  EXPECT_GE(choice.chosen.sqnr_db, choice.candidates[0].sqnr_db);
}

TEST(ChooseRange, PercentileCutsTheTails) {
  std::vector<float> values(100000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1) / 100000.0f;
  const TensorStats stats = stats_of(values);
  const auto high = [&](double percentile) {
    return choose_range(stats, kSymmetricInt8, {.method = RangeMethod::kPercentile, .percentile = percentile})
        .chosen.high;
  };
  EXPECT_NEAR(high(99.0), 0.99, 1e-3);
  EXPECT_NEAR(high(99.99), 0.9999, 1e-3);
  EXPECT_EQ(high(100.0), 1.0f);
  EXPECT_THROW(high(0), Error);
  EXPECT_THROW(high(101), Error);
  for (float& x : values) x -= 0.5f;
  const RangeChoice both =
      choose_range(stats_of(values), kAsymmetricUint8, {.method = RangeMethod::kPercentile, .percentile = 90.0});
  EXPECT_NEAR(both.chosen.low, -0.45, 2e-3);
  EXPECT_NEAR(both.chosen.high, 0.45, 2e-3);
}

TEST(ChooseRange, SixteenBitsKeepTheFullRange) {
  const TensorStats stats = stats_of(relu_gaussian(3));
  const RangeChoice choice = choose_range(stats, kSymmetricInt16, {.method = RangeMethod::kEntropy});
  EXPECT_EQ(choice.chosen.high, stats.max());
  EXPECT_GT(choose_range(stats, kSymmetricInt16).chosen.sqnr_db, 70);
}

TEST(ChooseRange, MethodsHaveNames) {
  for (const RangeMethod method :
       {RangeMethod::kMinMax, RangeMethod::kPercentile, RangeMethod::kEntropy, RangeMethod::kMse})
    EXPECT_EQ(parse_range_method(to_string(method)), method);
  EXPECT_THROW(parse_range_method("kl"), Error);
}

}  // namespace
}  // namespace slipway
