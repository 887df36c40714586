#include "model/ops/convolution.h"

#include "base/random.h"
#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

// The definition, with no regard to speed.
std::vector<double> by_definition(const ConvGeometry& g, const std::vector<double>& x, const std::vector<double>& w) {
  const Window& win = g.window;
  const int64_t ih = win.input[0], iw = win.input[1], oh = win.output[0], ow = win.output[1];
  const int64_t kh = win.kernel[0], kw = win.kernel[1], ic = g.in_channels / g.group, oc = g.out_channels / g.group;
  std::vector<double> y;
  for (int64_t n = 0; n < g.batch; ++n)
    for (int64_t m = 0; m < g.out_channels; ++m)
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j) {
          double sum = 0;
          for (int64_t c = 0; c < ic; ++c)
            for (int64_t p = 0; p < kh; ++p)
              for (int64_t q = 0; q < kw; ++q) {
                const int64_t r = i * win.strides[0] - win.pads_begin[0] + p * win.dilations[0];
                const int64_t s = j * win.strides[1] - win.pads_begin[1] + q * win.dilations[1];
                if (r < 0 || r >= ih || s < 0 || s >= iw) continue;
                const int64_t channel = m / oc * ic + c;
                sum += x[static_cast<size_t>(((n * g.in_channels + channel) * ih + r) * iw + s)] *
                       w[static_cast<size_t>(((m * ic + c) * kh + p) * kw + q)];
              }
          y.push_back(sum);
        }
  return y;
}

TEST(Convolution, AgreesWithTheDefinitionOnRandomGeometries) {
  Random random(7);
  const auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.next() % static_cast<uint64_t>(high - low + 1));
  };
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t group = pick(1, 3), ic = pick(1, 3), oc = pick(1, 3);
    const Dims x_dims = {pick(1, 2), ic * group, pick(5, 9), pick(5, 9)};
    const Dims w_dims = {oc * group, ic, pick(1, 3), pick(1, 3)};
    Attributes attributes = {{"group", group},
                             {"strides", Ints{pick(1, 3), pick(1, 3)}},
                             {"dilations", Ints{pick(1, 2), pick(1, 2)}},
                             {"pads", Ints{pick(0, 6), pick(0, 6), pick(0, 6), pick(0, 6)}}};
    const OpCall conv{.op = "Conv", .attributes = attributes};
    const Tensor x = counting(x_dims), w = counting(w_dims);
    const ConvGeometry g = conv_geometry(conv.node(), x_dims, w_dims);
    const Tensor y = conv.run({x, w})[0];
    expect_near(y, g.output(), by_definition(g, to_doubles(x), to_doubles(w)), 1e-3);

    // The adjoint: <conv(x), z> = <x, transposed_conv(z)> for the same geometry.
    const Tensor z = counting(g.output());
    attributes.emplace("output_padding", Ints{0, 0});
    auto& padding = std::get<Ints>(attributes.at("output_padding"));
    const Window& win = g.window;
    for (size_t i = 0; i < 2; ++i)
      padding[i] =
          win.input[i] - ((win.output[i] - 1) * win.strides[i] + win.extent(i) - win.pads_begin[i] - win.pads_end[i]);
    const Tensor back = OpCall{.op = "ConvTranspose", .attributes = attributes}.run({z, w})[0];
    ASSERT_EQ(back.dims(), x_dims);
    double left = 0, right = 0;
    for (int64_t i = 0; i < y.elements(); ++i)
      left += to_doubles(y)[static_cast<size_t>(i)] * static_cast<double>(i + 1);
    for (int64_t i = 0; i < x.elements(); ++i)
      right += to_doubles(back)[static_cast<size_t>(i)] * static_cast<double>(i + 1);
    EXPECT_NEAR(left / right, 1, 1e-5);
  }
}

TEST(Convolution, OtherRanksAndBias) {
  const Tensor line = counting({1, 1, 5});
  expect_near(OpCall{"Conv"}.run({line, Tensor::of<float>({1, 1, 2}, {1, -1}), Tensor::of<float>({1}, {10})})[0],
              {1, 1, 4}, {9, 9, 9, 9});
  const Tensor cube = counting({1, 1, 2, 2, 2});
  expect_near(OpCall{"Conv"}.run({cube, Tensor::of<float>({1, 1, 2, 2, 2}, std::vector<float>(8, 1))})[0],
              {1, 1, 1, 1, 1}, {36});
  const Tensor half = cast(line, DType::kFloat16);
  EXPECT_EQ(OpCall{"Conv"}.run({half, Tensor::of<float>({1, 1, 1}, {2})})[0].dtype(), DType::kFloat16);
}

TEST(Convolution, IntegersAreExactAndWrap) {
  const Tensor x = Tensor::of<uint8_t>({1, 1, 3}, {0, 128, 255}), w = Tensor::of<int8_t>({2, 1, 1}, {-128, 127});
  const Tensor y = OpCall{"ConvInteger"}.run({x, w, Tensor::scalar<uint8_t>(128), Tensor::of<int8_t>({2}, {0, 1})})[0];
  EXPECT_TRUE(y.identical(Tensor::of<int32_t>({1, 2, 3}, {16384, 0, -16256, -16128, 0, 16002})));
}

TEST(Convolution, QLinearConvRoundsToEvenAndSaturates) {
  const Tensor x = Tensor::of<uint8_t>({1, 1, 4}, {1, 3, 5, 255}), w = Tensor::of<int8_t>({1, 1, 1}, {1});
  const Tensor one = Tensor::scalar<float>(1), half = Tensor::scalar<float>(0.5f);
  const Tensor zero = Tensor::scalar<uint8_t>(0), w_zero = Tensor::scalar<int8_t>(0);
  const Tensor y = OpCall{"QLinearConv"}.run(
      {x, half, zero, w, one, w_zero, one, Tensor::scalar<int8_t>(10), Tensor::of<int32_t>({1}, {0})})[0];
  EXPECT_TRUE(y.identical(Tensor::of<int8_t>({1, 1, 4}, {10, 12, 12, 127})));
}

TEST(Convolution, InferenceKeepsSymbols) {
  const Shape x({Dim("N"), 3, Dim("H"), 32});
  const OpCall conv{.op = "Conv", .attributes = {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{1, 2}}}};
  const auto y = conv.infer({facts(DType::kFloat32, x), facts(DType::kFloat32, Shape::of(Dims{8, 3, 3, 3}))});
  EXPECT_EQ(y[0].shape, Shape({Dim("N"), 8, Dim("H"), 16}));
  const OpCall transpose{.op = "ConvTranspose", .attributes = {{"group", int64_t{3}}}};
  const auto z = transpose.infer({facts(DType::kFloat32, x), facts(DType::kFloat32, Shape::of(Dims{3, 4, 2, 2}))});
  EXPECT_EQ(z[0].shape, Shape({Dim("N"), 12, Dim(), 33}));
}

TEST(Convolution, OperandsThatDoNotFitAreRefused) {
  const Tensor x = counting({1, 4, 5, 5}), w = counting({2, 2, 3, 3});
  EXPECT_THROW(OpCall{"Conv"}.run({x, w}), Error);
  EXPECT_THROW((OpCall{.op = "Conv", .attributes = {{"group", int64_t{3}}}}.run({x, w})), Error);
  EXPECT_THROW((OpCall{.op = "Conv", .attributes = {{"group", int64_t{0}}}}.run({x, w})), Error);
  const OpCall grouped{.op = "Conv", .attributes = {{"group", int64_t{2}}}};
  EXPECT_NO_THROW(grouped.run({x, w}));
  EXPECT_THROW(grouped.run({x, w, counting({3})}), Error);
  EXPECT_THROW(grouped.run({x, counting({2, 2})}), Error);
  EXPECT_THROW(OpCall{"ConvTranspose"}.run({x, w}), Error);
}

}  // namespace
}  // namespace slipway
