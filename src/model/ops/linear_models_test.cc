#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Reals = std::vector<float>;
using Numbers = std::vector<int64_t>;

OpCall model_call(const std::string& op, Attributes attributes) {
  const size_t outputs = op.ends_with("Classifier") ? 2 : 1;
  return {.op = op, .opset = 1, .attributes = std::move(attributes), .outputs = outputs, .domain = "ai.onnx.ml"};
}

double logistic_of(double v) { return 1 / (1 + std::exp(-v)); }

const Tensor kRows = Tensor::of<float>({2, 2}, {1, 2, -3, 0.5f});

TEST(LinearModels, RegressesSeveralTargets) {
  Attributes a = {
      {"coefficients", Reals{0.5f, 0.25f, 1, 2}}, {"intercepts", Reals{0.1f, 0.2f}}, {"targets", int64_t{2}}};
  expect_near(model_call("LinearRegressor", a).run({kRows})[0], {2, 2}, {1.1, 5.2, -1.275, -1.8});
  expect_near(model_call("LinearRegressor", a).run({Tensor::of<int64_t>({2}, {1, 2})})[0], {1, 2}, {1.1, 5.2});
  a["post_transform"] = std::string("LOGISTIC");
  expect_near(model_call("LinearRegressor", a).run({kRows})[0], {2, 2},
              {logistic_of(1.1), logistic_of(5.2), logistic_of(-1.275), logistic_of(-1.8)});
  a["post_transform"] = std::string("EXP");
  EXPECT_THROW(model_call("LinearRegressor", a).run({kRows}), Error);
  expect_near(model_call("LinearRegressor", {{"coefficients", Reals{1, 1}}}).run({kRows})[0], {2, 1}, {3, -2.5});
  EXPECT_THROW(model_call("LinearRegressor", {{"coefficients", Reals{1, 1, 1}}}).run({kRows}), Error);
}

TEST(LinearModels, ClassifiesByTheLargestScore) {
  Attributes a = {{"coefficients", Reals{0.1f, 0.2f, -0.1f, 0.3f}},
                  {"intercepts", Reals{0.05f, 0}},
                  {"classlabels_strings", std::vector<std::string>{"no", "yes"}}};
  const std::vector<Tensor> raw = model_call("LinearClassifier", a).run({kRows});
  EXPECT_EQ(raw[0].strings(), (std::vector<std::string>{"no", "yes"}));
  expect_near(raw[1], {2, 2}, {0.55, 0.5, -0.15, 0.45});
  a["post_transform"] = std::string("SOFTMAX");
  const double first = 1 / (1 + std::exp(0.5 - 0.55)), second = 1 / (1 + std::exp(0.45 + 0.15));
  expect_near(model_call("LinearClassifier", a).run({kRows})[1], {2, 2}, {first, 1 - first, second, 1 - second});
  const auto known = model_call("LinearClassifier", a).infer({facts(DType::kFloat32, Shape({Dim("N"), Dim(2)}))});
  EXPECT_EQ(known[0].dtype, DType::kString);
  EXPECT_EQ(known[1].shape, Shape({Dim("N"), Dim(2)}));
}

TEST(LinearModels, OneColumnDecidesBetweenTwoClasses) {
  Attributes a = {
      {"coefficients", Reals{0.1f, 0.2f}}, {"intercepts", Reals{0.05f}}, {"classlabels_ints", Numbers{7, 8}}};
  const std::vector<Tensor> raw = model_call("LinearClassifier", a).run({kRows});
  EXPECT_EQ(to_ints(raw[0]), (Numbers{8, 7}));
  expect_near(raw[1], {2, 2}, {0.45, 0.55, 1.15, -0.15});
  a["post_transform"] = std::string("LOGISTIC");
  expect_near(model_call("LinearClassifier", a).run({kRows})[1], {2, 2},
              {logistic_of(-0.55), logistic_of(0.55), logistic_of(0.15), logistic_of(-0.15)});
  a["classlabels_ints"] = Numbers{7, 8, 9};
  EXPECT_THROW(model_call("LinearClassifier", a).run({kRows}), Error);
  a.erase("classlabels_ints");
  EXPECT_THROW(model_call("LinearClassifier", a).run({kRows}), Error);
}

// Support vectors (1, 0) and (0, 1).
Attributes machine(const std::string& kernel) {
  return {{"kernel_type", kernel},
          {"kernel_params", Reals{0.5f, 1, 3}},
          {"support_vectors", Reals{1, 0, 0, 1}},
          {"coefficients", Reals{2, -1}},
          {"rho", Reals{0.25f}},
          {"n_supports", int64_t{2}}};
}

TEST(SupportVectorMachine, RegressesWithEveryKernel) {
  const Tensor x = Tensor::of<float>({1, 2}, {1, 2});
  const auto result = [&](const Attributes& a) { return to_doubles(model_call("SVMRegressor", a).run({x})[0])[0]; };
  EXPECT_NEAR(result(machine("LINEAR")), 2 * 1 - 2 + 0.25, 1e-6);
  EXPECT_NEAR(result(machine("POLY")), 2 * std::pow(1.5, 3) - std::pow(2, 3) + 0.25, 1e-6);
  EXPECT_NEAR(result(machine("RBF")), 2 * std::exp(-0.5 * 4) - std::exp(-0.5 * 2) + 0.25, 1e-6);
  EXPECT_NEAR(result(machine("SIGMOID")), 2 * std::tanh(1.5) - std::tanh(2.0) + 0.25, 1e-6);
  Attributes outlier = machine("RBF");
  outlier["one_class"] = int64_t{1};
  EXPECT_EQ(result(outlier), 1);
  Attributes linear = machine("LINEAR");
  linear["n_supports"] = int64_t{0};
  EXPECT_NEAR(result(linear), 2 * 1 - 1 * 2 + 0.25, 1e-6);
  EXPECT_THROW(result(machine("COSINE")), Error);
  Attributes few = machine("RBF");
  few["support_vectors"] = Reals{1, 0, 0};
  EXPECT_THROW(result(few), Error);
}

Attributes pairwise(const Numbers& labels, const Numbers& per_class, const Reals& weights, const Reals& rho) {
  return {
      {"kernel_type", std::string("LINEAR")},         {"classlabels_ints", labels}, {"vectors_per_class", per_class},
      {"support_vectors", Reals{1, 0, 0, 1, -1, -1}}, {"coefficients", weights},    {"rho", rho}};
}

TEST(SupportVectorMachine, TwoClassesHaveOneDecision) {
  Attributes a = pairwise({7, 8}, {2, 1}, {1, 0.5f, -0.25f}, {0.1f});
  // (1, 2): 1·1 + 0.5·2 − 0.25·(−3) + 0.1; (−3, 0.5): −3 + 0.25 − 0.25·2.5 + 0.1
  const std::vector<Tensor> raw = model_call("SVMClassifier", a).run({kRows});
  EXPECT_EQ(to_ints(raw[0]), (Numbers{7, 8}));
  expect_near(raw[1], {2, 2}, {-2.85, 2.85, 3.275, -3.275});
  a["prob_a"] = Reals{-1.5f};
  a["prob_b"] = Reals{0.2f};
  const std::vector<Tensor> likely = model_call("SVMClassifier", a).run({kRows});
  const double first = logistic_of(1.5 * 2.85 - 0.2), second = logistic_of(-1.5 * 3.275 - 0.2);
  EXPECT_NEAR(to_doubles(likely[1])[0], first, 0.005) << "the coupling stops this near";
  EXPECT_NEAR(to_doubles(likely[1])[3], 1 - second, 0.005);
}

TEST(SupportVectorMachine, EachPairOfClassesVotes) {
  // One vector a class, so that coefficients [2, 3] hold for class 0 against 1 and 2, and so on.
  Attributes a = pairwise({1, 2, 3}, {1, 1, 1}, {1, -2, 0.5f, 3, 0.25f, -1}, {0, 0, 0.5f});
  const double k[3] = {1, 2, -3};  // of (1, 2)
  const double ab = 1 * k[0] - 2 * k[1], ac = 3 * k[0] + 0.5 * k[2], bc = 0.25 * k[1] - 1 * k[2] + 0.5;
  const Tensor x = Tensor::of<float>({1, 2}, {1, 2});
  const std::vector<Tensor> raw = model_call("SVMClassifier", a).run({x});
  expect_near(raw[1], {1, 3}, {ab, ac, bc});
  EXPECT_EQ(to_ints(raw[0]), (Numbers{2})) << "it beats both others";
  a["prob_a"] = Reals{-1, -1, -1};
  a["prob_b"] = Reals{0, 0, 0};
  const std::vector<double> p = to_doubles(model_call("SVMClassifier", a).run({x})[1]);
  EXPECT_NEAR(p[0] + p[1] + p[2], 1, 1e-5);
  // At the optimum of the coupling, Qp is the same for all classes.
  const double r[3][3] = {{0, logistic_of(ab), logistic_of(ac)},
                          {1 - logistic_of(ab), 0, logistic_of(bc)},
                          {1 - logistic_of(ac), 1 - logistic_of(bc), 0}};
  double qp[3] = {};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      if (i != j) qp[i] += r[j][i] * (r[j][i] * p[static_cast<size_t>(i)] - r[i][j] * p[static_cast<size_t>(j)]);
  EXPECT_NEAR(qp[0], qp[1], 0.004);
  EXPECT_NEAR(qp[1], qp[2], 0.004);
  a["rho"] = Reals{0, 0};
  EXPECT_THROW(model_call("SVMClassifier", a).run({x}), Error);
  a["vectors_per_class"] = Numbers{1, -1, 3};
  EXPECT_THROW(model_call("SVMClassifier", a).run({x}), Error);
}

TEST(SupportVectorMachine, WithoutVectorsItIsLinear) {
  const Attributes a = {
      {"coefficients", Reals{0.5f, 0.25f, -0.75f, 0.3f}}, {"rho", Reals{0.1f}}, {"classlabels_ints", Numbers{7, 8}}};
  const std::vector<Tensor> got = model_call("SVMClassifier", a).run({kRows});
  EXPECT_EQ(to_ints(got[0]), (Numbers{7, 8}));
  expect_near(got[1], {2, 2}, {1.1, -0.05, -1.275, 2.5});
}

}  // namespace
}  // namespace slipway
