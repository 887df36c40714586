#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall linear_attention(const std::string& rule, int64_t query_heads = 1) {
  return {.op = "LinearAttention",
          .opset = 27,
          .attributes = {{"update_rule", rule},
                         {"q_num_heads", query_heads},
                         {"kv_num_heads", int64_t{1}},
                         {"scale", 1.0f}},
          .outputs = 2};
}

const Tensor kOnes = Tensor::of<float>({1, 2, 1}, {1, 1}), kThenFive = Tensor::of<float>({1, 2, 1}, {3, 5});

TEST(LinearAttention, SumsWhatItHasSeen) {
  const auto y = linear_attention("linear").run({kOnes, kOnes, kThenFive});
  expect_near(y[0], {1, 2, 1}, {3, 8});
  expect_near(y[1], {1, 1, 1, 1}, {8});
}

TEST(LinearAttention, GatesForgetAndDeltaCorrects) {
  const Tensor decay = Tensor::of<float>({1, 2, 1}, {0, std::log(0.5f)});
  expect_near(linear_attention("gated").run({kOnes, kOnes, kThenFive, Tensor(), decay})[0], {1, 2, 1}, {3, 6.5});
  const Tensor rate = Tensor::of<float>({1, 2, 1}, {1, 0.5f});
  // 3 is stored; then half of what 5 differs from it.
  expect_near(linear_attention("delta").run({kOnes, kOnes, kThenFive, Tensor(), Tensor(), rate})[0], {1, 2, 1}, {3, 4});
  expect_near(linear_attention("gated_delta").run({kOnes, kOnes, kThenFive, Tensor(), decay, rate})[0], {1, 2, 1},
              {3, 3.25});
}

TEST(LinearAttention, StateGoesOnWhereItStopped) {
  const Tensor q = counting({2, 4, 6}), k = counting({2, 4, 3}), v = counting({2, 4, 2});
  const auto whole = linear_attention("linear", 2).run({q, k, v});
  const auto part = [](const Tensor& t, int64_t first) {
    std::vector<double> from = to_doubles(t), to;
    const int64_t width = t.dims()[2];
    for (int64_t b = 0; b < 2; ++b)
      to.insert(to.end(), from.begin() + (b * 4 + first) * width, from.begin() + (b * 4 + first + 2) * width);
    return from_doubles(t.dtype(), {2, 2, width}, to);
  };
  const auto first = linear_attention("linear", 2).run({part(q, 0), part(k, 0), part(v, 0)});
  const auto second = linear_attention("linear", 2).run({part(q, 2), part(k, 2), part(v, 2), first[1]});
  expect_near(second[0], {2, 2, 4}, to_doubles(part(whole[0], 2)), 1e-2);
  expect_near(second[1], {2, 1, 3, 2}, to_doubles(whole[1]), 1e-2);
}

TEST(LinearAttention, GatesComeWithTheirRules) {
  EXPECT_THROW(linear_attention("gated").run({kOnes, kOnes, kOnes}), Error);
  EXPECT_THROW(linear_attention("linear").run({kOnes, kOnes, kOnes, Tensor(), kOnes}), Error);
  EXPECT_THROW(linear_attention("other").run({kOnes, kOnes, kOnes}), Error);
}

TEST(CausalConvWithState, LooksBackAndCarriesTheRest) {
  const Tensor x = Tensor::of<float>({1, 1, 3}, {1, 2, 3}), w = Tensor::of<float>({1, 1, 3}, {100, 10, 1});
  const OpCall call{.op = "CausalConvWithState", .opset = 27, .outputs = 2};
  const auto y = call.run({x, w});
  expect_near(y[0], {1, 1, 3}, {1, 12, 123});
  expect_near(y[1], {1, 1, 2}, {2, 3});
  const auto next = call.run({Tensor::of<float>({1, 1, 1}, {4}), w, Tensor::of<float>({1}, {0.5}), y[1]});
  expect_near(next[0], {1, 1, 1}, {234.5});
  expect_near(next[1], {1, 1, 2}, {3, 4});
  EXPECT_THROW(call.run({x, w, Tensor(), x}), Error);
  const double silu = 1 / (1 + std::exp(-1.0));
  expect_near(OpCall{.op = "CausalConvWithState", .opset = 27, .attributes = {{"activation", "silu"}}}.run(
                  {Tensor::of<float>({1, 1, 1}, {1}), w})[0],
              {1, 1, 1}, {silu});
}

}  // namespace
}  // namespace slipway
