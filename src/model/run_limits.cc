// Limits by thread, so that every operator's evaluation is under them without being handed any.
#include "model/run_limits.h"

#include "base/clock.h"
#include "base/error.h"

namespace slipway {
namespace {
thread_local RunLimits limits;
}

const RunLimits& run_limits() { return limits; }

void throw_if_late() {
  if (limits.deadline_ns != std::numeric_limits<int64_t>::max() && now_ns() > limits.deadline_ns)
    fail(ErrorCode::kDeadline, "The model was not done within the time that it may take; allow more, or send less.");
}

ScopedRunLimits::ScopedRunLimits(const RunLimits& wanted) : before_(limits) { limits = wanted; }
ScopedRunLimits::~ScopedRunLimits() { limits = before_; }

}  // namespace slipway
