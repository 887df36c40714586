// Figures of classification: top-k, agreement, the confusion matrix and what follows from it.
// precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2·TP / (2·TP + FP + FN).
#include "metrics/classification.h"

#include <cmath>

#include "base/error.h"
#include "metrics/significance.h"

namespace slipway {

int64_t argmax(std::span<const float> scores) {
  int64_t best = -1;
  for (size_t i = 0; i < scores.size(); ++i)
    if (!std::isnan(scores[i]) && (best < 0 || scores[i] > scores[static_cast<size_t>(best)]))
      best = static_cast<int64_t>(i);
  return best;
}

bool in_top_k(std::span<const float> scores, int64_t label, int64_t k) {
  if (label < 0 || label >= static_cast<int64_t>(scores.size())) return false;
  const auto at = static_cast<size_t>(label);
  if (std::isnan(scores[at])) return false;
  int64_t before = 0;
  for (size_t i = 0; i < scores.size(); ++i) before += scores[i] > scores[at] || (scores[i] == scores[at] && i < at);
  return before < k;
}

double agreement(std::span<const int64_t> a, std::span<const int64_t> b) {
  SLIPWAY_CHECK(a.size() == b.size());
  if (a.empty()) return 1;
  size_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i] && a[i] >= 0;
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

ConfusionMatrix::ConfusionMatrix(int64_t classes)
    : labelled_(static_cast<size_t>(classes)), predicted_(static_cast<size_t>(classes)) {}

void ConfusionMatrix::add(int64_t label, int64_t predicted, int64_t count) {
  SLIPWAY_CHECK(label >= 0 && label < classes() && count >= 0);
  if (predicted < 0 || predicted >= classes()) predicted = -1;
  cells_[{label, predicted}] += count;
  labelled_[static_cast<size_t>(label)] += count;
  if (predicted >= 0) predicted_[static_cast<size_t>(predicted)] += count;
  total_ += count;
  if (label == predicted) correct_ += count;
}

void ConfusionMatrix::merge(const ConfusionMatrix& other) {
  for (const auto& [cell, count] : other.cells_) add(cell.first, cell.second, count);
}

int64_t ConfusionMatrix::at(int64_t label, int64_t predicted) const {
  const auto found = cells_.find({label, predicted});
  return found == cells_.end() ? 0 : found->second;
}

double ConfusionMatrix::accuracy() const {
  return total_ == 0 ? 0 : static_cast<double>(correct_) / static_cast<double>(total_);
}

ClassScores ConfusionMatrix::scores(int64_t label) const {
  const auto i = static_cast<size_t>(label);
  SLIPWAY_CHECK(i < labelled_.size());
  const auto hits = static_cast<double>(at(label, label));
  const auto share = [&](double of) { return of == 0 ? 0 : hits / of; };
  const auto labelled = static_cast<double>(labelled_[i]), predicted = static_cast<double>(predicted_[i]);
  return {labelled_[i], share(predicted), share(labelled), share((labelled + predicted) / 2)};
}

template <typename Pick>
double ConfusionMatrix::mean_of(Pick pick) const {
  double sum = 0;
  int64_t present = 0;
  for (int64_t label = 0; label < classes(); ++label) {
    if (labelled_[static_cast<size_t>(label)] == 0) continue;
    sum += pick(scores(label));
    ++present;
  }
  return present == 0 ? 0 : sum / static_cast<double>(present);
}

double ConfusionMatrix::macro_f1() const {
  return mean_of([](const ClassScores& s) { return s.f1; });
}

double ConfusionMatrix::macro_recall() const {
  return mean_of([](const ClassScores& s) { return s.recall; });
}

ChanceAgreement chance_agreement(const ConfusionMatrix& matrix) {
  const auto n = static_cast<double>(matrix.total());
  ChanceAgreement chance;
  if (matrix.total() == 0) return chance;
  for (int64_t c = 0; c < matrix.classes(); ++c) {
    chance.accuracy += static_cast<double>(matrix.labelled(c)) / n * (static_cast<double>(matrix.predicted(c)) / n);
    chance.possible = chance.possible && matrix.labelled(c) < matrix.total();
  }
  chance.p = binomial_upper_tail(matrix.correct(), matrix.total(), chance.accuracy);
  return chance;
}

}  // namespace slipway
