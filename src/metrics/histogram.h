#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway {

/// Log-linear buckets over non-negative integers (HdrHistogram's layout, Tene): exact below 256, then 128 a power of
/// two, so a bucket is at most 0.8 % wide; values from 2^40 on share the last one.
struct LogBuckets {
  static constexpr int kBits = 7, kTopBit = 40;
  static constexpr size_t kCount = (size_t{1} << kBits) * (kTopBit - kBits + 1);
  static size_t index_of(int64_t value);
  static int64_t lowest(size_t index);   ///< smallest value of a bucket
  static int64_t highest(size_t index);  ///< largest value of a bucket
};

/// Counts by LogBuckets, with the exact sum: merges and subtracts without loss, so windows of time and shards of a
/// server add up. Quantiles are within 0.8 %. The unit is the user's (microseconds everywhere in Slipway). A value.
class Histogram {
 public:
  void add(int64_t value, int64_t count = 1);
  void merge(const Histogram& other);
  /// What came since `earlier`, an older state of the same histogram.
  Histogram since(const Histogram& earlier) const;

  int64_t count() const { return count_; }
  int64_t sum() const { return sum_; }
  double mean() const;                         ///< 0 when empty
  double quantile(double q) const;             ///< upper end of the bucket that holds it; 0 when empty
  int64_t max() const;                         ///< upper end of the highest bucket in use; 0 when empty
  int64_t count_at_most(int64_t value) const;  ///< whole buckets up to the one of `value`
  /// By bucket; empty as long as nothing was counted.
  const std::vector<int64_t>& counts() const { return counts_; }

 private:
  friend class AtomicHistogram;
  std::vector<int64_t> counts_;
  int64_t count_ = 0, sum_ = 0;
};

/// The same, filled by many threads without locks. A snapshot taken meanwhile may miss adds in flight, never tear one.
class AtomicHistogram {
 public:
  void add(int64_t value) {
    counts_[LogBuckets::index_of(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  Histogram snapshot() const;

 private:
  std::array<std::atomic<int64_t>, LogBuckets::kCount> counts_{};
  std::atomic<int64_t> sum_{0};
};

}  // namespace slipway
