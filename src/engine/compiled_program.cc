// The compiled engine as a Program. For each combination of input shapes the model is bound and optimised, then cut
// into stages (partition.h): plans, nodes that are interpreted, and a remainder whose shapes the stages before make
// known; that is a program of its own, whose inputs have other shapes from run to run. So are the bodies of If, Loop
// and Scan, with what they capture as further inputs.
//
// Preparing costs milliseconds, a small graph's evaluation microseconds: bodies and remainders of little work are
// interpreted, so are others where their shapes are met for the first time, unless the work is so much that preparing
// pays at once. The model itself is always prepared.
#include "engine/compiled_program.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "engine/lower/step_graph.h"
#include "engine/partition.h"
#include "engine/passes/pipeline.h"
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

void mark_done(Prepared& entry) {
  std::map<size_t, size_t> last;
  for (size_t s = 0; s < entry.stages.size(); ++s)
    for (const auto* list : {&entry.stages[s].reads, &entry.stages[s].makes})
      for (size_t slot : *list) last[slot] = s;
  for (const auto& [slot, stage] : last)
    if (std::find(entry.outputs.begin(), entry.outputs.end(), slot) == entry.outputs.end())
      entry.stages[stage].done.push_back(slot);
}

Graph inputs_of(const ModelPorts& ports) {
  Graph graph;
  for (const ModelPort& port : ports.inputs) graph.add_input(port.name, port.dtype, port.shape);
  return graph;
}

}  // namespace

bool is_whole(const Prepared& prepared) {
  if (prepared.stages.size() != 1 || prepared.stages[0].plan == nullptr) return false;
  const std::vector<size_t>& reads = prepared.stages[0].reads;
  for (size_t i = 0; i < reads.size(); ++i)
    if (reads[i] != i) return false;
  return reads.size() == prepared.signature.dims.size() && prepared.stages[0].makes == prepared.outputs;
}

CompiledProgram::CompiledProgram(Graph graph, ProgramOptions options, Part part, std::shared_ptr<WeightPool> weights,
                                 Entries ready)
    : ports_(ports_of(graph)),
      inputs_(inputs_of(ports_)),
      options_(std::move(options)),
      part_(part),
      weights_(std::move(weights)),
      graph_(std::make_shared<const Graph>(std::move(graph))),
      entries_(std::move(ready)) {}

CompiledProgram::CompiledProgram(ModelPorts ports, std::function<Graph()> load, ProgramOptions options,
                                 std::shared_ptr<WeightPool> weights, Entries ready)
    : ports_(std::move(ports)),
      inputs_(inputs_of(ports_)),
      load_(std::move(load)),
      options_(std::move(options)),
      part_(Part::kModel),
      weights_(std::move(weights)),
      entries_(std::move(ready)) {}

std::shared_ptr<const Graph> CompiledProgram::graph() const {
  const std::lock_guard lock(graph_mutex_);
  if (graph_ == nullptr) graph_ = std::make_shared<const Graph>(load_());
  return graph_;
}

void CompiledProgram::prepare(std::span<const Tensor> inputs) const { way(inputs); }

Way CompiledProgram::way(std::span<const Tensor> inputs) const {
  if (!is_inner())
    require_inputs_match(inputs_, inputs);
  else if (inputs.size() != ports_.inputs.size())
    fail(ErrorCode::kInvalidModel, "A part of the model takes {} values; {} were given", ports_.inputs.size(),
         inputs.size());
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

Way CompiledProgram::settle(const std::shared_ptr<Prepared>& entry, std::span<const Tensor> inputs) const {
  if (entry->bound == nullptr) {
    auto bound = std::make_shared<Graph>(*graph());
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

void CompiledProgram::keep_within(size_t count) const {
  const std::lock_guard lock(mutex_);
  if (entries_.size() > count) entries_.resize(count);
}

void CompiledProgram::forget(const std::shared_ptr<Prepared>& entry) const {
  const std::lock_guard lock(mutex_);
  entries_.remove(entry);
}

std::shared_ptr<Prepared> CompiledProgram::entry_for(const Signature& signature) const {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry->signature == signature; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front();
  }
  entries_.push_front(std::make_shared<Prepared>(signature));
  return entries_.front();
}

std::vector<std::shared_ptr<const Prepared>> CompiledProgram::ready() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<const Prepared>> list;
  for (const auto& entry : entries_)
    if (entry->ready) list.push_back(entry);
  return list;
}

void CompiledProgram::adopt(Entries entries) const {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const auto& old) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const auto& entry) { return entry->signature == old->signature; });
  });
  entries_.splice(entries_.begin(), entries);
  if (entries_.size() > max_shapes()) entries_.resize(max_shapes());
}

ProgramInfo CompiledProgram::info() const {
  ProgramInfo info;
  std::vector<std::shared_ptr<const Plan>> plans;
  for (const PreparedShape& shape : prepared()) {
    ++info.shapes;
    plans.insert(plans.end(), shape.plans.begin(), shape.plans.end());
  }
  for (const auto& plan : plans)
    info.session_bytes = std::max(info.session_bytes, plan->memory().arena_bytes + plan->memory().scratch_bytes);
  info.weight_bytes = weight_bytes_of(plans);
  return info;
}

std::vector<PreparedShape> CompiledProgram::prepared() const {
  std::vector<PreparedShape> shapes;
  for (const auto& entry : ready()) {
    PreparedShape& shape = shapes.emplace_back();
    shape.inputs = entry->signature.dims;
    shape.whole = is_whole(*entry);
    shape.from_file = entry->from_file;
    shape.run_ns = entry->run_ns;
    const auto add = [&](const CompiledProgram& part) {
      for (const PreparedShape& inner : part.prepared()) {
        shape.plans.insert(shape.plans.end(), inner.plans.begin(), inner.plans.end());
        shape.interpreted.insert(shape.interpreted.end(), inner.interpreted.begin(), inner.interpreted.end());
      }
    };
    for (const PreparedStage& stage : entry->stages) {
      if (stage.plan != nullptr) shape.plans.push_back(stage.plan);
      if (stage.node != nullptr) shape.interpreted.push_back(step_node(*stage.node).op_type);
      if (stage.remainder != nullptr) add(*stage.remainder);
      for (const Body& body : stage.bodies) add(*body.program);
    }
  }
  return shapes;
}

void CompiledProgram::prepare(Prepared& entry) const {
  Graph graph = *entry.bound;
  if (options_.optimize) run_passes(graph);
  separate_outputs(graph);
  std::map<ValueId, size_t> slots;
  const auto slots_of = [&](const std::vector<ValueId>& values) {
    std::vector<size_t> list;
    for (ValueId v : values) list.push_back(slots.try_emplace(v, slots.size()).first->second);
    return list;
  };
  slots_of(graph.inputs());
  const std::vector<GraphStage> cut = cut_into_stages(graph);
  for (const GraphStage& stage : cut) {
    const bool is_all = cut.size() == 1 && stage.kind == GraphStage::kPlan;
    GraphPart part = is_all ? GraphPart{graph, graph.inputs(), graph.outputs()} : extract_part(graph, stage.nodes);
    if (part.makes.empty()) continue;  // nobody reads what it would compute
    const std::vector<size_t> reads = slots_of(part.reads), makes = slots_of(part.makes);
    PreparedStage& made = entry.stages.emplace_back(
        stage.kind == GraphStage::kNode ? prepare_node(std::move(part))
                                        : prepare_part(std::move(part), stage.kind == GraphStage::kPlan));
    made.reads = reads;
    made.makes = makes;
  }
  entry.outputs = slots_of(graph.outputs());
  entry.slots = slots.size();
  mark_done(entry);
}

PreparedStage CompiledProgram::prepare_part(GraphPart part, bool is_plan) const {
  PreparedStage stage;
  if (is_plan)
    stage.plan = Plan::build_bound(std::move(part.graph), {.threads = options_.threads,
                                                           .tune = options_.tune,
                                                           .timing_cache = options_.timing_cache,
                                                           .quiet = options_.quiet,
                                                           .weights = weights_});
  else
    stage.remainder = inner(std::move(part.graph));
  return stage;
}

PreparedStage CompiledProgram::prepare_node(GraphPart part) const {
  PreparedStage stage;
  const auto graph = std::make_shared<const Graph>(std::move(part.graph));
  const Node& node = step_node(*graph);
  for (const auto& [name, attribute] : node.attributes) {
    const GraphPtr* body = std::get_if<GraphPtr>(&attribute);
    if (body == nullptr || *body == nullptr) continue;
    Body& made = stage.bodies.emplace_back();
    made.attribute = name;
    made.program = inner(standalone_body(*graph, node, **body, made.captured));
  }
  stage.node = graph;
  return stage;
}

std::shared_ptr<const CompiledProgram> CompiledProgram::inner(Graph graph) const {
  ProgramOptions options = options_;
  options.tune = false;
  return std::make_shared<const CompiledProgram>(std::move(graph), std::move(options), Part::kInner, weights_);
}

Backend compiled_backend() {
  return {"slipway", "compiled for this machine",
          [](const Graph& graph, const ProgramOptions& options) -> std::shared_ptr<const Program> {
            return std::make_shared<const CompiledProgram>(graph, options, CompiledProgram::Part::kModel,
                                                           std::make_shared<WeightPool>());
          }};
}

}  // namespace slipway
