#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Texts = std::vector<std::string>;

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
Tensor f32(Dims dims, std::initializer_list<float> values) { return Tensor::of<float>(std::move(dims), values); }

TEST(Recurrent, RnnRunsBothWaysAndStopsAtEachLength) {
  // A running sum: weights 1, the activation the identity.
  const OpCall rnn{
      .op = "RNN",
      .attributes = {{"direction", std::string("bidirectional")}, {"activations", Texts{"Affine", "Affine"}}},
      .outputs = 2};
  const Tensor x = f32({3, 2, 1}, {1, 10, 2, 20, 3, 30}), one = f32({2, 1, 1}, {1, 1});
  const auto y = rnn.run({x, one, one, Tensor(), Tensor::of<int32_t>({2}, {3, 2})});
  expect_near(y[0], {3, 2, 2, 1}, {1, 10, 6, 30, 3, 30, 5, 20, 6, 0, 3, 0});
  expect_near(y[1], {2, 2, 1}, {6, 30, 6, 30});
}

TEST(Recurrent, BatchFirstIsTheTranspose) {
  const OpCall rnn{.op = "RNN", .attributes = {{"layout", int64_t{1}}, {"activations", Texts{"Affine"}}}, .outputs = 2};
  const Tensor one = f32({1, 1, 1}, {1});
  const auto y = rnn.run({f32({2, 3, 1}, {1, 2, 3, 10, 20, 30}), one, one});
  expect_near(y[0], {2, 3, 1, 1}, {1, 3, 6, 10, 30, 60});
  expect_near(y[1], {2, 1, 1}, {6, 60});
}

TEST(Recurrent, LstmStepInClosedForm) {
  const OpCall lstm{.op = "LSTM", .outputs = 3};
  const Tensor x = f32({1, 1, 1}, {2}), w = f32({1, 4, 1}, {0.1f, 0.2f, 0.3f, 0.4f}), r = f32({1, 4, 1}, {1, 2, 3, 4});
  const Tensor bias = f32({1, 8}, {0.5f, 0, 0, 0, 0.5f, 0, 0, 0}), h = f32({1, 1, 1}, {0.1f}), c = f32({1, 1, 1}, {3});
  const Tensor peephole = f32({1, 3}, {0.01f, 0.02f, 0.03f});
  const double input = logistic(0.2 + 0.1 + 1 + 0.03), forget = logistic(0.6 + 0.3 + 0.09);
  const double cell = forget * 3 + input * std::tanh(0.8 + 0.4);
  const double hidden = logistic(0.4 + 0.2 + 0.02 * cell) * std::tanh(cell);
  const auto y = lstm.run({x, w, r, bias, Tensor(), h, c, peephole});
  expect_near(y[0], {1, 1, 1, 1}, {hidden});
  expect_near(y[1], {1, 1, 1}, {hidden});
  expect_near(y[2], {1, 1, 1}, {cell});
}

TEST(Recurrent, GruResetsBeforeOrAfterItsProduct) {
  OpCall gru{.op = "GRU"};
  const Tensor x = f32({1, 1, 1}, {1}), w = f32({1, 3, 1}, {0.1f, 0.2f, 0.3f}), r = f32({1, 3, 1}, {1, 2, 3});
  const Tensor bias = f32({1, 6}, {0, 0, 0, 0, 0, 0.7f}), h = f32({1, 1, 1}, {0.5f});
  const double z = logistic(0.1 + 0.5), reset = logistic(0.2 + 1);
  const auto expected = [&](double state) { return (1 - z) * std::tanh(0.3 + state) + z * 0.5; };
  const std::vector<Tensor> inputs = {x, w, r, bias, Tensor(), h};
  expect_near(gru.run(inputs)[0], {1, 1, 1, 1}, {expected(reset * 1.5 + 0.7)});
  gru.attributes["linear_before_reset"] = int64_t{1};
  expect_near(gru.run(inputs)[0], {1, 1, 1, 1}, {expected(reset * (1.5 + 0.7))});
}

TEST(Recurrent, InferenceAndRefusals) {
  const OpCall lstm{.op = "LSTM", .attributes = {{"hidden_size", int64_t{2}}}, .outputs = 3};
  const auto y = lstm.infer({facts(DType::kFloat32, Shape({Dim("T"), Dim("N"), 3})),
                             facts(DType::kFloat32, Shape({1, 8, 3})), facts(DType::kFloat32, Shape({1, 8, 2}))});
  EXPECT_EQ(y[0].shape, Shape({Dim("T"), 1, Dim("N"), 2}));
  EXPECT_EQ(y[2].shape, Shape({1, Dim("N"), 2}));
  const Tensor x = counting({2, 1, 3}), w = counting({1, 8, 3}), r = counting({1, 8, 2});
  EXPECT_NO_THROW(lstm.run({x, w, r}));
  EXPECT_THROW(lstm.run({x, w, counting({1, 8, 3})}), Error);
  EXPECT_THROW(lstm.run({x, w, r, counting({1, 8})}), Error);
  EXPECT_THROW(lstm.run({x, w, r, Tensor(), Tensor::of<int32_t>({1}, {3})}), Error);
  const OpCall odd{.op = "LSTM", .attributes = {{"activations", Texts{"Sigmoid", "Tanh", "Swish"}}}};
  EXPECT_THROW(odd.run({x, w, r}), Error);
  const OpCall sideways{.op = "LSTM", .attributes = {{"direction", std::string("sideways")}}};
  EXPECT_THROW(sideways.run({x, w, r}), Error);
}

}  // namespace
}  // namespace slipway
