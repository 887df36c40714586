// Rollout plans: any text parses or is refused, and what parses keeps its promises.
#include "base/error.h"
#include "rollout/rollout_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto plan = slipway::parse_rollout_plan(std::string(reinterpret_cast<const char*>(data), size), "plan.yaml");
    double last = 0;
    for (const slipway::RolloutStep& step : plan.steps) {
      SLIPWAY_CHECK(step.share > last && step.min_requests > 0 && step.max_seconds >= step.min_seconds);
      last = step.share;
    }
    SLIPWAY_CHECK(last == 1);
  } catch (const slipway::Error& error) {
    SLIPWAY_CHECK(error.code() == slipway::ErrorCode::kInvalidArgument);
  }
  return 0;
}
