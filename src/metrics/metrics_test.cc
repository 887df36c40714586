#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "base/random.h"
#include "metrics/classification.h"
#include "metrics/distance.h"
#include "metrics/latency.h"
#include "metrics/significance.h"

namespace slipway {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

TEST(Classification, TopK) {
  EXPECT_EQ(argmax(Floats{1, 3, 3, 2}), 1);
  EXPECT_EQ(argmax(Floats{kNaN, -kInf, kNaN}), 1);
  EXPECT_EQ(argmax(Floats{kNaN}), -1);
  EXPECT_EQ(argmax(Floats{}), -1);
  const Floats scores = {0.1f, 0.4f, 0.4f, 0.05f};
  EXPECT_TRUE(in_top_k(scores, 1, 1));
  EXPECT_FALSE(in_top_k(scores, 2, 1));
  EXPECT_TRUE(in_top_k(scores, 2, 2));
  EXPECT_FALSE(in_top_k(scores, 3, 3));
  EXPECT_FALSE(in_top_k(scores, 4, 5));
  EXPECT_FALSE(in_top_k(Floats{kNaN, 1}, 0, 2));
}

TEST(Classification, Agreement) {
  EXPECT_EQ(agreement(std::vector<int64_t>{1, 2, 3, 4}, std::vector<int64_t>{1, 2, 0, 4}), 0.75);
  EXPECT_EQ(agreement({}, {}), 1);
  EXPECT_EQ(agreement(std::vector<int64_t>{-1, 2}, std::vector<int64_t>{-1, 2}), 0.5) << "no prediction equals nothing";
}

TEST(Classification, Chance) {
  const auto chance = [](const std::function<int64_t(int64_t)>& label, const std::function<int64_t(int64_t)>& predict,
                         int64_t count = 1000) {
    ConfusionMatrix m(10);
    for (int64_t i = 0; i < count; ++i) m.add(label(i), predict(i));
    return chance_agreement(m);
  };
  const auto even = [](int64_t i) { return i % 10; };
  const auto rare = [](int64_t i) -> int64_t { return i % 20 == 0; };
  EXPECT_NEAR(chance(even, even).accuracy, 0.1, 1e-12);
  EXPECT_LT(chance(even, even).p, 1e-100);
  EXPECT_GT(chance(even, [](int64_t i) { return i / 10 % 10; }).p, 0.4) << "one in ten right";
  EXPECT_EQ(chance(even, [](int64_t i) { return (i + 1) % 10; }).p, 1) << "all classes numbered one too high";
  const ChanceAgreement constant = chance(rare, [](int64_t) { return 0; });
  EXPECT_NEAR(constant.accuracy, 0.95, 1e-12);
  EXPECT_GT(constant.p, 0.4) << "95 % right by saying one class";
  EXPECT_LT(chance(rare, [&](int64_t i) { return i % 40 == 0 ? 0 : rare(i); }).p, 1e-3)
      << "half of the rare ones found";
  EXPECT_FALSE(chance([](int64_t) { return 3; }, [](int64_t) { return 3; }).possible);
  EXPECT_EQ(chance(even, [](int64_t) { return -1; }).p, 1) << "no prediction at all";
  EXPECT_GT(chance(even, even, 2).p, 1e-3);
}

TEST(Classification, ConfusionMatrix) {
  ConfusionMatrix m(4);  // class 3 has no samples
  m.add(0, 0, 8);
  m.add(0, 1, 2);
  m.add(1, 1, 3);
  m.add(1, 0, 1);
  m.add(2, -1);  // no prediction
  m.add(2, 99);
  EXPECT_EQ(m.total(), 16);
  EXPECT_EQ(m.correct(), 11);
  EXPECT_EQ(m.at(2, -1), 2);
  EXPECT_DOUBLE_EQ(m.accuracy(), 11.0 / 16);
  const ClassScores zero = m.scores(0), one = m.scores(1), two = m.scores(2), three = m.scores(3);
  EXPECT_EQ(zero.support, 10);
  EXPECT_DOUBLE_EQ(zero.precision, 8.0 / 9);
  EXPECT_DOUBLE_EQ(zero.recall, 0.8);
  EXPECT_DOUBLE_EQ(zero.f1, 16.0 / 19);
  EXPECT_DOUBLE_EQ(one.f1, 6.0 / 9);
  EXPECT_EQ(two.recall + two.precision + two.f1 + three.f1, 0);
  EXPECT_DOUBLE_EQ(m.macro_f1(), (16.0 / 19 + 6.0 / 9) / 3);
  EXPECT_DOUBLE_EQ(m.macro_recall(), (0.8 + 0.75) / 3);
  ConfusionMatrix twice(4);
  twice.merge(m);
  twice.merge(m);
  EXPECT_EQ(twice.total(), 32);
  EXPECT_DOUBLE_EQ(twice.macro_f1(), m.macro_f1());
  EXPECT_EQ(ConfusionMatrix(3).accuracy(), 0);
}

TEST(Distance, ClosedForms) {
  const Floats x = {3, 4}, y = {4, 3}, zero = {0, 0};
  EXPECT_DOUBLE_EQ(distance(x, y).cosine(), 24.0 / 25);
  EXPECT_DOUBLE_EQ(distance(x, y).mse(), 1);
  EXPECT_DOUBLE_EQ(distance(x, y).max_abs(), 1);
  EXPECT_DOUBLE_EQ(distance(x, y).sqnr_db(), 20 * std::log10(5 / std::sqrt(2)));
  EXPECT_DOUBLE_EQ(distance(x, y).psnr_db(10), 20);
  EXPECT_EQ(distance(zero, zero).cosine(), 1);
  EXPECT_EQ(distance(x, zero).cosine(), 0);
  EXPECT_EQ(distance(zero, x).cosine(), 0);
  EXPECT_EQ(distance(x, Floats{-3, -4}).cosine(), -1);
  EXPECT_EQ(distance(x, x).psnr_db(1), std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(distance(x, x).sqnr_db(), 20 * std::log10(5 / std::numeric_limits<double>::epsilon()));
  const float huge = std::numeric_limits<float>::max();
  EXPECT_DOUBLE_EQ(distance(Floats{huge, huge}, Floats{huge, huge}).cosine(), 1);
  EXPECT_TRUE(std::isnan(distance(Floats{kNaN, 1}, Floats{1, 5}).max_abs()));
  EXPECT_TRUE(std::isnan(distance(Floats{kInf, 1}, Floats{kInf, 1}).cosine()));
}

TEST(Distance, PartsMergeToTheWhole) {
  const Floats x = {1, 2, 3, 4}, y = {1, 2.5f, 2, 4};
  Distance parts = distance(std::span(x).first(2), std::span(y).first(2));
  parts.merge(distance(std::span(x).last(2), std::span(y).last(2)));
  EXPECT_DOUBLE_EQ(parts.cosine(), distance(x, y).cosine());
  EXPECT_EQ(parts.mse(), 1.25 / 4);
  EXPECT_EQ(parts.count(), 4);
}

TEST(Distance, SqnrOfAQuantisedSine) {
  for (const int bits : {6, 8, 10}) {
    Floats x, y;
    const double step = std::exp2(1 - bits);
    for (int i = 0; i < 100000; ++i) {
      const double v = std::sin(i * 2 * std::numbers::pi * 0.1234567);
      x.push_back(static_cast<float>(v));
      y.push_back(static_cast<float>(std::round(v / step) * step));
    }
    EXPECT_NEAR(distance(x, y).sqnr_db(), 6.02 * bits + 1.76, 0.2) << bits;
  }
}

TEST(Distance, KullbackLeibler) {
  EXPECT_DOUBLE_EQ(kl_of_probabilities(Floats{0.5f, 0.5f}, Floats{0.25f, 0.75f}),
                   0.5 * std::log(2) + 0.5 * std::log(2.0 / 3));
  EXPECT_EQ(kl_of_probabilities(Floats{1, 0}, Floats{1, 0}), 0);
  EXPECT_DOUBLE_EQ(kl_of_probabilities(Floats{0, 1}, Floats{1, 0}, 1e-6), -std::log(1e-6));
  const float third = std::log(3.0f);
  EXPECT_NEAR(kl_of_logits(Floats{7, 7}, Floats{0, third}), 0.5 * std::log(2) + 0.5 * std::log(2.0 / 3), 1e-7);
  EXPECT_NEAR(kl_of_logits(Floats{1, 2, 3}, Floats{101, 102, 103}), 0, 1e-12);
  EXPECT_NEAR(kl_of_logits(Floats{0, 0}, Floats{0, -kInf}, 1e-6),
              0.5 * std::log(0.5) - 0.5 * std::log(1e-6) + 0.5 * std::log(0.5), 1e-12);
  EXPECT_EQ(kl_of_logits({}, {}), 0);
}

TEST(Latency, QuantilesAsNumpy) {
  const Doubles v = {4, 1, 3, 2};
  EXPECT_EQ(quantile(v, 0), 1);
  EXPECT_EQ(quantile(v, 0.25), 1.75);
  EXPECT_EQ(quantile(v, 0.5), 2.5);
  EXPECT_EQ(quantile(v, 1), 4);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
  const SampleSummary s = summarize(v);
  EXPECT_EQ(s.mean, 2.5);
  EXPECT_DOUBLE_EQ(s.std, std::sqrt(5.0 / 3));
  EXPECT_DOUBLE_EQ(s.cv, s.std / 2.5);
  EXPECT_DOUBLE_EQ(s.p99, 3.97);
  EXPECT_EQ(summarize(Doubles{7}).std, 0);
}

TEST(Latency, RatioIntervalOfPairs) {
  Random random(3);
  Doubles base, twice, same;
  for (int i = 0; i < 200; ++i) {
    const double load = 1 + 5 * random.uniform();  // strikes both of a pair
    base.push_back(load);
    twice.push_back(2 * load);
    same.push_back(load + 0.1 * random.normal());
  }
  const Interval exact = median_ratio_interval(base, twice);
  EXPECT_DOUBLE_EQ(exact.value, 2);
  EXPECT_DOUBLE_EQ(exact.low, 2);
  EXPECT_DOUBLE_EQ(exact.high, 2);
  const Interval near = median_ratio_interval(base, same);
  EXPECT_LT(near.low, 1);
  EXPECT_GT(near.high, 1);
  EXPECT_LT(near.high - near.low, 0.1);
  EXPECT_EQ(near.low, median_ratio_interval(base, same).low);  // seeded
}

TEST(Latency, SpeedUpIsStatedOnlyWhereEverythingAgrees) {
  EXPECT_EQ(speed_up(1, 0.5, {0.5, 0.48, 0.52}).value, 2);
  EXPECT_EQ(speed_up(1, 0.5, {0.5, 0.48, 0.52}).note, "");
  EXPECT_EQ(speed_up(1, 2, {2, 1.9, 2.1}).value, 0.5);
  const auto silent = [](double shown, const Interval& ratio, const char* why) {
    const SpeedUp s = speed_up(1, shown, ratio);
    EXPECT_EQ(s.value, 0);
    EXPECT_NE(s.note.find(why), std::string::npos) << s.note;
  };
  silent(0.5, {0.5, 0.4, 0.7}, "unsteady");
  silent(1.2, {0.8, 0.78, 0.82}, "contradict");
  silent(1, {1, 0.97, 1.02}, "no difference");
  silent(1, {std::nan(""), std::nan(""), std::nan("")}, "unsteady");
}

TEST(Latency, QuantileRatioOfRounds) {
  Random random(3);
  const auto rounds_of = [&](double scale, int stalled) {
    std::vector<std::vector<double>> rounds(20);
    for (auto& round : rounds)
      for (int i = 0; i < 25; ++i) round.push_back(scale * (1 + 0.1 * random.uniform()));
    for (int i = 0; i < stalled; ++i)
      for (int k = 0; k < 8; ++k) rounds[static_cast<size_t>(i * 5)][static_cast<size_t>(k)] *= 9;
    return rounds;
  };
  const auto base = rounds_of(1, 0);
  const Interval twice = quantile_ratio_interval(base, rounds_of(2, 0), 0.99);
  EXPECT_NEAR(twice.value, 2, 0.1);
  EXPECT_GT(twice.low, 1.8);
  EXPECT_LT(twice.high, 2.2);
  // One stall that strikes eight requests of one round says nothing: it may as well have struck the other side.
  const Interval stall = quantile_ratio_interval(base, rounds_of(1, 1), 0.99);
  EXPECT_GT(stall.value, 5);
  EXPECT_LT(stall.low, 1.2);
  // Stalls in four rounds are the candidate's.
  EXPECT_GT(quantile_ratio_interval(base, rounds_of(1, 4), 0.99).low, 5);
  EXPECT_EQ(quantile_ratio_interval({{}, {}}, {{1}, {2}}, 0.99).value, 0);
  EXPECT_EQ(quantile_ratio_interval({}, {}, 0.99).value, 0);
}

TEST(Latency, RatioIntervalCoversTheTruth) {
  Random random(11);
  int covered = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    Doubles base, slower;
    for (int i = 0; i < 60; ++i) {
      base.push_back(std::exp(0.3 * random.normal()));
      slower.push_back(1.1 * std::exp(0.3 * random.normal()));
    }
    const Interval i = median_ratio_interval(base, slower, 0.95, 400, static_cast<uint64_t>(trial));
    covered += i.low <= 1.1 && 1.1 <= i.high;
  }
  EXPECT_GE(covered, kTrials * 0.90);
  EXPECT_LE(covered, kTrials * 0.995);
}

TEST(Latency, SampleCounts) {
  EXPECT_EQ(min_samples_for_quantile(0.5), 20);
  EXPECT_EQ(min_samples_for_quantile(0.95), 200);
  EXPECT_EQ(min_samples_for_quantile(0.99), 1000);
  EXPECT_EQ(samples_for_quantile(0.90, 0.99, 0.0050), 23886);  // MLPerf's table, rounded up
  EXPECT_EQ(samples_for_quantile(0.95, 0.99, 0.0025), 50426);
  EXPECT_EQ(samples_for_quantile(0.97, 0.99, 0.0015), 85812);
  EXPECT_EQ(samples_for_quantile(0.99, 0.99, 0.0005), 262742);
  Doubles v;
  for (int i = 1; i <= 100; ++i) v.push_back(i);
  const Interval median = quantile_interval(v, 0.5);
  EXPECT_EQ(median.value, 50.5);
  EXPECT_EQ(median.low, 40);
  EXPECT_EQ(median.high, 61);
  EXPECT_EQ(quantile_interval(Doubles{1, 2}, 0.99).high, 2);
}

TEST(Significance, Normal) {
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-12);
  EXPECT_NEAR(normal_quantile(0.5), 0, 1e-12);
  EXPECT_NEAR(normal_cdf(1.959963984540054), 0.975, 1e-12);
}

TEST(Significance, Wilson) {
  const Interval i = wilson_interval(8, 10);
  EXPECT_NEAR(i.low, 0.4902, 5e-5);
  EXPECT_NEAR(i.high, 0.9433, 5e-5);
  EXPECT_EQ(wilson_interval(0, 5).low, 0);
  EXPECT_NEAR(wilson_interval(5, 5).high, 1, 1e-15);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(Significance, BinomialTail) {
  EXPECT_NEAR(binomial_upper_tail(3, 3, 0.5), 0.125, 1e-12);
  EXPECT_NEAR(binomial_upper_tail(2, 3, 0.5), 0.5, 1e-12);
  EXPECT_NEAR(binomial_upper_tail(1, 4, 0.1), 1 - std::pow(0.9, 4), 1e-12);
  EXPECT_EQ(binomial_upper_tail(0, 5, 0.2), 1);
  EXPECT_EQ(binomial_upper_tail(6, 5, 0.2), 0);
  EXPECT_EQ(binomial_upper_tail(1, 5, 0), 0);
  EXPECT_EQ(binomial_upper_tail(5, 5, 1), 1);
  EXPECT_NEAR(binomial_upper_tail(10000, 20000, 0.5), 0.5, 0.005);
}

TEST(Significance, McNemar) {
  EXPECT_NEAR(mcnemar_exact(1, 9), 2 * 11 / 1024.0, 1e-12);
  EXPECT_NEAR(mcnemar_exact(9, 1), 2 * 11 / 1024.0, 1e-12);
  EXPECT_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_EQ(mcnemar_exact(5, 5), 1);
  EXPECT_LT(mcnemar_exact(400, 600), 1e-9);
}

TEST(Significance, TwoProportions) {
  const TestResult r = two_proportion_z(45, 100, 55, 100);
  EXPECT_NEAR(r.statistic, -0.1, 1e-12);
  EXPECT_NEAR(r.z, -std::sqrt(2), 1e-12);
  EXPECT_NEAR(r.p, 0.15729920705, 1e-9);
  EXPECT_EQ(two_proportion_z(5, 5, 5, 5).p, 1);
}

TEST(Significance, MannWhitney) {
  const TestResult r = mann_whitney_u(Doubles{1, 2, 3}, Doubles{4, 5, 6});
  EXPECT_EQ(r.statistic, 0);
  EXPECT_NEAR(r.z, -4 / std::sqrt(5.25), 1e-12);
  EXPECT_NEAR(r.p, 0.0808556, 1e-6);
  const TestResult tied = mann_whitney_u(Doubles{1, 2, 2, 3}, Doubles{2, 3, 4, 4});
  EXPECT_EQ(tied.statistic, 2.5);
  EXPECT_NEAR(tied.z, -5 / std::sqrt(16.0 / 12 * (9 - 36.0 / 56)), 1e-12);
  EXPECT_EQ(mann_whitney_u(Doubles{1, 1}, Doubles{1, 1}).p, 1);
  EXPECT_GT(mann_whitney_u(Doubles{5, 6}, Doubles{1, 2}).z, 0);
}

}  // namespace
}  // namespace slipway
