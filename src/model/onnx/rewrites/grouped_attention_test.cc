// Grouped attention by its definition: every sequence's tokens in one list, and plain loops over them.
#include <cmath>

#include "base/random.h"
#include "model/onnx/rewrites/rewrite_testing.h"

namespace slipway {
namespace {

constexpr int64_t kRowsOfBatch = 2, kQueryHeads = 4, kSharedHeads = 2, kWidth = 4;

Tensor random_floats(Dims dims, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(element_count(dims)));
  for (float& v : values) v = static_cast<float>(random.normal());
  return Tensor::of(std::move(dims), values);
}

double value_at(const Tensor& t, const Dims& place) {
  const Dims strides = strides_of(t.dims());
  int64_t index = 0;
  for (size_t i = 0; i < place.size(); ++i) index += place[i] * strides[i];
  return static_cast<double>(t.values<float>()[static_cast<size_t>(index)]);
}

/// What varies between the cases.
struct GroupedCase {
  int64_t fresh, cache;         ///< new tokens, and the cache's length
  std::vector<int64_t> before;  ///< tokens in the cache, by sequence
  bool rotary = false;
  int64_t window = -1;
  double cap = 0;
};

// The numbers of one head at one position, turned by the position's angles.
std::vector<double> turned_by_hand(std::vector<double> x, const Tensor& cosine, const Tensor& sine, int64_t position) {
  std::vector<double> y = x;
  const auto half = static_cast<size_t>(cosine.dims()[1]);
  for (size_t i = 0; i < half; ++i) {
    const double c = value_at(cosine, {position, static_cast<int64_t>(i)}),
                 s = value_at(sine, {position, static_cast<int64_t>(i)});
    y[i] = x[i] * c - x[i + half] * s;
    y[i + half] = x[i + half] * c + x[i] * s;
  }
  return y;
}

void expect_grouped(const GroupedCase& c) {
  const Tensor q = random_floats({kRowsOfBatch, c.fresh, kQueryHeads * kWidth}, 1),
               k = random_floats({kRowsOfBatch, c.fresh, kSharedHeads * kWidth}, 2),
               v = random_floats({kRowsOfBatch, c.fresh, kSharedHeads * kWidth}, 3),
               past_k = random_floats({kRowsOfBatch, kSharedHeads, c.cache, kWidth}, 4),
               past_v = random_floats({kRowsOfBatch, kSharedHeads, c.cache, kWidth}, 5),
               cosine = random_floats({16, kWidth / 2}, 6), sine = random_floats({16, kWidth / 2}, 7);
  std::vector<int32_t> last;
  int64_t total = 0;
  for (int64_t n : c.before) {
    last.push_back(static_cast<int32_t>(n + c.fresh - 1));
    total = std::max(total, n + c.fresh);
  }
  ForeignCall call{.op = "GroupQueryAttention",
                   .attributes = {{"num_heads", kQueryHeads}, {"kv_num_heads", kSharedHeads}},
                   .outputs = 3,
                   .read = {0, 1, 2},
                   .first_constant = 7};
  std::vector<Tensor> inputs = {
      q, k, v, past_k, past_v, Tensor::of<int32_t>({kRowsOfBatch}, last), Tensor::scalar(static_cast<int32_t>(total))};
  if (c.cache == 0) inputs[3] = inputs[4] = Tensor();
  if (c.rotary) {
    call.attributes["do_rotary"] = int64_t{1};
    inputs.insert(inputs.end(), {cosine, sine});
  }
  if (c.window > 0) call.attributes["local_window_size"] = c.window;
  if (c.cap > 0) call.attributes["softcap"] = static_cast<float>(c.cap);
  const std::vector<Tensor> got = call.run(inputs);

  const auto head_of = [&](const Tensor& x, int64_t b, int64_t s, int64_t h, int64_t position) {
    std::vector<double> numbers;
    for (int64_t i = 0; i < kWidth; ++i) numbers.push_back(value_at(x, {b, s, h * kWidth + i}));
    return c.rotary && &x != &v ? turned_by_hand(numbers, cosine, sine, position) : numbers;
  };
  for (int64_t b = 0; b < kRowsOfBatch; ++b) {
    const int64_t before = c.before[static_cast<size_t>(b)];
    const auto cached_head = [&](const Tensor& past, const Tensor& x, int64_t h, int64_t t) {
      if (t >= before) return head_of(x, b, t - before, h, t);
      std::vector<double> numbers;
      for (int64_t i = 0; i < kWidth; ++i) numbers.push_back(value_at(past, {b, h, t, i}));
      return numbers;
    };
    for (int64_t h = 0; h < kQueryHeads; ++h)
      for (int64_t s = 0; s < c.fresh; ++s) {
        const int64_t shared = h / (kQueryHeads / kSharedHeads), position = before + s;
        const std::vector<double> query = head_of(q, b, s, h, position);
        std::vector<double> y(static_cast<size_t>(kWidth), 0.0);
        double sum = 0;
        for (int64_t t = c.window > 0 ? std::max<int64_t>(0, position + 1 - c.window) : 0; t <= position; ++t) {
          const std::vector<double> key = cached_head(past_k, k, shared, t), value = cached_head(past_v, v, shared, t);
          double score = 0;
          for (size_t i = 0; i < query.size(); ++i) score += query[i] * key[i] / std::sqrt(static_cast<double>(kWidth));
          if (c.cap > 0) score = c.cap * std::tanh(score / c.cap);
          sum += std::exp(score);
          for (size_t i = 0; i < y.size(); ++i) y[i] += std::exp(score) * value[i];
          EXPECT_NEAR(value_at(got[1], {b, shared, t, 0}), key[0], 1e-5);
        }
        for (int64_t i = 0; i < kWidth; ++i)
          EXPECT_NEAR(value_at(got[0], {b, s, h * kWidth + i}), y[static_cast<size_t>(i)] / sum, 1e-5)
              << "sequence " << b << ", head " << h << ", token " << s;
      }
  }
  EXPECT_EQ(got[2].dims(), (Dims{kRowsOfBatch, kSharedHeads, std::max(total, c.cache), kWidth}));
}

TEST(GroupedAttentionRewrites, FollowTheCache) {
  expect_grouped({.fresh = 3, .cache = 0, .before = {0, 0}});
  expect_grouped({.fresh = 1, .cache = 4, .before = {4, 4}});
  expect_grouped({.fresh = 1, .cache = 4, .before = {4, 2}});
  expect_grouped({.fresh = 2, .cache = 9, .before = {4, 1}});
}

TEST(GroupedAttentionRewrites, TurnCapAndLookBackSoFar) {
  expect_grouped({.fresh = 3, .cache = 0, .before = {0, 0}, .rotary = true});
  expect_grouped({.fresh = 1, .cache = 5, .before = {5, 3}, .rotary = true});
  expect_grouped({.fresh = 3, .cache = 4, .before = {4, 3}, .window = 2});
  expect_grouped({.fresh = 1, .cache = 4, .before = {4, 4}, .cap = 0.5});
}

TEST(GroupedAttentionRewrites, QueriesKeysAndValuesMayBePacked) {
  const Tensor q = random_floats({1, 2, 4}, 1), k = random_floats({1, 2, 2}, 2), v = random_floats({1, 2, 2}, 3);
  std::vector<float> side_by_side;
  for (int64_t s = 0; s < 2; ++s)
    for (const Tensor* part : {&q, &k, &v})
      for (int64_t i = 0; i < part->dims()[2]; ++i)
        side_by_side.push_back(static_cast<float>(value_at(*part, {0, s, i})));
  const Tensor last = Tensor::of<int32_t>({1}, {1}), total = Tensor::scalar<int32_t>(2), none;
  ForeignCall call{.op = "GroupQueryAttention",
                   .attributes = {{"num_heads", int64_t{2}}, {"kv_num_heads", int64_t{1}}},
                   .first_constant = 7};
  const Tensor apart = call.run({q, k, v, none, none, last, total})[0];
  const Tensor packed = call.run({Tensor::of<float>({1, 2, 8}, side_by_side), none, none, none, none, last, total})[0];
  expect_near(packed, apart.dims(), to_doubles(apart));
  call.attributes["kv_num_heads"] = int64_t{3};
  EXPECT_THROW(call.run({q, k, v, none, none, last, total}), Error);
  call.attributes = {{"num_heads", int64_t{2}}, {"kv_num_heads", int64_t{1}}, {"smooth_softmax", int64_t{1}}};
  EXPECT_THROW(call.run({q, k, v, none, none, last, total}), Error);
}

}  // namespace
}  // namespace slipway
