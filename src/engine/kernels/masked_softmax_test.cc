// Scaled and masked softmax rows on every instruction set against the reference evaluation: all tails between guard
// pages, in place, masks of both kinds that vary along the row or not, rows that are masked all over, NaN, infinities.
#include "engine/kernels/masked_softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/cpu.h"
#include "engine/kernels/guarded.h"
#include "engine/kernels/masked_softmax_rows.h"
#include "engine/kernels/ulp.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct MaskedSoftmaxSet {
  const char* name;
  MaskedSoftmaxRun run;
};

std::vector<MaskedSoftmaxSet> masked_softmax_sets() {
  std::vector<MaskedSoftmaxSet> list = {{"baseline", kMaskedSoftmaxBaseline}};
  if (cpu_features().avx2) list.push_back({"avx2", kMaskedSoftmaxAvx2});
  if (cpu_features().avx512) list.push_back({"avx512", kMaskedSoftmaxAvx512});
  return list;
}

/// A row with its mask, and what must come out.
struct MaskedTrial {
  int64_t count;
  float scale, fill = 0;
  bool adds, selects, keeps, guard, whole;
  std::vector<float> x, added;
  std::vector<uint8_t> kept;
  std::vector<double> want;

  void evaluate() {
    std::vector<double> scores;
    for (size_t i = 0; i < x.size(); ++i) {
      float v = x[i] * scale;
      if (adds) v += added[whole ? i : 0];
      if (selects && (kept[whole ? i : 0] != 0) != keeps) v = fill;
      scores.push_back(static_cast<double>(v));
    }
    const OpCall call{"Softmax", 13, {{"axis", int64_t{-1}}}};
    want = to_doubles(call.run({Tensor::of<double>({count}, scores)})[0]);
    for (double& v : want)
      if (guard && std::isnan(v)) v = 0;
  }
  // Each term of the sum may be rounded to a denormal.
  void expect(const float* got, const std::string& where) const {
    const double lost = std::ldexp(static_cast<double>(count), -149);
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_TRUE(std::abs(static_cast<double>(got[i]) - want[i]) <= lost || ulp_error(got[i], want[i]) <= 3)
          << where << " element " << i << " is " << got[i] << " instead of " << want[i];
  }
};

MaskedTrial random_masked_trial(Random& random, int round) {
  MaskedTrial t{.count = static_cast<int64_t>(1 + random.below(round % 8 == 0 ? 700 : 50)),
                .scale = round % 4 == 1 ? 1.0f : static_cast<float>(random.normal()),
                .adds = round % 3 == 1,
                .selects = round % 3 == 2,
                .keeps = random.below(2) == 0,
                .guard = random.below(2) == 0,
                .whole = random.below(4) != 0};
  const float fills[] = {kMinusInfinity, -1e4f, std::numeric_limits<float>::lowest(), 0};
  t.fill = fills[random.below(4)];
  const double spread = std::ldexp(1.0, static_cast<int>(random.below(10)) - 1);
  for (int64_t i = 0; i < t.count; ++i) {
    t.x.push_back(round % 7 == 0 && random.below(40) == 0 ? hard_float(random)
                                                          : static_cast<float>(random.normal() * spread));
    const double choice = random.uniform();
    t.added.push_back(round % 10 == 4 || choice < 0.4 ? kMinusInfinity : choice < 0.5 ? -1e9f : 0.5f);
    t.kept.push_back(round % 10 == 5 ? !t.keeps : choice < 0.5);
  }
  t.evaluate();
  return t;
}

TEST(MaskedSoftmax, RowsKeepTheirBoundsBetweenGuardPagesAndInPlace) {
  Random random(31);
  int nans = 0, guarded = 0;
  for (int round = 0; round < 3000; ++round) {
    const MaskedTrial t = random_masked_trial(random, round);
    nans += std::isnan(t.want[0]);
    guarded += t.guard && t.want[0] == 0 && t.want.back() == 0;
    const size_t bytes = t.x.size() * sizeof(float), places = t.whole ? t.x.size() : 1;
    for (const MaskedSoftmaxSet& set : masked_softmax_sets()) {
      const std::string where = fmt::format("{} round {} of {}", set.name, round, t.count);
      Guarded x(bytes), y(bytes), added(places * sizeof(float)), kept(places);
      std::memcpy(x.data(), t.x.data(), bytes);
      std::memcpy(added.data(), t.added.data(), places * sizeof(float));
      std::memcpy(kept.data(), t.kept.data(), places);
      MaskedSoftmaxBlock row = {x.as<float>(),
                                t.adds ? added.as<float>() : nullptr,
                                t.selects ? kept.data() : nullptr,
                                y.as<float>(),
                                1,
                                t.count,
                                0,
                                t.scale,
                                t.fill,
                                t.whole,
                                t.keeps,
                                t.guard};
      set.run(&row);
      t.expect(y.as<float>(), where);
      row.y = x.as<float>();
      set.run(&row);
      EXPECT_EQ(std::memcmp(x.data(), y.data(), bytes), 0) << where << " in place";
    }
  }
  EXPECT_GE(nans, 50);
  EXPECT_GE(guarded, 50);
}

TEST(MaskedSoftmax, BroadcastsTheMaskAsTheReference) {
  Random random(32);
  const Dims dims = {2, 3, 4, 5};
  std::vector<float> x(static_cast<size_t>(element_count(dims)));
  for (float& v : x) v = static_cast<float>(random.normal());
  for (const Dims& mask_dims : {Dims{}, Dims{5}, Dims{1}, Dims{4, 5}, Dims{4, 1}, Dims{2, 1, 1, 5}, Dims{3, 1, 5},
                                Dims{1, 3, 4, 1}, Dims{2, 3, 4, 5}, Dims{2, 1, 4, 1}}) {
    std::vector<float> mask(static_cast<size_t>(element_count(mask_dims)));
    for (float& v : mask) v = static_cast<float>(random.normal());
    const OpCall call{.op = "Softmax", .opset = 1, .attributes = {{"scale", 0.25f}}, .domain = "slipway"};
    const std::vector<float> want =
        to_floats(call.run({Tensor::of<float>(dims, x), Tensor::of<float>(mask_dims, mask)})[0]);
    const MaskedSoftmax softmax{.dims = dims, .mask_dims = mask_dims, .adds = true, .scale = 0.25f};
    std::vector<float> y(x.size());
    softmax.run(x.data(), mask.data(), y.data(), 3);
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], want[i], 1e-6f) << to_string(mask_dims) << " at " << i;
  }
}

}  // namespace
}  // namespace slipway
