#pragma once
// What the fuzz target and the tests do with the bytes of a plan: they may do no worse than fail with Error.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <string>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "engine/session.h"

namespace slipway {

inline constexpr size_t kPlanPreambleBytes = 40;  ///< up to the header (plan_file.cc)

/// A plan's bytes with the header's digest made to fit again, so that damage inside the header is not caught by it.
inline std::string with_valid_digest(std::string plan) {
  uint64_t header_bytes = 0;
  if (plan.size() < kPlanPreambleBytes) return plan;
  std::memcpy(&header_bytes, plan.data() + 16, sizeof header_bytes);
  if (header_bytes > plan.size() || plan.size() - header_bytes < kPlanPreambleBytes + 64) return plan;
  const std::string digest = sha256_hex(std::string_view(plan).substr(kPlanPreambleBytes, header_bytes));
  return plan.replace(kPlanPreambleBytes + header_bytes, digest.size(), digest);
}

/// True when the bytes are a plan; a small one is also run.
inline bool exercise_plan(std::string_view bytes) {
  const int fd = ::memfd_create("plan", 0);
  SLIPWAY_CHECK(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  bool good = false;
  try {
    Plan::is_plan_file(path);
    const auto plan = Plan::open(path);
    good = true;
    plan->choices_digest();
    plan->steps();
    uint64_t bytes_needed = plan->memory().arena_bytes + plan->memory().scratch_bytes;
    for (const auto* ports : {&plan->inputs(), &plan->outputs()})
      for (const PortInfo& port : *ports) bytes_needed += bytes_of(port.dtype, element_count(port.dims));
    if (bytes_needed < (uint64_t{64} << 20) && plan->threads() <= 2) {
      std::vector<Tensor> inputs;
      for (const PortInfo& port : plan->inputs()) inputs.emplace_back(port.dtype, port.dims);
      Session(plan).run(inputs);
    }
  } catch (const Error& error) {
    SLIPWAY_CHECK(error.code() != ErrorCode::kInternal);
  }
  ::close(fd);
  return good;
}

}  // namespace slipway
