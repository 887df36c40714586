// Windows of what was seen: differences of counters that only grow.
#include "monitor/observation.h"

#include <numeric>

namespace slipway {

int64_t ScoreHistogram::count() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

double ScoreHistogram::mean() const {
  const int64_t n = count();
  return n == 0 ? 0 : sum / static_cast<double>(n);
}

ScoreHistogram ScoreHistogram::since(const ScoreHistogram& earlier) const {
  ScoreHistogram h = *this;
  for (size_t i = 0; i < kBins; ++i) h.counts[i] -= earlier.counts[i];
  h.sum -= earlier.sum;
  return h;
}

Observation Observation::since(const Observation& earlier) const {
  if (earlier.generation != generation) return *this;
  return {.generation = generation,
          .traffic = traffic.since(earlier.traffic),
          .scored = scored,
          .confidence = confidence.since(earlier.confidence),
          .entropy = entropy.since(earlier.entropy),
          .margin = margin.since(earlier.margin)};
}

}  // namespace slipway
