// Groups the steps of a block so that 16-bit sums are exact, and few.
//
// vpmaddubsw adds two products in 16 bits, and the steps of a group are added in 16 bits too, so over a group the sums
// of the positive and of the negative products must each fit: hi·Σw⁺ <= 32767 and hi·Σw⁻ <= 32767, per output channel
// and half of a step, hi being the input's largest value. (Partial sums may wrap; only a group's total is read.) Each
// group costs a widening, so the fewest bins are sought: heaviest step first, into the bin with the fewest steps that
// has room, with one bin more until all find room. A step whose single pair could already overflow (only if hi > 129)
// is split in two with weights of magnitude at most 64: 255·(64 + 64) <= 32767.
#include "engine/kernels/qconv_groups.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "engine/kernels/qconv_strip.h"

namespace slipway {
namespace {

constexpr int32_t kChunk = 144;  // steps packed at a time: the work grows with its square
constexpr int kMaxSum = 32767;

/// Per channel, half and sign: the largest sum that the input allows, at most 2·255·128.
using Load = std::array<uint16_t, kQConvMaxLanes * 4>;

Load load_of(const QConvStep& step, int lanes, int32_t hi) {
  Load load = {};
  for (int lane = 0; lane < lanes; ++lane) {
    for (int k = 0; k < 4; ++k) {
      const int32_t w = step.w[lane][k];
      uint16_t& sum = load[static_cast<size_t>(lane * 4 + k / 2 * 2 + (w < 0))];
      sum = static_cast<uint16_t>(sum + hi * std::abs(w));
    }
  }
  return load;
}

int64_t heaviest(const Load& load) { return *std::max_element(load.begin(), load.end()); }

/// Of loads up to kMaxSum: a sum is above it where it reaches the highest bit.
bool fits(const Load& a, const Load& b) {
  uint16_t any = 0;
  for (size_t i = 0; i < a.size(); ++i) any = static_cast<uint16_t>(any | (a[i] + b[i]));
  return any <= kMaxSum;
}

std::vector<QConvStep> split_heavy(const std::vector<QConvStep>& steps, int lanes, int32_t hi) {
  std::vector<QConvStep> result;
  for (const QConvStep& step : steps) {
    if (heaviest(load_of(step, lanes, hi)) <= kMaxSum) {
      result.push_back(step);
      continue;
    }
    QConvStep low = step, rest = step;
    for (int lane = 0; lane < lanes; ++lane) {
      for (int k = 0; k < 4; ++k) {
        low.w[lane][k] = std::clamp<int16_t>(step.w[lane][k], -64, 64);
        rest.w[lane][k] = static_cast<int16_t>(step.w[lane][k] - low.w[lane][k]);
      }
    }
    result.push_back(low);
    result.push_back(rest);
  }
  return result;
}

using Groups = std::vector<std::vector<int32_t>>;

/// The steps in `order`, each into the bin with the fewest steps that has room; empty if some step finds none.
Groups fill_evenly(const std::vector<int32_t>& order, const std::vector<Load>& loads, size_t bins) {
  Groups groups(bins);
  std::vector<Load> sums(bins, Load{});
  for (const int32_t s : order) {
    size_t best = bins;
    for (size_t bin = 0; bin < bins; ++bin)
      if ((best == bins || groups[bin].size() < groups[best].size()) && fits(sums[bin], loads[s])) best = bin;
    if (best == bins || groups[best].size() == kStripMaxGroup) return {};
    groups[best].push_back(s);
    for (size_t i = 0; i < loads[s].size(); ++i) sums[best][i] = static_cast<uint16_t>(sums[best][i] + loads[s][i]);
  }
  return groups;
}

}  // namespace

QConvGroups group_steps(const std::vector<QConvStep>& steps, int lanes, int32_t hi) {
  QConvGroups bins{{}, split_heavy(steps, lanes, hi)};
  std::vector<Load> loads;
  std::vector<int64_t> weight;
  for (const QConvStep& step : bins.steps) {
    loads.push_back(load_of(step, lanes, hi));
    weight.push_back(heaviest(loads.back()));
  }
  const auto total = static_cast<int32_t>(loads.size());
  for (int32_t first = 0; first < total; first += kChunk) {
    std::vector<int32_t> order(static_cast<size_t>(std::min(kChunk, total - first)));
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return weight[a] > weight[b]; });
    std::array<size_t, kQConvMaxLanes* 4> all = {};
    for (const int32_t s : order)
      for (size_t i = 0; i < all.size(); ++i) all[i] += loads[s][i];
    Groups groups;
    const auto least = [](size_t total_size, size_t bin) { return (total_size + bin - 1) / bin; };
    size_t count =
        std::max(least(order.size(), kStripMaxGroup), least(*std::max_element(all.begin(), all.end()), kMaxSum));
    for (; groups.empty(); ++count) groups = fill_evenly(order, loads, count);
    for (auto& group : groups) std::sort(group.begin(), group.end());
    bins.groups.insert(bins.groups.end(), groups.begin(), groups.end());
  }
  std::stable_sort(bins.groups.begin(), bins.groups.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return bins;
}

size_t count_steps(const std::vector<QConvStep>& steps, int lanes, int32_t hi) {
  size_t count = steps.size();
  for (const QConvStep& step : steps) count += heaviest(load_of(step, lanes, hi)) > kMaxSum;
  return count;
}

QConvGroups group_in_order(std::vector<QConvStep> steps) {
  QConvGroups bins;
  for (size_t s = 0; s < steps.size(); ++s) {
    if (s % kStripMaxGroup == 0) bins.groups.emplace_back();
    bins.groups.back().push_back(static_cast<int32_t>(s));
  }
  bins.steps = std::move(steps);
  return bins;
}

}  // namespace slipway
