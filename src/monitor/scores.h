#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "monitor/observation.h"
#include "serve/protocol.h"

namespace slipway {

/// How sure a classifier was of one sample, each in [0, 1].
struct ScoreFigures {
  float confidence = 0;  ///< of the most probable class
  float entropy = 1;     ///< of the distribution / ln classes
  float margin = 0;      ///< most probable less second
};

/// One sample's scores, logits or probabilities, by as_probabilities' rule; allocates nothing. `scores`: `classes` ≥ 2
/// values. Scores with a NaN or infinity give the least sure figures, so that a model which breaks is seen.
ScoreFigures score_figures(const float* scores, int64_t classes) noexcept;

/// Whether a version's first output is a classifier's scores, and how many classes; axes of size 1 may follow them
/// where it is the only output, as in scores_output() (data/top_classes.h).
struct ScoreShape {
  int64_t classes = 0;  ///< 0: no scores
  std::string reason;   ///< one sentence, when there are none
};
ScoreShape score_shape(const std::string& output, DType dtype, const Dims& dims, bool only_output = true);

/// Distributions that many threads add to, without locks.
class LiveScores {
 public:
  /// One row of a request's output, in turn the first, second, …: the tests of the gates need independent samples, and
  /// the rows of a request are related. Of more than 1,024 classes only every n-th request, so that the mean cost
  /// stays.
  void add(const WireTensor& scores, const ScoreShape& shape) noexcept;
  /// The three histograms; the traffic is left alone.
  void copy_to(Observation& observation) const;

 private:
  struct Distribution {
    std::array<std::atomic<int64_t>, ScoreHistogram::kBins> counts{};
    std::atomic<int64_t> sum_nano{0};
    void add(float value) noexcept;
    ScoreHistogram copy() const;
  };
  Distribution confidence_, entropy_, margin_;
  std::atomic<uint64_t> requests_{0};
};

}  // namespace slipway
