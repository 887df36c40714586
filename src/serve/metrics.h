#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "metrics/histogram.h"
#include "serve/protocol.h"

namespace slipway {

class Server;

/// Counters of one version's traffic of one variant; many threads add, without locks. Times in microseconds.
struct VariantMetrics {
  std::atomic<int64_t> requests{0}, rows{0};                   ///< answered, well or not; rows of those that went well
  std::array<std::atomic<int64_t>, kErrorCodeCount> errors{};  ///< by ErrorCode
  std::atomic<int64_t> with_nan{0};                            ///< of those that went well, answers that hold a NaN
  AtomicHistogram queue_us, compute_us, total_us;              ///< of requests that went well
  AtomicHistogram missed_us;  ///< time that callers, not the server, allowed of requests that it was too short for
};

/// The same, frozen.
struct VariantSnapshot {
  int64_t requests = 0, rows = 0, with_nan = 0;
  std::array<int64_t, kErrorCodeCount> errors{};
  Histogram queue_us, compute_us, total_us, missed_us;

  /// What the server is to blame for: Io, Internal, InvalidModel, Unsupported, OutOfMemory. Client errors and
  /// rejections are not.
  int64_t faults() const;
  int64_t timeouts() const { return errors[static_cast<int>(ErrorCode::kDeadline)]; }
  int64_t rejections() const { return errors[static_cast<int>(ErrorCode::kOverloaded)]; }
  VariantSnapshot since(const VariantSnapshot& earlier) const;
};
VariantSnapshot snapshot(const VariantMetrics& metrics);

struct VersionMetrics {
  std::array<VariantMetrics, kVariantCount> variants;
  AtomicHistogram batch_rows;  ///< rows of each execution
  std::atomic<int64_t> executions{0}, compute_ns{0}, queue_depth{0}, last_inference_ms{0};
  std::atomic<int64_t> closed_by_size{0}, closed_by_delay{0}, closed_by_idle{0};  ///< why batches closed
};

/// This process, from /proc.
struct ProcessFacts {
  uint64_t resident_bytes = 0, memory_limit_bytes = 0;  ///< limit: the smaller of cgroup's and the host's
  double cpu_seconds = 0, start_time_s = 0;             ///< start: since the epoch
  int64_t open_files = 0, threads = 0;
};
ProcessFacts process_facts();

/// Prometheus' text format 0.0.4 of everything the server counts.
std::string prometheus_text(const Server& server);

}  // namespace slipway
