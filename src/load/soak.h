#pragma once
#include <string>
#include <vector>

#include "load/load.h"
#include "metrics/trend.h"
#include "metrics/verdict.h"

namespace slipway {

struct SoakOptions {
  double max_memory_slope_mib_per_hour = 1;
  double confidence = 0.95;
  /// Growth over the whole judged time below which no leak is told from the allocator's breathing.
  double min_growth_mib = 1;
};

/// Three digits and a sign, without an exponent for large ones.
std::string signed_figure(double value);

/// Trends over the judged part of a long load: per hour.
struct SoakResult {
  Verdict verdict = Verdict::kInconclusive;
  std::string reason;  ///< one sentence
  Trend memory_mib;    ///< n = 0 when the server's memory is not known
  Trend p50_ms, p99_ms, throughput;
  double memory_mib_per_day = 0;       ///< the slope, projected
  double settled_s = 0, judged_s = 0;  ///< left out at the start; judged
  double max_memory_slope_mib_per_hour = 0;
};

/// Judges a load that was run with the server's memory in view (LoadOptions::admin_url): drops the first fifth (at most
/// half an hour) in which caches fill, reduces the rest to at most 240 points, and fails when even the lower end of the
/// memory's slope is above the budget, passes when the upper end is within it.
SoakResult judge_soak(const LoadResult& load, const SoakOptions& options = {});

}  // namespace slipway
