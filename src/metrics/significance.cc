// Significance tests over counts and samples.
#include "metrics/significance.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/error.h"

namespace slipway {
namespace {

double two_sided(double z) { return std::erfc(std::abs(z) / std::numbers::sqrt2); }

}  // namespace

double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

double normal_quantile(double p) {
  SLIPWAY_CHECK(p > 0 && p < 1);
  return boost::math::quantile(boost::math::normal(), p);
}

Interval wilson_interval(int64_t successes, int64_t trials, double confidence) {
  if (trials == 0) return {0, 0, 1};
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(successes) / n, z = normal_quantile(0.5 + confidence / 2), zz = z * z;
  const double center = (share + zz / (2 * n)) / (1 + zz / n);
  const double half = z / (1 + zz / n) * std::sqrt(share * (1 - share) / n + zz / (4 * n * n));
  return {share, std::max(0.0, center - half), std::min(1.0, center + half)};
}

double mcnemar_exact(int64_t only_a, int64_t only_b) {
  const boost::math::binomial fair(static_cast<double>(only_a + only_b), 0.5);
  return std::min(1.0, 2 * boost::math::cdf(fair, static_cast<double>(std::min(only_a, only_b))));
}

double binomial_upper_tail(int64_t successes, int64_t trials, double p) {
  if (successes <= 0 || p >= 1) return 1;
  if (p <= 0 || successes > trials) return 0;
  const boost::math::binomial hits(static_cast<double>(trials), p);
  return boost::math::cdf(boost::math::complement(hits, static_cast<double>(successes - 1)));
}

TestResult two_proportion_z(int64_t successes_a, int64_t trials_a, int64_t successes_b, int64_t trials_b) {
  if (trials_a == 0 || trials_b == 0) return {};
  const auto na = static_cast<double>(trials_a), nb = static_cast<double>(trials_b);
  const double difference = static_cast<double>(successes_a) / na - static_cast<double>(successes_b) / nb;
  const double pooled = static_cast<double>(successes_a + successes_b) / (na + nb);
  const double deviation = std::sqrt(pooled * (1 - pooled) * (1 / na + 1 / nb));
  const double z = deviation == 0 ? 0 : difference / deviation;
  return {difference, z, two_sided(z)};
}

TestResult mann_whitney_u(std::span<const double> a, std::span<const double> b) {
  if (a.empty() || b.empty()) return {};
  struct Sample {
    double value;
    bool from_a;
  };
  std::vector<Sample> all;
  for (const double v : a) all.push_back({v, true});
  for (const double v : b) all.push_back({v, false});
  std::sort(all.begin(), all.end(), [](const Sample& x, const Sample& y) { return x.value < y.value; });
  double rank_sum = 0, ties = 0;
  for (size_t first = 0; first < all.size();) {
    size_t last = first + 1;
    while (last < all.size() && all[last].value == all[first].value) ++last;
    const auto length = static_cast<double>(last - first);
    const double rank = static_cast<double>(first + last + 1) / 2;
    for (size_t i = first; i < last; ++i) rank_sum += all[i].from_a ? rank : 0;
    ties += length * length * length - length;
    first = last;
  }
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size()), n = na + nb;
  const double u = rank_sum - na * (na + 1) / 2, mean = na * nb / 2;
  const double deviation = std::sqrt(na * nb / 12 * (n + 1 - ties / (n * (n - 1))));
  const double distance = std::max(0.0, std::abs(u - mean) - 0.5);
  const double z = deviation == 0 ? 0 : std::copysign(distance / deviation, u - mean);
  return {u, z, two_sided(z)};
}

}  // namespace slipway
