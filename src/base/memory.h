#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace slipway {

inline constexpr size_t kAlignment = 64;

struct AlignedFree {
  void operator()(std::byte* p) const noexcept;
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;

/// Uninitialised, 64-byte aligned; fails with kOutOfMemory beyond the memory of this machine.
AlignedBytes allocate_aligned(size_t bytes);
/// The same, on huge pages where the kernel has some: for what is filled at once and read often.
AlignedBytes allocate_large(size_t bytes);

inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Resident set of this process from /proc/self/status, bytes: now, and the highest so far.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();

}  // namespace slipway
