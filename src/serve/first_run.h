#pragma once
#include <vector>

#include "base/memory.h"
#include "serve/model_version.h"

namespace slipway {

/// Runs each plan of a version (or its program, where there is none), times it, and finds out whether its requests are
/// batched. Plans that do not pay are dropped from the source. Fails as Session does.
FirstRun make_first_run(VersionSource& source);

/// Memory of a run's inputs and outputs, all zero.
struct RunBuffers {
  explicit RunBuffers(const Plan& plan);
  std::vector<AlignedBytes> bytes;
  std::vector<const void*> in;
  std::vector<void*> out;
};

}  // namespace slipway
