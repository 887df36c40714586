#pragma once
#include <functional>
#include <vector>

#include "model/graph.h"

namespace slipway {

struct SmallCase {
  Graph graph;
  std::vector<Tensor> inputs;
};
/// Whether a case still fails in the way of interest; false for one that is not valid.
using StillFails = std::function<bool(const SmallCase&)>;

/// The smallest case that edits reach while it still fails: outputs, nodes, optional operands and attributes are left
/// out, computed values become inputs or constants, sizes shrink, contents become simple. `tries` bounds the calls.
SmallCase reduce(SmallCase failing, const StillFails& still_fails, int tries = 2000);

}  // namespace slipway
