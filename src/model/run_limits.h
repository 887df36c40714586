#pragma once
#include <cstdint>
#include <limits>

namespace slipway {

/// What the evaluation of a model may use on this thread: where model and inputs decide how large its values become and
/// how often a loop turns.
struct RunLimits {
  uint64_t value_bytes = std::numeric_limits<uint64_t>::max();  ///< of one value
  int64_t iterations = int64_t{1} << 24;                        ///< of one Loop
  int64_t deadline_ns = std::numeric_limits<int64_t>::max();    ///< now_ns() at the latest; looked at between nodes
};

const RunLimits& run_limits();
/// Fails with kDeadline once it has passed.
void throw_if_late();

/// Sets them while it lives.
class ScopedRunLimits {
 public:
  explicit ScopedRunLimits(const RunLimits& limits);
  ~ScopedRunLimits();
  ScopedRunLimits(const ScopedRunLimits&) = delete;
  ScopedRunLimits& operator=(const ScopedRunLimits&) = delete;

 private:
  RunLimits before_;
};

}  // namespace slipway
