#include "monitor/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/half.h"
#include "base/random.h"
#include "data/top_classes.h"

namespace slipway {
namespace {

ScoreFigures expected_figures(const std::vector<float>& scores) {
  std::vector<double> p = as_probabilities({scores.begin(), scores.end()});
  double entropy = 0;
  for (const double v : p) entropy -= v > 0 ? v * std::log(v) : 0;
  std::sort(p.rbegin(), p.rend());
  return {static_cast<float>(p[0]), static_cast<float>(entropy / std::log(static_cast<double>(p.size()))),
          static_cast<float>(p[0] - p[1])};
}

void expect_near(const std::vector<float>& scores) {
  const ScoreFigures got = score_figures(scores.data(), static_cast<int64_t>(scores.size()));
  const ScoreFigures want = expected_figures(scores);
  EXPECT_NEAR(got.confidence, want.confidence, 2e-5) << scores.size();
  EXPECT_NEAR(got.entropy, want.entropy, 2e-4) << scores.size();
  EXPECT_NEAR(got.margin, want.margin, 2e-5) << scores.size();
}

TEST(Scores, AgreeWithTheProbabilitiesThatPredictGives) {
  Random random(7);
  for (const size_t classes : {2, 3, 7, 8, 9, 10, 100, 1000, 4099})
    for (const double spread : {0.01, 1.0, 8.0, 300.0}) {
      std::vector<float> scores(classes);
      for (float& s : scores) s = static_cast<float>(spread * random.normal());
      expect_near(scores);
      const std::vector<double> p = as_probabilities({scores.begin(), scores.end()});
      expect_near({p.begin(), p.end()});
    }
  expect_near({1, 0, 0});
  expect_near({5, 5});
  expect_near({-1e30f, 1e30f});
}

TEST(Scores, ABrokenOutputCountsAsTheLeastSure) {
  for (const float broken : {NAN, INFINITY, -INFINITY}) {
    const float scores[] = {1, broken, 2};
    const ScoreFigures f = score_figures(scores, 3);
    EXPECT_EQ(f.confidence, 0);
    EXPECT_EQ(f.entropy, 1);
    EXPECT_EQ(f.margin, 0);
  }
}

TEST(Scores, OnlyAClassifiersShapeHasThem) {
  EXPECT_EQ(score_shape("y", DType::kFloat32, {-1, 10}).classes, 10);
  EXPECT_EQ(score_shape("y", DType::kFloat16, {1, 10, 1, 1}).classes, 10);
  EXPECT_EQ(score_shape("y", DType::kFloat32, {1000}).classes, 1000);
  EXPECT_EQ(score_shape("sure", DType::kFloat32, {1, 896, 1}, false).classes, 0) << "a detector's, beside boxes";
  EXPECT_TRUE(score_shape("y", DType::kFloat32, {-1, 10}).reason.empty());
  EXPECT_EQ(score_shape("y", DType::kInt64, {-1, 10}).classes, 0);
  for (const Dims& dims : {Dims{}, Dims{-1}, Dims{-1, 1}, Dims{-1, -1}, Dims{-1, 3, 8, 8}, Dims{-1, 4, 25}})
    EXPECT_NE(score_shape("boxes", DType::kFloat32, dims).reason.find("'boxes'"), std::string::npos);
}

// As many requests of these rows as there are rows.
template <typename T>
Observation observe_rows(const std::vector<T>& values, DType type, int64_t classes, size_t skew = 0) {
  std::vector<std::byte> bytes(values.size() * sizeof(T) + skew);
  std::memcpy(bytes.data() + skew, values.data(), values.size() * sizeof(T));
  LiveScores live;
  for (size_t i = 0; i < values.size() / static_cast<size_t>(classes); ++i)
    live.add({.name = "y", .dtype = type, .bytes = std::span(bytes).subspan(skew)}, {.classes = classes});
  Observation o;
  live.copy_to(o);
  return o;
}

TEST(Scores, RequestsCountOnceWhateverTheirRows) {
  const std::vector<float> rows = {0, 0, 9, 0, 0.25f, 0.75f, 1, 0};  // of 2 classes
  const Observation o = observe_rows(rows, DType::kFloat32, 2);
  EXPECT_EQ(o.confidence.count(), 4);
  EXPECT_EQ(o.confidence.counts[25], 1);
  EXPECT_EQ(o.confidence.counts[37], 1);
  EXPECT_EQ(o.confidence.counts[49], 2);
  EXPECT_NEAR(o.confidence.mean(), (0.5 + 0.99988 + 0.75 + 1) / 4, 1e-4);
  EXPECT_NEAR(o.margin.mean(), (0 + 0.99975 + 0.5 + 1) / 4, 1e-4);
  std::vector<uint16_t> halves, brains;
  for (const float v : rows) halves.push_back(float_to_half(v)), brains.push_back(float_to_bfloat16(v));
  for (const Observation& other : {observe_rows(rows, DType::kFloat32, 2, 1), observe_rows(halves, DType::kFloat16, 2),
                                   observe_rows(brains, DType::kBfloat16, 2),
                                   observe_rows(std::vector<double>(rows.begin(), rows.end()), DType::kFloat64, 2)})
    EXPECT_EQ(other.confidence.counts, o.confidence.counts);
  EXPECT_EQ(observe_rows(std::vector<float>{1, 2, 3}, DType::kFloat32, 2).confidence.count(), 0) << "not whole rows";
}

TEST(Scores, WideOutputsAreSampled) {
  const int64_t classes = 4096;
  LiveScores live;
  std::vector<float> row(static_cast<size_t>(classes), 0.0f);
  for (int i = 0; i < 100; ++i)
    live.add({.name = "y", .dtype = DType::kFloat32, .bytes = std::as_bytes(std::span(row))}, {.classes = classes});
  Observation o;
  live.copy_to(o);
  EXPECT_EQ(o.confidence.count(), 25);
  EXPECT_EQ(o.confidence.counts[0], 25);
}

}  // namespace
}  // namespace slipway
