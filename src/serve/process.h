#pragma once
#include <cstdint>
#include <string>

namespace slipway {

/// The memory that this process may use: the smallest of the limits of its cgroups (v2 and v1, with their parents) and
/// the host's. `root` stands before /proc and /sys; 0 when nothing is known.
uint64_t memory_limit_bytes(const std::string& root = "");
/// What of that this process does not hold yet, no more than the host says is available; 0 when nothing is known.
uint64_t free_memory_bytes();

}  // namespace slipway
