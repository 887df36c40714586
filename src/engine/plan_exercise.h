#pragma once
// What the fuzz target and the tests do with the bytes of a plan: they may do no worse than fail with Error.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <span>
#include <string>

#include "base/block_digest.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "engine/program.h"
#include "model/run_limits.h"

namespace slipway {

inline constexpr size_t kPlanPreambleBytes = 40;  ///< up to the header (plan_file.cc)

/// Where a plan's digests, its model and its weights begin, for a header of so many bytes (plan_file.cc).
struct PlanOffsets {
  explicit PlanOffsets(const std::string& plan) {
    std::memcpy(&header_bytes, plan.data() + 16, sizeof header_bytes);
    std::memcpy(&model_bytes, plan.data() + 24, sizeof model_bytes);
    digests = kPlanPreambleBytes + header_bytes;
    model = round_up(digests + 3 * 64, kAlignment);
    blobs = round_up(model + model_bytes, kAlignment);
  }
  uint64_t header_bytes = 0, model_bytes = 0, digests, model, blobs;
};

/// A plan's bytes with all digests made to fit again, so that damage is not caught by them.
inline std::string with_valid_digests(std::string plan) {
  if (plan.size() < kPlanPreambleBytes) return plan;
  const PlanOffsets at(plan);
  if (at.header_bytes > plan.size() || at.model_bytes > plan.size() || at.blobs > plan.size()) return plan;
  const auto digest = [&](uint64_t begin, uint64_t end) {
    return BlockDigest().add(plan.data() + begin, end - begin).hex();
  };
  plan.replace(at.digests, 128, digest(at.digests + 3 * 64, at.blobs) + digest(at.blobs, plan.size()));
  return plan.replace(at.digests + 128, 64, sha256_hex(std::string_view(plan).substr(0, at.digests + 128)));
}

inline constexpr uint64_t kMostBytes = uint64_t{64} << 20;

/// True when the bytes are a plan file; what is small of it is also run.
inline bool exercise_plan(std::string_view bytes) {
  const int fd = ::memfd_create("plan", 0);
  SLIPWAY_CHECK(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  bool good = false;
  const ScopedRunLimits limits({.value_bytes = 1 << 20, .iterations = 100, .deadline_ns = now_ns() + 1'000'000'000});
  try {
    Plan::is_plan_file(path);
    const auto program = open_program(path);
    good = true;
    const std::vector<ModelPort>& ports = program->ports().inputs;
    for (const PreparedShape& shape : program->prepared()) {
      uint64_t bytes_needed = 0;
      for (const auto& plan : shape.plans) {
        plan->choices_digest();
        plan->steps();
        bytes_needed += plan->memory().arena_bytes + plan->memory().scratch_bytes;
        for (const auto* list : {&plan->inputs(), &plan->outputs()})
          for (const PortInfo& port : *list) bytes_needed += bytes_of(port.dtype, element_count(port.dims));
        if (plan->threads() > 2) bytes_needed = UINT64_MAX;
      }
      std::vector<Tensor> inputs;
      for (size_t i = 0; i < ports.size() && bytes_needed < kMostBytes; ++i) {
        bytes_needed += bytes_of(ports[i].dtype, element_count(shape.inputs[i]));
        if (bytes_needed < kMostBytes && is_tensor(ports[i].dtype))
          inputs.emplace_back(ports[i].dtype, shape.inputs[i]);
      }
      if (bytes_needed < kMostBytes && inputs.size() == ports.size()) program->open()->run(inputs);
    }
    Plan::open(path);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal) fmt::print(stderr, "{}\n", error.what());
    SLIPWAY_CHECK(error.code() != ErrorCode::kInternal);
  }
  ::close(fd);
  return good;
}

}  // namespace slipway
