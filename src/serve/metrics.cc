// Frozen counters, and their differences.
#include "serve/metrics.h"

namespace slipway {
namespace {
template <typename Errors>
int64_t at(const Errors& errors, ErrorCode code) {
  return errors[static_cast<size_t>(code)];
}
}  // namespace

int64_t VariantSnapshot::faults() const {
  return at(errors, ErrorCode::kIo) + at(errors, ErrorCode::kInternal) + at(errors, ErrorCode::kInvalidModel) +
         at(errors, ErrorCode::kUnsupported) + at(errors, ErrorCode::kOutOfMemory);
}

VariantSnapshot VariantSnapshot::since(const VariantSnapshot& earlier) const {
  VariantSnapshot s{.requests = requests - earlier.requests,
                    .rows = rows - earlier.rows,
                    .with_nan = with_nan - earlier.with_nan,
                    .errors = errors,
                    .queue_us = queue_us.since(earlier.queue_us),
                    .compute_us = compute_us.since(earlier.compute_us),
                    .total_us = total_us.since(earlier.total_us),
                    .missed_us = missed_us.since(earlier.missed_us)};
  for (size_t i = 0; i < errors.size(); ++i) s.errors[i] -= earlier.errors[i];
  return s;
}

VariantSnapshot snapshot(const VariantMetrics& metrics) {
  VariantSnapshot s{.requests = metrics.requests,
                    .rows = metrics.rows,
                    .with_nan = metrics.with_nan,
                    .errors = {},
                    .queue_us = metrics.queue_us.snapshot(),
                    .compute_us = metrics.compute_us.snapshot(),
                    .total_us = metrics.total_us.snapshot(),
                    .missed_us = metrics.missed_us.snapshot()};
  for (size_t i = 0; i < s.errors.size(); ++i) s.errors[i] = metrics.errors[i];
  return s;
}

}  // namespace slipway
