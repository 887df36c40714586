#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <vector>

#include "serve/model_version.h"

namespace slipway {

/// A request on its way through a version.
struct PendingRequest {
  InferRequest request;
  Variant variant = Variant::kStable;
  ModelVersion::Answered done;
  int64_t rows = 1;
  std::vector<int64_t> shape;      ///< of a row, where that may differ, and what all rows of a batch share; only equal
                                   ///< ones share one
  int64_t length = 0, padded = 0;  ///< of a sequence, as it came and filled up; equal where it is not
  int64_t queued_ns = 0;
  std::atomic<bool> answered{false};  ///< whoever sets it answers: the computing thread or the deadline's
};
using PendingPtr = std::shared_ptr<PendingRequest>;

enum class CloseReason : uint8_t { kSize, kDelay, kIdle };

/// The waiting requests of one version, first come first served, cut into batches of one shape. Pure: time is passed
/// in, nothing is locked. A batch closes when it is full, when its oldest request has waited `delay_us`, or, without a
/// delay, as soon as an instance is idle. Where there is no memory (std::bad_alloc) nothing has changed.
class BatchQueue {
 public:
  explicit BatchQueue(BatchingOptions options) : options_(options) {}

  /// False when the queue is full.
  bool push(PendingPtr pending);
  struct Batch {
    std::vector<PendingPtr> requests;  ///< empty: nothing is due
    int64_t rows = 0;
    CloseReason reason = CloseReason::kIdle;
  };
  /// What an idle instance is to compute now. A request of more rows than a batch takes goes alone.
  Batch take(int64_t now_ns);
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  /// When take() would give something without further pushes.
  int64_t due_ns() const;
  /// Takes those out whose deadline has passed.
  std::vector<PendingPtr> take_expired(int64_t now_ns);
  int64_t next_deadline_ns() const;

  int64_t size() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t rows() const { return rows_; }

 private:
  bool full_batch() const { return rows_ >= options_.max_rows; }
  BatchingOptions options_;
  std::deque<PendingPtr> waiting_;
  int64_t rows_ = 0;
};

/// How to compute `rows` with plans of fixed sizes: sizes whose sum is `rows` or, the last one padded, more, at the
/// least total time (dynamic programming). `time_us` by size, not empty.
std::vector<int64_t> cover_rows(int64_t rows, const std::map<int64_t, double>& time_us);

}  // namespace slipway
