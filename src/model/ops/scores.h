#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/op.h"

namespace slipway {

// What the classifiers and regressors of ai.onnx.ml share: labels, and what becomes of raw scores.

/// post_transform, numbered as TreeEnsemble does.
enum class ScoreTransform { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit };

/// Of the attribute, a number or a name; kNone when absent. Rejects what is unknown.
ScoreTransform score_transform(const Node& node);
/// One row of scores in place. SOFTMAX_ZERO leaves zeros as they are.
void transform_scores(std::span<double> scores, ScoreTransform kind);

/// A row of two scores from the second class's alone: the first class's is its complement to 1 where scores are
/// probabilities, else its negative. LOGISTIC makes probabilities of any score; SOFTMAX leaves the two as they are.
void transform_second_class(std::span<double> row, double score, bool probabilities, ScoreTransform kind);

/// The class labels of a classifier: int64 or strings, in the attribute classlabels_strings, or else `ints`.
class ClassLabels {
 public:
  /// Rejects a node that has none, or both.
  ClassLabels(const Node& node, std::string_view ints);
  int64_t count() const;
  DType dtype() const { return texts_.empty() ? DType::kInt64 : DType::kString; }
  /// The labels of rows, given the number of each row's class, [N]. The numbers are in range (checked).
  Tensor named(const std::vector<int64_t>& classes) const;

 private:
  std::vector<int64_t> numbers_;
  std::vector<std::string> texts_;
};

/// Rows of features in double, [N, F]; a vector is one row. Rejects another rank, and texts.
struct FeatureRows {
  explicit FeatureRows(const EvalContext& ctx);
  std::span<const double> row(int64_t i) const {
    return std::span(values).subspan(static_cast<size_t>(i * features), static_cast<size_t>(features));
  }
  int64_t rows = 1, features = 0;
  std::vector<double> values;
};
/// The first dimension of what FeatureRows makes of input 0.
Dim feature_rows(const InferContext& ctx);

/// Rows of features stay rows of results; a vector is one row whatever it holds.
void rows_of_features(RowsContext& ctx);

/// Index of the largest, the first of equals.
int64_t largest_score(std::span<const double> scores);

/// A classifier's outputs, the label [N] and the scores [N, columns] in float, or what they are known to be.
void set_classes(EvalContext& ctx, const Tensor& labels, int64_t columns, std::span<const double> scores);
void infer_classes(InferContext& ctx, const ClassLabels& labels, const Dim& columns);

}  // namespace slipway
