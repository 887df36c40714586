// The gates of a rollout. Two errors are kept apart: sending a good candidate back is bounded by the look's corrected
// alpha; letting a bad one through is bounded by the one-sided interval that a pass needs (non-inferiority).
#include "rollout/gates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "metrics/two_samples.h"

namespace slipway {
namespace {

double percent(double rate) { return 100 * rate; }
double ms(double us) { return us / 1000; }
/// two-sided confidence whose each end holds with the one-sided one
double both_sides(double one_sided) { return 2 * one_sided - 1; }

std::string words_of(double p) { return p < 1e-6 ? std::string("p < 0.000001") : fmt::format("p = {:.2g}", p); }

GateVerdict inconclusive(const char* name, double bound, int64_t n, int64_t baseline_n, const GateLevel& level) {
  return {.name = name,
          .alpha = level.alpha,
          .bound = bound,
          .n = n,
          .baseline_n = baseline_n,
          .sentence = fmt::format("too few answers: {} of the candidate, {} of the live version", n, baseline_n)};
}

Verdict decide(double statistic, double high, double bound, double p, double alpha) {
  if (statistic > bound && p < alpha) return Verdict::kFail;
  return high <= bound ? Verdict::kPass : Verdict::kInconclusive;
}

/// mean ± z · s / √n of values with counts.
Interval mean_interval(double mean, double variance, int64_t n, double one_sided) {
  const double half = normal_quantile(one_sided) * std::sqrt(variance / static_cast<double>(n));
  return {mean, mean - half, mean + half};
}

double variance_of(const Histogram& h) {
  double sum = 0;
  for (size_t i = 0; i < h.counts().size(); ++i) {
    if (h.counts()[i] == 0) continue;
    const double at = static_cast<double>(LogBuckets::lowest(i) + LogBuckets::highest(i)) / 2 - h.mean();
    sum += static_cast<double>(h.counts()[i]) * at * at;
  }
  return sum / static_cast<double>(std::max<int64_t>(h.count() - 1, 1));
}

double variance_of(const ScoreHistogram& h) {
  double sum = 0;
  for (size_t i = 0; i < ScoreHistogram::kBins; ++i) {
    const double at = (static_cast<double>(i) + 0.5) / static_cast<double>(ScoreHistogram::kBins) - h.mean();
    sum += static_cast<double>(h.counts[i]) * at * at;
  }
  return sum / static_cast<double>(std::max<int64_t>(h.count() - 1, 1));
}

}  // namespace

ErrorCount errors_of(const Observation& observation, int64_t fair_us) {
  const VariantSnapshot& t = observation.traffic;
  // Clamped, for counters of answers in flight may be ahead of each other.
  const int64_t failed =
      std::max<int64_t>(t.faults() + t.timeouts() + t.rejections() - t.missed_us.count_at_most(fair_us), 0);
  const int64_t requests = failed + t.total_us.count();
  return {std::min(failed + t.with_nan, requests), requests};
}

int64_t fair_time_us(const Observation& live) {
  const Histogram& answered = live.traffic.total_us;
  return answered.count() == 0 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(answered.quantile(0.99));
}

GateVerdict error_gate(const Observation& live, const Observation& candidate, double max_increase, GateLevel level) {
  const int64_t fair_us = fair_time_us(live);
  const ErrorCount a = errors_of(live, fair_us), b = errors_of(candidate, fair_us);
  GateVerdict v = inconclusive("errors", max_increase, b.requests, a.requests, level);
  if (a.requests == 0 || b.requests == 0) return v;
  const Interval d = rate_difference(a.failed, a.requests, b.failed, b.requests, both_sides(level.pass_confidence));
  v.statistic = d.value, v.low = d.low, v.high = d.high;
  v.p = fisher_exact_greater(a.failed, a.requests, b.failed, b.requests);
  v.verdict = decide(v.statistic, v.high, v.bound, v.p, level.alpha);
  v.sentence = fmt::format(
      "{:.2f} % of {} requests failed, {:.2f} % of {} with the live version: {:+.2f} points ({:+.2f} … {:+.2f}), "
      "limit {:+.2f}, {}",
      percent(b.rate()), b.requests, percent(a.rate()), a.requests, percent(d.value), percent(d.low), percent(d.high),
      percent(v.bound), words_of(v.p));
  return v;
}

GateVerdict latency_gate(const Observation& live, const Observation& candidate, double max_ratio, GateLevel level) {
  const Histogram &a = live.traffic.total_us, &b = candidate.traffic.total_us;
  GateVerdict v = inconclusive("latency", max_ratio, b.count(), a.count(), level);
  if (a.count() == 0 || b.count() == 0) return v;
  const double confidence = both_sides(level.pass_confidence);
  const Interval ratio = ratio_interval(quantile_interval(b, 0.5, confidence), quantile_interval(a, 0.5, confidence));
  const TestResult test = mann_whitney_counts(a.counts(), b.counts());
  v.statistic = ratio.value, v.low = ratio.low, v.high = ratio.high;
  v.p = normal_cdf(-test.z);
  v.verdict = decide(v.statistic, v.high, v.bound, v.p, level.alpha);
  const double slower = test.statistic / (static_cast<double>(a.count()) * static_cast<double>(b.count()));
  v.sentence = fmt::format(
      "median {:.2f} ms over {} answers, {:.2f} ms over {} with the live version: ratio {:.3f} ({:.3f} … {:.3f}), "
      "limit "
      "{:.2f}; means {:.2f} and {:.2f} ms; slower in {:.0f} % of pairs, {}",
      ms(b.quantile(0.5)), b.count(), ms(a.quantile(0.5)), a.count(), ratio.value, ratio.low, ratio.high, v.bound,
      ms(b.mean()), ms(a.mean()), percent(slower), words_of(v.p));
  return v;
}

GateVerdict slow_gate(const Observation& live, const Observation& candidate, double max_share, GateLevel level) {
  const Histogram &a = live.traffic.total_us, &b = candidate.traffic.total_us;
  GateVerdict v = inconclusive("slow requests", max_share, b.count(), a.count(), level);
  if (a.count() < 100 || b.count() == 0) return v;
  const double p99 = a.quantile(0.99);
  const auto beyond = [&](const Histogram& h) { return h.count() - h.count_at_most(static_cast<int64_t>(p99)); };
  const Interval share = wilson_interval(beyond(b), b.count(), both_sides(level.pass_confidence));
  v.statistic = share.value, v.low = share.low, v.high = share.high;
  v.p = fisher_exact_greater(beyond(a), a.count(), beyond(b), b.count());
  v.verdict = decide(v.statistic, v.high, v.bound, v.p, level.alpha);
  v.sentence = fmt::format(
      "{:.1f} % of {} answers took longer than the live version's p99 of {:.2f} ms ({:.1f} … {:.1f} %), limit {:.1f} "
      "%, {}",
      percent(share.value), b.count(), ms(p99), percent(share.low), percent(share.high), percent(v.bound),
      words_of(v.p));
  return v;
}

GateVerdict confidence_gate(const Observation& live, const Observation& candidate, double max_shift, GateLevel level) {
  const ScoreHistogram &a = live.confidence, &b = candidate.confidence;
  const int64_t na = a.count(), nb = b.count();
  GateVerdict v = inconclusive("confidence", max_shift, nb, na, level);
  if (!live.scored) {
    v.verdict = Verdict::kPass;
    v.sentence = "not judged: the live version's outputs are no scores of classes";
    return v;
  }
  if (!candidate.scored && candidate.traffic.requests > 0) {
    v.sentence = "the live version's outputs are scores of classes, the candidate's are not";
    return v;
  }
  if (na == 0 || nb == 0) return v;
  const KolmogorovResult ks = kolmogorov_smirnov_counts(a.counts, b.counts);
  const auto below = [&](const ScoreHistogram& h) {
    int64_t sum = 0;
    for (size_t i = 0; i <= ks.category; ++i) sum += h.counts[i];
    return sum;
  };
  const Interval gap = rate_difference(below(a), na, below(b), nb, both_sides(level.pass_confidence));
  v.statistic = ks.distance;
  v.low = std::max(0.0, gap.value < 0 ? -gap.high : gap.low), v.high = gap.value < 0 ? -gap.low : gap.high;
  v.p = ks.p;
  v.verdict = decide(v.statistic, v.high, v.bound, v.p, level.alpha);
  v.sentence = fmt::format(
      "mean confidence {:.3f} over {} answers, {:.3f} over {} with the live version: the distributions differ by "
      "{:.3f} "
      "({:.3f} … {:.3f}) at {:.2f}, limit {:.2f}, {}",
      b.mean(), nb, a.mean(), na, v.statistic, v.low, v.high,
      static_cast<double>(ks.category + 1) / static_cast<double>(ScoreHistogram::kBins), v.bound, words_of(v.p));
  return v;
}

std::vector<GateVerdict> judge(const Observation& live, const Observation& candidate, const RolloutStep& limits,
                               GateLevel level, bool beside) {
  std::vector<GateVerdict> verdicts = {error_gate(live, candidate, limits.max_error_increase, level),
                                       latency_gate(live, candidate, limits.max_latency_ratio, level),
                                       slow_gate(live, candidate, limits.max_slow_share, level),
                                       confidence_gate(live, candidate, limits.max_confidence_shift, level)};
  for (GateVerdict* timed : {&verdicts[1], &verdicts[2]})
    if (!beside && timed->verdict == Verdict::kFail) {
      timed->verdict = Verdict::kInconclusive;
      timed->sentence += "; the live version was measured before, so the load may be the cause";
    }
  return verdicts;
}

std::vector<GateVerdict> judge_absolute(const Observation& candidate, const RolloutPlan::Absolute& limits,
                                        GateLevel level) {
  const ErrorCount errors = errors_of(candidate, fair_time_us(candidate));
  const double confidence = both_sides(level.pass_confidence);
  std::vector<GateVerdict> all;
  // Fails where the end of the interval at the look's own level is beyond the limit.
  const auto add = [&](const char* name, double sign, const Interval& pass, const Interval& fail, double bound,
                       int64_t n, std::string sentence) {
    GateVerdict v = inconclusive(name, bound, n, 0, level);
    v.statistic = pass.value, v.low = pass.low, v.high = pass.high;
    const bool beyond = sign > 0 ? fail.low > bound : fail.high < bound;
    const bool within = sign > 0 ? pass.high <= bound : pass.low >= bound;
    v.verdict = n < 2 ? Verdict::kInconclusive : beyond ? Verdict::kFail : within ? Verdict::kPass : v.verdict;
    v.sentence = std::move(sentence);
    all.push_back(std::move(v));
  };
  const Interval rate = wilson_interval(errors.failed, errors.requests, confidence);
  add("errors", 1, rate, wilson_interval(errors.failed, errors.requests, 1 - 2 * level.alpha), limits.max_error_rate,
      errors.requests,
      fmt::format("{:.2f} % of {} requests failed ({:.2f} … {:.2f} %), limit {:.2f} %", percent(rate.value),
                  errors.requests, percent(rate.low), percent(rate.high), percent(limits.max_error_rate)));
  if (limits.max_mean_latency_ms > 0) {
    const Histogram& h = candidate.traffic.total_us;
    const double variance = variance_of(h);
    const Interval mean = mean_interval(h.mean(), variance, std::max<int64_t>(h.count(), 1), level.pass_confidence);
    add("latency", 1, mean, mean_interval(h.mean(), variance, std::max<int64_t>(h.count(), 1), 1 - level.alpha),
        1000 * limits.max_mean_latency_ms, h.count(),
        fmt::format("mean {:.2f} ms over {} answers ({:.2f} … {:.2f}), limit {:.2f}", ms(mean.value), h.count(),
                    ms(mean.low), ms(mean.high), limits.max_mean_latency_ms));
  }
  if (limits.min_mean_confidence > 0 && candidate.scored) {
    const ScoreHistogram& h = candidate.confidence;
    const int64_t n = h.count();
    const Interval mean = mean_interval(h.mean(), variance_of(h), std::max<int64_t>(n, 1), level.pass_confidence);
    add("confidence", -1, mean, mean_interval(h.mean(), variance_of(h), std::max<int64_t>(n, 1), 1 - level.alpha),
        limits.min_mean_confidence, n,
        fmt::format("mean confidence {:.3f} over {} answers ({:.3f} … {:.3f}), at least {:.3f} wanted", mean.value, n,
                    mean.low, mean.high, limits.min_mean_confidence));
  }
  return all;
}

Verdict overall(const std::vector<GateVerdict>& verdicts) {
  bool pass = !verdicts.empty();
  for (const GateVerdict& v : verdicts) {
    if (v.verdict == Verdict::kFail) return Verdict::kFail;
    pass = pass && v.verdict == Verdict::kPass;
  }
  return pass ? Verdict::kPass : Verdict::kInconclusive;
}

}  // namespace slipway
