// ai.onnx.ml's linear models and support vector machines. A support vector classifier decides between each pair of
// classes; the votes choose the label, and where the model carries them, sigmoids (Platt) make probabilities of the
// decisions, which are coupled to one a class: T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability Estimates for Multi-class
// Classification by Pairwise Coupling", JMLR 5 (2004), second method, with LIBSVM's stopping rule.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/scores.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

double dot(std::span<const double> x, const float* weights) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * static_cast<double>(weights[i]);
  return sum;
}

std::vector<float> required_reals(const Node& node, std::string_view attribute, size_t least) {
  std::vector<float> values = node.reals(attribute);
  if (values.size() < least)
    reject(node, fmt::format("{} has {} entries, and {} are needed", attribute, values.size(), least));
  return values;
}

// Coefficients [outputs, F] and one intercept an output, which may be missing.
struct LinearModel {
  LinearModel(const EvalContext& ctx, int64_t features, int64_t outputs)
      : coefficients(ctx.node.reals("coefficients")), intercepts(ctx.node.reals("intercepts")) {
    if (intercepts.empty()) intercepts.assign(static_cast<size_t>(outputs), 0.0f);
    if (static_cast<int64_t>(intercepts.size()) != outputs || features < 1 ||
        static_cast<int64_t>(coefficients.size()) % features != 0 ||
        static_cast<int64_t>(coefficients.size()) / features != outputs)
      ctx.reject(fmt::format("{} coefficients and {} intercepts don't make {} results of {} features",
                             coefficients.size(), intercepts.size(), outputs, features));
  }
  double result(std::span<const double> x, size_t k) const {
    return dot(x, coefficients.data() + k * x.size()) + static_cast<double>(intercepts[k]);
  }
  std::vector<float> coefficients, intercepts;
};

int64_t linear_targets(const Node& node) {
  const int64_t targets = node.integer("targets", 1);
  if (targets < 1) reject(node, fmt::format("it has {} targets", targets));
  return targets;
}

void eval_linear_regressor(EvalContext& ctx) {
  const FeatureRows x(ctx);
  const int64_t targets = linear_targets(ctx.node);
  const LinearModel model(ctx, x.features, targets);
  const ScoreTransform transform = score_transform(ctx.node);
  std::vector<double> y;
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t k = 0; k < targets; ++k) y.push_back(model.result(x.row(i), static_cast<size_t>(k)));
    transform_scores(std::span(y).last(static_cast<size_t>(targets)), transform);
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, {x.rows, targets}, y));
}

void infer_linear_regressor(InferContext& ctx) {
  ctx.set_output(0, DType::kFloat32, Shape({feature_rows(ctx), Dim(linear_targets(ctx.node))}));
}

// One column of coefficients decides between two classes.
void eval_linear_classifier(EvalContext& ctx) {
  const FeatureRows x(ctx);
  const ClassLabels labels(ctx.node, "classlabels_ints");
  const bool binary = labels.count() == 2 && ctx.node.reals("intercepts").size() < 2 &&
                      static_cast<int64_t>(ctx.node.reals("coefficients").size()) == x.features;
  const LinearModel model(ctx, x.features, binary ? 1 : labels.count());
  const ScoreTransform transform = score_transform(ctx.node);
  const auto columns = static_cast<size_t>(labels.count());
  std::vector<double> scores(static_cast<size_t>(bounded_count(Dims{x.rows, labels.count()})));
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < x.rows; ++i) {
    const auto row = std::span(scores).subspan(static_cast<size_t>(i) * columns, columns);
    if (binary) {
      const double score = model.result(x.row(i), 0);
      classes.push_back(score > 0 ? 1 : 0);
      transform_second_class(row, score, true, transform);
      continue;
    }
    for (size_t k = 0; k < columns; ++k) row[k] = model.result(x.row(i), k);
    classes.push_back(largest_score(row));
    transform_scores(row, transform);
  }
  set_classes(ctx, labels.named(classes), labels.count(), scores);
}

void infer_linear_classifier(InferContext& ctx) {
  const ClassLabels labels(ctx.node, "classlabels_ints");
  infer_classes(ctx, labels, Dim(labels.count()));
}

/// Support vectors [count, F] and the function that compares a row with one of them.
struct SupportVectors {
  SupportVectors(const EvalContext& ctx, int64_t features, size_t vectors) : count(vectors) {
    constexpr std::array<std::string_view, 4> kNames = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    const std::string name = ctx.node.text("kernel_type", "LINEAR");
    kernel = static_cast<size_t>(std::find(kNames.begin(), kNames.end(), name) - kNames.begin());
    if (kernel == kNames.size()) ctx.reject(fmt::format("its kernel_type is unknown: {}", name));
    values = ctx.node.reals("support_vectors");
    if (features < 1 || values.size() / count != static_cast<size_t>(features) || values.size() % count != 0)
      ctx.reject(fmt::format("{} numbers are no {} support vectors of {} features", values.size(), count, features));
    const std::vector<float> parameters = ctx.node.reals("kernel_params");
    if (parameters.empty()) return;
    if (parameters.size() != 3) ctx.reject("its kernel_params are not gamma, coef0 and degree");
    gamma = static_cast<double>(parameters[0]);
    offset = static_cast<double>(parameters[1]);
    degree = static_cast<double>(parameters[2]);
  }

  std::vector<double> compare(std::span<const double> x) const {
    enum { kLinear, kPolynomial, kRadial, kSigmoid };
    std::vector<double> results;
    for (size_t v = 0; v < count; ++v) {
      const float* own = values.data() + v * x.size();
      if (kernel == kRadial) {
        double distance = 0;
        for (size_t i = 0; i < x.size(); ++i) distance += std::pow(x[i] - static_cast<double>(own[i]), 2);
        results.push_back(std::exp(-gamma * distance));
        continue;
      }
      const double product = dot(x, own), scaled = gamma * product + offset;
      results.push_back(kernel == kPolynomial ? std::pow(scaled, degree)
                        : kernel == kSigmoid  ? std::tanh(scaled)
                                              : product);
    }
    return results;
  }

  size_t count, kernel = 0;
  std::vector<float> values;
  double gamma = 0, offset = 0, degree = 0;
};

// Without support vectors the coefficients are a linear model's, and rho is its intercept.
void eval_svm_regressor(EvalContext& ctx) {
  const FeatureRows x(ctx);
  const int64_t supports = ctx.node.integer("n_supports", 0);
  if (supports < 0) ctx.reject(fmt::format("it has {} support vectors", supports));
  const double rho = static_cast<double>(required_reals(ctx.node, "rho", 1)[0]);
  const std::vector<float> weights = ctx.node.reals("coefficients");
  if (static_cast<int64_t>(weights.size()) != (supports > 0 ? supports : x.features))
    ctx.reject(
        fmt::format("{} coefficients for {} support vectors and {} features", weights.size(), supports, x.features));
  const ScoreTransform transform = score_transform(ctx.node);
  const bool one_class = ctx.node.integer("one_class", 0) != 0;
  std::optional<SupportVectors> vectors;
  if (supports > 0) vectors.emplace(ctx, x.features, static_cast<size_t>(supports));
  std::vector<double> y;
  for (int64_t i = 0; i < x.rows; ++i) {
    double score = rho;
    score += vectors ? dot(vectors->compare(x.row(i)), weights.data()) : dot(x.row(i), weights.data());
    transform_scores({&score, 1}, transform);
    y.push_back(one_class ? (score > 0 ? 1 : -1) : score);
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, {x.rows, 1}, y));
}

void infer_svm_regressor(InferContext& ctx) { ctx.set_output(0, DType::kFloat32, Shape({feature_rows(ctx), Dim(1)})); }

// `wins`[i · k + j]: how likely class i is where it is i or j.
std::vector<double> couple(const std::vector<double>& wins, size_t k) {
  constexpr int kMostRounds = 100;
  std::vector<double> q(k * k, 0), p(k, 1.0 / static_cast<double>(k)), qp(k);
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j) {
      if (i == j) continue;
      q[i * k + i] += wins[j * k + i] * wins[j * k + i];
      q[i * k + j] = -wins[j * k + i] * wins[i * k + j];
    }
  for (int round = 0; round < kMostRounds; ++round) {
    double pqp = 0, worst = 0;
    for (size_t i = 0; i < k; ++i) {
      qp[i] = 0;
      for (size_t j = 0; j < k; ++j) qp[i] += q[i * k + j] * p[j];
      pqp += p[i] * qp[i];
    }
    for (size_t i = 0; i < k; ++i) worst = std::max(worst, std::fabs(qp[i] - pqp));
    if (worst < 0.005 / static_cast<double>(k)) break;
    for (size_t t = 0; t < k; ++t) {
      const double step = (pqp - qp[t]) / q[t * k + t], scale = 1 / (1 + step);
      pqp = (pqp + step * (step * q[t * k + t] + 2 * qp[t])) * scale * scale;
      p[t] += step;
      for (size_t j = 0; j < k; ++j) {
        qp[j] = (qp[j] + step * q[t * k + j]) * scale;
        p[j] *= scale;
      }
    }
  }
  return p;
}

/// A classifier with support vectors, sorted by class.
struct PairwiseClassifier {
  PairwiseClassifier(const EvalContext& ctx, size_t class_count)
      : k(class_count), per_class(ctx.node.integers("vectors_per_class")), a(ctx.node.reals("prob_a")) {
    if (k < 2 || per_class.size() != k)
      ctx.reject(fmt::format("{} vectors_per_class for {} classes", per_class.size(), k));
    for (int64_t n : per_class) {
      if (n < 0 || n > (int64_t{1} << 40)) ctx.reject(fmt::format("a class has {} support vectors", n));
      starts.push_back(vectors);
      vectors += static_cast<size_t>(n);
    }
    if (vectors == 0) ctx.reject("no class has support vectors");
    weights = required_reals(ctx.node, "coefficients", 0);
    if (weights.size() / vectors < k - 1)
      ctx.reject(fmt::format("{} coefficients for {} support vectors of {} classes", weights.size(), vectors, k));
    rho = required_reals(ctx.node, "rho", pairs());
    if (!a.empty()) required_reals(ctx.node, "prob_a", pairs());
    b = a.empty() ? a : required_reals(ctx.node, "prob_b", pairs());
  }

  size_t pairs() const { return k * (k - 1) / 2; }

  // Positive where the first class of the pair wins. In a class's rows of coefficients its own pair is left out.
  std::vector<double> decide(const std::vector<double>& kernels) const {
    std::vector<double> decisions;
    for (size_t i = 0; i < k; ++i)
      for (size_t j = i + 1; j < k; ++j) {
        double sum = static_cast<double>(rho[decisions.size()]);
        for (const auto& [row, own] : {std::pair(j - 1, i), std::pair(i, j)})
          for (size_t v = starts[own]; v < starts[own] + static_cast<size_t>(per_class[own]); ++v)
            sum += static_cast<double>(weights[row * vectors + v]) * kernels[v];
        decisions.push_back(sum);
      }
    return decisions;
  }

  int64_t most_voted(const std::vector<double>& decisions) const {
    std::vector<double> votes(k, 0);
    size_t pair = 0;
    for (size_t i = 0; i < k; ++i)
      for (size_t j = i + 1; j < k; ++j) ++votes[decisions[pair++] > 0 ? i : j];
    return largest_score(votes);
  }

  std::vector<double> probabilities(const std::vector<double>& decisions) const {
    constexpr double kLeast = 1e-7;
    std::vector<double> wins(k * k, 0);
    size_t pair = 0;
    for (size_t i = 0; i < k; ++i)
      for (size_t j = i + 1; j < k; ++j, ++pair) {
        const double at = decisions[pair] * static_cast<double>(a[pair]) + static_cast<double>(b[pair]);
        wins[i * k + j] = std::clamp(1 / (1 + std::exp(at)), kLeast, 1 - kLeast);
        wins[j * k + i] = 1 - wins[i * k + j];
      }
    return couple(wins, k);
  }

  size_t k, vectors = 0;
  std::vector<int64_t> per_class;
  std::vector<size_t> starts;
  std::vector<float> weights, rho, a, b;
};

void eval_linear_svm(EvalContext& ctx, const FeatureRows& x, const ClassLabels& labels) {
  const auto columns = static_cast<size_t>(labels.count());
  const std::vector<float> weights = ctx.node.reals("coefficients");
  const double rho = static_cast<double>(required_reals(ctx.node, "rho", 1)[0]);
  if (weights.size() / columns != static_cast<size_t>(x.features) || weights.size() % columns != 0)
    ctx.reject(fmt::format("{} coefficients for {} classes of {} features", weights.size(), columns, x.features));
  std::vector<double> scores;
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < x.rows; ++i) {
    for (size_t k = 0; k < columns; ++k)
      scores.push_back(rho + dot(x.row(i), weights.data() + k * static_cast<size_t>(x.features)));
    const auto row = std::span(scores).last(columns);
    classes.push_back(largest_score(row));
    transform_scores(row, score_transform(ctx.node));
  }
  set_classes(ctx, labels.named(classes), labels.count(), scores);
}

void eval_svm_classifier(EvalContext& ctx) {
  const FeatureRows x(ctx);
  const ClassLabels labels(ctx.node, "classlabels_ints");
  if (ctx.node.integers("vectors_per_class").empty()) return eval_linear_svm(ctx, x, labels);
  const PairwiseClassifier model(ctx, static_cast<size_t>(labels.count()));
  const SupportVectors vectors(ctx, x.features, model.vectors);
  const ScoreTransform transform = score_transform(ctx.node);
  const bool has_probabilities = !model.a.empty(), binary = model.k == 2 && !has_probabilities;
  const size_t columns = has_probabilities || binary ? model.k : model.pairs();
  std::vector<double> scores(static_cast<size_t>(bounded_count(Dims{x.rows, static_cast<int64_t>(columns)})));
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < x.rows; ++i) {
    const std::vector<double> decisions = model.decide(vectors.compare(x.row(i)));
    const auto row = std::span(scores).subspan(static_cast<size_t>(i) * columns, columns);
    classes.push_back(model.most_voted(decisions));
    if (binary) {
      transform_second_class(row, decisions[0], transform != ScoreTransform::kNone, transform);
      continue;
    }
    const std::vector<double> values = has_probabilities ? model.probabilities(decisions) : decisions;
    std::copy(values.begin(), values.end(), row.begin());
    transform_scores(row, transform);
  }
  set_classes(ctx, labels.named(classes), static_cast<int64_t>(columns), scores);
}

void infer_svm_classifier(InferContext& ctx) {
  const ClassLabels labels(ctx.node, "classlabels_ints");
  const int64_t k = labels.count();
  const bool pairs = !ctx.node.integers("vectors_per_class").empty() && ctx.node.reals("prob_a").empty() && k > 2;
  infer_classes(ctx, labels, Dim(pairs ? k * (k - 1) / 2 : k));
}

constexpr std::string_view kMlDomain = "ai.onnx.ml";

constexpr OpSpec kLinearModelOps[] = {
    {.name = "LinearRegressor",
     .min_inputs = 1,
     .infer = infer_linear_regressor,
     .eval = eval_linear_regressor,
     .rows = rows_of_features,
     .domain = kMlDomain},
    {.name = "LinearClassifier",
     .min_inputs = 1,
     .max_outputs = 2,
     .infer = infer_linear_classifier,
     .eval = eval_linear_classifier,
     .rows = rows_of_features,
     .domain = kMlDomain},
    {.name = "SVMRegressor",
     .min_inputs = 1,
     .infer = infer_svm_regressor,
     .eval = eval_svm_regressor,
     .rows = rows_of_features,
     .domain = kMlDomain},
    {.name = "SVMClassifier",
     .min_inputs = 1,
     .max_outputs = 2,
     .infer = infer_svm_classifier,
     .eval = eval_svm_classifier,
     .rows = rows_of_features,
     .domain = kMlDomain},
};

}  // namespace

std::span<const OpSpec> linear_model_ops() { return kLinearModelOps; }

}  // namespace slipway
