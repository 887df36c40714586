// Top-k as text.
#include "serve/classification.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

std::vector<std::string> classes_of(const Tensor& scores, int64_t count, bool by_row, Dims& dims,
                                    const std::vector<std::string>& labels = {}) {
  std::shared_ptr<const void> owner;
  std::vector<std::byte> storage;
  const WireTensor ranked = classify(wire_of("y", scores, owner), count, by_row, labels, storage);
  EXPECT_EQ(ranked.dtype, DType::kString);
  dims = ranked.dims;
  return to_tensor(ranked).strings();
}

using Texts = std::vector<std::string>;

TEST(Classification, RanksEachRow) {
  Dims dims;
  const Tensor scores = Tensor::of<float>({2, 3}, {0.25f, 0.5f, 0.125f, -1, -2, 3});
  EXPECT_EQ(classes_of(scores, 2, true, dims), (Texts{"0.500000:1", "0.250000:0", "3.000000:2", "-1.000000:0"}));
  EXPECT_EQ(dims, (Dims{2, 2}));
  EXPECT_EQ(classes_of(scores, 1, false, dims, {"a", "b", "c", "d", "e", "f"}), Texts{"3.000000:5:f"});
  EXPECT_EQ(dims, Dims{1});
  EXPECT_EQ(classes_of(scores, 100, true, dims, {"cat"})[1], "0.250000:0:cat");
  EXPECT_EQ(dims, (Dims{2, 3}));
}

TEST(Classification, TiesGoByIndexAndNanIsWorst) {
  Dims dims;
  EXPECT_EQ(classes_of(Tensor::of<float>({4}, {NAN, -INFINITY, 1, 1}), 4, false, dims),
            (Texts{"1.000000:2", "1.000000:3", "-inf:1", "nan:0"}));
}

TEST(Classification, LargeIntegersKeepTheirDigits) {
  Dims dims;
  EXPECT_EQ(classes_of(Tensor::of<int64_t>({1, 2}, {9007199254740992, 9007199254740993}), 2, true, dims),
            (Texts{"9007199254740993:1", "9007199254740992:0"}));
  EXPECT_EQ(classes_of(Tensor::of<uint8_t>({2}, {7, 200}), 1, false, dims), Texts{"200:1"});
}

TEST(Classification, NeedsNumbers) {
  Dims dims;
  EXPECT_THROW(classes_of(Tensor::of<bool>({1}, {true}), 1, false, dims), Error);
  EXPECT_THROW(classes_of(Tensor::of_strings({1}, {"a"}), 1, false, dims), Error);
}

}  // namespace
}  // namespace slipway
