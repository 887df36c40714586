// What a Plan says of itself, and its kernels made from steps.
#include "engine/plan.h"

#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "engine/lower/step_graph.h"
#include "engine/plan_impl.h"
#include "model/op.h"

namespace slipway {

Plan::Plan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Plan::~Plan() = default;

void Plan::Impl::create_kernels() {
  memory.scratch_bytes = 0;
  for (PlanStep& step : steps) {
    const LowerContext context{step.graph, step_node(step.graph), threads, step.constant_inputs};
    step.kernel = tactic_named(step.candidate.tactic).create(context, step.candidate, step.blobs);
    memory.scratch_bytes = std::max<uint64_t>(memory.scratch_bytes, step.kernel->scratch_bytes());
  }
}

const std::vector<PortInfo>& Plan::inputs() const { return impl_->inputs; }
const std::vector<PortInfo>& Plan::outputs() const { return impl_->outputs; }
MemoryInfo Plan::memory() const { return impl_->memory; }
int Plan::threads() const { return impl_->threads; }
std::string Plan::cpu() const { return impl_->cpu; }

std::vector<StepInfo> Plan::steps() const {
  std::vector<StepInfo> infos;
  for (const PlanStep& step : impl_->steps) {
    const Node& node = step_node(step.graph);
    const Candidate& c = step.candidate;
    StepInfo info;
    info.op = c.tactic == "layout" ? "layout" : node.domain.empty() ? node.op_type : node.domain + "." + node.op_type;
    for (ValueId id : node.outputs)
      if (id != kNoValue && info.name.empty()) info.name = step.graph.value(id).name;
    info.origins = node.origins;
    info.tactic = c.variant.empty() ? c.tactic : c.tactic + " " + c.variant.substr(0, c.variant.find('|'));
    info.layouts = fmt::format("{} -> {}", c.inputs.empty() ? "" : to_string(c.inputs[0]),
                               c.outputs.empty() ? "" : to_string(c.outputs[0]));
    info.time_us = step.time_us;
    info.guards = static_cast<int>(step.guards.size());
    info.faithful = step.faithful;
    info.candidates = step.candidates;
    infos.push_back(std::move(info));
  }
  return infos;
}

std::string Plan::choices_digest() const {
  Sha256 hash;
  hash.add(fmt::format("threads {} cpu {} onednn {}\n", impl_->threads, impl_->cpu, impl_->onednn));
  for (const PlanStep& step : impl_->steps) {
    const Node& node = step_node(step.graph);
    hash.add(fmt::format("{} {} {}", node.op_type, step.candidate.tactic, step.candidate.variant));
    for (Layout layout : step.candidate.inputs) hash.add(to_string(layout));
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue) hash.add(to_string(step.graph.value(node.outputs[i]).shape));
  }
  return hash.hex();
}

namespace {

/// Whether weighted steps compute on integers, and on floats.
struct Weighted {
  bool integer = false, real = false;

  void add(const Plan::Impl& plan) {
    for (const PlanStep& step : plan.steps) {
      const Node& node = step_node(step.graph);
      const OpSpec* spec = find_op(step.graph, node);
      if (spec == nullptr || !spec->has(kWeighted)) continue;
      (is_float(step.graph.value(node.inputs[0]).dtype) ? real : integer) = true;
    }
  }
  std::string text() const { return integer && real ? "mixed" : integer ? "int8" : "fp32"; }
};

}  // namespace

std::string Plan::precision() const {
  Weighted weighted;
  weighted.add(*impl_);
  return weighted.text();
}

uint64_t weight_bytes_of(std::span<const std::shared_ptr<const Plan>> plans) {
  std::set<const void*> counted;
  uint64_t bytes = 0;
  for (const auto& plan : plans)
    for (const Blob& blob : plan->impl().owned)
      if (blob.bytes > 0 && counted.insert(blob.data.get()).second) bytes += blob.bytes;
  return bytes;
}

std::string precision_of(std::span<const std::shared_ptr<const Plan>> plans) {
  Weighted weighted;
  for (const auto& plan : plans) weighted.add(plan->impl());
  return weighted.text();
}

}  // namespace slipway
