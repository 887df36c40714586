// Tests and intervals of two samples by their counts. Exact where it costs little; every p-value is safe to use with
// the heavy ties that buckets bring.
#include "metrics/two_samples.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/error.h"

namespace slipway {
namespace {

double log_choose(int64_t n, int64_t k) {
  const auto log_factorial = [](int64_t i) { return std::lgamma(static_cast<double>(i) + 1); };
  return log_factorial(n) - log_factorial(k) - log_factorial(n - k);
}

/// Value of the k-th smallest, k from 1; clamped to what is there.
double order_statistic(const Histogram& h, double rank) {
  const auto k = std::clamp<int64_t>(static_cast<int64_t>(rank), 1, h.count());
  int64_t seen = 0;
  for (size_t i = 0; i < h.counts().size(); ++i)
    if ((seen += h.counts()[i]) >= k) return static_cast<double>(LogBuckets::highest(i));
  return 0;
}

}  // namespace

double fisher_exact_greater(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b) {
  if (trials_a <= 0 || trials_b <= 0) return 1;
  const int64_t successes = successes_a + successes_b, trials = trials_a + trials_b;
  const double all = log_choose(trials, successes);
  double tail = 0;
  for (int64_t k = successes_b; k <= std::min(successes, trials_b) && tail < 1; ++k) {
    if (successes - k > trials_a) continue;
    const double term = std::exp(log_choose(trials_b, k) + log_choose(trials_a, successes - k) - all);
    tail += term;
    const bool past_mode = static_cast<double>(k) * static_cast<double>(trials) >
                           static_cast<double>(successes) * static_cast<double>(trials_b);
    if (past_mode && term < tail * 1e-15) break;
  }
  return std::min(1.0, tail);
}

Interval rate_difference(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b,
                         double confidence) {
  const Interval a = wilson_interval(successes_a, trials_a, confidence);
  const Interval b = wilson_interval(successes_b, trials_b, confidence);
  const double d = b.value - a.value;
  return {d, d - std::hypot(b.value - b.low, a.high - a.value), d + std::hypot(b.high - b.value, a.value - a.low)};
}

TestResult mann_whitney_counts(std::span<const int64_t> a, std::span<const int64_t> b) {
  SLIPWAY_CHECK(a.size() == b.size());
  double na = 0, nb = 0, u = 0, ties = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto here_a = static_cast<double>(a[i]), here_b = static_cast<double>(b[i]), here = here_a + here_b;
    u += here_b * (na + here_a / 2);
    ties += here * here * here - here;
    na += here_a, nb += here_b;
  }
  if (na == 0 || nb == 0) return {};
  const double n = na + nb, mean = na * nb / 2;
  const double deviation = std::sqrt(std::max(0.0, na * nb / 12 * (n + 1 - ties / (n * (n - 1)))));
  const double distance = std::max(0.0, std::abs(u - mean) - 0.5);
  const double z = deviation == 0 ? 0 : std::copysign(distance / deviation, u - mean);
  return {u, z, std::erfc(std::abs(z) / std::numbers::sqrt2)};
}

Interval quantile_interval(const Histogram& histogram, double q, double confidence) {
  const auto n = static_cast<double>(histogram.count());
  const double half = normal_quantile(0.5 + confidence / 2) * std::sqrt(n * q * (1 - q));
  return {histogram.quantile(q), order_statistic(histogram, std::floor(n * q - half)),
          order_statistic(histogram, std::ceil(n * q + half) + 1)};
}

Interval ratio_interval(const Interval& numerator, const Interval& denominator) {
  const auto log_of = [](double v) { return std::log(std::max(v, 1e-9)); };
  const double n = log_of(numerator.value), d = log_of(denominator.value);
  const double down = std::hypot(n - log_of(numerator.low), log_of(denominator.high) - d);
  const double up = std::hypot(log_of(numerator.high) - n, d - log_of(denominator.low));
  return {std::exp(n - d), std::exp(n - d - down), std::exp(n - d + up)};
}

KolmogorovResult kolmogorov_smirnov_counts(std::span<const int64_t> a, std::span<const int64_t> b) {
  SLIPWAY_CHECK(a.size() == b.size());
  const auto na = static_cast<double>(std::accumulate(a.begin(), a.end(), int64_t{0}));
  const auto nb = static_cast<double>(std::accumulate(b.begin(), b.end(), int64_t{0}));
  if (na == 0 || nb == 0) return {};
  KolmogorovResult result;
  double below_a = 0, below_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    below_a += static_cast<double>(a[i]), below_b += static_cast<double>(b[i]);
    const double distance = std::abs(below_a / na - below_b / nb);
    if (distance > result.distance) result.distance = distance, result.category = i;
  }
  const double root = std::sqrt(na * nb / (na + nb)), lambda = (root + 0.12 + 0.11 / root) * result.distance;
  if (lambda < 0.2) return result;
  double p = 0, sign = 2;
  for (int k = 1; k <= 100; ++k, sign = -sign) p += sign * std::exp(-2.0 * k * k * lambda * lambda);
  result.p = std::clamp(p, 0.0, 1.0);
  return result;
}

}  // namespace slipway
