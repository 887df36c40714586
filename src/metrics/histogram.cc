// Log-linear histograms: fixed buckets, so that any two can be added or subtracted.
#include "metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace slipway {

size_t LogBuckets::index_of(int64_t value) {
  const auto v = static_cast<uint64_t>(std::clamp<int64_t>(value, 0, (int64_t{1} << kTopBit) - 1));
  const int octave = std::max(static_cast<int>(std::bit_width(v)) - kBits - 1, 0);
  return (static_cast<size_t>(octave) << kBits) + static_cast<size_t>(v >> octave);
}

int64_t LogBuckets::lowest(size_t index) {
  const size_t row = index >> kBits;
  if (row <= 1) return static_cast<int64_t>(index);
  const size_t octave = row - 1;
  return static_cast<int64_t>((index - (octave << kBits)) << octave);
}

int64_t LogBuckets::highest(size_t index) { return lowest(index + 1) - 1; }

void Histogram::add(int64_t value, int64_t count) {
  if (counts_.empty()) counts_.resize(LogBuckets::kCount);
  counts_[LogBuckets::index_of(value)] += count;
  count_ += count;
  sum_ += value * count;
}

void Histogram::merge(const Histogram& other) {
  if (other.counts_.empty()) return;
  if (counts_.empty()) counts_.resize(LogBuckets::kCount);
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
}

Histogram Histogram::since(const Histogram& earlier) const {
  Histogram h = *this;
  if (earlier.counts_.empty()) return h;
  if (h.counts_.empty()) h.counts_.resize(LogBuckets::kCount);
  for (size_t i = 0; i < h.counts_.size(); ++i) h.counts_[i] -= earlier.counts_[i];
  h.count_ -= earlier.count_;
  h.sum_ -= earlier.sum_;
  return h;
}

double Histogram::mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_); }

double Histogram::quantile(double q) const {
  const auto rank = std::max<int64_t>(static_cast<int64_t>(std::ceil(q * static_cast<double>(count_))), 1);
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i)
    if ((seen += counts_[i]) >= rank) return static_cast<double>(LogBuckets::highest(i));
  return 0;
}

int64_t Histogram::max() const {
  for (size_t i = counts_.size(); i-- > 0;)
    if (counts_[i] != 0) return LogBuckets::highest(i);
  return 0;
}

int64_t Histogram::count_at_most(int64_t value) const {
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size() && LogBuckets::lowest(i) <= value; ++i) seen += counts_[i];
  return seen;
}

Histogram AtomicHistogram::snapshot() const {
  Histogram h;
  h.counts_.resize(LogBuckets::kCount);
  for (size_t i = 0; i < counts_.size(); ++i) h.count_ += h.counts_[i] = counts_[i].load(std::memory_order_relaxed);
  h.sum_ = sum_.load(std::memory_order_relaxed);
  return h;
}

}  // namespace slipway
