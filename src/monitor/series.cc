// Windows of time over counters that only grow: each ring keeps the totals of earlier moments, just beyond its length,
// and a window is the total less the oldest. Only counts are kept, so windows add up and quantiles lose nothing more.
#include "monitor/series.h"

#include <algorithm>
#include <cmath>

namespace slipway {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kRecentStep = 2 * kSecond, kRecent = 10 * kSecond;
constexpr int64_t kMinuteStep = 5 * kSecond, kMinute = 60 * kSecond;

double mean(double sum, int64_t count) { return count == 0 ? NAN : sum / static_cast<double>(count); }

double rate(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

/// Keeps `value` when `step` has passed, and of what lies before the window only the newest.
template <typename Ring, typename T>
void keep(Ring& ring, const T& value, int64_t now_ns, int64_t step, int64_t length) {
  if (!ring.empty() && now_ns - ring.back().ns < step) return;
  ring.push_back({now_ns, value});
  while (ring.size() > 1 && now_ns - ring[1].ns >= length) ring.pop_front();
}

}  // namespace

Sums& Sums::operator+=(const Sums& o) {
  requests += o.requests, rows += o.rows, faults += o.faults, timeouts += o.timeouts, rejections += o.rejections;
  answered += o.answered, latency_us += o.latency_us, executions += o.executions, batched_rows += o.batched_rows;
  scored += o.scored, confidence += o.confidence, entropy += o.entropy, margin += o.margin;
  return *this;
}

Sums Sums::operator-(const Sums& o) const {
  return {.requests = requests - o.requests,
          .rows = rows - o.rows,
          .faults = faults - o.faults,
          .timeouts = timeouts - o.timeouts,
          .rejections = rejections - o.rejections,
          .answered = answered - o.answered,
          .latency_us = latency_us - o.latency_us,
          .executions = executions - o.executions,
          .batched_rows = batched_rows - o.batched_rows,
          .scored = scored - o.scored,
          .confidence = confidence - o.confidence,
          .entropy = entropy - o.entropy,
          .margin = margin - o.margin};
}

void Tally::merge(const Tally& other) {
  sums += other.sums;
  total_us.merge(other.total_us);
  for (size_t i = 0; i < confidence.counts.size(); ++i) confidence.counts[i] += other.confidence.counts[i];
  confidence.sum += other.confidence.sum;
}

Tally Tally::since(const Tally& earlier) const {
  return {sums - earlier.sums, total_us.since(earlier.total_us), confidence.since(earlier.confidence)};
}

Point figures_of(const Tally& d, double seconds, int64_t t_ms) {
  const Sums& s = d.sums;
  const auto quantile_ms = [&](double q) { return d.total_us.count() == 0 ? NAN : d.total_us.quantile(q) / 1000; };
  return {.t_ms = t_ms,
          .requests_per_s = rate(s.requests, seconds),
          .faults_per_s = rate(s.faults, seconds),
          .timeouts_per_s = rate(s.timeouts, seconds),
          .rejections_per_s = rate(s.rejections, seconds),
          .p50_ms = quantile_ms(0.50),
          .p95_ms = quantile_ms(0.95),
          .p99_ms = quantile_ms(0.99),
          .mean_ms = mean(static_cast<double>(s.latency_us) / 1000, s.answered),
          .batch_rows = mean(static_cast<double>(s.batched_rows), s.executions),
          .confidence = mean(s.confidence, s.scored),
          .entropy = mean(s.entropy, s.scored),
          .margin = mean(s.margin, s.scored)};
}

void Track::add(const Tally& delta, int64_t queue_depth, int64_t now_ns, int64_t now_ms) {
  if (last_ns_ < 0) {
    last_ns_ = last_request_ns_ = now_ns - kSecond;
    recent_.push_back({last_ns_, {}});
    minute_.push_back({last_ns_, {}});
    window_.push_back({last_ns_, {}});
  }
  Point point = figures_of(delta, static_cast<double>(now_ns - last_ns_) * 1e-9, now_ms);
  point.queue_depth = static_cast<double>(queue_depth);
  points_.push_back(point);
  while (!points_.empty() && now_ms - points_.front().t_ms > history_s_ * 1000) points_.pop_front();
  total_.merge(delta);
  if (delta.sums.requests > 0) last_request_ns_ = now_ns;
  last_ns_ = now_ns;
  last_ms_ = now_ms;
  queue_depth_ = queue_depth;
  keep(recent_, total_, now_ns, kRecentStep, kRecent);
  keep(minute_, total_.confidence, now_ns, kMinuteStep, kMinute);
  keep(window_, total_.sums, now_ns, 0, window_s_ * kSecond);
}

Point Track::recent() const {
  if (recent_.empty()) return figures_of({}, 0, 0);
  const At<Tally>& oldest = recent_.front();
  Point point = figures_of(total_.since(oldest.value), static_cast<double>(last_ns_ - oldest.ns) * 1e-9, last_ms_);
  point.queue_depth = static_cast<double>(queue_depth_);
  return point;
}

ScoreHistogram Track::last_minute() const {
  return minute_.empty() ? ScoreHistogram() : total_.confidence.since(minute_.front().value);
}

Sums Track::window() const { return window_.empty() ? Sums() : total_.sums - window_.front().value; }

double Track::idle_s(int64_t now_ns) const { return static_cast<double>(now_ns - last_request_ns_) * 1e-9; }

}  // namespace slipway
