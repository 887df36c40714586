#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

struct ProgramOptions {
  int threads = 1;
  bool tune = false;  ///< time the candidates (for benchmarks; results are the same within float rounding)
  std::string timing_cache = {};
  bool optimize = true;     ///< run the graph passes first
  int64_t max_shapes = 16;  ///< combinations of the inputs' shapes kept ready; the one not used for longest gives way
};

/// One thread's use of a Program.
class ProgramSession {
 public:
  virtual ~ProgramSession() = default;
  /// One run on the inputs as they are, whatever their sizes, axes of length 0 included; in the model's order. Fails as
  /// evaluate() does.
  virtual std::vector<Tensor> run(std::span<const Tensor> inputs) = 0;
};

/// What a program holds at the time.
struct ProgramInfo {
  int64_t shapes = 0;          ///< combinations of input shapes that are ready
  uint64_t weight_bytes = 0;   ///< packed weights, what plans share once
  uint64_t session_bytes = 0;  ///< the largest arena and scratchpad that a session needs
};

/// A model that is ready to run at every shape that its inputs allow, whoever runs it. Shared by any number of sessions
/// and threads.
class Program {
 public:
  virtual ~Program() = default;
  virtual std::unique_ptr<ProgramSession> open() const = 0;
  virtual ProgramInfo info() const = 0;
};

/// One row of THE list of what runs models.
struct Backend {
  std::string_view name;
  std::string_view summary;
  std::shared_ptr<const Program> (*make)(const Graph& graph, const ProgramOptions& options);
};
std::span<const Backend> all_backends();
/// Fails with kInvalidArgument, naming those that there are.
const Backend& backend_named(std::string_view name);

// The backends, one file each.
Backend compiled_backend();
Backend reference_backend();

}  // namespace slipway
