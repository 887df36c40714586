// Theil–Sen slope with the Mann–Kendall test. S counts the pairs that rise less those that fall; its variance under no
// trend is known for independent samples (Kendall, 1975, with ties). Samples of a process are not independent: the
// variance grows by 1 + 2/(n(n−1)(n−2)) Σ (n−k)(n−k−1)(n−k−2)·r_k over the significant autocorrelations r_k of the
// detrended samples' ranks (Hamed & Rao, "A modified Mann-Kendall trend test for autocorrelated data", J. Hydrology
// 204, 1998). The interval takes the pairwise slopes at ranks (N ± z·√var)/2 (Sen, 1968).
#include "metrics/trend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "metrics/latency.h"
#include "metrics/significance.h"

namespace slipway {
namespace {

/// Ranks from 1, equals sharing the mean of theirs. `ties` gets Σ t(t−1)(2t+5) over the groups of equals.
std::vector<double> ranks_of(std::span<const double> values, double& ties) {
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  ties = 0;
  for (size_t first = 0; first < order.size();) {
    size_t last = first + 1;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    for (size_t i = first; i < last; ++i) ranks[order[i]] = static_cast<double>(first + last + 1) / 2;
    const auto t = static_cast<double>(last - first);
    ties += t * (t - 1) * (2 * t + 5);
    first = last;
  }
  return ranks;
}

double variance_inflation(std::span<const double> ranks, double z) {
  const size_t n = ranks.size();
  double mean = 0, square = 0;
  for (const double r : ranks) mean += r / static_cast<double>(n);
  for (const double r : ranks) square += (r - mean) * (r - mean);
  if (square == 0) return 1;
  const auto count = static_cast<double>(n);
  double sum = 0;
  for (size_t lag = 1; lag + 2 < n; ++lag) {
    double product = 0;
    for (size_t i = 0; i + lag < n; ++i) product += (ranks[i] - mean) * (ranks[i + lag] - mean);
    const double r = product / square, left = count - static_cast<double>(lag);
    if (std::abs(r) > z / std::sqrt(count)) sum += left * (left - 1) * (left - 2) * r;
  }
  return std::max(1.0, 1 + 2 * sum / (count * (count - 1) * (count - 2)));
}

}  // namespace

Trend theil_sen_trend(std::span<const double> x, std::span<const double> y, double confidence) {
  SLIPWAY_CHECK(x.size() == y.size() && confidence > 0 && confidence < 1);
  Trend trend;
  const size_t n = x.size();
  trend.n = static_cast<int64_t>(n);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (n < 4) {
    trend.low = -infinity;
    trend.high = infinity;
    if (n > 0) trend.intercept = quantile(y, 0.5);
    return trend;
  }
  std::vector<double> slopes;
  slopes.reserve(n * (n - 1) / 2);
  double s = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = i + 1; j < n; ++j) {
      slopes.push_back((y[j] - y[i]) / (x[j] - x[i]));
      s += y[j] > y[i] ? 1 : y[j] < y[i] ? -1 : 0;
    }
  std::sort(slopes.begin(), slopes.end());
  const size_t pairs = slopes.size();
  trend.slope = pairs % 2 == 1 ? slopes[pairs / 2] : (slopes[pairs / 2 - 1] + slopes[pairs / 2]) / 2;

  std::vector<double> rest(n);
  for (size_t i = 0; i < n; ++i) rest[i] = y[i] - trend.slope * x[i];
  trend.intercept = quantile(rest, 0.5);
  const double z = normal_quantile(0.5 + confidence / 2), count = static_cast<double>(n);
  double ties = 0, unused = 0;
  ranks_of(y, ties);
  trend.inflation = variance_inflation(ranks_of(rest, unused), z);
  const double deviation = std::sqrt((count * (count - 1) * (2 * count + 5) - ties) / 18 * trend.inflation);
  if (deviation > 0) trend.p = 2 * normal_cdf(-std::max(0.0, std::abs(s) - 1) / deviation);

  const double middle = static_cast<double>(pairs) / 2, half = z * deviation / 2;
  const auto at = [&](double rank) {
    return slopes[static_cast<size_t>(std::clamp(rank, 0.0, static_cast<double>(pairs - 1)))];
  };
  trend.low = middle - half < 0 ? -infinity : at(std::floor(middle - half));
  trend.high = middle + half > static_cast<double>(pairs) ? infinity : at(std::ceil(middle + half));
  return trend;
}

}  // namespace slipway
