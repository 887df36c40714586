// The compiled engine as a Program. For each combination of input shapes the model is bound and optimised, then cut
// into stages (partition.h): plans, nodes that are interpreted, and a remainder whose shapes the stages before make
// known; that is a program of its own, whose inputs have other shapes from run to run. So are the bodies of If, Loop
// and Scan, with what they capture as further inputs.
//
// Preparing costs milliseconds, a small graph's evaluation microseconds: bodies and remainders of little work are
// interpreted, so are others where their shapes are met for the first time, unless the work is so much that preparing
// pays at once. The model itself is always prepared.
#include <algorithm>
#include <atomic>
#include <list>
#include <map>
#include <mutex>
#include <set>

#include "base/error.h"
#include "engine/partition.h"
#include "engine/passes/pipeline.h"
#include "engine/plan_impl.h"
#include "engine/program.h"
#include "engine/session.h"
#include "engine/weight_pool.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/op.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

/// Operations and bytes: below, evaluation is done before a plan would be made.
constexpr double kLittleWork = 2e5;
/// Above, a plan pays at first sight.
constexpr double kMuchWork = 2e7;

/// Types and shapes of a program's inputs.
struct Signature {
  std::vector<DType> dtypes;
  std::vector<Dims> dims;
  bool operator==(const Signature&) const = default;
};

Signature signature_of(std::span<const Tensor> inputs) {
  Signature s;
  for (const Tensor& t : inputs) {
    s.dtypes.push_back(t.dtype());
    s.dims.push_back(t.dims());
  }
  return s;
}

void require_within_limits(const Graph& graph) {
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (!v.alive || v.is_constant() || v.dtype == DType::kUndefined || !v.shape.is_static()) continue;
    if (const uint64_t bytes = bytes_of(v.dtype, element_count(v.shape.to_dims())); bytes > run_limits().value_bytes)
      fail(ErrorCode::kInvalidArgument,
           "A value would take more memory than one may; give smaller inputs: '{}' {}{} takes {} MiB, {} are allowed",
           v.name, to_string(v.dtype), to_string(v.shape), bytes >> 20, run_limits().value_bytes >> 20);
  }
}

double work_of(const Graph& graph) {
  double work = 0;
  for (NodeId id : graph.topological_order()) {
    const Cost cost = cost_of(graph, graph.node(id));
    work += cost.flops + cost.bytes;
    if (const OpSpec* spec = find_op(graph, graph.node(id)); spec != nullptr && spec->has(kHasSubgraph))
      work += kLittleWork;
  }
  return work;
}

class CompiledProgram;

/// A body of a control-flow node.
struct Body {
  const Graph* graph;            ///< the node's attribute
  std::vector<size_t> captured;  ///< indices into the node's captures of the inputs after its own
  std::shared_ptr<const CompiledProgram> program;
};

struct PreparedStage {
  std::vector<ValueId> reads, makes;
  std::shared_ptr<const Plan> plan;
  NodeId node = kNoNode;
  std::vector<Body> bodies;
  std::shared_ptr<const CompiledProgram> remainder;
  std::vector<ValueId> done;  ///< what nothing reads after this stage
};

/// A model for one combination of input shapes: bound, then made ready. Under the mutex until it is ready.
struct Prepared {
  explicit Prepared(Signature s) : signature(std::move(s)) {}
  const Signature signature;
  std::mutex mutex;
  std::shared_ptr<const Graph> bound;  ///< before it is ready, and where it stays interpreted
  double work = 0;
  int64_t sights = 0;
  std::atomic<bool> ready{false};
  Graph graph;  ///< optimised and cut
  std::vector<PreparedStage> stages;
};

/// How a run is to be done.
struct Way {
  std::shared_ptr<const Graph> interpreted;  ///< by evaluation, where set
  std::shared_ptr<const Prepared> prepared;
};

class CompiledProgram : public Program, public std::enable_shared_from_this<CompiledProgram> {
 public:
  enum class Part { kModel, kInner };

  CompiledProgram(Graph graph, ProgramOptions options, Part part, std::shared_ptr<WeightPool> weights)
      : graph_(std::move(graph)), options_(std::move(options)), part_(part), weights_(std::move(weights)) {}

  std::unique_ptr<ProgramSession> open() const override;
  ProgramInfo info() const override {
    ProgramInfo info;
    std::set<const void*> counted;
    add_info(info, counted);
    return info;
  }
  const Graph& graph() const { return graph_; }
  size_t max_shapes() const { return static_cast<size_t>(std::max<int64_t>(options_.max_shapes, 1)); }
  bool is_inner() const { return part_ == Part::kInner; }

  /// Binds and prepares for these inputs where that was not done before, and where it pays. What can't be prepared
  /// takes nobody's place among the shapes that are kept.
  Way way(std::span<const Tensor> inputs) const {
    const std::shared_ptr<Prepared> entry = entry_for(signature_of(inputs));
    if (entry->ready) return {nullptr, entry};
    const std::lock_guard lock(entry->mutex);
    if (entry->ready) return {nullptr, entry};
    try {
      Way found = settle(entry, inputs);
      keep_within(max_shapes());
      return found;
    } catch (...) {
      forget(entry);
      throw;
    }
  }

 private:
  Way settle(const std::shared_ptr<Prepared>& entry, std::span<const Tensor> inputs) const {
    if (entry->bound == nullptr) {
      auto bound = std::make_shared<Graph>(graph_);
      bind_inputs(*bound, inputs);
      require_within_limits(*bound);
      entry->work = is_inner() ? work_of(*bound) : kMuchWork;
      entry->bound = std::move(bound);
    }
    const bool first = entry->sights++ == 0;
    if (entry->work < kLittleWork || (first && entry->work < kMuchWork)) return {entry->bound, nullptr};
    prepare(*entry);
    entry->bound = nullptr;
    entry->ready = true;
    return {nullptr, entry};
  }

  void keep_within(size_t count) const {
    const std::lock_guard lock(mutex_);
    if (entries_.size() > count) entries_.resize(count);
  }

  void forget(const std::shared_ptr<Prepared>& entry) const {
    const std::lock_guard lock(mutex_);
    entries_.remove(entry);
  }

  void add_info(ProgramInfo& info, std::set<const void*>& counted) const {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : entries_) {
      if (!entry->ready) continue;
      info.shapes += is_inner() ? 0 : 1;
      for (const PreparedStage& stage : entry->stages) {
        if (stage.plan != nullptr) {
          info.session_bytes =
              std::max(info.session_bytes, stage.plan->memory().arena_bytes + stage.plan->memory().scratch_bytes);
          for (const Blob& blob : stage.plan->impl().owned)
            if (counted.insert(blob.data.get()).second) info.weight_bytes += blob.bytes;
        }
        if (stage.remainder != nullptr) stage.remainder->add_info(info, counted);
        for (const Body& body : stage.bodies) body.program->add_info(info, counted);
      }
    }
  }

  std::shared_ptr<Prepared> entry_for(const Signature& signature) const {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const auto& entry) { return entry->signature == signature; });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return entries_.front();
    }
    entries_.push_front(std::make_shared<Prepared>(signature));
    return entries_.front();
  }

  void prepare(Prepared& entry) const {
    Graph graph = *entry.bound;
    if (options_.optimize) run_passes(graph);
    std::vector<PreparedStage> stages;
    for (const GraphStage& stage : cut_into_stages(graph)) stages.push_back(prepare_stage(graph, stage));
    mark_done(graph, stages);
    entry.stages = std::move(stages);
    entry.graph = std::move(graph);
  }

  PreparedStage prepare_stage(const Graph& graph, const GraphStage& stage) const {
    if (stage.kind == GraphStage::kNode) return prepare_node(graph, stage.nodes[0]);
    GraphPart part = extract_part(graph, stage.nodes);
    PreparedStage result{.reads = std::move(part.reads), .makes = std::move(part.makes)};
    if (result.makes.empty()) return result;  // nobody reads what it would compute
    if (stage.kind == GraphStage::kPlan)
      result.plan = Plan::build_bound(std::move(part.graph), {.threads = options_.threads,
                                                              .tune = options_.tune,
                                                              .timing_cache = options_.timing_cache,
                                                              .weights = weights_});
    else
      result.remainder =
          std::make_shared<const CompiledProgram>(std::move(part.graph), inner_options(), Part::kInner, weights_);
    return result;
  }

  PreparedStage prepare_node(const Graph& graph, NodeId id) const {
    const Node& node = graph.node(id);
    PreparedStage result{.node = id};
    for (const auto* list : {&node.inputs, &node.captures})
      for (ValueId v : *list)
        if (v != kNoValue && !graph.value(v).is_constant()) result.reads.push_back(v);
    for (ValueId v : node.outputs)
      if (v != kNoValue) result.makes.push_back(v);
    for (const auto& [name, attribute] : node.attributes) {
      const GraphPtr* body = std::get_if<GraphPtr>(&attribute);
      if (body == nullptr || *body == nullptr) continue;
      Body made{.graph = body->get(), .captured = {}, .program = nullptr};
      Graph alone = standalone_body(graph, node, **body, made.captured);
      made.program = std::make_shared<const CompiledProgram>(std::move(alone), inner_options(), Part::kInner, weights_);
      result.bodies.push_back(std::move(made));
    }
    return result;
  }

  ProgramOptions inner_options() const {
    ProgramOptions options = options_;
    options.tune = false;
    return options;
  }

  static void mark_done(const Graph& graph, std::vector<PreparedStage>& stages) {
    std::map<ValueId, size_t> last;
    for (size_t s = 0; s < stages.size(); ++s)
      for (const auto* list : {&stages[s].reads, &stages[s].makes})
        for (ValueId v : *list) last[v] = s;
    for (const auto& [value, stage] : last)
      if (!graph.is_output(value)) stages[stage].done.push_back(value);
  }

  const Graph graph_;
  const ProgramOptions options_;
  const Part part_;
  const std::shared_ptr<WeightPool> weights_;
  mutable std::mutex mutex_;
  mutable std::list<std::shared_ptr<Prepared>> entries_;  ///< the last used first
};

class CompiledSession : public ProgramSession {
 public:
  explicit CompiledSession(std::shared_ptr<const CompiledProgram> program) : program_(std::move(program)) {}

  std::vector<Tensor> run(std::span<const Tensor> inputs) override {
    if (!program_->is_inner()) require_inputs_match(program_->graph(), inputs);
    Way way = program_->way(inputs);
    if (way.interpreted != nullptr) return evaluate(*way.interpreted, inputs);
    Opened& opened = open(std::move(way.prepared));
    const Prepared& prepared = *opened.prepared;
    if (opened.whole != nullptr) return opened.whole->run(inputs);
    std::vector<Tensor> values(static_cast<size_t>(prepared.graph.value_limit()));
    for (size_t i = 0; i < inputs.size(); ++i) at(values, prepared.graph.inputs()[i]) = inputs[i];
    for (size_t s = 0; s < prepared.stages.size(); ++s) run_stage(prepared, s, opened.stages[s], values);
    std::vector<Tensor> outputs;
    for (ValueId id : prepared.graph.outputs()) {
      const Tensor* constant = prepared.graph.constant(id);
      outputs.push_back(constant != nullptr ? *constant : at(values, id));
    }
    return outputs;
  }

 private:
  struct OpenedStage {
    std::unique_ptr<Session> plan;
    std::unique_ptr<ProgramSession> remainder;
    std::vector<std::unique_ptr<ProgramSession>> bodies;
  };
  struct Opened {
    std::shared_ptr<const Prepared> prepared;
    std::vector<OpenedStage> stages;
    Session* whole = nullptr;  ///< where one plan is all there is
  };

  static Tensor& at(std::vector<Tensor>& values, ValueId id) { return values[static_cast<size_t>(id)]; }

  Opened& open(std::shared_ptr<const Prepared> prepared) {
    const auto found =
        std::find_if(opened_.begin(), opened_.end(), [&](const Opened& o) { return o.prepared == prepared; });
    if (found != opened_.end()) {
      opened_.splice(opened_.begin(), opened_, found);
      return opened_.front();
    }
    Opened opened{.prepared = std::move(prepared)};
    for (const PreparedStage& stage : opened.prepared->stages) {
      OpenedStage& s = opened.stages.emplace_back();
      if (stage.plan != nullptr) s.plan = std::make_unique<Session>(stage.plan, arena_);
      if (stage.remainder != nullptr) s.remainder = stage.remainder->open();
      for (const Body& body : stage.bodies) s.bodies.push_back(body.program->open());
    }
    const Graph& graph = opened.prepared->graph;
    if (opened.stages.size() == 1 && opened.stages[0].plan != nullptr &&
        opened.prepared->stages[0].reads == graph.inputs() && opened.prepared->stages[0].makes == graph.outputs())
      opened.whole = opened.stages[0].plan.get();
    opened_.push_front(std::move(opened));
    if (opened_.size() > program_->max_shapes()) opened_.pop_back();
    return opened_.front();
  }

  void run_stage(const Prepared& prepared, size_t s, OpenedStage& opened, std::vector<Tensor>& values) {
    throw_if_late();
    const PreparedStage& stage = prepared.stages[s];
    std::vector<Tensor> results;
    if (stage.node != kNoNode) {
      results = run_node(prepared.graph, stage, opened, values);
    } else if (!stage.makes.empty()) {
      std::vector<Tensor> inputs;
      for (ValueId id : stage.reads) inputs.push_back(at(values, id));
      results = opened.plan != nullptr ? opened.plan->run(inputs) : opened.remainder->run(inputs);
    }
    for (size_t i = 0; i < results.size(); ++i) at(values, stage.makes[i]) = std::move(results[i]);
    for (ValueId id : stage.done) at(values, id) = Tensor();
  }

  std::vector<Tensor> run_node(const Graph& graph, const PreparedStage& stage, OpenedStage& opened,
                               std::vector<Tensor>& values) {
    const Node& node = graph.node(stage.node);
    const auto tensors = [&](const std::vector<ValueId>& ids) {
      std::vector<const Tensor*> list;
      for (ValueId id : ids)
        list.push_back(id == kNoValue ? nullptr
                                      : (graph.value(id).is_constant() ? graph.constant(id) : &at(values, id)));
      return list;
    };
    const std::vector<const Tensor*> inputs = tensors(node.inputs), captures = tensors(node.captures);
    const auto run_body = [&](const Graph& body, std::span<const Tensor> given) {
      for (size_t b = 0; b < stage.bodies.size(); ++b) {
        if (stage.bodies[b].graph != &body) continue;
        std::vector<Tensor> all(given.begin(), given.end());
        for (size_t i : stage.bodies[b].captured) all.push_back(*captures[i]);
        return opened.bodies[b]->run(all);
      }
      fail(ErrorCode::kInternal, "A subgraph has no program: {}", node.label());
    };
    std::vector<Tensor> results = evaluate_node(graph, node, inputs, run_body), made;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) made.push_back(std::move(results[i]));
    return made;
  }

  std::shared_ptr<const CompiledProgram> program_;
  const std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
  std::list<Opened> opened_;  ///< the last used first
};

std::unique_ptr<ProgramSession> CompiledProgram::open() const {
  return std::make_unique<CompiledSession>(shared_from_this());
}

std::shared_ptr<const Program> make_compiled(const Graph& graph, const ProgramOptions& options) {
  return std::make_shared<const CompiledProgram>(graph, options, CompiledProgram::Part::kModel,
                                                 std::make_shared<WeightPool>());
}

}  // namespace

Backend compiled_backend() { return {"slipway", "compiled for this machine", make_compiled}; }

}  // namespace slipway
