#include "load/pacer.h"

#include <cmath>

namespace slipway {

int64_t Pacer::next_ns() {
  const auto due_ns = static_cast<int64_t>(at_ns_);
  at_ns_ += poisson_ ? -std::log(1.0 - random_.uniform()) * gap_ns_ : gap_ns_;
  return due_ns;
}

}  // namespace slipway
