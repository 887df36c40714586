#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "serve/metrics.h"

namespace slipway {

/// Counts over [0, 1] in 50 equal bins, with the sum.
struct ScoreHistogram {
  static constexpr size_t kBins = 50;
  std::array<int64_t, kBins> counts{};
  double sum = 0;
  int64_t count() const;
  double mean() const;
  ScoreHistogram since(const ScoreHistogram& earlier) const;
};

/// What was seen of one version's traffic of one variant: since it was loaded, or over a window of time by since().
struct Observation {
  uint64_t generation = 0;  ///< of the version's object (ModelVersion::generation()); 0: none was there
  VariantSnapshot traffic;
  bool scored = false;                         ///< the first output is a classifier's scores
  ScoreHistogram confidence, entropy, margin;  ///< top-1 probability; entropy / ln classes; top-1 minus top-2
  /// All of it where `earlier` counted another generation: its counters began again.
  Observation since(const Observation& earlier) const;
};

}  // namespace slipway
