#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Numbers = std::vector<int64_t>;

// 1-grams 2, 3; 2-grams (5,6), (7,8), (6,7), in columns 0, 1, 2, 3, 4.
OpCall vectorizer(const std::string& mode, int64_t shortest, int64_t longest, int64_t skips) {
  return {.op = "TfIdfVectorizer",
          .attributes = {{"mode", mode},
                         {"min_gram_length", shortest},
                         {"max_gram_length", longest},
                         {"max_skip_count", skips},
                         {"ngram_counts", Numbers{0, 2}},
                         {"ngram_indexes", Numbers{0, 1, 2, 3, 4}},
                         {"weights", std::vector<float>{1, 2, 3, 4, 5}},
                         {"pool_int64s", Numbers{2, 3, 5, 6, 7, 8, 6, 7}}}};
}

const Tensor kRow = int64s({2, 2, 5, 6, 7, 8});

TEST(TfIdfVectorizer, CountsTheGramsOfThePool) {
  expect_near(vectorizer("TF", 1, 1, 0).run({kRow})[0], {5}, {2, 0, 0, 0, 0});
  expect_near(vectorizer("TF", 1, 2, 0).run({kRow})[0], {5}, {2, 0, 1, 1, 1});
  expect_near(vectorizer("TF", 2, 2, 1).run({int64s({5, 0, 6, 7})})[0], {5}, {0, 0, 1, 0, 1});
  expect_near(vectorizer("TF", 2, 2, 0).run({int64s({5, 0, 6, 7})})[0], {5}, {0, 0, 0, 0, 1});
}

TEST(TfIdfVectorizer, WeighsPresenceOrCounts) {
  expect_near(vectorizer("IDF", 1, 2, 0).run({kRow})[0], {5}, {1, 0, 3, 4, 5});
  expect_near(vectorizer("TFIDF", 1, 2, 0).run({kRow})[0], {5}, {2, 0, 3, 4, 5});
}

TEST(TfIdfVectorizer, RowsAreOnTheirOwnAndWordsCount) {
  const Tensor rows = Tensor::of<int64_t>({2, 2}, {5, 6, 7, 8});
  expect_near(vectorizer("TF", 2, 2, 5).run({rows})[0], {2, 5}, {0, 0, 1, 0, 0, 0, 0, 0, 1, 0});
  OpCall words = vectorizer("TF", 1, 2, 0);
  words.attributes.erase("pool_int64s");
  words.attributes["pool_strings"] = std::vector<std::string>{"a", "b", "a", "b", "b", "a", "b", "b"};
  expect_near(words.run({Tensor::of_strings({3}, {"a", "b", "a"})})[0], {5}, {2, 1, 1, 1, 0});
  EXPECT_THROW(words.run({kRow}), Error);
}

TEST(TfIdfVectorizer, RefusesPoolsThatDoNotAddUp) {
  OpCall bad = vectorizer("TF", 1, 2, 0);
  bad.attributes["ngram_counts"] = Numbers{0, 3};
  EXPECT_THROW(bad.run({kRow}), Error);
  bad.attributes["ngram_counts"] = Numbers{0, 100};
  EXPECT_THROW(bad.run({kRow}), Error);
  EXPECT_THROW(vectorizer("COUNT", 1, 2, 0).run({kRow}), Error);
  EXPECT_THROW(vectorizer("TF", 0, 2, 0).run({kRow}), Error);
  EXPECT_EQ(vectorizer("TF", 1, 2, 0).infer({facts(DType::kInt64, Shape({Dim("N"), 4}))})[0].shape,
            Shape({Dim("N"), 5}));
}

}  // namespace
}  // namespace slipway
