// Building a Plan: bind the shapes, run the passes, ask every tactic for candidates, time them, choose over the whole
// graph with the cost of layout changes (PBQP), then lay out memory and pack the weights of what was chosen.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/random.h"
#include "engine/lower/lower.h"
#include "engine/lower/step_graph.h"
#include "engine/magnitudes.h"
#include "engine/memory_plan.h"
#include "engine/partition.h"
#include "engine/passes/pipeline.h"
#include "engine/plan_impl.h"
#include "engine/tune/pbqp.h"
#include "engine/tune/timing.h"
#include "engine/tune/trial.h"
#include "engine/weight_pool.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr double kForbidden = std::numeric_limits<double>::infinity();
/// Without timing, candidates are ordered by their place in the list; this is the step between two, in µs.
constexpr double kRankCost = 1.0;

struct LoweredNode {
  NodeId id;
  Graph step;
  std::vector<bool> constant_inputs;
  std::vector<Candidate> all;
  std::vector<size_t> accepted;
  std::vector<double> times;  ///< by accepted
  size_t choice = 0;          ///< into accepted
  const Candidate& chosen() const { return all[accepted[choice]]; }
};

struct LogicalStep {
  Graph graph;
  Candidate candidate;
  std::vector<bool> constant_inputs;
  std::vector<int> inputs, outputs;  ///< storages; −1 where absent or constant
  double time_us = 0;
  std::vector<CandidateInfo> candidates;
  const LoweredNode* lowered = nullptr;
  std::vector<int> guards;
  bool faithful = false;
};

/// A value in one layout. Views share their source's root.
struct Storage {
  uint64_t bytes = 0;
  int root;
  Place::Kind kind = Place::kArena;
  uint64_t index = 0;
  int first = std::numeric_limits<int>::max(), last = -1;
};

class Builder {
 public:
  Builder(Graph graph, const BuildOptions& options)
      : graph_(std::move(graph)),
        options_(options),
        tune_(options.tune && !options.choice_seed),
        chance_(options.choice_seed.value_or(0)),
        cache_(options.timing_cache) {}

  /// `original`: null where the plan is not to be saved.
  std::unique_ptr<Plan::Impl> build(const Graph* original) {
    separate_outputs(graph_);
    infer_shapes(graph_);
    require_static_shapes();
    lower();
    choose();
    emit_steps();
    place_guards();
    auto impl = std::make_unique<Plan::Impl>();
    impl->threads = options_.threads;
    impl->cpu = to_string(cpu_features());
    impl->onednn = onednn_version();
    if (original != nullptr) {
      impl->ports = ports_of(*original);
      impl->model = serialize_onnx(*original);
    }
    for (ValueId id : graph_.inputs()) impl->inputs.push_back(port(id));
    for (ValueId id : graph_.outputs()) impl->outputs.push_back(port(id));
    place_and_pack(*impl);
    impl->create_kernels();
    return impl;
  }

 private:
  PortInfo port(ValueId id) const {
    const Value& v = graph_.value(id);
    return {v.name, v.dtype, v.shape.to_dims()};
  }

  void require_static_shapes() const {
    for (ValueId id : graph_.inputs()) require_holdable(graph_.value(id));
    for (NodeId n : graph_.topological_order())
      for (ValueId id : graph_.node(n).outputs) {
        if (id == kNoValue) continue;
        const Value& v = graph_.value(id);
        if (v.dtype == DType::kUndefined || !v.shape.is_static())
          fail(
              ErrorCode::kUnsupported,
              "One plan is not enough, for a value's shape depends on the data; slipway run and serve prepare it as it "
              "is known: '{}' {} of {}",
              v.name, to_string(v.shape), graph_.node(n).label());
        require_holdable(v);
      }
  }

  static void require_holdable(const Value& v) {
    if (v.dtype == DType::kString || bits_of(v.dtype) < 8)
      fail(ErrorCode::kUnsupported,
           "A plan can't hold values of this type; slipway run and serve compute it without one: '{}' ({})", v.name,
           to_string(v.dtype));
  }

  void lower() {
    for (NodeId id : graph_.topological_order()) {
      const Node& node = graph_.node(id);
      require_op(graph_, node);
      LoweredNode n{.id = id, .step = step_graph(graph_, node)};
      for (const auto* list : {&node.inputs, &node.captures})
        for (ValueId v : *list) n.constant_inputs.push_back(v != kNoValue && graph_.value(v).is_constant());
      n.all = propose_candidates(build_context(n));
      if (any_empty(n.step))
        for (Candidate& c : n.all)
          if (c.tactic != "reference" && c.rejected.empty()) c.rejected = "an operand has no elements";
      lowered_.push_back(std::move(n));
    }
    if (tune_) try_candidates();
    for (LoweredNode& n : lowered_) accept(n);
    cache_.save();
  }

  // Of a Resize the region and scales may be empty, which stands for none.
  static bool any_empty(const Graph& step) {
    const Node& node = step_node(step);
    for (ValueId id = 0; id < step.value_limit(); ++id) {
      const bool spared = node.is("Resize") && id != node.inputs[0] && step.value(id).is_input;
      if (!spared && element_count(step.value(id).shape.to_dims()) == 0) return true;
    }
    return false;
  }

  LowerContext build_context(const LoweredNode& n) const {
    return {graph_, graph_.node(n.id), options_.threads, n.constant_inputs};
  }

  static bool is_timed(const Candidate& c) { return c.rejected.empty() && !c.view && c.tactic != "reference"; }

  // Every candidate that the cache does not know is run, and what can't is rejected; its time, or that it crashes, is
  // then in the cache.
  void try_candidates() {
    std::vector<LowerContext> builds, steps;
    for (const LoweredNode& n : lowered_) {
      builds.push_back(build_context(n));
      steps.push_back({n.step, step_node(n.step), options_.threads, n.constant_inputs});
    }
    std::vector<CandidateTrial> trials;
    std::vector<Candidate*> tried;
    std::vector<TimingKey> keys;
    std::set<std::string> waiting;
    for (size_t i = 0; i < lowered_.size(); ++i)
      for (Candidate& c : lowered_[i].all) {
        if (!is_timed(c)) continue;
        TimingKey key = timing_key(builds[i], c);
        if (cache_.find(key.digest) || !waiting.insert(key.digest).second) continue;
        trials.push_back({builds[i], steps[i], c});
        tried.push_back(&c);
        keys.push_back(std::move(key));
      }
    Progress progress("timing candidates", static_cast<int64_t>(trials.size()), options_.quiet);
    const std::vector<TrialResult> results = run_trials(trials, [&] { progress.step(); });
    for (size_t k = 0; k < results.size(); ++k) {
      if (results[k].crash_signal != 0)
        cache_.add(keys[k], -results[k].crash_signal);
      else if (results[k].rejected.empty())
        cache_.add(keys[k], results[k].time_us);
      else
        tried[k]->rejected = results[k].rejected;
    }
    for (size_t i = 0; i < lowered_.size(); ++i)
      for (Candidate& c : lowered_[i].all) {
        if (!is_timed(c)) continue;
        const std::optional<double> known = cache_.find(timing_key(builds[i], c).digest);
        if (!known)
          c.rejected = "its twin at another node can't run";
        else if (*known < 0)
          c.rejected = crash_reason(static_cast<int>(-*known));
      }
  }

  void accept(LoweredNode& n) {
    const LowerContext context = build_context(n);
    for (size_t i = 0; i < n.all.size(); ++i) {
      const Candidate& c = n.all[i];
      if (!c.rejected.empty() || (c.tactic == "reference" && !n.accepted.empty() && !options_.choice_seed)) continue;
      double us = options_.choice_seed ? chance_.uniform() : static_cast<double>(n.accepted.size()) * kRankCost;
      if (tune_ && is_timed(c)) us = *cache_.find(timing_key(context, c).digest);
      if (c.view) us = 0;
      n.accepted.push_back(i);
      n.times.push_back(us);
    }
    if (!tune_ && !options_.choice_seed && !cache_.empty()) take_estimates(context, n);
    if (n.accepted.empty())
      fail(ErrorCode::kUnsupported,
           "Nothing implements this operator for these types and shapes; export the model with others: {}",
           context.node.label());
  }

  // Untimed candidates are ranked by what the nearest shapes took; those of which nothing is known come after.
  void take_estimates(const LowerContext& context, LoweredNode& n) const {
    std::vector<std::optional<double>> known;
    double slowest = -1;
    for (size_t i : n.accepted) {
      const Candidate& c = n.all[i];
      known.push_back(is_timed(c) ? cache_.estimate(timing_key(context, c)) : std::nullopt);
      if (known.back() && *known.back() < 0) known.back() = kForbidden;  // it crashes
      if (known.back() && *known.back() != kForbidden) slowest = std::max(slowest, *known.back());
    }
    if (slowest < 0) return;
    for (size_t k = 0; k < known.size(); ++k)
      if (!n.all[n.accepted[k]].view) n.times[k] = known[k] ? *known[k] : slowest + n.times[k] + kRankCost;
  }

  // The same bytes under another name. What the caller owns is left out: it may lie at any address.
  bool is_free_change(ValueId id, Layout from, Layout to) const {
    return !graph_.value(id).is_input && !graph_.is_output(id) &&
           same_arrangement(from, to, graph_.value(id).shape.to_dims());
  }

  double change_cost(Layout from, Layout to, ValueId id) {
    if (from == to) return 0;
    const Value& v = graph_.value(id);
    const Dims dims = v.shape.to_dims();
    if (!layout_fits(from, dims) || !layout_fits(to, dims) || v.dtype == DType::kString) return kForbidden;
    if (is_free_change(id, from, to)) return 0;
    const auto bytes = static_cast<double>(layout_bytes(to, v.dtype, dims));
    const std::string family = fmt::format("layout {} {} {} rank {} t{} {}", to_string(from), to_string(to),
                                           to_string(v.dtype), dims.size(), options_.threads, cpu_name());
    const TimingKey key{family + " " + to_string(dims), family, bytes};
    if (!tune_) return cache_.estimate(key).value_or(bytes / 4e3 + 0.1 * kRankCost);
    if (const std::optional<double> known = cache_.find(key.digest)) return *known;
    const double us = time_layout_change(from, to, v.dtype, dims, options_.threads);
    cache_.add(key, us);
    return us;
  }

  void choose() {
    Pbqp problem;
    std::map<NodeId, int> index;
    for (size_t i = 0; i < lowered_.size(); ++i) {
      LoweredNode& n = lowered_[i];
      std::vector<double> costs = n.times;
      for (size_t k = 0; k < costs.size(); ++k) {  // the model's own inputs and outputs are plain
        const Candidate& candidate = n.all[n.accepted[k]];
        const Node& node = graph_.node(n.id);
        for (size_t j = 0; j < candidate.inputs.size() && j < node.inputs.size(); ++j)
          if (node.has_input(j) && graph_.value(node.inputs[j]).is_input)
            costs[k] += change_cost(Layout::kPlain, candidate.inputs[j], node.inputs[j]);
        for (size_t j = 0; j < candidate.outputs.size(); ++j)
          if (node.outputs[j] != kNoValue && graph_.is_output(node.outputs[j]))
            costs[k] += change_cost(candidate.outputs[j], Layout::kPlain, node.outputs[j]);
      }
      index[n.id] = problem.add_node(costs);
    }
    for (const LoweredNode& n : lowered_) {
      const Node& node = graph_.node(n.id);
      for (size_t j = 0; j < node.inputs.size(); ++j) {
        if (!node.has_input(j)) continue;
        const Value& v = graph_.value(node.inputs[j]);
        if (v.producer == kNoNode) continue;
        const LoweredNode& p = lowered_[static_cast<size_t>(index.at(v.producer))];
        std::vector<double> costs;
        for (size_t a : p.accepted)
          for (size_t b : n.accepted)
            costs.push_back(change_cost(p.all[a].outputs[static_cast<size_t>(v.producer_output)], n.all[b].inputs[j],
                                        node.inputs[j]));
        problem.add_edge(index.at(v.producer), index.at(n.id), costs);
      }
    }
    const std::vector<int> choice = problem.solve();
    for (size_t i = 0; i < lowered_.size(); ++i) lowered_[i].choice = static_cast<size_t>(choice[i]);
    cache_.save();
  }

  int storage_of(ValueId id, Layout layout) {
    const auto [it, fresh] = storage_index_.try_emplace({id, layout}, static_cast<int>(storages_.size()));
    if (fresh) {
      const Value& v = graph_.value(id);
      Storage s{.bytes = layout_bytes(layout, v.dtype, v.shape.to_dims()), .root = it->second};
      const auto& in = graph_.inputs();
      const auto& out = graph_.outputs();
      if (layout == Layout::kPlain && v.is_input) {
        s.kind = Place::kInput;
        s.index = static_cast<uint64_t>(std::find(in.begin(), in.end(), id) - in.begin());
      } else if (layout == Layout::kPlain && graph_.is_output(id)) {
        s.kind = Place::kOutput;
        s.index = static_cast<uint64_t>(std::find(out.begin(), out.end(), id) - out.begin());
      }
      storages_.push_back(s);
    }
    return it->second;
  }

  void emit_change(ValueId id, Layout from, Layout to) {
    if (from == to || storage_index_.contains({id, to})) return;
    if (is_free_change(id, from, to)) {
      storage_index_.emplace(std::pair{id, to}, storage_of(id, from));
      return;
    }
    Graph one;
    one.opsets = graph_.opsets;
    const Value& v = graph_.value(id);
    const ValueId in = one.add_input(v.name, v.dtype, v.shape);
    const ValueId out = one.add_node({.op_type = "Identity", .name = "", .inputs = {in}}, v.name);
    one.set_type(out, v.dtype, v.shape);
    one.add_output(out);
    LogicalStep step{.graph = std::move(one),
                     .candidate = {.tactic = "layout", .variant = "", .inputs = {from}, .outputs = {to}}};
    step.constant_inputs = {false};
    step.inputs = {storage_of(id, from)};
    step.outputs = {storage_of(id, to)};
    step.time_us = change_cost(from, to, id);
    steps_.push_back(std::move(step));
  }

  void emit_steps() {
    std::map<ValueId, Layout> made_in;
    for (ValueId id : graph_.inputs()) made_in[id] = Layout::kPlain;
    for (const LoweredNode& n : lowered_) {
      const Node& node = graph_.node(n.id);
      const Candidate& candidate = n.chosen();
      LogicalStep step{.graph = n.step,
                       .candidate = candidate,
                       .constant_inputs = n.constant_inputs,
                       .time_us = n.times[n.choice],
                       .lowered = &n};
      std::vector<ValueId> operands = node.inputs;
      operands.insert(operands.end(), node.captures.begin(), node.captures.end());
      for (size_t j = 0; j < operands.size(); ++j) {
        if (operands[j] == kNoValue || n.constant_inputs[j]) {
          step.inputs.push_back(-1);
          continue;
        }
        const Layout wanted = j < candidate.inputs.size() ? candidate.inputs[j] : Layout::kPlain;
        emit_change(operands[j], made_in.at(operands[j]), wanted);
        step.inputs.push_back(storage_of(operands[j], wanted));
      }
      for (size_t j = 0; j < node.outputs.size(); ++j) {
        step.outputs.push_back(node.outputs[j] == kNoValue ? -1 : storage_of(node.outputs[j], candidate.outputs[j]));
        if (node.outputs[j] != kNoValue) made_in[node.outputs[j]] = candidate.outputs[j];
      }
      describe_candidates(n, step);
      steps_.push_back(std::move(step));
      for (size_t j = 0; j < node.outputs.size(); ++j)
        if (node.outputs[j] != kNoValue && graph_.is_output(node.outputs[j]))
          emit_change(node.outputs[j], candidate.outputs[j], Layout::kPlain);
    }
  }

  // Bounds on magnitudes go from step to step. Where they do not prove that a step which loses special values meets
  // none, each run measures its inputs; where not even that is a proof, it always runs faithfully.
  void place_guards() {
    std::map<ValueId, double> bounds;
    const auto bound_of = [&](ValueId id) {
      if (id == kNoValue || graph_.value(id).dtype != DType::kFloat32) return 0.0;
      if (graph_.value(id).is_constant() && !bounds.contains(id)) bounds[id] = constant_magnitude(*graph_.constant(id));
      return bounds.contains(id) ? bounds.at(id) : std::numeric_limits<double>::infinity();
    };
    for (LogicalStep& step : steps_) {
      if (step.lowered == nullptr) continue;
      const Node& node = graph_.node(step.lowered->id);
      std::vector<double> inputs;
      for (ValueId id : node.inputs) inputs.push_back(bound_of(id));
      Magnitude magnitude = node_magnitude(graph_, node, inputs);
      if (step.candidate.loses_special && !(magnitude.before_activation < kProvenMagnitude)) {
        for (size_t j = 0; j < inputs.size(); ++j) {
          if (step.inputs[j] < 0 || inputs[j] <= kGuardMagnitude) continue;
          step.guards.push_back(static_cast<int>(j));
          inputs[j] = kGuardMagnitude;
        }
        magnitude = node_magnitude(graph_, node, inputs);
        step.faithful = !(magnitude.before_activation < kProvenMagnitude);
        if (step.faithful) step.guards.clear();
        for (int j : step.guards) bounds[node.inputs[static_cast<size_t>(j)]] = kGuardMagnitude;
      }
      for (ValueId id : node.outputs)
        if (id != kNoValue && !step.faithful && magnitude.result < kProvenMagnitude) bounds[id] = magnitude.result;
    }
  }

  void describe_candidates(const LoweredNode& n, LogicalStep& step) const {
    for (size_t i = 0; i < n.all.size(); ++i) {
      const Candidate& c = n.all[i];
      CandidateInfo info{
          .tactic = c.variant.empty() ? c.tactic : c.tactic + " " + c.variant.substr(0, c.variant.find('|')),
          .rejected = c.rejected};
      if (!c.outputs.empty())
        info.layouts = fmt::format("{} -> {}", c.inputs.empty() ? "" : to_string(c.inputs[0]), to_string(c.outputs[0]));
      for (size_t k = 0; k < n.accepted.size(); ++k)
        if (n.accepted[k] == i) {
          info.time_us = tune_ ? n.times[k] : 0;
          info.chosen = k == n.choice;
        }
      if (c.rejected.empty() && c.tactic == "reference" && !info.chosen)
        info.rejected = "slower by construction: the oracle";
      step.candidates.push_back(std::move(info));
    }
  }

  int root(int s) const { return storages_[static_cast<size_t>(s)].root; }
  Storage& root_of(int s) { return storages_[static_cast<size_t>(root(s))]; }
  void merge(int from, int into) {
    const int target = root(into), gone = root(from);
    for (Storage& s : storages_)
      if (s.root == gone) s.root = target;
    Storage &a = storages_[static_cast<size_t>(target)], &b = storages_[static_cast<size_t>(gone)];
    a.bytes = std::max(a.bytes, b.bytes);
    a.first = std::min(a.first, b.first);
    a.last = std::max(a.last, b.last);
  }

  // Views share their source's memory; an in-place step takes over its input's when nothing reads that later.
  void share_storages() {
    for (const LogicalStep& step : steps_)
      if (step.candidate.view && storages_[static_cast<size_t>(step.outputs[0])].kind == Place::kArena)
        merge(step.outputs[0], step.inputs[static_cast<size_t>(step.candidate.inplace_input)]);
    for (size_t i = 0; i < steps_.size(); ++i)
      for (const auto* list : {&steps_[i].inputs, &steps_[i].outputs})
        for (int s : *list) {
          if (s < 0) continue;
          root_of(s).first = std::min(root_of(s).first, static_cast<int>(i));
          root_of(s).last = std::max(root_of(s).last, static_cast<int>(i));
        }
    for (size_t i = 0; i < steps_.size(); ++i) {
      const LogicalStep& step = steps_[i];
      const int in = step.candidate.inplace_input;
      if (in < 0 || step.candidate.view || step.inputs[static_cast<size_t>(in)] < 0) continue;
      const int source = root(step.inputs[static_cast<size_t>(in)]), target = root(step.outputs[0]);
      const Storage &s = storages_[static_cast<size_t>(source)], &t = storages_[static_cast<size_t>(target)];
      const auto readers = std::count_if(step.inputs.begin(), step.inputs.end(),
                                         [&](int other) { return other >= 0 && root(other) == source; });
      if (s.kind != Place::kArena || t.kind != Place::kArena || s.last != static_cast<int>(i) || s.bytes != t.bytes ||
          readers != 1 || source == target)
        continue;
      merge(target, source);
    }
  }

  // A view whose result shares its source's memory has nothing to do at run time.
  bool is_free_view(const LogicalStep& step) const {
    return step.candidate.view &&
           root(step.outputs[0]) == root(step.inputs[static_cast<size_t>(step.candidate.inplace_input)]);
  }

  void place_and_pack(Plan::Impl& impl) {
    share_storages();
    std::vector<MemoryRequest> requests;
    std::vector<int> request_of(storages_.size(), -1);
    for (size_t s = 0; s < storages_.size(); ++s) {
      const Storage& storage = storages_[s];
      if (storage.root != static_cast<int>(s) || storage.kind != Place::kArena || storage.last < 0) continue;
      request_of[s] = static_cast<int>(requests.size());
      requests.push_back({storage.bytes, storage.first, storage.last});
    }
    const MemoryPlan memory = plan_memory(requests);
    impl.memory.arena_bytes = memory.total_bytes;
    impl.memory.lower_bound_bytes = memory.lower_bound_bytes;
    impl.memory.unshared_bytes = memory.unshared_bytes;
    const auto place = [&](int s) -> Place {
      if (s < 0) return {};
      const Storage& storage = storages_[static_cast<size_t>(root(s))];
      if (storage.kind != Place::kArena) return {storage.kind, storage.index};
      return {Place::kArena, memory.offsets[static_cast<size_t>(request_of[static_cast<size_t>(root(s))])]};
    };
    for (LogicalStep& logical : steps_) {
      if (is_free_view(logical)) continue;
      PlanStep step;
      for (int s : logical.inputs) step.inputs.push_back(place(s));
      for (int s : logical.outputs) step.outputs.push_back(place(s));
      const Tactic& tactic = tactic_named(logical.candidate.tactic);
      if (tactic.pack != nullptr && logical.lowered != nullptr) {
        const LowerContext context{graph_, graph_.node(logical.lowered->id), options_.threads, logical.constant_inputs};
        for (Blob& blob : tactic.pack(context, logical.candidate)) {
          if (options_.weights != nullptr) options_.weights->share(blob);
          step.blobs.emplace_back(blob.data.get(), blob.bytes);
          impl.memory.weight_bytes += blob.bytes;
          impl.owned.push_back(std::move(blob));
        }
      }
      step.graph = std::move(logical.graph);
      step.candidate = std::move(logical.candidate);
      step.constant_inputs = std::move(logical.constant_inputs);
      step.time_us = tune_ ? logical.time_us : 0;
      step.candidates = std::move(logical.candidates);
      step.guards = std::move(logical.guards);
      step.faithful = logical.faithful;
      impl.steps.push_back(std::move(step));
    }
  }

  Graph graph_;
  const BuildOptions& options_;
  const bool tune_;
  Random chance_;
  TimingCache cache_;
  std::vector<LoweredNode> lowered_;
  std::vector<LogicalStep> steps_;
  std::map<std::pair<ValueId, Layout>, int> storage_index_;
  std::vector<Storage> storages_;
};

}  // namespace

std::shared_ptr<const Plan> Plan::build(const Graph& graph, const BuildOptions& options) {
  if (options.threads < 1 || options.threads > 1024)
    fail(ErrorCode::kInvalidArgument, "The number of threads must lie between 1 and 1024: {}", options.threads);
  if (options.batch < 1) fail(ErrorCode::kInvalidArgument, "The batch must be at least 1: {}", options.batch);
  set_thread_count(options.threads);
  verify(graph);
  Graph bound = graph;
  bind_batch(bound, options.batch, options.dims);
  if (options.optimize) run_passes(bound);
  return std::make_shared<const Plan>(Builder(std::move(bound), options).build(&graph));
}

std::shared_ptr<const Plan> Plan::build_bound(Graph graph, const BuildOptions& options) {
  set_thread_count(options.threads);
  return std::make_shared<const Plan>(Builder(std::move(graph), options).build(nullptr));
}

}  // namespace slipway
