#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>

#include "metrics/histogram.h"
#include "monitor/alarms.h"
#include "monitor/observation.h"

namespace slipway {

/// Counters that only grow: of one version, or added up over several. All variants together.
struct Sums {
  int64_t requests = 0, rows = 0, faults = 0, timeouts = 0, rejections = 0;
  int64_t answered = 0, latency_us = 0;      ///< requests that went well, and their time
  int64_t executions = 0, batched_rows = 0;  ///< batches, and their rows
  int64_t scored = 0;                        ///< requests with scores
  double confidence = 0, entropy = 0, margin = 0;
  Sums& operator+=(const Sums& other);
  Sums operator-(const Sums& earlier) const;
};

/// Sums with the distributions that figures are taken from.
struct Tally {
  Sums sums;
  Histogram total_us;
  ScoreHistogram confidence;
  void merge(const Tally& other);
  Tally since(const Tally& earlier) const;
};

/// Figures of a stretch of time; means and quantiles are NaN where nothing was counted.
struct Point {
  int64_t t_ms = 0;  ///< its end, epoch
  double requests_per_s = 0, faults_per_s = 0, timeouts_per_s = 0, rejections_per_s = 0;
  double p50_ms = 0, p95_ms = 0, p99_ms = 0, mean_ms = 0;
  double queue_depth = 0, batch_rows = 0;
  double confidence = 0, entropy = 0, margin = 0;
};
Point figures_of(const Tally& delta, double seconds, int64_t t_ms);

/// The recent past of one version, one model, or everything: a point a second, the last ten seconds, the last minute's
/// confidences and the alarms' window. All bounded.
class Track {
 public:
  Track(int64_t history_s, int64_t window_s) : history_s_(history_s), window_s_(window_s) {}
  /// What came since the last call; about once a second, `now_ns` growing.
  void add(const Tally& delta, int64_t queue_depth, int64_t now_ns, int64_t now_ms);
  const std::deque<Point>& points() const { return points_; }
  const Tally& total() const { return total_; }
  Point recent() const;                 ///< over the last 10 s
  ScoreHistogram last_minute() const;   ///< confidences
  Sums window() const;                  ///< over the last `window_s`
  double idle_s(int64_t now_ns) const;  ///< since the last request, or the first add()

 private:
  template <typename T>
  struct At {
    int64_t ns;
    T value;
  };
  int64_t history_s_, window_s_;
  int64_t last_ns_ = -1, last_request_ns_ = -1, last_ms_ = 0, queue_depth_ = 0;
  Tally total_;
  std::deque<Point> points_;
  std::deque<At<Tally>> recent_;
  std::deque<At<ScoreHistogram>> minute_;
  std::deque<At<Sums>> window_;
};

}  // namespace slipway
