#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include "base/memory.h"
#include "base/random.h"

namespace slipway {
namespace {

TEST(MemoryPlan, NeverOverlapsWhatLivesAtTheSameTime) {
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<MemoryRequest> requests;
    for (uint64_t i = 0; i < 1 + random.below(30); ++i) {
      const int first = static_cast<int>(random.below(20));
      requests.push_back({1 + random.below(5000), first, first + static_cast<int>(random.below(6))});
    }
    const MemoryPlan plan = plan_memory(requests);
    for (size_t a = 0; a < requests.size(); ++a) {
      EXPECT_EQ(plan.offsets[a] % kAlignment, 0u);
      EXPECT_LE(plan.offsets[a] + requests[a].bytes, plan.total_bytes);
      for (size_t b = a + 1; b < requests.size(); ++b) {
        if (requests[a].last < requests[b].first || requests[b].last < requests[a].first) continue;
        EXPECT_TRUE(plan.offsets[a] + requests[a].bytes <= plan.offsets[b] ||
                    plan.offsets[b] + requests[b].bytes <= plan.offsets[a]);
      }
    }
    EXPECT_GE(plan.total_bytes, plan.lower_bound_bytes);
    EXPECT_LE(plan.total_bytes, plan.unshared_bytes);
  }
}

TEST(MemoryPlan, AChainNeedsTwoBuffers) {
  const std::vector<MemoryRequest> chain = {{640, 0, 1}, {640, 1, 2}, {640, 2, 3}, {640, 3, 4}};
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.total_bytes, 1280u);
  EXPECT_EQ(plan.lower_bound_bytes, 1280u);
  EXPECT_EQ(plan.unshared_bytes, 2560u);
}

}  // namespace
}  // namespace slipway
