#pragma once
#include <cstdint>

#include "base/random.h"

namespace slipway {

/// When the requests of an open loop are due, in nanoseconds since its start: equal gaps, or a Poisson process.
class Pacer {
 public:
  Pacer(double rate_per_s, bool poisson, uint64_t seed) : gap_ns_(1e9 / rate_per_s), poisson_(poisson), random_(seed) {}
  int64_t next_ns();

 private:
  double gap_ns_, at_ns_ = 0;
  bool poisson_;
  Random random_;
};

}  // namespace slipway
