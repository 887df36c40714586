#include "engine/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "base/memory.h"

namespace slipway {

MemoryPlan plan_memory(std::span<const MemoryRequest> requests) {
  MemoryPlan plan;
  plan.offsets.assign(requests.size(), 0);
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests[a].bytes > requests[b].bytes; });
  std::vector<size_t> placed;  // by offset
  for (size_t r : order) {
    const MemoryRequest& request = requests[r];
    const uint64_t bytes = round_up(request.bytes, kAlignment);
    uint64_t at = 0;
    for (size_t p : placed) {
      if (requests[p].last < request.first || request.last < requests[p].first) continue;
      if (at + bytes <= plan.offsets[p]) break;
      at = std::max(at, plan.offsets[p] + round_up(requests[p].bytes, kAlignment));
    }
    plan.offsets[r] = at;
    plan.total_bytes = std::max(plan.total_bytes, at + bytes);
    plan.unshared_bytes += bytes;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), r,
                                   [&](size_t a, size_t b) { return plan.offsets[a] < plan.offsets[b]; }),
                  r);
  }
  int steps = 0;
  for (const MemoryRequest& request : requests) steps = std::max(steps, request.last + 1);
  std::vector<int64_t> change(static_cast<size_t>(steps) + 1, 0);
  for (const MemoryRequest& request : requests) {
    const auto bytes = static_cast<int64_t>(round_up(request.bytes, kAlignment));
    change[static_cast<size_t>(request.first)] += bytes;
    change[static_cast<size_t>(request.last) + 1] -= bytes;
  }
  int64_t alive = 0;
  for (int64_t delta : change) {
    alive += delta;
    plan.lower_bound_bytes = std::max(plan.lower_bound_bytes, static_cast<uint64_t>(alive));
  }
  return plan;
}

}  // namespace slipway
