#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace slipway {

/// Index of the largest score, the first of equals; NaN never wins; −1 when there is no number.
int64_t argmax(std::span<const float> scores);
/// Whether fewer than `k` scores stand before the label's (larger, or equal at a lower index). False for a NaN score or
/// a label that is no index.
bool in_top_k(std::span<const float> scores, int64_t label, int64_t k);
/// The share of equal entries, of which one below 0 (no prediction) equals nothing; 1 for empty lists. Both must be of
/// one length.
double agreement(std::span<const int64_t> a, std::span<const int64_t> b);

struct ClassScores {
  int64_t support = 0;                       ///< samples with this label
  double precision = 0, recall = 0, f1 = 0;  ///< 0 where undefined (never predicted, no sample)
};

/// Counts of (label, prediction), kept sparsely. Labels lie in [0, classes); any other prediction counts as wrong.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int64_t classes);
  void add(int64_t label, int64_t predicted, int64_t count = 1);
  void merge(const ConfusionMatrix& other);

  int64_t classes() const { return static_cast<int64_t>(labelled_.size()); }
  int64_t total() const { return total_; }
  int64_t correct() const { return correct_; }
  int64_t at(int64_t label, int64_t predicted) const;
  /// Non-zero cells by (label, prediction).
  const std::map<std::pair<int64_t, int64_t>, int64_t>& cells() const { return cells_; }

  int64_t labelled(int64_t label) const { return labelled_[static_cast<size_t>(label)]; }
  int64_t predicted(int64_t label) const { return predicted_[static_cast<size_t>(label)]; }
  double accuracy() const;  ///< 0 without samples
  ClassScores scores(int64_t label) const;
  /// Means over the classes that have samples.
  double macro_f1() const;
  double macro_recall() const;

 private:
  template <typename Pick>
  double mean_of(Pick pick) const;
  std::map<std::pair<int64_t, int64_t>, int64_t> cells_;
  std::vector<int64_t> labelled_, predicted_;
  int64_t total_ = 0, correct_ = 0;
};

/// What predictions that have nothing to do with the labels would have right (Cohen, 1960): each class as often said,
/// and as often true, as in the matrix, by chance. So a model that always says one class is no better than chance,
/// however frequent that class is.
struct ChanceAgreement {
  double accuracy = 0;   ///< expected
  double p = 1;          ///< of at least as many correct ones by chance: exact, binomial
  bool possible = true;  ///< false where all labels are the same: then nothing can be told
};
ChanceAgreement chance_agreement(const ConfusionMatrix& matrix);

}  // namespace slipway
