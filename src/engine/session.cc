// Running a Plan. Everything is made ready when the session opens: one arena, the pointers of every step, the kernels'
// states. A run sets the caller's pointers where steps read or write them, and calls the kernels in order.
//
// Guards: fast kernels may turn NaN or an infinity into a number. The plan says (plan_build.cc) which tensors must be
// measured, and at which step, so that bounds on magnitudes prove all others finite. Where a guard fails, everything
// from that step on runs faithfully; what ran before was proven by earlier guards.
#include "engine/session.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/kernels/magnitude.h"
#include "engine/lower/step_graph.h"
#include "engine/magnitudes.h"
#include "engine/plan_impl.h"

namespace slipway {

struct Session::Impl {
  struct Guard {
    int input;
    int64_t count;  ///< floats
  };
  struct Step {
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    std::vector<Guard> guards;
    std::unique_ptr<KernelState> state;
  };
  struct Patch {  // an operand that is the caller's buffer
    size_t step, operand, port;
  };

  Impl(std::shared_ptr<const Plan> p, std::shared_ptr<Arena> a)
      : plan(std::move(p)), arena(a != nullptr ? std::move(a) : std::make_shared<Arena>()) {
    const Plan::Impl& built = plan->impl();
    set_thread_count(built.threads);
    for (size_t s = 0; s < built.steps.size(); ++s) {
      const PlanStep& from = built.steps[s];
      Step step;
      for (size_t i = 0; i < from.inputs.size(); ++i) {
        const Place& place = from.inputs[i];
        step.inputs.push_back(nullptr);
        if (place.kind == Place::kInput) input_patches.push_back({s, i, place.at});
        if (place.kind == Place::kOutput) output_reads.push_back({s, i, place.at});
      }
      for (size_t i = 0; i < from.outputs.size(); ++i) {
        const Place& place = from.outputs[i];
        step.outputs.push_back(nullptr);
        if (place.kind == Place::kOutput) output_patches.push_back({s, i, place.at});
      }
      for (int i : from.guards)
        step.guards.push_back({i, element_count(physical_dims(from.candidate.inputs[static_cast<size_t>(i)],
                                                              input_dims(from, static_cast<size_t>(i))))});
      step.state = from.kernel->make_state();
      steps.push_back(std::move(step));
    }
    place();
  }

  size_t scratch_at() const { return round_up(plan->impl().memory.arena_bytes, kAlignment); }

  /// Points the steps into the arena, where it lies now.
  void place() {
    arena->reserve(scratch_at() + plan->impl().memory.scratch_bytes);
    if (base == arena->data()) return;
    base = arena->data();
    for (size_t s = 0; s < steps.size(); ++s) {
      const PlanStep& from = plan->impl().steps[s];
      for (size_t i = 0; i < from.inputs.size(); ++i)
        if (from.inputs[i].kind == Place::kArena) steps[s].inputs[i] = base + from.inputs[i].at;
      for (size_t i = 0; i < from.outputs.size(); ++i)
        if (from.outputs[i].kind == Place::kArena) steps[s].outputs[i] = base + from.outputs[i].at;
    }
  }

  static Dims input_dims(const PlanStep& step, size_t i) {
    return step.graph.value(step_node(step.graph).inputs[i]).shape.to_dims();
  }

  void bind(std::span<const void* const> inputs, std::span<void* const> outputs) {
    SLIPWAY_CHECK(inputs.size() == plan->inputs().size() && outputs.size() == plan->outputs().size());
    place();
    for (const Patch& p : input_patches) steps[p.step].inputs[p.operand] = inputs[p.port];
    for (const Patch& p : output_reads) steps[p.step].inputs[p.operand] = outputs[p.port];
    for (const Patch& p : output_patches) steps[p.step].outputs[p.operand] = outputs[p.port];
    special = false;
  }

  void run_step(size_t s) {
    for (const Guard& guard : steps[s].guards)
      special = special || !all_within(static_cast<const float*>(steps[s].inputs[static_cast<size_t>(guard.input)]),
                                       guard.count, kGuardMagnitude, plan->threads());
    const KernelArgs args{steps[s].inputs.data(), steps[s].outputs.data(), base + scratch_at(),
                          steps[s].state.get(),   plan->threads(),         special || plan->impl().steps[s].faithful};
    plan->impl().steps[s].kernel->run(args);
  }

  std::shared_ptr<const Plan> plan;
  std::shared_ptr<Arena> arena;
  std::byte* base = nullptr;  ///< arena->data() when the steps were placed
  std::vector<Step> steps;
  std::vector<Patch> input_patches, output_reads, output_patches;
  bool special = false;  ///< a guard of this run failed
};

namespace {

void require_match(const Plan& plan, std::span<const Tensor> inputs) {
  if (inputs.size() != plan.inputs().size())
    fail(ErrorCode::kInvalidArgument, "The model takes {} inputs; {} were given", plan.inputs().size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const PortInfo& port = plan.inputs()[i];
    if (inputs[i].dtype() != port.dtype || inputs[i].dims() != port.dims)
      fail(ErrorCode::kInvalidArgument, "An input does not match the plan; give '{}' as {}{}, not {}{}", port.name,
           to_string(port.dtype), to_string(port.dims), to_string(inputs[i].dtype()), to_string(inputs[i].dims()));
  }
}

std::vector<Tensor> make_outputs(const Plan& plan) {
  std::vector<Tensor> outputs;
  for (const PortInfo& port : plan.outputs()) outputs.emplace_back(port.dtype, port.dims);
  return outputs;
}

}  // namespace

void Arena::reserve(size_t bytes) {
  if (bytes <= bytes_ && data_ != nullptr) return;
  data_ = nullptr;  // never both at a time
  bytes_ = 0;
  data_ = allocate_aligned(bytes);
  bytes_ = bytes;
}

Session::Session(std::shared_ptr<const Plan> plan, std::shared_ptr<Arena> arena)
    : impl_(std::make_unique<Impl>(std::move(plan), std::move(arena))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const Plan& Session::plan() const { return *impl_->plan; }

void Session::run(std::span<const void* const> inputs, std::span<void* const> outputs) {
  set_thread_count(impl_->plan->threads());
  impl_->bind(inputs, outputs);
  for (size_t s = 0; s < impl_->steps.size(); ++s) impl_->run_step(s);
}

std::vector<Tensor> Session::run(std::span<const Tensor> inputs) { return run_observed(inputs, {}); }

std::vector<Tensor> Session::run_observed(std::span<const Tensor> inputs, const Observer& observe) {
  require_match(plan(), inputs);
  std::vector<Tensor> outputs = make_outputs(plan());
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const Tensor& t : inputs) in.push_back(t.raw());
  for (Tensor& t : outputs) out.push_back(t.mutable_raw());
  if (!observe) {
    run(in, out);
    return outputs;
  }
  set_thread_count(plan().threads());
  impl_->bind(in, out);
  for (size_t s = 0; s < impl_->steps.size(); ++s) {
    impl_->run_step(s);
    const PlanStep& step = plan().impl().steps[s];
    if (step.candidate.tactic == "layout") continue;
    const Node& node = step_node(step.graph);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const Value& v = step.graph.value(node.outputs[i]);
      Tensor plain(v.dtype, v.shape.to_dims());
      if (plain.bytes() > 0)
        convert_layout(step.candidate.outputs[i], impl_->steps[s].outputs[i], Layout::kPlain, plain.mutable_raw(),
                       v.dtype, plain.dims(), plan().threads());
      observe(v.name, plain);
    }
  }
  return outputs;
}

}  // namespace slipway
