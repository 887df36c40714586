// The streaming observer. The bin width is 2^e with the smallest e for which the largest magnitude lies below
// 2048·2^e. Scaling by a power of two is exact and floor(floor(x / w) / 2) = floor(x / 2w), so re-binning a histogram
// equals binning the values anew: that is what makes order, batches and shards irrelevant.
#include "quantize/calibrate/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace slipway {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr int kMaxExponent = 117;  // 2048 · 2^117 lies above FLT_MAX

int exponent_for(float absmax) {
  int exponent = 0;
  std::frexp(absmax, &exponent);  // absmax < 2^exponent
  return exponent - std::countr_zero(static_cast<unsigned>(TensorStats::kHalfBins));
}

}  // namespace

float TensorStats::absmax() const { return std::max(std::fabs(min_), std::fabs(max_)); }
double TensorStats::bin_width() const { return std::ldexp(1.0, exponent_); }

void TensorStats::grow_to(int exponent) {
  while (exponent_ < exponent) {
    // −2048 + k holds pairs (2k, 2k+1) counted from −2048 too: floor(i / 2) = i' with i = 2i', 2i'+1.
    const bool is_blank = std::all_of(bins_.begin(), bins_.end(), [](uint64_t n) { return n == 0; });
    if (is_blank) {
      exponent_ = exponent;
      return;
    }
    std::vector<uint64_t> wider(bins_.size());
    for (int i = -kHalfBins; i < kHalfBins; ++i) wider[static_cast<size_t>((i >> 1) + kHalfBins)] += bin(i);
    bins_ = std::move(wider);
    ++exponent_;
  }
}

void TensorStats::count_bins(std::span<const float> values) {
  // Two tables taken in turns: runs of equal values (ReLU's zeros) would otherwise wait for their own stores.
  std::array<std::array<uint32_t, 2 * kHalfBins>, 2> tables{};
  const float inverse = std::ldexp(1.0f, -exponent_);
  uint64_t zeros = 0;
  const auto add = [&](float x, std::array<uint32_t, 2 * kHalfBins>& table) {
    const float scaled = x * inverse;
    int index = static_cast<int>(scaled);
    index -= static_cast<int>(scaled < static_cast<float>(index)) | static_cast<int>((x < 0) & (index == 0));
    zeros += x == 0;
    ++table[static_cast<size_t>(index + kHalfBins)];
  };
  size_t i = 0;
  for (; i + 1 < values.size(); i += 2) {
    add(values[i], tables[0]);
    add(values[i + 1], tables[1]);
  }
  if (i < values.size()) add(values[i], tables[0]);
  for (size_t b = 0; b < bins_.size(); ++b) bins_[b] += tables[0][b] + uint64_t{tables[1][b]};
  bins_[kHalfBins] -= zeros;
  zeros_ += zeros;
}

void TensorStats::observe(std::span<const float> values) {
  constexpr size_t kChunk = size_t{1} << 24;
  while (values.size() > kChunk) {
    observe(values.first(kChunk));
    values = values.subspan(kChunk);
  }
  if (values.empty()) return;
  uint32_t magnitude = 0;
  float low = values[0], high = values[0];
  for (const float x : values) {
    magnitude = std::max(magnitude, std::bit_cast<uint32_t>(x) & 0x7fffffffu);
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  if (magnitude >= kInfinityBits) {
    std::vector<float> finite;
    finite.reserve(values.size());
    for (const float x : values) {
      nans_ += std::isnan(x);
      infinities_ += std::isinf(x);
      if (std::isfinite(x)) finite.push_back(x);
    }
    count_ += values.size() - finite.size();
    return observe(finite);
  }
  // The range is taken before the count: an empty observer takes it over as it is.
  min_ = is_empty() ? low : std::min(min_, low);
  max_ = is_empty() ? high : std::max(max_, high);
  count_ += values.size();
  if (magnitude != 0) grow_to(exponent_for(absmax()));
  count_bins(values);
}

void TensorStats::merge(const TensorStats& other) {
  if (!other.is_empty()) {
    min_ = is_empty() ? other.min_ : std::min(min_, other.min_);
    max_ = is_empty() ? other.max_ : std::max(max_, other.max_);
  }
  TensorStats widened = other;
  grow_to(other.exponent_);
  widened.grow_to(exponent_);
  for (size_t i = 0; i < bins_.size(); ++i) bins_[i] += widened.bins_[i];
  count_ += other.count_;
  zeros_ += other.zeros_;
  nans_ += other.nans_;
  infinities_ += other.infinities_;
}

nlohmann::json TensorStats::to_json() const {
  const auto used = [](uint64_t n) { return n != 0; };
  const auto first = std::find_if(bins_.begin(), bins_.end(), used);
  const auto last = std::find_if(bins_.rbegin(), std::make_reverse_iterator(first), used).base();
  return {{"count", count_},
          {"zeros", zeros_},
          {"nans", nans_},
          {"infinities", infinities_},
          {"min", min_},
          {"max", max_},
          {"bin_width_log2", exponent_},
          {"first_bin", first - bins_.begin() - kHalfBins},
          {"bins", std::vector<uint64_t>(first, std::max(first, last))}};
}

TensorStats TensorStats::from_json(const nlohmann::json& json) {
  TensorStats stats;
  stats.count_ = json.at("count").get<uint64_t>();
  stats.zeros_ = json.at("zeros").get<uint64_t>();
  stats.nans_ = json.at("nans").get<uint64_t>();
  stats.infinities_ = json.at("infinities").get<uint64_t>();
  stats.min_ = json.at("min").get<float>();
  stats.max_ = json.at("max").get<float>();
  stats.exponent_ = json.at("bin_width_log2").get<int>();
  const int64_t first = std::clamp<int64_t>(json.at("first_bin").get<int64_t>(), -kHalfBins - 1, kHalfBins) + kHalfBins;
  const auto bins = json.at("bins").get<std::vector<uint64_t>>();
  const auto size = static_cast<int64_t>(stats.bins_.size());
  bool valid = first >= 0 && first <= size && static_cast<int64_t>(bins.size()) <= size - first &&
               stats.exponent_ >= kMinExponent && stats.exponent_ <= kMaxExponent && std::isfinite(stats.min_) &&
               std::isfinite(stats.max_) && stats.min_ <= stats.max_;
  uint64_t total = 0;
  for (const uint64_t n : bins) {
    valid = valid && n <= stats.count_ - std::min(total, stats.count_);
    total += n;
  }
  valid = valid && total + stats.zeros_ + stats.nans_ + stats.infinities_ == stats.count_ &&
          stats.absmax() <= kHalfBins * stats.bin_width();
  if (!valid)
    fail(ErrorCode::kInvalidArgument,
         "A histogram's counts, range and bins contradict each other; calibrate again: count {}, zeros {}, bins sum {}",
         stats.count_, stats.zeros_, total);
  std::copy(bins.begin(), bins.end(), stats.bins_.begin() + first);
  return stats;
}

}  // namespace slipway
