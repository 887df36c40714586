#include <cmath>
#include <complex>
#include <numbers>

#include "base/random.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall dft(Attributes attributes = {}) { return {.op = "DFT", .opset = 20, .attributes = std::move(attributes)}; }

// By the definition, term by term.
std::vector<double> plain_dft(const std::vector<double>& x, double sign) {
  const size_t n = x.size() / 2;
  std::vector<double> y;
  for (size_t k = 0; k < n; ++k) {
    std::complex<double> sum;
    for (size_t i = 0; i < n; ++i)
      sum += std::complex(x[2 * i], x[2 * i + 1]) *
             std::polar(1.0, sign * 2 * std::numbers::pi * static_cast<double>(k * i % n) / static_cast<double>(n));
    y.insert(y.end(), {sum.real(), sum.imag()});
  }
  return y;
}

TEST(Signal, TransformOfAnyLengthIsTheDefinition) {
  Random random(7);
  for (int64_t n : {1, 2, 3, 4, 5, 6, 8, 12, 30, 49, 64, 97}) {
    std::vector<double> x(static_cast<size_t>(2 * n));
    for (double& v : x) v = random.normal();
    const Tensor in = from_doubles(DType::kFloat64, {1, n, 2}, x);
    const Tensor there = dft().run({in})[0];
    expect_near(there, {1, n, 2}, plain_dft(x, -1), 1e-11);
    expect_near(dft({{"inverse", int64_t{1}}}).run({there})[0], {1, n, 2}, x, 1e-12);
  }
}

TEST(Signal, OneSidedKeepsHalfAndComesBack) {
  const Tensor x = Tensor::of<double>({1, 5, 1}, {1, 2, 3, 4, 6});
  const Tensor half = dft({{"onesided", int64_t{1}}}).run({x})[0];
  EXPECT_EQ(half.dims(), (Dims{1, 3, 2}));
  const OpCall back = dft({{"onesided", int64_t{1}}, {"inverse", int64_t{1}}});
  expect_near(back.run({half, Tensor::scalar<int64_t>(5)})[0], {1, 5, 1}, to_doubles(x), 1e-12);
  EXPECT_EQ(back.run({half})[0].dims(), (Dims{1, 4, 1}));  // without a length: an even one
  EXPECT_THROW(dft({{"onesided", int64_t{1}}}).run({half}), Error);
}

TEST(Signal, LengthPadsOrCutsAlongTheAxis) {
  const Tensor x = Tensor::of<float>({2, 2, 1}, {1, 2, 3, 4}), axis = Tensor::scalar<int64_t>(0);
  expect_near(dft().run({x, Tensor::scalar<int64_t>(1), axis})[0], {1, 2, 2}, {1, 0, 2, 0});
  EXPECT_EQ(dft().run({x, Tensor::scalar<int64_t>(3), axis})[0].dims(), (Dims{3, 2, 2}));
  EXPECT_THROW(dft().run({x, Tensor(), Tensor::scalar<int64_t>(2)}), Error);
  EXPECT_THROW(dft().run({x, Tensor::scalar<int64_t>(0)}), Error);
  EXPECT_THROW(dft().run({x, Tensor::scalar<int64_t>(int64_t{1} << 40)}), Error);
  const auto known = dft({{"onesided", int64_t{1}}}).infer({facts(DType::kFloat32, Shape({Dim("N"), 9, 1}))});
  EXPECT_EQ(known[0].shape, Shape({Dim("N"), 5, 2}));
}

TEST(Signal, ShortTimeFramesAreWindowedTransforms) {
  const Tensor x = Tensor::of<float>({1, 6, 1}, {1, 2, 3, 4, 5, 6}), window = Tensor::of<float>({2}, {1, 2});
  const OpCall stft{.op = "STFT", .opset = 17};
  const Tensor y = stft.run({x, Tensor::scalar<int64_t>(2), window})[0];
  expect_near(y, {1, 3, 2, 2}, {5, 0, -3, 0, 11, 0, -5, 0, 17, 0, -7, 0});
  EXPECT_EQ(stft.run({x, Tensor::scalar<int64_t>(1), Tensor(), Tensor::scalar<int64_t>(4)})[0].dims(),
            (Dims{1, 3, 3, 2}));
  EXPECT_THROW(stft.run({x, Tensor::scalar<int64_t>(0), window}), Error);
  EXPECT_THROW(stft.run({x, Tensor::scalar<int64_t>(1), window, Tensor::scalar<int64_t>(1)}), Error);
}

TEST(Signal, MelTrianglesRiseToOneAndFall) {
  const OpCall mel{.op = "MelWeightMatrix", .opset = 17};
  const auto i = [](int64_t v) { return Tensor::scalar<int64_t>(v); };
  const auto f = [](float v) { return Tensor::scalar<float>(v); };
  const Tensor weights = mel.run({i(4), i(64), i(8000), f(0), f(4000)})[0];
  EXPECT_EQ(weights.dims(), (Dims{33, 4}));
  const std::vector<float> w = to_floats(weights);
  for (size_t band = 0; band < 4; ++band) {
    size_t peak = 0;
    for (size_t bin = 0; bin < 33; ++bin)
      if (w[bin * 4 + band] > w[peak * 4 + band]) peak = bin;
    EXPECT_EQ(w[peak * 4 + band], 1);
    for (size_t bin = 1; bin < 33; ++bin) {
      const float step = w[bin * 4 + band] - w[(bin - 1) * 4 + band];
      EXPECT_TRUE(bin <= peak ? step >= 0 : step <= 0) << band << " " << bin;
    }
  }
  EXPECT_THROW(mel.run({i(4), i(64), i(8000), f(0), f(9000)}), Error);
  EXPECT_THROW(mel.run({i(int64_t{1} << 40), i(64), i(8000), f(0), f(4000)}), Error);
}

}  // namespace
}  // namespace slipway
