#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ways.h"

namespace slipway {

/// What became of a seed.
struct SeedResult {
  uint64_t seed = 0;
  std::vector<Finding> findings;
  std::vector<std::string> operators;  ///< of its graph, each once
};

struct SeedRange {
  uint64_t first = 1, count = 1000;
  int jobs = 1;
  int seconds_each = 30;  ///< a seed that takes longer hangs
  int64_t seconds = 0;    ///< no seed is begun later than this; 0: all are
};
/// Writes and checks the random graph of every seed in child processes, some dozens a process; a crash or a hang is a
/// finding of its seed. `done` is called here, in no particular order.
void check_seeds(const SeedRange& range, const CheckOptions& options,
                 const std::function<void(const SeedResult&)>& done);

/// Checks one graph in a child process.
std::vector<Finding> check_isolated(const Graph& graph, const std::vector<Tensor>& inputs, const CheckOptions& options,
                                    int seconds = 30);

}  // namespace slipway
