#pragma once
#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace slipway {

/// What calibration keeps of a tensor: count, exact minimum and maximum, and a histogram of the non-zero values, in
/// memory that does not grow with what is observed. Bin i covers [i·w, (i+1)·w) for i in [−2048, 2048), w a power of
/// two that doubles (bins merge in pairs) when a value does not fit. So the result depends only on the multiset of the
/// values: not on their order, their batches, or the shards that were merged.
class TensorStats {
 public:
  static constexpr int kHalfBins = 2048;

  TensorStats() : bins_(2 * kHalfBins) {}
  void observe(std::span<const float> values);
  void merge(const TensorStats& other);

  uint64_t count() const { return count_; }  ///< all values, zeros and those that are not finite included
  uint64_t zeros() const { return zeros_; }
  uint64_t nans() const { return nans_; }
  uint64_t infinities() const { return infinities_; }
  bool is_finite() const { return nans_ + infinities_ == 0; }
  bool is_empty() const { return count_ == nans_ + infinities_; }  ///< no finite value
  float min() const { return min_; }                               ///< of the finite values; 0 when empty
  float max() const { return max_; }
  float absmax() const;
  double bin_width() const;
  /// Count in bin i, −2048 ≤ i < 2048; exact zeros are in none.
  uint64_t bin(int i) const { return bins_[static_cast<size_t>(i + kHalfBins)]; }
  /// Bytes held, the same from the first value on.
  size_t bytes() const { return sizeof *this + bins_.size() * sizeof(uint64_t); }
  bool operator==(const TensorStats&) const = default;

  nlohmann::json to_json() const;
  /// Fails with kInvalidArgument when the numbers contradict each other.
  static TensorStats from_json(const nlohmann::json& json);

 private:
  void grow_to(int exponent);
  void count_bins(std::span<const float> values);

  uint64_t count_ = 0, zeros_ = 0, nans_ = 0, infinities_ = 0;
  float min_ = 0, max_ = 0;
  int exponent_ = kMinExponent;  ///< log2 of the bin width
  std::vector<uint64_t> bins_;

  static constexpr int kMinExponent = -126;  ///< finer bins would leave the normal floats
};

}  // namespace slipway
