#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

const Tensor kLogs = Tensor::of<float>({2, 3, 2}, {1, 2, 2, 2, 3, 2, 0, 1, 2, 2, 1, 2});
const Tensor kLabels = Tensor::of<int64_t>({2, 2}, {2, 1, 0, 2});
const Tensor kWeights = Tensor::of<float>({3}, {0.2f, 0.3f, 0.1f});

OpCall loss(const std::string& op, Attributes attributes, size_t outputs = 1) {
  return {.op = op, .opset = 13, .attributes = std::move(attributes), .outputs = outputs};
}

TEST(Loss, LikelihoodPicksTheLabels) {
  const std::string op = "NegativeLogLikelihoodLoss";
  expect_near(loss(op, {{"reduction", "none"}}).run({kLogs, kLabels})[0], {2, 2}, {-3, -2, 0, -2});
  expect_near(loss(op, {{"reduction", "sum"}}).run({kLogs, kLabels, kWeights})[0], {}, {-1.1});
  expect_near(loss(op, {}).run({kLogs, kLabels, kWeights})[0], {}, {-1.1 / 0.7});
  expect_near(loss(op, {}).run({kLogs, kLabels})[0], {}, {-7.0 / 4});
  expect_near(loss(op, {{"ignore_index", int64_t{2}}}).run({kLogs, kLabels})[0], {}, {-1});
  EXPECT_THROW(loss(op, {}).run({kLogs, Tensor::of<int64_t>({2, 2}, {3, 0, 0, 0})}), Error);
  EXPECT_THROW(loss(op, {{"reduction", "some"}}).run({kLogs, kLabels}), Error);
  expect_near(loss(op, {{"ignore_index", int64_t{-1}}, {"reduction", "sum"}})
                  .run({kLogs, Tensor::of<int64_t>({2, 2}, {-1, -1, -1, 1})})[0],
              {}, {-2});
}

TEST(Loss, CrossEntropyIsTheLikelihoodOfTheSoftmax) {
  const Tensor scores = Tensor::of<float>({1, 2}, {0, std::log(3.0f)});
  const auto y = loss("SoftmaxCrossEntropyLoss", {}, 2).run({scores, int64s({1})});
  expect_near(y[0], {}, {std::log(4.0 / 3)});
  expect_near(y[1], {1, 2}, {-std::log(4.0), std::log(0.75)});
  const auto known =
      loss("SoftmaxCrossEntropyLoss", {{"reduction", "none"}}, 2)
          .infer({facts(DType::kFloat16, Shape({Dim("N"), 5})), facts(DType::kInt64, Shape({Dim("N")}))});
  EXPECT_EQ(known[0].shape, Shape({Dim("N")}));
  EXPECT_EQ(known[1].shape, Shape({Dim("N"), 5}));
}

}  // namespace
}  // namespace slipway
