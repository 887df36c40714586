#include "train/fake_quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/cpu.h"
#include "base/random.h"
#include "train/fake_quantize_rows.h"

namespace slipway {
namespace {

std::vector<float> random_floats(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(random.normal());
  return values;
}

TEST(FakeQuantizeRows, EveryIsaGivesTheSameBits) {
  if (!cpu_features().avx2) GTEST_SKIP() << "this CPU has no AVX2";
  for (const size_t count : {0u, 1u, 7u, 8u, 9u, 31u, 257u, 4099u}) {
    std::vector<float> x = random_floats(count, count), g = random_floats(count, count + 1);
    for (size_t i = 0; i + 3 < count; i += 5) x[i] = 0.05f * (static_cast<float>(i % 11) - 5.5f);  // ties
    if (count > 30) x[17] = NAN, x[18] = INFINITY, x[19] = -INFINITY;
    const FakeQuantizeStep step{0.05f, -8, 7};
    std::vector<float> y(count), y2(count), gx(count), gx2(count);
    kFakeQuantizeRows.forward(x.data(), y.data(), static_cast<int64_t>(count), &step);
    kFakeQuantizeRowsAvx2.forward(x.data(), y2.data(), static_cast<int64_t>(count), &step);
    const float a = kFakeQuantizeRows.backward(x.data(), g.data(), gx.data(), static_cast<int64_t>(count), &step);
    const float b = kFakeQuantizeRowsAvx2.backward(x.data(), g.data(), gx2.data(), static_cast<int64_t>(count), &step);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(y[i] == y2[i] || (std::isnan(y[i]) && std::isnan(y2[i]))) << i;
      EXPECT_EQ(gx[i], gx2[i]) << i;
    }
    EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << count;
  }
}

TEST(FakeQuantize, ForwardIsTheGridOfQuantizeLinear) {
  const std::vector<float> values = random_floats(1000, 3);
  const at::Tensor x = at::tensor(values);
  const QuantParams params{0.013f, 0};
  const at::Tensor y = fake_quantize(x, at::tensor({params.scale}), {-128, 127}, 1);
  for (int64_t i = 0; i < 1000; ++i) {
    const int32_t code = quantize_value(values[static_cast<size_t>(i)], params, kSymmetricInt8);
    EXPECT_EQ(y[i].item<float>(), dequantize_value(code, params)) << i;
  }
}

TEST(FakeQuantize, GradientsAreThoseOfLsq) {
  const at::Tensor x = at::tensor({0.26f, -0.24f, 5.0f, -9.0f, 0.0f}).requires_grad_();
  const at::Tensor scale = at::tensor({0.1f}).requires_grad_();
  fake_quantize(x, scale, {-8, 7}, 0.5).sum().backward();
  const std::vector<float> straight = {1, 1, 0, 0, 1};
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(x.grad()[i].item<float>(), straight[static_cast<size_t>(i)]) << i;
  // (3 − 2.6) + (−2 + 2.4) + 7 − 8 + 0, halved.
  EXPECT_NEAR(scale.grad()[0].item<float>(), 0.5 * (0.4 + 0.4 + 7 - 8), 1e-5);
}

TEST(FakeQuantize, ChannelsKeepTheirOwnScales) {
  for (const int64_t axis : {0, 1, 2}) {
    const at::Tensor x = at::tensor(random_floats(60, 5)).view({3, 4, 5});
    const at::Tensor matrix = axis == 2 ? x.reshape({12, 5}) : x;
    const int64_t at = axis == 2 ? 1 : axis, channels = matrix.size(at);
    at::Tensor scale = at::empty({channels});
    for (int64_t c = 0; c < channels; ++c) scale[c] = 0.05f * static_cast<float>(c + 1);
    at::Tensor leaf = matrix.clone().requires_grad_();
    at::Tensor leaf_scale = scale.clone().requires_grad_();
    const at::Tensor g = at::tensor(random_floats(60, 6)).view_as(matrix);
    const at::Tensor y = fake_quantize_channels(leaf, leaf_scale, at, {-8, 7}, 0.25);
    (y * g).sum().backward();
    for (int64_t c = 0; c < channels; ++c) {
      const at::Tensor one = matrix.select(at, c).contiguous().requires_grad_();
      const at::Tensor one_scale = scale.slice(0, c, c + 1).clone().requires_grad_();
      const at::Tensor expected = fake_quantize(one, one_scale, {-8, 7}, 0.25);
      (expected * g.select(at, c)).sum().backward();
      EXPECT_TRUE(at::equal(y.select(at, c), expected)) << axis << c;
      EXPECT_TRUE(at::equal(leaf.grad().select(at, c), one.grad())) << axis << c;
      EXPECT_NEAR(leaf_scale.grad()[c].item<float>(), one_scale.grad()[0].item<float>(), 1e-5) << axis << c;
    }
  }
}

TEST(FakeQuantize, MemoryLayoutDoesNotMatter) {
  const at::Tensor x = at::tensor(random_floats(2 * 3 * 4 * 5, 7)).view({2, 3, 4, 5});
  const at::Tensor g = at::tensor(random_floats(2 * 3 * 4 * 5, 8)).view({2, 3, 4, 5});
  at::Tensor a = x.clone().requires_grad_();
  at::Tensor b = x.contiguous(at::MemoryFormat::ChannelsLast).requires_grad_();
  const at::Tensor s = at::tensor({0.1f}).requires_grad_(), t = at::tensor({0.1f}).requires_grad_();
  const at::Tensor y = fake_quantize(a, s, {-8, 7}, 1), z = fake_quantize(b, t, {-8, 7}, 1);
  EXPECT_TRUE(at::equal(y, z));
  (y * g).sum().backward();
  (z * g).sum().backward();
  EXPECT_TRUE(at::equal(a.grad(), b.grad()));
  EXPECT_NEAR(s.grad()[0].item<float>(), t.grad()[0].item<float>(), 1e-4);
}

TEST(FakeQuantize, ThreadsDoNotChangeTheGradient) {
  const at::Tensor x = at::tensor(random_floats(200'000, 9));
  const int threads = at::get_num_threads();
  std::vector<float> gradients;
  for (const int n : {1, 2, 3}) {
    at::set_num_threads(n);
    const at::Tensor scale = at::tensor({0.1f}).requires_grad_();
    (fake_quantize(x, scale, {-8, 7}, 1) * x).sum().backward();
    gradients.push_back(scale.grad()[0].item<float>());
  }
  at::set_num_threads(threads);
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}

}  // namespace
}  // namespace slipway
