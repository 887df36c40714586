// Normalised rows on every instruction set against the reference evaluation in double: all tails between guard pages,
// in place, means far above the deviation, deviations that floats can't hold the square or the inverse of, NaN and
// infinity.
#include "engine/kernels/normalization.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/cpu.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/normalization_rows.h"
#include "engine/kernels/ulp.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

struct NormalizationSet {
  const char* name;
  NormalizationRun run;
};

std::vector<NormalizationSet> normalization_sets() {
  std::vector<NormalizationSet> list = {{"baseline", kNormalizationBaseline}};
  if (cpu_features().avx2) list.push_back({"avx2", kNormalizationAvx2});
  if (cpu_features().avx512) list.push_back({"avx512", kNormalizationAvx512});
  return list;
}

/// What to normalise, with the result in double before the bias and with it.
struct NormalizationTrial {
  int64_t rows, count;
  float epsilon;
  bool centre, has_bias, whole_scale, whole_bias;
  std::vector<float> x, scale, bias;
  std::vector<double> scaled, want;

  Tensor doubles(const std::vector<float>& v, Dims dims) const {
    return Tensor::of<double>(std::move(dims), std::vector<double>(v.begin(), v.end()));
  }
  void evaluate() {
    const OpCall call{centre ? "LayerNormalization" : "RMSNormalization", 23, {{"epsilon", epsilon}}};
    const auto row = [&](const std::vector<float>& v) { return doubles(v, {static_cast<int64_t>(v.size())}); };
    scaled = to_doubles(call.run({doubles(x, {rows, count}), row(scale)})[0]);
    want = scaled;
    for (size_t i = 0; has_bias && i < want.size(); ++i)
      want[i] += static_cast<double>(bias[whole_bias ? i % static_cast<size_t>(count) : 0]);
  }
  NormalizationBlock block(const float* from, float* to) const {
    return {from,
            scale.data(),
            has_bias ? bias.data() : nullptr,
            to,
            rows,
            count,
            static_cast<double>(epsilon),
            whole_scale,
            static_cast<int32_t>(whole_bias),
            centre};
  }
  // One rounding; sums in another order may move one that is near the middle between two floats.
  void expect(const float* got, const std::string& where) const {
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_TRUE(ulp_error(got[i], want[i]) <= 0.501 ||
                  std::abs(static_cast<double>(got[i]) - want[i]) <= 0x1p-44 * std::abs(scaled[i]))
          << where << " element " << i << " is " << got[i] << " instead of " << want[i];
  }
};

NormalizationTrial random_trial(Random& random, int round) {
  NormalizationTrial t;
  t.rows = static_cast<int64_t>(1 + random.below(4));
  t.count = static_cast<int64_t>(1 + random.below(round % 8 == 0 ? 800 : 70));
  t.epsilon = round % 5 == 0 ? 0.0f : 1e-5f;
  t.centre = random.below(2) == 0, t.has_bias = random.below(2) == 0;
  t.whole_scale = random.below(4) != 0, t.whole_bias = random.below(4) != 0;
  const double middle = round % 3 == 0 ? 1000 * random.normal() : 0;
  const double spread = std::ldexp(1.0, static_cast<int>(random.below(round % 4 == 1 ? 240 : 20)) - 10);
  const float specials[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.0f,
                            1e-42f, std::numeric_limits<float>::max()};
  const float special = specials[random.below(std::size(specials))];
  t.x.resize(static_cast<size_t>(t.rows * t.count));
  for (float& v : t.x) v = static_cast<float>(std::clamp(middle + spread * random.normal(), -3e38, 3e38));
  if (round % 6 == 2) t.x[random.below(t.x.size())] = special;
  if (round % 7 == 3) std::fill(t.x.begin(), t.x.begin() + t.count, 0.1f);  // no deviation
  t.scale.resize(static_cast<size_t>(t.whole_scale ? t.count : 1));
  t.bias.resize(static_cast<size_t>(t.whole_bias ? t.count : 1));
  for (std::vector<float>* list : {&t.scale, &t.bias}) {
    for (float& v : *list) v = static_cast<float>(random.normal() * 2);
    if (round % 9 == 4) (*list)[random.below(list->size())] = special;
  }
  t.evaluate();
  return t;
}

TEST(Normalization, RowsKeepTheirBoundsBetweenGuardPagesAndInPlace) {
  Random random(21);
  for (int round = 0; round < 1500; ++round) {
    const NormalizationTrial t = random_trial(random, round);
    const size_t bytes = t.x.size() * sizeof(float);
    for (const NormalizationSet& set : normalization_sets()) {
      const std::string where = fmt::format("{} round {}: {}x{}", set.name, round, t.rows, t.count);
      Guarded x(bytes), y(bytes);
      std::memcpy(x.data(), t.x.data(), bytes);
      NormalizationBlock block = t.block(x.as<float>(), y.as<float>());
      set.run(&block);
      t.expect(y.as<float>(), where);
      block.y = x.as<float>();
      set.run(&block);
      EXPECT_EQ(std::memcmp(x.data(), y.data(), bytes), 0) << where << " in place";
    }
    std::vector<float> y(t.x.size());
    const RowNormalization rows{.rows = t.rows,
                                .count = t.count,
                                .epsilon = static_cast<double>(t.epsilon),
                                .centre = t.centre,
                                .whole_scale = t.whole_scale,
                                .whole_bias = t.whole_bias};
    rows.run(t.x.data(), t.scale.data(), t.has_bias ? t.bias.data() : nullptr, y.data(), 1 + round % 3);
    t.expect(y.data(), fmt::format("round {} on threads", round));
  }
}

TEST(Normalization, ChannelsTakeTurns) {
  const std::vector<float> x = {1, 3, 1, 3, 10, 30, 5, 7}, scale = {1, 2}, bias = {0, 10};
  std::vector<float> y(x.size());
  const RowNormalization rows{.rows = 4, .count = 2, .epsilon = 0, .channels = 2};
  rows.run(x.data(), scale.data(), bias.data(), y.data(), 3);
  EXPECT_EQ(y, (std::vector<float>{-1, 1, 8, 12, -1, 1, 8, 12}));
}

}  // namespace
}  // namespace slipway
