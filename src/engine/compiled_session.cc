// Running a compiled program: stage after stage, values in slots, a session for every plan that was met.
#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "engine/compiled_program.h"
#include "engine/lower/step_graph.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

class CompiledSession : public ProgramSession {
 public:
  explicit CompiledSession(std::shared_ptr<const CompiledProgram> program) : program_(std::move(program)) {}

  std::vector<Tensor> run(std::span<const Tensor> inputs) override {
    Way way = program_->way(inputs);
    if (way.interpreted != nullptr) return evaluate(*way.interpreted, inputs);
    Opened& opened = open(std::move(way.prepared));
    const int64_t started = now_ns();
    std::vector<Tensor> outputs = run(opened, inputs);
    opened.prepared->run_ns.fetch_add(now_ns() - started, std::memory_order_relaxed);
    return outputs;
  }

 private:
  struct OpenedStage {
    std::unique_ptr<Session> plan;
    std::unique_ptr<ProgramSession> remainder;
    std::vector<std::unique_ptr<ProgramSession>> bodies;
  };
  struct Opened {
    std::shared_ptr<Prepared> prepared;
    std::vector<OpenedStage> stages;
  };

  static std::vector<Tensor> run(Opened& opened, std::span<const Tensor> inputs) {
    const Prepared& prepared = *opened.prepared;
    if (is_whole(prepared)) return opened.stages[0].plan->run(inputs);
    std::vector<Tensor> slots(prepared.slots);
    std::copy(inputs.begin(), inputs.end(), slots.begin());
    for (size_t s = 0; s < prepared.stages.size(); ++s) run_stage(prepared.stages[s], opened.stages[s], slots);
    std::vector<Tensor> outputs;
    for (const size_t slot : prepared.outputs) outputs.push_back(slots[slot]);
    return outputs;
  }

  Opened& open(std::shared_ptr<Prepared> prepared) {
    const auto found =
        std::find_if(opened_.begin(), opened_.end(), [&](const Opened& o) { return o.prepared == prepared; });
    if (found != opened_.end()) {
      opened_.splice(opened_.begin(), opened_, found);
      return opened_.front();
    }
    opened_.remove_if([&](const Opened& o) { return o.prepared->signature == prepared->signature; });  // given way
    Opened opened{.prepared = std::move(prepared)};
    for (const PreparedStage& stage : opened.prepared->stages) {
      OpenedStage& s = opened.stages.emplace_back();
      if (stage.plan != nullptr) s.plan = std::make_unique<Session>(stage.plan, arena_);
      if (stage.remainder != nullptr) s.remainder = stage.remainder->open();
      for (const Body& body : stage.bodies) s.bodies.push_back(body.program->open());
    }
    opened_.push_front(std::move(opened));
    if (opened_.size() > program_->max_shapes()) opened_.pop_back();
    return opened_.front();
  }

  static void run_stage(const PreparedStage& stage, OpenedStage& opened, std::vector<Tensor>& slots) {
    throw_if_late();
    std::vector<Tensor> inputs;
    for (const size_t slot : stage.reads) inputs.push_back(slots[slot]);
    std::vector<Tensor> results = stage.node != nullptr    ? run_node(stage, opened, inputs)
                                  : opened.plan != nullptr ? opened.plan->run(inputs)
                                                           : opened.remainder->run(inputs);
    for (size_t i = 0; i < results.size(); ++i) slots[stage.makes[i]] = std::move(results[i]);
    for (const size_t slot : stage.done) slots[slot] = Tensor();
  }

  static std::vector<Tensor> run_node(const PreparedStage& stage, OpenedStage& opened,
                                      const std::vector<Tensor>& values) {
    const Graph& graph = *stage.node;
    const Node& node = step_node(graph);
    require_inputs_match(graph, values);
    const auto tensors = [&](const std::vector<ValueId>& ids) {
      std::vector<const Tensor*> list;
      for (const ValueId id : ids) {
        const auto at = std::find(graph.inputs().begin(), graph.inputs().end(), id);
        list.push_back(id == kNoValue               ? nullptr
                       : at == graph.inputs().end() ? graph.constant(id)
                                                    : &values[static_cast<size_t>(at - graph.inputs().begin())]);
      }
      return list;
    };
    const std::vector<const Tensor*> inputs = tensors(node.inputs), captures = tensors(node.captures);
    const auto run_body = [&](const Graph& body, std::span<const Tensor> given) {
      for (size_t b = 0; b < stage.bodies.size(); ++b) {
        const auto& attribute = node.attributes.find(stage.bodies[b].attribute)->second;
        if (std::get<GraphPtr>(attribute).get() != &body) continue;
        std::vector<Tensor> all(given.begin(), given.end());
        for (const size_t i : stage.bodies[b].captured) all.push_back(*captures[i]);
        return opened.bodies[b]->run(all);
      }
      fail(ErrorCode::kInternal, "A subgraph has no program: {}", node.label());
    };
    std::vector<Tensor> results = evaluate_node(graph, node, inputs, run_body), made;
    for (const ValueId id : graph.outputs())
      made.push_back(std::move(results[static_cast<size_t>(graph.value(id).producer_output)]));
    return made;
  }

  std::shared_ptr<const CompiledProgram> program_;
  const std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
  std::list<Opened> opened_;  ///< the last used first
};

}  // namespace

std::unique_ptr<ProgramSession> CompiledProgram::open() const {
  return std::make_unique<CompiledSession>(shared_from_this());
}

}  // namespace slipway
