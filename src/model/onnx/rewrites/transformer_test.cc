// Attention by its definition, in plain loops over batch, head, query and key.
#include <algorithm>
#include <cmath>
#include <functional>

#include "base/random.h"
#include "model/onnx/rewrites/rewrite_testing.h"

namespace slipway {
namespace {

constexpr int64_t kRowCount = 2, kHeadCount = 2, kHeadSize = 2, kHiddenSize = kHeadCount * kHeadSize;

Tensor normal_floats(Dims dims, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(element_count(dims)));
  for (float& v : values) v = static_cast<float>(random.normal());
  return Tensor::of(std::move(dims), values);
}

/// (batch, head, position, place within the head) → value.
using HeadValues = std::function<double(int64_t, int64_t, int64_t, int64_t)>;

HeadValues of_hidden(const Tensor& x) {
  return [values = to_doubles(x), length = x.dims()[1]](int64_t b, int64_t h, int64_t s, int64_t i) {
    return values[static_cast<size_t>((b * length + s) * kHiddenSize + h * kHeadSize + i)];
  };
}

HeadValues of_heads(const Tensor& x) {
  return [values = to_doubles(x), length = x.dims()[2]](int64_t b, int64_t h, int64_t s, int64_t i) {
    return values[static_cast<size_t>(((b * kHeadCount + h) * length + s) * kHeadSize + i)];
  };
}

/// `extra` is added to a score, given batch, head, query and key.
std::vector<double> attention_by_hand(const HeadValues& q, const HeadValues& k, const HeadValues& v, int64_t queries,
                                      int64_t keys, const HeadValues& extra, double scale = 1 / std::sqrt(2.0)) {
  std::vector<double> y(static_cast<size_t>(kRowCount * queries * kHiddenSize), 0.0);
  for (int64_t b = 0; b < kRowCount; ++b)
    for (int64_t h = 0; h < kHeadCount; ++h)
      for (int64_t s = 0; s < queries; ++s) {
        std::vector<double> weights;
        double sum = 0;
        for (int64_t t = 0; t < keys; ++t) {
          double score = extra(b, h, s, t);
          for (int64_t i = 0; i < kHeadSize; ++i) score += scale * q(b, h, s, i) * k(b, h, t, i);
          weights.push_back(std::exp(score));
          sum += weights.back();
        }
        for (int64_t t = 0; t < keys; ++t)
          for (int64_t i = 0; i < kHeadSize; ++i)
            y[static_cast<size_t>((b * queries + s) * kHiddenSize + h * kHeadSize + i)] +=
                weights[static_cast<size_t>(t)] / sum * v(b, h, t, i);
      }
  return y;
}

double nothing(int64_t, int64_t, int64_t, int64_t) { return 0; }

// The two operands side by side along positions.
HeadValues after_past(const HeadValues& past, int64_t length, const HeadValues& now) {
  return [=](int64_t b, int64_t h, int64_t s, int64_t i) {
    return s < length ? past(b, h, s, i) : now(b, h, s - length, i);
  };
}

const Tensor kLeftOut;

TEST(AttentionRewrites, HeadsAttendWithMasksBiasAndPast) {
  const Tensor q = normal_floats({kRowCount, 3, kHiddenSize}, 1), k = normal_floats({kRowCount, 4, kHiddenSize}, 2),
               v = normal_floats({kRowCount, 4, kHiddenSize}, 3);
  const ForeignCall call{.op = "MultiHeadAttention", .attributes = {{"num_heads", kHeadCount}}, .first_constant = 9};
  const auto plain = attention_by_hand(of_hidden(q), of_hidden(k), of_hidden(v), 3, 4, nothing);
  expect_near(call.run({q, k, v})[0], q.dims(), plain, 1e-5);
  ForeignCall scaled = call;
  scaled.attributes["scale"] = 0.3f;
  expect_near(scaled.run({q, k, v})[0], q.dims(),
              attention_by_hand(of_hidden(q), of_hidden(k), of_hidden(v), 3, 4, nothing, 0.3), 1e-5);
  const Tensor mask = Tensor::of<int32_t>({kRowCount, 4}, {1, 1, 0, 1, 1, 0, 0, 0});
  const std::vector<int64_t> kept = to_ints(mask);
  const auto masked = [&](int64_t b, int64_t, int64_t, int64_t t) {
    return kept[static_cast<size_t>(b * 4 + t)] != 0 ? 0.0 : -10000.0;
  };
  expect_near(call.run({q, k, v, kLeftOut, mask})[0], q.dims(),
              attention_by_hand(of_hidden(q), of_hidden(k), of_hidden(v), 3, 4, masked), 1e-5);
  const Tensor bias = normal_floats({kRowCount, kHeadCount, 3, 4}, 4);
  const std::vector<double> numbers = to_doubles(bias);
  const auto biased = [&](int64_t b, int64_t h, int64_t s, int64_t t) {
    return numbers[static_cast<size_t>(((b * kHeadCount + h) * 3 + s) * 4 + t)];
  };
  expect_near(call.run({q, k, v, kLeftOut, kLeftOut, bias})[0], q.dims(),
              attention_by_hand(of_hidden(q), of_hidden(k), of_hidden(v), 3, 4, biased), 1e-5);

  ForeignCall causal = call;
  causal.attributes["unidirectional"] = int64_t{1};
  causal.outputs = 3;
  causal.read = {0, 1};
  const Tensor past_k = normal_floats({kRowCount, kHeadCount, 2, kHeadSize}, 5),
               past_v = normal_floats({kRowCount, kHeadCount, 2, kHeadSize}, 6);
  const auto before = [](int64_t, int64_t, int64_t s, int64_t t) { return t <= s + 2 ? 0.0 : -INFINITY; };
  const Tensor own_k = normal_floats({kRowCount, 3, kHiddenSize}, 7),
               own_v = normal_floats({kRowCount, 3, kHiddenSize}, 8);
  const auto got = causal.run({q, own_k, own_v, kLeftOut, kLeftOut, kLeftOut, past_k, past_v});
  const HeadValues all_k = after_past(of_heads(past_k), 2, of_hidden(own_k)),
                   all_v = after_past(of_heads(past_v), 2, of_hidden(own_v));
  expect_near(got[0], q.dims(), attention_by_hand(of_hidden(q), all_k, all_v, 3, 5, before), 1e-5);
  EXPECT_EQ(got[1].dims(), (Dims{kRowCount, kHeadCount, 5, kHeadSize}));
  EXPECT_EQ(of_heads(got[1])(1, 1, 4, 0), all_k(1, 1, 4, 0));
  EXPECT_THROW(call.run({q}), Error) << "packed";
}

TEST(AttentionRewrites, ProjectionsAreSplit) {
  const Tensor x = normal_floats({kRowCount, 3, 3}, 1), w = normal_floats({3, 3 * kHiddenSize}, 2),
               b = normal_floats({3 * kHiddenSize}, 3);
  const std::vector<double> input = to_doubles(x), weights = to_doubles(w), bias = to_doubles(b);
  const auto part = [&](int64_t which) {
    return [&, which](int64_t batch, int64_t h, int64_t s, int64_t i) {
      const int64_t column = which * kHiddenSize + h * kHeadSize + i;
      double sum = bias[static_cast<size_t>(column)];
      for (int64_t c = 0; c < 3; ++c)
        sum += input[static_cast<size_t>((batch * 3 + s) * 3 + c)] *
               weights[static_cast<size_t>(c * 3 * kHiddenSize + column)];
      return sum;
    };
  };
  for (const int64_t opset : {11, 17}) {
    ForeignCall call{.op = "Attention", .attributes = {{"num_heads", kHeadCount}}, .opset = opset};
    const Dims dims = {kRowCount, 3, kHiddenSize};
    expect_near(call.run({x, w, b})[0], dims, attention_by_hand(part(0), part(1), part(2), 3, 3, nothing), 1e-5);
    const auto before = [](int64_t, int64_t, int64_t s, int64_t t) { return t <= s ? 0.0 : -INFINITY; };
    call.attributes["unidirectional"] = int64_t{1};
    expect_near(call.run({x, w, b})[0], dims, attention_by_hand(part(0), part(1), part(2), 3, 3, before), 1e-5);
    call.attributes.erase("unidirectional");
    const Tensor lengths = Tensor::of<int32_t>({kRowCount}, {1, 3});
    const auto short_first = [](int64_t batch, int64_t, int64_t, int64_t t) {
      return batch == 0 && t > 0 ? -1e4 : 0.0;
    };
    expect_near(call.run({x, w, b, lengths})[0], dims, attention_by_hand(part(0), part(1), part(2), 3, 3, short_first),
                1e-5);
    const Tensor past = normal_floats({2, kRowCount, kHeadCount, 1, kHeadSize}, 9);
    call.outputs = 2;
    call.read = {0, 1};
    const auto got = call.run({x, w, b, kLeftOut, past});
    const HeadValues halves[2] = {of_heads(rows_of(past, 0, 1).reshaped({kRowCount, kHeadCount, 1, kHeadSize})),
                                  of_heads(rows_of(past, 1, 1).reshaped({kRowCount, kHeadCount, 1, kHeadSize}))};
    expect_near(
        got[0], dims,
        attention_by_hand(part(0), after_past(halves[0], 1, part(1)), after_past(halves[1], 1, part(2)), 3, 4, nothing),
        1e-5);
    EXPECT_EQ(got[1].dims(), (Dims{2, kRowCount, kHeadCount, 4, kHeadSize}));
  }
  // The same projection in steps of 1/64, about zero points.
  Tensor xq(DType::kUint8, x.dims()), wq(DType::kInt8, w.dims());
  std::vector<double> xr, wr;
  for (size_t i = 0; i < input.size(); ++i) {
    xq.mutable_values<uint8_t>()[i] = static_cast<uint8_t>(std::clamp(std::lround(input[i] * 64) + 120, 0L, 255L));
    xr.push_back((xq.values<uint8_t>()[i] - 120) / 64.0);
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    wq.mutable_values<int8_t>()[i] = static_cast<int8_t>(std::clamp(std::lround(weights[i] * 64) + 3, -128L, 127L));
    wr.push_back((wq.values<int8_t>()[i] - 3) / 64.0);
  }
  const auto real_part = [&](int64_t which) {
    return [&, which](int64_t batch, int64_t h, int64_t s, int64_t i) {
      const int64_t column = which * kHiddenSize + h * kHeadSize + i;
      double sum = bias[static_cast<size_t>(column)];
      for (int64_t c = 0; c < 3; ++c)
        sum += xr[static_cast<size_t>((batch * 3 + s) * 3 + c)] * wr[static_cast<size_t>(c * 3 * kHiddenSize + column)];
      return sum;
    };
  };
  const ForeignCall quantized{.op = "QAttention", .attributes = {{"num_heads", kHeadCount}}};
  const Tensor step = Tensor::scalar(1.0f / 64);
  expect_near(
      quantized.run({xq, wq, b, step, step, kLeftOut, Tensor::scalar<uint8_t>(120), Tensor::scalar<int8_t>(3)})[0],
      {kRowCount, 3, kHiddenSize}, attention_by_hand(real_part(0), real_part(1), real_part(2), 3, 3, nothing), 1e-5);
  ForeignCall uneven{
      .op = "Attention",
      .attributes = {{"num_heads", kHeadCount},
                     {"qkv_hidden_sizes", std::vector<int64_t>{int64_t{1} << 62, int64_t{1} << 62, 12}}}};
  EXPECT_THROW(uneven.run({x, w, b}), Error);
  ForeignCall rotated{.op = "Attention", .attributes = {{"num_heads", kHeadCount}, {"do_rotary", int64_t{1}}}};
  EXPECT_THROW(rotated.run({x, w, b}), Error);
  EXPECT_THROW(ForeignCall({.op = "Attention", .attributes = {{"num_heads", int64_t{0}}}}).run({x, w, b}), Error);
}

TEST(RotaryRewrites, TurnPairsByPosition) {
  const Tensor cosine = normal_floats({6, 2}, 1), sine = normal_floats({6, 2}, 2);
  const auto angle = [](const Tensor& t, int64_t position, int64_t i) {
    return to_doubles(t)[static_cast<size_t>(2 * position + i)];
  };
  const Tensor x = normal_floats({2, 3, 10}, 3);  // two heads of five, of which four are turned
  const std::vector<double> values = to_doubles(x);
  const Tensor each = Tensor::of<int64_t>({2, 3}, {0, 1, 2, 3, 4, 5}), offset = int64s({2});
  for (const bool interleaved : {false, true})
    for (const bool listed : {false, true}) {
      std::vector<double> expected = values;
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t s = 0; s < 3; ++s)
          for (int64_t h = 0; h < 2; ++h)
            for (int64_t i = 0; i < 2; ++i) {
              const int64_t head = (b * 3 + s) * 10 + h * 5, at = listed ? b * 3 + s : 2 + s;
              const auto p = static_cast<size_t>(head + (interleaved ? 2 * i : i));
              const auto q = static_cast<size_t>(head + (interleaved ? 2 * i + 1 : i + 2));
              expected[p] = values[p] * angle(cosine, at, i) - values[q] * angle(sine, at, i);
              expected[q] = values[q] * angle(cosine, at, i) + values[p] * angle(sine, at, i);
            }
      const ForeignCall call{.op = "RotaryEmbedding",
                             .attributes = {{"num_heads", int64_t{2}},
                                            {"rotary_embedding_dim", int64_t{4}},
                                            {"interleaved", int64_t{interleaved}}},
                             .first_constant = 2};
      expect_near(call.run({x, listed ? each : offset, cosine, sine})[0], x.dims(), expected, 1e-5);
      std::vector<double> apart;  // the same as [B, heads, S, size]
      Tensor turned(DType::kFloat32, {2, 2, 3, 5});
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t s = 0; s < 3; ++s)
            for (int64_t i = 0; i < 5; ++i) {
              const auto from = static_cast<size_t>((b * 3 + s) * 10 + h * 5 + i);
              turned.mutable_values<float>()[apart.size()] = static_cast<float>(values[from]);
              apart.push_back(expected[from]);
            }
      expect_near(call.run({turned, listed ? each : offset, cosine, sine})[0], turned.dims(), apart, 1e-5);
    }
}

// Rows of the last axis by mean and deviation, then scale and shift.
std::vector<double> normalized_by_hand(std::vector<double> x, const Tensor& scale, const Tensor& shift, bool centred) {
  const std::vector<double> gamma = to_doubles(scale), beta = to_doubles(shift);
  const size_t width = gamma.size();
  for (size_t start = 0; start < x.size(); start += width) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < width; ++i) mean += centred ? x[start + i] / static_cast<double>(width) : 0;
    for (size_t i = 0; i < width; ++i) square += std::pow(x[start + i] - mean, 2) / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i)
      x[start + i] = (x[start + i] - mean) / std::sqrt(square + 1e-3) * gamma[i] + (beta.empty() ? 0 : beta[i]);
  }
  return x;
}

TEST(NormalizationRewrites, SkipIsAddedFirst) {
  const Tensor x = normal_floats({2, 2, 3}, 1), skip = normal_floats({2, 2, 3}, 2), gamma = normal_floats({3}, 3),
               beta = normal_floats({3}, 4), bias = normal_floats({3}, 5), none = Tensor(DType::kFloat32, {0});
  std::vector<double> sum = to_doubles(x);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += to_doubles(skip)[i] + to_doubles(bias)[i % 3];
  for (const int64_t opset : {11, 17}) {
    ForeignCall call{.op = "SkipLayerNormalization",
                     .attributes = {{"epsilon", 1e-3f}},
                     .outputs = 4,
                     .read = {0, 3},
                     .opset = opset,
                     .first_constant = 2};
    const auto got = call.run({x, skip, gamma, beta, bias});
    expect_near(got[0], x.dims(), normalized_by_hand(sum, gamma, beta, true), 1e-5);
    expect_near(got[1], x.dims(), sum);
    call.op = "SkipSimplifiedLayerNormalization";
    expect_near(call.run({x, skip, gamma, bias})[0], x.dims(), normalized_by_hand(sum, gamma, none, false), 1e-5);
    call.read = {0, 1};
    EXPECT_THROW(call.run({x, skip, gamma, bias}), Error) << "the mean is not computed";
  }
}

TEST(NormalizationRewrites, EmbeddingsAreAddedAndMasksCounted) {
  const Tensor ids = Tensor::of<int32_t>({1, 2}, {2, 0}), segments = Tensor::of<int32_t>({1, 2}, {0, 1});
  const Tensor words = normal_floats({3, 2}, 1), places = normal_floats({5, 2}, 2), kinds = normal_floats({2, 2}, 3),
               gamma = normal_floats({2}, 4), beta = normal_floats({2}, 5);
  const auto row = [](const Tensor& t, int64_t i, int64_t c) { return to_doubles(t)[static_cast<size_t>(2 * i + c)]; };
  std::vector<double> sum;
  for (int64_t s = 0; s < 2; ++s)
    for (int64_t c = 0; c < 2; ++c) sum.push_back(row(words, s == 0 ? 2 : 0, c) + row(places, s, c) + row(kinds, s, c));
  ForeignCall call{.op = "EmbedLayerNormalization",
                   .attributes = {{"epsilon", 1e-3f}},
                   .outputs = 3,
                   .read = {0, 1, 2},
                   .first_constant = 9};
  const Tensor mask = Tensor::of<int32_t>({1, 2}, {1, 0});
  const auto got = call.run({ids, segments, words, places, kinds, gamma, beta, mask});
  expect_near(got[0], {1, 2, 2}, normalized_by_hand(sum, gamma, beta, true), 1e-5);
  EXPECT_EQ(to_ints(got[1]), (std::vector<int64_t>{1}));
  expect_near(got[2], {1, 2, 2}, sum);
  EXPECT_THROW(call.run({ids, segments, words, places, kinds, gamma, beta}), Error) << "no mask to count";
  call.read = {0};
  // Tables of 1 and 2 in steps of a half: every word, place and segment adds the same, so beta is what is left.
  const auto codes = [](int64_t rows, uint8_t first, uint8_t second) {
    std::vector<uint8_t> values;
    for (int64_t i = 0; i < rows; ++i) values.insert(values.end(), {first, second});
    return Tensor::of<uint8_t>(rows == 1 ? Dims{2} : Dims{rows, 2}, values);
  };
  ForeignCall quantized = call;
  quantized.op = "QEmbedLayerNormalization";
  quantized.first_constant = 1;
  std::vector<Tensor> operands = {ids,      kLeftOut,         codes(3, 12, 14), codes(5, 11, 15),
                                  kLeftOut, codes(1, 12, 12), codes(1, 16, 8),  kLeftOut};
  for (size_t i = 0; i < 5; ++i) operands.push_back(i == 2 ? kLeftOut : Tensor::scalar(0.5f));
  for (size_t i = 0; i < 5; ++i) operands.push_back(i == 2 ? kLeftOut : Tensor::scalar<uint8_t>(10));
  // Sums 1 + 0.5 and 2 + 2.5: mean 3, deviation 1.5; times 1, plus 3 and −1.
  const double unit = 1.5 / std::sqrt(2.25 + 1e-3);
  expect_near(quantized.run(operands)[0], {1, 2, 2}, {3 - unit, -1 + unit, 3 - unit, -1 + unit}, 1e-5);
  const Tensor positions = Tensor::of<int64_t>({1, 2}, {0, 1});
  expect_near(call.run({ids, segments, words, places, kinds, gamma, beta, kLeftOut, positions})[0], {1, 2, 2},
              normalized_by_hand(sum, gamma, beta, true), 1e-5);
}

}  // namespace
}  // namespace slipway
