#include "data/top_classes.h"

#include <gtest/gtest.h>

#include <cmath>

namespace slipway {
namespace {

TEST(TopClasses, SoftmaxOfScoresAndOrder) {
  const auto top = top_classes(Tensor::of<float>({1, 4}, {1, 3, 3, -2}), {"a", "b", "c"}, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].index, 1);
  EXPECT_EQ(top[0].label, "b");
  EXPECT_EQ(top[1].index, 2);
  EXPECT_EQ(top[2].index, 0);
  const double total = std::exp(1 - 3.0) + 2 + std::exp(-2 - 3.0);
  EXPECT_NEAR(top[0].confidence, 1 / total, 1e-12);
}

TEST(TopClasses, WhatHoldsAScoreAClass) {
  const auto of = [](std::vector<Dims> all, DType dtype = DType::kFloat32) {
    std::vector<Tensor> outputs;
    for (const Dims& dims : all) outputs.emplace_back(dtype, dims);
    return scores_output(outputs, 4).value_or(99);
  };
  EXPECT_EQ(of({{4, 10}}), 0u);
  EXPECT_EQ(of({{4, 1}, {4, 7, 7}, {4, 10}}), 2u);
  EXPECT_EQ(of({{4, 10, 1, 1}}), 0u) << "the end of a fully convolutional classifier";
  EXPECT_EQ(of({{4, 896, 16}, {4, 896, 1}}), 99u) << "a detector's boxes and how sure it is of each";
  for (const Dims& dims : {Dims{}, {4}, {4, 1}, {10, 4}, {1, 10}, {4, 3, 2}, {4, 0}}) EXPECT_EQ(of({dims}), 99u);
  EXPECT_EQ(of({{4, 10}}, DType::kInt64), 99u) << "classes, not scores";
  EXPECT_EQ(of({}), 99u);
}

TEST(TopClasses, ProbabilitiesAreLeftAlone) {
  const auto top = top_classes(Tensor::of<float>({3}, {0.25f, 0.5f, 0.25f}), {}, 9);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].confidence, 0.5);
  EXPECT_EQ(top[1].index, 0);
}

TEST(TopClasses, NaNNeverWinsAndEmptyIsEmpty) {
  const float nan = std::nanf("");
  const auto top = top_classes(Tensor::of<float>({3}, {nan, 0.1f, 0.2f}), {}, 1);
  EXPECT_TRUE(top[0].index != 0 || std::isnan(top[0].confidence));
  EXPECT_TRUE(top_classes(Tensor(DType::kFloat32, {0}), {}, 5).empty());
}

}  // namespace
}  // namespace slipway
