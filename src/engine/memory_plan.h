#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace slipway {

/// A block of memory needed from step `first` to step `last`, both included.
struct MemoryRequest {
  uint64_t bytes;
  int first, last;
};

struct MemoryPlan {
  std::vector<uint64_t> offsets;  ///< 64-byte aligned, one a request
  uint64_t total_bytes = 0;
  uint64_t lower_bound_bytes = 0;  ///< the most bytes alive at one step: no plan can be smaller
  uint64_t unshared_bytes = 0;     ///< the sum of all requests
};

/// Greedy by size: the largest request first, each at the lowest offset where no request alive at the same time lies.
/// Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020, §5.2.
MemoryPlan plan_memory(std::span<const MemoryRequest> requests);

}  // namespace slipway
