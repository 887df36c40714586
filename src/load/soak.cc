// A soak: whether memory, latency and throughput drift under a steady load. See metrics/trend.h for the statistics; the
// points are reduced to a few hundred medians, which bounds the work for 24 hours as for 30 seconds and takes out most
// of what makes neighbouring seconds resemble each other.
#include "load/soak.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "metrics/latency.h"

namespace slipway {
namespace {

constexpr double kSettleShare = 0.2, kMaxSettleSeconds = 1800;
constexpr size_t kMaxPoints = 240, kMinPoints = 8;
using Point = LoadResult::Point;

/// The trend per hour of one figure; points where it is not known are left out.
Trend trend_of(const std::vector<const Point*>& points, double Point::*figure, bool zero_is_known, double confidence) {
  std::vector<double> hours, values;
  const size_t step = (points.size() + kMaxPoints - 1) / kMaxPoints;
  for (size_t first = 0; first < points.size(); first += step) {
    std::vector<double> group;
    double time = 0;
    for (size_t i = first; i < std::min(points.size(), first + step); ++i)
      if (zero_is_known || points[i]->*figure > 0) {
        group.push_back(points[i]->*figure);
        time += points[i]->t_s;
      }
    if (group.empty()) continue;
    hours.push_back(time / static_cast<double>(group.size()) / 3600);
    values.push_back(quantile(group, 0.5));
  }
  return theil_sen_trend(hours, values, confidence);
}

std::string slope_text(const Trend& t, const char* unit) {
  return fmt::format("{} {} per hour ({} to {})", signed_figure(t.slope), unit, signed_figure(t.low),
                     signed_figure(t.high));
}

}  // namespace

std::string signed_figure(double value) {
  return std::isfinite(value) && std::abs(value) >= 100 ? fmt::format("{:+.0f}", value) : fmt::format("{:+.3g}", value);
}

SoakResult judge_soak(const LoadResult& load, const SoakOptions& options) {
  if (!(options.max_memory_slope_mib_per_hour >= 0) || !(options.confidence > 0 && options.confidence < 1))
    fail(ErrorCode::kInvalidArgument,
         "A soak is judged by a slope of 0 or more and a confidence between 0 and 1: {}, {}",
         options.max_memory_slope_mib_per_hour, options.confidence);
  SoakResult r{.max_memory_slope_mib_per_hour = options.max_memory_slope_mib_per_hour};
  const double end = load.series.empty() ? 0 : load.series.back().t_s;
  r.settled_s = std::min(kSettleShare * end, kMaxSettleSeconds);
  r.judged_s = end - r.settled_s;
  std::vector<const Point*> points;
  for (const Point& p : load.series)
    if (p.t_s > r.settled_s) points.push_back(&p);
  r.p50_ms = trend_of(points, &Point::p50_ms, false, options.confidence);
  r.p99_ms = trend_of(points, &Point::p99_ms, false, options.confidence);
  r.throughput = trend_of(points, &Point::throughput, true, options.confidence);
  r.memory_mib = trend_of(points, &Point::server_rss_mb, false, options.confidence);
  r.memory_mib_per_day = 24 * r.memory_mib.slope;

  const Trend& m = r.memory_mib;
  const double budget = options.max_memory_slope_mib_per_hour, hours = r.judged_s / 3600;
  if (m.n < static_cast<int64_t>(kMinPoints)) {
    r.reason = m.n == 0 ? "The server's memory is not known; give --admin http://host:port."
                        : fmt::format("Memory was seen only {} times; run longer.", m.n);
  } else if (m.low > budget && m.slope * hours >= options.min_growth_mib) {
    r.verdict = Verdict::kFail;
    r.reason = fmt::format("Memory grows by {}, above {:g}; projected {:+.1f} MiB a day.", slope_text(m, "MiB"), budget,
                           r.memory_mib_per_day);
  } else if (m.high <= budget) {
    r.verdict = Verdict::kPass;
    r.reason = fmt::format("Memory changes by {}, within {:g}.", slope_text(m, "MiB"), budget);
  } else {
    r.reason = fmt::format("Memory changes by {}: {}; run longer to tell it from {:g}.", slope_text(m, "MiB"),
                           m.low > budget
                               ? fmt::format("{:.2g} MiB in all, which an allocator takes to breathe", m.slope * hours)
                               : "the interval holds the budget",
                           budget);
  }
  return r;
}

}  // namespace slipway
