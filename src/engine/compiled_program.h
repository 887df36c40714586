#pragma once
// The compiled engine's Program from inside: for compiled_program.cc, compiled_session.cc and program_file.cc.
#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/partition.h"
#include "engine/program.h"
#include "engine/weight_pool.h"

namespace slipway {

/// Types and shapes of a program's inputs.
struct Signature {
  std::vector<DType> dtypes;
  std::vector<Dims> dims;
  bool operator==(const Signature&) const = default;
};

class CompiledProgram;

/// A body of a control-flow node.
struct Body {
  std::string attribute;
  std::vector<size_t> captured;  ///< indices into the node's captures of the inputs after its own
  std::shared_ptr<const CompiledProgram> program;
};

/// What runs at one time: one of plan, node and remainder.
struct PreparedStage {
  std::vector<size_t> reads, makes;  ///< slots
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<const Graph> node;  ///< one node; its graph's inputs are what it reads, its outputs what it makes
  std::vector<Body> bodies;           ///< of the node
  std::shared_ptr<const CompiledProgram> remainder;
  std::vector<size_t> done;  ///< slots that nothing reads after this stage
};

/// A model for one combination of input shapes: bound, then made ready. Values lie in slots, the inputs' first. Under
/// the mutex until it is ready.
struct Prepared {
  explicit Prepared(Signature s) : signature(std::move(s)) {}
  const Signature signature;
  std::mutex mutex;
  std::shared_ptr<const Graph> bound;  ///< before it is ready, and where it stays interpreted
  double work = 0;
  int64_t sights = 0;
  std::atomic<bool> ready{false};
  std::atomic<int64_t> run_ns{0};
  bool from_file = false;
  size_t slots = 0;
  std::vector<size_t> outputs;  ///< slots
  std::vector<PreparedStage> stages;
};

/// Whether one plan is all there is.
bool is_whole(const Prepared& prepared);

/// How a run is to be done.
struct Way {
  std::shared_ptr<const Graph> interpreted;  ///< by evaluation, where set
  std::shared_ptr<Prepared> prepared;
};

class CompiledProgram : public Program, public std::enable_shared_from_this<CompiledProgram> {
 public:
  /// A body or a remainder is an inner part.
  enum class Part { kModel, kInner };

  using Entries = std::list<std::shared_ptr<Prepared>>;

  CompiledProgram(Graph graph, ProgramOptions options, Part part, std::shared_ptr<WeightPool> weights,
                  Entries ready = {});
  /// A model of a file, loaded where more is asked for than what is ready.
  CompiledProgram(ModelPorts ports, std::function<Graph()> load, ProgramOptions options,
                  std::shared_ptr<WeightPool> weights, Entries ready);

  const ModelPorts& ports() const override { return ports_; }
  std::unique_ptr<ProgramSession> open() const override;
  void prepare(std::span<const Tensor> inputs) const override;
  ProgramInfo info() const override;
  std::vector<PreparedShape> prepared() const override;

  /// Binds and prepares for these inputs where that was not done before, and where it pays. What can't be prepared
  /// takes nobody's place among the shapes that are kept. Fails as require_inputs_match() does where it is a model.
  Way way(std::span<const Tensor> inputs) const;

  std::shared_ptr<const Graph> graph() const;
  const ProgramOptions& options() const { return options_; }
  size_t max_shapes() const { return static_cast<size_t>(std::max<int64_t>(options_.max_shapes, 1)); }
  bool is_inner() const { return part_ == Part::kInner; }
  bool was_opened() const { return load_ != nullptr; }
  std::vector<std::shared_ptr<const Prepared>> ready() const;
  /// Puts these in the place of what is there for the same shapes.
  void adopt(Entries entries) const;
  const std::shared_ptr<WeightPool>& weights() const { return weights_; }

 private:
  std::shared_ptr<Prepared> entry_for(const Signature& signature) const;
  Way settle(const std::shared_ptr<Prepared>& entry, std::span<const Tensor> inputs) const;
  void keep_within(size_t count) const;
  void forget(const std::shared_ptr<Prepared>& entry) const;
  void prepare(Prepared& entry) const;
  PreparedStage prepare_part(GraphPart part, bool is_plan) const;
  PreparedStage prepare_node(GraphPart part) const;
  std::shared_ptr<const CompiledProgram> inner(Graph graph) const;

  const ModelPorts ports_;
  const Graph inputs_;  ///< the inputs alone
  const std::function<Graph()> load_;
  const ProgramOptions options_;
  const Part part_;
  const std::shared_ptr<WeightPool> weights_;
  mutable std::mutex graph_mutex_;
  mutable std::shared_ptr<const Graph> graph_;
  mutable std::mutex mutex_;
  mutable Entries entries_;  ///< the last used first
};

}  // namespace slipway
