// A plan as JSON and back. What is read is untrusted: every place is checked against the buffers, every node against
// its operator, every constant against what the kernels, created anew, need. Which tensors a run must measure (guards)
// is taken as it stands: it follows from the weights as they were before packing, and whoever could change it could
// change the weights.
#include "engine/plan_record.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/lower/step_graph.h"
#include "engine/plan_impl.h"
#include "model/infer.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 40;

json to_json(const std::vector<PortInfo>& ports) {
  json list = json::array();
  for (const PortInfo& port : ports)
    list.push_back({{"name", port.name}, {"dtype", to_string(port.dtype)}, {"dims", port.dims}});
  return list;
}

std::vector<PortInfo> ports_from(const json& list) {
  std::vector<PortInfo> ports;
  for (const json& item : list) {
    PortInfo port{item.at("name"), parse_dtype(item.at("dtype").get<std::string>()), item.at("dims")};
    element_count(port.dims);
    ports.push_back(std::move(port));
  }
  return ports;
}

json to_json(const std::vector<Place>& places) {
  json list = json::array();
  for (const Place& place : places) list.push_back({static_cast<int>(place.kind), place.at});
  return list;
}

std::vector<Layout> layouts_from(const json& list) {
  std::vector<Layout> layouts;
  for (const json& item : list) layouts.push_back(parse_layout(item.get<std::string>()));
  return layouts;
}

json to_json(const std::vector<Layout>& layouts) {
  json list = json::array();
  for (Layout layout : layouts) list.push_back(to_string(layout));
  return list;
}

// Places, each checked to hold the value's bytes: in the arena, or as the whole of a port.
std::vector<Place> places_from(const json& list, std::span<const ValueId> values, std::span<const Layout> layouts,
                               const Graph& graph, const Plan::Impl& plan) {
  std::vector<Place> places;
  for (size_t i = 0; i < list.size(); ++i) {
    const int kind = list[i].at(0);
    const Place place{static_cast<Place::Kind>(kind), list[i].at(1)};
    if (kind < Place::kNone || kind > Place::kOutput || i >= values.size())
      fail(ErrorCode::kInvalidModel, "a place is out of range");
    if (place.kind != Place::kNone) {
      if (values[i] == kNoValue) fail(ErrorCode::kInvalidModel, "a place without a value");
      const Value& v = graph.value(values[i]);
      if (!v.shape.is_static() || bits_of(v.dtype) == 0)
        fail(ErrorCode::kInvalidModel, "a step's value has no fixed shape");
      const Layout layout = i < layouts.size() ? layouts[i] : Layout::kPlain;
      const Dims dims = v.shape.to_dims();
      if (!layout_fits(layout, dims)) fail(ErrorCode::kInvalidModel, "a layout does not fit its value");
      const uint64_t bytes = layout_bytes(layout, v.dtype, dims);
      const auto& ports = place.kind == Place::kInput ? plan.inputs : plan.outputs;
      const uint64_t room =
          place.kind == Place::kArena ? (place.at > plan.memory.arena_bytes ? 0 : plan.memory.arena_bytes - place.at)
          : place.at >= ports.size()  ? 0
                                      : bytes_of(ports[place.at].dtype, element_count(ports[place.at].dims));
      if (bytes > room) fail(ErrorCode::kInvalidModel, "a step reaches outside its buffers");
      if (place.kind == Place::kArena && place.at % kAlignment != 0)
        fail(ErrorCode::kInvalidModel, "a step's buffer is not aligned");
    }
    places.push_back(place);
  }
  if (places.size() != values.size()) fail(ErrorCode::kInvalidModel, "a step's operands are incomplete");
  return places;
}

// The node must be one that its operator allows, with the outputs that follow from its inputs.
void require_sound(const Graph& graph, const Node& node) {
  verify(graph);
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (!v.shape.is_static() || bits_of(v.dtype) == 0)
      fail(ErrorCode::kInvalidModel, "a step's value has no fixed shape");
    element_count(v.shape.to_dims());
  }
  Graph inferred = graph;
  for (ValueId id : node.outputs)
    if (id != kNoValue) inferred.set_type(id, DType::kUndefined, Shape());
  infer_shapes(inferred);
  for (ValueId id : node.outputs) {
    if (id == kNoValue) continue;
    const Value &said = graph.value(id), &follows = inferred.value(id);
    bool fits = !follows.shape.has_rank() || follows.shape.rank() == said.shape.rank();
    for (size_t i = 0; fits && i < follows.shape.rank(); ++i)
      fits = !follows.shape[i].is_known() || follows.shape[i] == said.shape[i];
    if (!fits || (follows.dtype != DType::kUndefined && present_of(follows.dtype) != said.dtype))
      fail(ErrorCode::kInvalidModel, "a step's output does not follow from its inputs");
  }
}

// A kernel reads at run time what is no constant, and convolutions have weights and bias packed.
void require_constants_fit(const PlanStep& step, const Node& node) {
  const LowerContext context{step.graph, node, 1, step.constant_inputs};
  const std::string& name = step.candidate.tactic;
  bool fits = !misplaced_constant(tactic_named(name), context);
  if (name == "onednn_conv" || name == "onednn_deconv" || name == "int8_conv")
    fits = fits && context.is_constant(1) && context.is_constant(2) == node.has_input(2);
  if (!fits) fail(ErrorCode::kInvalidModel, "a step's constants are not those that its kernel has");
}

PlanStep step_from(const json& item, const PlanFile& file, Plan::Impl& plan) {
  PlanStep step;
  step.graph = parse_text(item.at("node").get<std::string>());
  const Node& node = step_node(step.graph);
  step.candidate = {.tactic = item.at("tactic"),
                    .variant = item.at("variant"),
                    .inputs = layouts_from(item.at("in")),
                    .outputs = layouts_from(item.at("out"))};
  step.candidate.inplace_input = item.at("inplace");
  step.candidate.view = item.at("view");
  step.constant_inputs = item.at("constants").get<std::vector<bool>>();
  step.time_us = item.at("time_us");
  std::vector<ValueId> operands = node.inputs;
  operands.insert(operands.end(), node.captures.begin(), node.captures.end());
  if (step.constant_inputs.size() != operands.size() || step.candidate.outputs.size() != node.outputs.size() ||
      step.candidate.inputs.size() != node.inputs.size() || node.outputs.empty() ||
      step.candidate.inplace_input >= static_cast<int>(operands.size()))
    fail(ErrorCode::kInvalidModel, "a step's operands are incomplete");
  require_sound(step.graph, node);
  require_constants_fit(step, node);
  step.inputs = places_from(item.at("reads"), operands, step.candidate.inputs, step.graph, plan);
  step.outputs = places_from(item.at("writes"), node.outputs, step.candidate.outputs, step.graph, plan);
  for (size_t i = 0; i < node.outputs.size(); ++i)
    if (step.outputs[i].kind == Place::kInput ||
        (step.outputs[i].kind == Place::kNone) != (node.outputs[i] == kNoValue))
      fail(ErrorCode::kInvalidModel, "a step writes to an input or nowhere");
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i] != kNoValue && (step.inputs[i].kind == Place::kNone) != step.constant_inputs[i])
      fail(ErrorCode::kInvalidModel, "a step's input has no place");
  step.guards = item.at("guards").get<std::vector<int>>();
  step.faithful = item.at("faithful");
  for (int i : step.guards)
    if (i < 0 || static_cast<size_t>(i) >= node.inputs.size() ||
        step.inputs[static_cast<size_t>(i)].kind == Place::kNone ||
        step.graph.value(node.inputs[static_cast<size_t>(i)]).dtype != DType::kFloat32)
      fail(ErrorCode::kInvalidModel, "a step's guard has nothing to measure");
  for (const json& number : item.at("blobs")) {
    const Blob& blob = plan.owned.emplace_back(file.blob(number));
    step.blobs.emplace_back(blob.data.get(), blob.bytes);
    plan.memory.weight_bytes += blob.bytes;
  }
  return step;
}

}  // namespace

json plan_record(const Plan& plan, BlobTable& blobs) {
  const Plan::Impl& p = plan.impl();
  json steps = json::array();
  for (const PlanStep& step : p.steps) {
    json numbers = json::array();
    for (const BlobView blob : step.blobs) numbers.push_back(blobs.add(blob));
    steps.push_back({{"node", to_text(step.graph)},
                     {"tactic", step.candidate.tactic},
                     {"variant", step.candidate.variant},
                     {"in", to_json(step.candidate.inputs)},
                     {"out", to_json(step.candidate.outputs)},
                     {"inplace", step.candidate.inplace_input},
                     {"view", step.candidate.view},
                     {"constants", step.constant_inputs},
                     {"reads", to_json(step.inputs)},
                     {"writes", to_json(step.outputs)},
                     {"guards", step.guards},
                     {"faithful", step.faithful},
                     {"blobs", std::move(numbers)},
                     {"time_us", step.time_us}});
  }
  return {{"inputs", to_json(p.inputs)},
          {"outputs", to_json(p.outputs)},
          {"arena_bytes", p.memory.arena_bytes},
          {"lower_bound_bytes", p.memory.lower_bound_bytes},
          {"unshared_bytes", p.memory.unshared_bytes},
          {"steps", std::move(steps)}};
}

std::shared_ptr<const Plan> plan_from(const json& record, const PlanFile& file) {
  auto impl = std::make_unique<Plan::Impl>();
  impl->threads = file.threads();
  impl->cpu = file.cpu();
  impl->onednn = onednn_version();
  impl->file_digest = file.digest();
  impl->inputs = ports_from(record.at("inputs"));
  impl->outputs = ports_from(record.at("outputs"));
  impl->memory.arena_bytes = record.at("arena_bytes");
  impl->memory.lower_bound_bytes = record.at("lower_bound_bytes");
  impl->memory.unshared_bytes = record.at("unshared_bytes");
  if (impl->memory.arena_bytes > kMaxArenaBytes) fail(ErrorCode::kInvalidModel, "an absurd arena");
  set_thread_count(impl->threads);
  for (const json& item : record.at("steps")) impl->steps.push_back(step_from(item, file, *impl));
  impl->create_kernels();
  return std::make_shared<const Plan>(std::move(impl));
}

}  // namespace slipway
