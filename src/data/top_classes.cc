// From a classifier's scores to labels and confidences.
#include "data/top_classes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace slipway {

std::optional<size_t> scores_output(std::span<const Tensor> outputs, int64_t samples) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Dims& dims = outputs[i].dims();
    if (!is_float(outputs[i].dtype()) || dims.size() < 2 || (dims.size() > 2 && outputs.size() > 1)) continue;
    if (dims[0] == samples && dims[1] > 1 && outputs[i].elements() == samples * dims[1]) return i;
  }
  return std::nullopt;
}

std::vector<double> as_probabilities(std::vector<double> scores) {
  if (scores.empty()) return scores;
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
  const bool already =
      std::abs(sum - 1) < 1e-2 && std::all_of(scores.begin(), scores.end(), [](double v) { return v >= 0; });
  if (already) return scores;
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& v : scores) total += v = std::exp(v - top);
  for (double& v : scores) v /= total;
  return scores;
}

std::vector<ClassConfidence> top_classes(const Tensor& scores, const std::vector<std::string>& labels, int64_t count) {
  const std::vector<double> probabilities = as_probabilities(to_doubles(scores));
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // NaN sorts last, so that it never wins.
  const auto before = [&](size_t a, size_t b) {
    const double x = probabilities[a], y = probabilities[b];
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) || (std::isnan(y) && a < b);
    return x > y || (x == y && a < b);
  };
  const size_t kept = std::min(order.size(), static_cast<size_t>(std::max<int64_t>(count, 0)));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), before);
  std::vector<ClassConfidence> top;
  for (size_t i = 0; i < kept; ++i)
    top.push_back(
        {static_cast<int64_t>(order[i]), order[i] < labels.size() ? labels[order[i]] : "", probabilities[order[i]]});
  return top;
}

}  // namespace slipway
