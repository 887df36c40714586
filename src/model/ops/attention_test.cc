#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

const Tensor kQuery = Tensor::of<float>({1, 1, 2, 1}, {0, 1});
const Tensor kKey = Tensor::of<float>({1, 1, 2, 1}, {0, std::log(3.0f)});
const Tensor kValue = Tensor::of<float>({1, 1, 2, 1}, {4, 8});

OpCall attention(Attributes attributes = {}, size_t outputs = 1, int64_t opset = 24) {
  return {.op = "Attention", .opset = opset, .attributes = std::move(attributes), .outputs = outputs};
}

TEST(Attention, WeighsValuesByTheSoftmaxOfScores) {
  // Weights 1/2, 1/2 for the first query, 1/4, 3/4 for the second.
  expect_near(attention().run({kQuery, kKey, kValue})[0], {1, 1, 2, 1}, {6, 7});
  expect_near(attention({{"scale", 0.0f}}).run({kQuery, kKey, kValue})[0], {1, 1, 2, 1}, {6, 6});
}

TEST(Attention, MasksByFlagByNumberAndByOrder) {
  const Tensor flags = Tensor::of<bool>({2, 2}, {true, false, true, true});
  expect_near(attention().run({kQuery, kKey, kValue, flags})[0], {1, 1, 2, 1}, {4, 7});
  expect_near(attention({{"is_causal", int64_t{1}}}).run({kQuery, kKey, kValue})[0], {1, 1, 2, 1}, {4, 7});
  const Tensor numbers = Tensor::of<float>({1, 2}, {std::log(3.0f), 0});
  expect_near(attention().run({kQuery, kKey, kValue, numbers})[0], {1, 1, 2, 1}, {5, 6});
  const Tensor shorter = Tensor::of<float>({2, 1}, {0, 0});  // what it does not reach is masked
  expect_near(attention().run({kQuery, kKey, kValue, shorter})[0], {1, 1, 2, 1}, {4, 4});
  expect_near(attention({}, 1, 23).run({kQuery, kKey, kValue, shorter})[0], {1, 1, 2, 1}, {6, 7});
  const Tensor none;
  expect_near(attention().run({kQuery, kKey, kValue, none, none, none, int64s({1})})[0], {1, 1, 2, 1}, {4, 4});
}

TEST(Attention, StagesOfTheScoresCanBeSeen) {
  const float third = std::log(3.0f);
  const auto scores = [&](int64_t mode) {
    const Tensor mask = Tensor::of<float>({2}, {0, 1});
    return attention({{"qk_matmul_output_mode", mode}, {"softcap", 2.0f}}, 4).run({kQuery, kKey, kValue, mask})[3];
  };
  const double capped = 2 * std::tanh(third / 2);
  expect_near(scores(0), {1, 1, 2, 2}, {0, 0, 0, third});
  expect_near(scores(1), {1, 1, 2, 2}, {0, 0, 0, capped});
  expect_near(scores(2), {1, 1, 2, 2}, {0, 1, 0, capped + 1});
  const double e = std::exp(1.0), f = std::exp(capped + 1);
  expect_near(scores(3), {1, 1, 2, 2}, {1 / (1 + e), e / (1 + e), 1 / (1 + f), f / (1 + f)});
}

TEST(Attention, CacheStandsBeforeWhatComesIn) {
  const Tensor new_key = Tensor::of<float>({1, 1, 1, 1}, {std::log(3.0f)}),
               new_value = Tensor::of<float>({1, 1, 1, 1}, {8});
  const Tensor past_key = Tensor::of<float>({1, 1, 1, 1}, {0}), past_value = Tensor::of<float>({1, 1, 1, 1}, {4});
  const auto y = attention({{"is_causal", int64_t{1}}}, 3)
                     .run({Tensor::of<float>({1, 1, 1, 1}, {1}), new_key, new_value, Tensor(), past_key, past_value});
  expect_near(y[0], {1, 1, 1, 1}, {7});  // the query's own place is behind the cache
  EXPECT_TRUE(y[1].identical(kKey));
  EXPECT_TRUE(y[2].identical(kValue));
  EXPECT_THROW(attention().run({kQuery, kKey, kValue, Tensor(), past_key}), Error);
}

TEST(Attention, PackedHeadsAndSharedKeysAreTheSameComputation) {
  const Tensor q = counting({2, 3, 8}), k = counting({2, 5, 4}), v = counting({2, 5, 6});
  const Tensor packed = attention({{"q_num_heads", int64_t{4}}, {"kv_num_heads", int64_t{2}}}).run({q, k, v})[0];
  EXPECT_EQ(packed.dims(), (Dims{2, 3, 12}));
  // Query head 3 reads key head 1: the same as that head alone.
  const auto head = [](const Tensor& t, int64_t heads, int64_t h) {
    const int64_t length = t.dims()[1], size = t.dims()[2] / heads;
    std::vector<double> from = to_doubles(t), to;
    for (int64_t row = 0; row < t.dims()[0] * length; ++row)
      for (int64_t c = 0; c < size; ++c) to.push_back(from[static_cast<size_t>((row * heads + h) * size + c)]);
    return from_doubles(DType::kFloat32, {t.dims()[0], 1, length, size}, to);
  };
  const Tensor alone = attention().run({head(q, 4, 3), head(k, 2, 1), head(v, 2, 1)})[0];
  expect_near(head(packed, 4, 3), {2, 1, 3, 3}, to_doubles(alone));
  EXPECT_THROW(attention({{"q_num_heads", int64_t{3}}, {"kv_num_heads", int64_t{2}}}).run({q, k, v}), Error);
}

TEST(Attention, Infers) {
  const ValueFacts q = facts(DType::kFloat32, Shape({Dim("N"), 3, 8})),
                   k = facts(DType::kFloat16, Shape({Dim("N"), 5, 4})),
                   v = facts(DType::kFloat32, Shape({Dim("N"), 5, 6}));
  const auto known = attention({{"q_num_heads", int64_t{4}}, {"kv_num_heads", int64_t{2}}}, 4).infer({q, k, v});
  EXPECT_EQ(known[0].shape, Shape({Dim("N"), 3, 12}));
  EXPECT_EQ(known[1].shape, Shape({Dim("N"), 2, 5, 2}));
  EXPECT_EQ(known[1].dtype, DType::kFloat16);
  EXPECT_EQ(known[3].shape, Shape({Dim("N"), 4, 3, 5}));
}

TEST(RotaryEmbedding, TurnsPairsByTheAngleOfTheirPosition) {
  const Tensor x = Tensor::of<float>({1, 1, 2, 4}, {1, 2, 3, 4, 1, 2, 3, 4});
  const Tensor cosines = Tensor::of<float>({2, 2}, {1, 1, 0, 0}), sines = Tensor::of<float>({2, 2}, {0, 0, 1, 1});
  const auto turned = [&](Attributes attributes, const std::vector<int64_t>& positions) {
    return OpCall{.op = "RotaryEmbedding", .opset = 23, .attributes = std::move(attributes)}.run(
        {x, cosines, sines, Tensor::of<int64_t>({1, 2}, positions)})[0];
  };
  expect_near(turned({}, {0, 1}), {1, 1, 2, 4}, {1, 2, 3, 4, -3, -4, 1, 2});
  expect_near(turned({{"interleaved", int64_t{1}}}, {1, 0}), {1, 1, 2, 4}, {-2, 1, -4, 3, 1, 2, 3, 4});
  EXPECT_THROW(turned({}, {0, 2}), Error);
  const Tensor half_cosines = Tensor::of<float>({1, 2, 1}, {0, 0}), half_sines = Tensor::of<float>({1, 2, 1}, {1, 1});
  expect_near(OpCall{.op = "RotaryEmbedding", .opset = 23, .attributes = {{"rotary_embedding_dim", int64_t{2}}}}.run(
                  {x, half_cosines, half_sines})[0],
              {1, 1, 2, 4}, {-2, 1, 3, 4, -2, 1, 3, 4});
}

TEST(TensorScatter, WritesEachSampleAtItsOwnPlace) {
  const Tensor cache = counting({2, 3, 1}, DType::kInt8), update = Tensor::of<int8_t>({2, 2, 1}, {10, 11, 20, 21});
  const auto scattered = [&](const std::string& mode, std::vector<int64_t> places) {
    return OpCall{.op = "TensorScatter", .opset = 24, .attributes = {{"mode", mode}}}.run(
        {cache, update, int64s(places)})[0];
  };
  expect_near(scattered("linear", {0, 1}), {2, 3, 1}, {10, 11, 3, 4, 20, 21});
  expect_near(scattered("circular", {2, 4}), {2, 3, 1}, {11, 2, 10, 4, 20, 21});
  EXPECT_THROW(scattered("linear", {0, 2}), Error);
  EXPECT_THROW(scattered("linear", {-1, 0}), Error);
}

}  // namespace
}  // namespace slipway
