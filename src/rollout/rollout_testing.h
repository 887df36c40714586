#pragma once
// What the rollout's tests share: traffic of made-up versions, answered without a server.
#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "monitor/observation.h"

namespace slipway {

inline constexpr int64_t kSecond = 1'000'000'000;  ///< in nanoseconds

/// How a version answers: lognormal latency, an error rate, confidence 1 − u^k (larger k: surer).
struct Behaviour {
  double median_us = 10'000, sigma = 0.4, error_rate = 0.002, sureness = 4;
};

inline void answer(Observation& seen, const Behaviour& b, Random& random, int64_t requests = 1) {
  seen.scored = true;
  for (int64_t i = 0; i < requests; ++i) {
    ++seen.traffic.requests;
    if (random.uniform() < b.error_rate) {
      ++seen.traffic.errors[static_cast<size_t>(ErrorCode::kInternal)];
      continue;
    }
    seen.traffic.total_us.add(static_cast<int64_t>(b.median_us * std::exp(b.sigma * random.normal())));
    const double confidence = 1 - std::pow(random.uniform(), b.sureness);
    ++seen.confidence.counts[std::min(static_cast<size_t>(confidence * 50), ScoreHistogram::kBins - 1)];
    seen.confidence.sum += confidence;
  }
}

/// A journal's path in a folder of its own, removed in the end.
struct TestJournal {
  TestJournal() {
    // In memory where there is such a place: a test waits for hundreds of commits.
    char name[] = "/dev/shm/slipway_journal_XXXXXX", fallback[] = "/tmp/slipway_journal_XXXXXX";
    const char* made = mkdtemp(name);
    if (made == nullptr) made = mkdtemp(fallback);
    SLIPWAY_CHECK(made != nullptr);
    folder = made;
    path = folder + "/journal.sqlite";
  }
  ~TestJournal() {
    for (const char* end : {"", "-wal", "-shm", "-journal"}) unlink((path + end).c_str());
    rmdir(folder.c_str());
  }
  TestJournal(const TestJournal&) = delete;
  TestJournal& operator=(const TestJournal&) = delete;
  std::string folder, path;
};

}  // namespace slipway
