#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/plan.h"
#include "engine/ports.h"
#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

struct ProgramOptions {
  int threads = 1;
  bool tune = false;  ///< time the candidates (for benchmarks; results are the same within float rounding)
  std::string timing_cache = {};
  bool optimize = true;     ///< run the graph passes first
  bool quiet = true;        ///< no progress on standard error
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

/// A combination of input shapes that is ready.
struct PreparedShape {
  std::vector<Dims> inputs;
  bool whole = false;                              ///< one plan is all there is
  bool from_file = false;                          ///< it lay ready in a plan file
  int64_t run_ns = 0;                              ///< what runs at these shapes took
  std::vector<std::shared_ptr<const Plan>> plans;  ///< those of subgraphs among them
  std::vector<std::string> interpreted;            ///< operators that no plan holds
};

/// A model that is ready to run at every shape that its inputs allow, whoever runs it. Shared by any number of sessions
/// and threads.
class Program {
 public:
  virtual ~Program() = default;
  virtual const ModelPorts& ports() const = 0;
  virtual std::unique_ptr<ProgramSession> open() const = 0;
  /// Makes ready for inputs of these types and shapes, which else a run does that meets them first. What follows from
  /// the inputs' contents is prepared when they are there.
  virtual void prepare(std::span<const Tensor> inputs) const = 0;
  virtual ProgramInfo info() const = 0;
  virtual std::vector<PreparedShape> prepared() const = 0;  ///< the last used first
};

/// Prepares for inputs like each of the examples, and runs those of which more can become known only so. Empty, or why
/// such a run failed: made-up contents need not make sense. Fails as Program::prepare does.
std::string prepare_wholly(const Program& program, std::span<const std::vector<Tensor>> examples);
/// The plans of all shapes.
std::vector<std::shared_ptr<const Plan>> plans_of(const Program& program);
/// SHA-256 over the choices of all plans; a single plan's own.
std::string choices_digest_of(std::span<const std::shared_ptr<const Plan>> plans);

/// Writes a compiled program with all shapes that are ready as a plan file, weights that are alike once, whole or not
/// at all. Fails with kIo; kInvalidArgument for one that was opened from a file, which can be copied instead, and for
/// another engine's.
void save_program(const Program& program, const std::string& path);
/// A plan file's program: its shapes are ready, others are prepared from the model in it. Fails as Plan::open does.
std::shared_ptr<const Program> open_program(const std::string& path, int64_t max_shapes = ProgramOptions().max_shapes);

/// Takes over the shapes that a plan file of the same model has ready, in place of those that the program prepared for
/// them; weights that are alike are kept once. Returns what the file is known by (PlanFile::digest). Fails as
/// open_program() does; kInvalidArgument where the file is for other inputs or outputs or another number of threads.
std::string adopt_shapes(const Program& program, const std::string& path);

/// What a plan file was built for.
struct PlanShapes {
  int threads;
  std::vector<std::vector<PortInfo>> shapes;  ///< the inputs of each combination
};
/// Also of a file that this machine can't run. Fails with kInvalidModel where it is damaged.
PlanShapes shapes_of_plan(const std::string& path);

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
