#include <cstdint>

#include "engine/plan_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  slipway::exercise_plan(bytes);
  slipway::exercise_plan(slipway::with_valid_digests(bytes));
  return 0;
}
