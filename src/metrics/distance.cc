// Distances between a reference and an approximation. Everything is summed in double, where no square of a float
// overflows.
#include "metrics/distance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace slipway {
namespace {

/// max that keeps a NaN.
double keep_max(double a, double b) { return std::isnan(a) || a > b ? a : b; }

std::vector<double> log_softmax(std::span<const float> x) {
  std::vector<double> out(x.begin(), x.end());
  const double top = *std::max_element(out.begin(), out.end());
  double sum = 0;
  for (double& v : out) sum += std::exp(v -= top);
  for (double& v : out) v -= std::log(sum);
  return out;
}

}  // namespace

void Distance::add(std::span<const float> x, std::span<const float> y) {
  SLIPWAY_CHECK(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double a = x[i], b = y[i], error = a - b;
    xx_ += a * a;
    yy_ += b * b;
    xy_ += a * b;
    errors_ += error * error;
    max_abs_ = keep_max(max_abs_, std::abs(error));
  }
  count_ += static_cast<int64_t>(x.size());
}

void Distance::merge(const Distance& other) {
  xx_ += other.xx_;
  yy_ += other.yy_;
  xy_ += other.xy_;
  errors_ += other.errors_;
  max_abs_ = keep_max(max_abs_, other.max_abs_);
  count_ += other.count_;
}

double Distance::cosine() const {
  if (xx_ == 0 && yy_ == 0) return 1;
  if (xx_ == 0 || yy_ == 0) return 0;
  return std::clamp(xy_ / (std::sqrt(xx_) * std::sqrt(yy_)), -1.0, 1.0);
}

double Distance::mse() const { return count_ == 0 ? 0 : errors_ / static_cast<double>(count_); }

double Distance::sqnr_db() const {
  constexpr double eps = std::numeric_limits<double>::epsilon();
  return 20 * std::log10(keep_max(std::sqrt(xx_), eps) / keep_max(std::sqrt(errors_), eps));
}

double Distance::psnr_db(double peak) const { return 10 * std::log10(peak * peak / mse()); }

Distance distance(std::span<const float> x, std::span<const float> y) {
  Distance d;
  d.add(x, y);
  return d;
}

double kl_of_probabilities(std::span<const float> p, std::span<const float> q, double eps) {
  SLIPWAY_CHECK(p.size() == q.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i)
    if (p[i] != 0) sum += p[i] * std::log(p[i] / keep_max(q[i], eps));
  return sum;
}

double kl_of_logits(std::span<const float> x, std::span<const float> y, double eps) {
  SLIPWAY_CHECK(x.size() == y.size());
  if (x.empty()) return 0;
  const std::vector<double> log_p = log_softmax(x), log_q = log_softmax(y);
  const double lowest = std::log(eps);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    if (const double p = std::exp(log_p[i]); p != 0) sum += p * (log_p[i] - keep_max(log_q[i], lowest));
  return sum;
}

}  // namespace slipway
