// slipway inspect: what a model or plan is made of; with --why, the candidates of one node and their times.
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/visible.h"
#include "cli/cli.h"
#include "engine/passes/pipeline.h"
#include "engine/program.h"
#include "model/infer.h"
#include "model/op.h"
#include "model/rows.h"
#include "verify/measure.h"

namespace slipway {
namespace {

using nlohmann::json;

struct InspectFlags {
  std::string model, why;
  std::vector<std::string> dims;
  int64_t batch = 1;
  bool batch_given = false;
  int threads = 1;
  bool json = false, text = false, optimized = false, steps = false;
};

std::string port_text(const Graph& graph, ValueId id) {
  const Value& v = graph.value(id);
  return fmt::format("{} {}{}", visible(v.name), to_string(v.dtype), to_string(v.shape));
}

/// "axis 0 of 'x', axis 1 of 'state'; 'sr' is the same for all".
std::string row_axes(const Graph& graph, const RowIndependence& rows) {
  std::string along, shared;
  const auto add = [&](const std::vector<ValueId>& ids, const std::vector<int>& axes) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::string name = visible(graph.value(ids[i]).name);
      if (axes[i] >= 0)
        along += fmt::format("{}axis {} of '{}'", along.empty() ? "" : ", ", axes[i], name);
      else
        shared += fmt::format("; '{}' is the same for all", name);
    }
  };
  add(graph.inputs(), rows.inputs);
  add(graph.outputs(), rows.outputs);
  return along + shared;
}

json why_json(const StepInfo& step) {
  json candidates = json::array();
  for (const CandidateInfo& c : step.candidates)
    candidates.push_back({{"tactic", c.tactic},
                          {"layouts", c.layouts},
                          {"time_us", c.time_us},
                          {"rejected", c.rejected},
                          {"chosen", c.chosen}});
  return {{"step", step.name}, {"op", step.op}, {"origins", step.origins}, {"candidates", candidates}};
}

bool stands_for(const StepInfo& step, const std::string& name) {
  return step.name == name || std::find(step.origins.begin(), step.origins.end(), name) != step.origins.end();
}

/// The model, ready at the shapes that are asked for.
std::shared_ptr<const Program> compiled(const InspectFlags& o, const Graph& graph) {
  Graph bound = graph;
  bind_batch(bound, o.batch, parse_dims(o.dims));
  const auto program = compiled_backend().make(
      graph, {.threads = o.threads, .tune = true, .timing_cache = default_timing_cache(), .quiet = o.json});
  const std::vector<Tensor> example = random_inputs(bound);
  prepare_wholly(*program, {&example, 1});
  return program;
}

void explain(const InspectFlags& o, const Graph& graph) {
  bool found = false;
  std::vector<StepInfo> steps;
  for (const auto& plan : plans_of(*compiled(o, graph)))
    for (StepInfo& step : plan->steps()) steps.push_back(std::move(step));
  for (const StepInfo& step : steps) {
    if (!stands_for(step, o.why) || step.op == "layout") continue;
    found = true;
    if (o.json) {
      print_json(why_json(step));
      continue;
    }
    std::string origins;
    for (const std::string& origin : step.origins) origins += " " + origin;
    fmt::print("{} makes '{}'; it stands for:{}\n", step.op, step.name, origins);
    Table table({"", "candidate", "layouts", "us", "why not"});
    for (const CandidateInfo& c : step.candidates)
      table.add({c.chosen ? "*" : "", c.tactic, c.layouts, c.time_us > 0 ? fmt::format("{:.1f}", c.time_us) : "",
                 c.rejected});
    table.print();
    fmt::print("\n");
  }
  if (!found)
    fail(ErrorCode::kNotFound,
         "No step of the optimised model stands for this node; `slipway inspect {} --steps` lists them: '{}'", o.model,
         o.why);
}

json steps_json(const Plan& plan) {
  json steps = json::array();
  for (const StepInfo& s : plan.steps())
    steps.push_back({{"op", s.op},
                     {"value", s.name},
                     {"tactic", s.tactic},
                     {"layouts", s.layouts},
                     {"time_us", s.time_us},
                     {"origins", s.origins}});
  return {{"steps", steps}, {"choices_digest", plan.choices_digest()}};
}

void print_steps(const Plan& plan) {
  Table table({"op", "value", "tactic", "layouts", "us"});
  for (const StepInfo& s : plan.steps())
    table.add({s.op, s.name, s.tactic, s.layouts, s.time_us > 0 ? fmt::format("{:.1f}", s.time_us) : ""});
  table.print();
  const MemoryInfo m = plan.memory();
  fmt::print("\nactivations {} (lower bound {}, without reuse {}), scratch {}, packed weights {}\n",
             human_bytes(static_cast<double>(m.arena_bytes)), human_bytes(static_cast<double>(m.lower_bound_bytes)),
             human_bytes(static_cast<double>(m.unshared_bytes)), human_bytes(static_cast<double>(m.scratch_bytes)),
             human_bytes(static_cast<double>(m.weight_bytes)));
}

struct Row {
  size_t count = 0;
  double flops = 0;
};

/// The plans of every combination of shapes that a program has ready.
void print_steps(const InspectFlags& o, const Program& program) {
  json list = json::array();
  for (const PreparedShape& shape : program.prepared()) {
    json plans = json::array();
    for (const auto& plan : shape.plans) plans.push_back(steps_json(*plan));
    list.push_back({{"inputs", shape.inputs}, {"plans", std::move(plans)}, {"interpreted", shape.interpreted}});
    if (o.json) continue;
    std::string inputs;
    for (size_t i = 0; i < shape.inputs.size(); ++i)
      inputs += fmt::format(" {}{}", visible(program.ports().inputs[i].name), to_string(shape.inputs[i]));
    fmt::print("{}with{}\n", list.size() == 1 ? "" : "\n", inputs);
    for (const auto& plan : shape.plans) print_steps(*plan);
    if (!shape.interpreted.empty()) fmt::print("interpreted: {}\n", fmt::join(shape.interpreted, ", "));
  }
  if (o.json)
    print_json(list.size() == 1 && list[0]["plans"].size() == 1 ? list[0]["plans"][0] : json{{"shapes", list}});
}

// What a plan file was built for; null for a model.
json plan_json(const InspectFlags& o) {
  if (!Plan::is_plan_file(o.model)) return nullptr;
  const PlanShapes held = shapes_of_plan(o.model);
  json shapes = json::array();
  for (const std::vector<PortInfo>& inputs : held.shapes) {
    json& shape = shapes.emplace_back(json::object());
    for (const PortInfo& port : inputs) shape[port.name] = port.dims;
  }
  return {{"threads", held.threads}, {"shapes", std::move(shapes)}};
}

void run_inspect(const InspectFlags& o) {
  if (o.steps && Plan::is_plan_file(o.model)) return print_steps(o, *open_program(o.model));
  Graph graph = load_model(o.model);
  int64_t batch = o.batch;
  if (Plan::is_plan_file(o.model)) {  // the model inside, at the shapes of the plan's that come first
    const auto program = open_program(o.model);
    const std::vector<PreparedShape> shapes = program->prepared();
    std::vector<Tensor> inputs;
    for (const ModelPort& port : program->ports().inputs)
      if (!shapes.empty() && is_tensor(port.dtype)) inputs.emplace_back(port.dtype, shapes[0].inputs[inputs.size()]);
    if (inputs.size() == graph.inputs().size()) bind_inputs(graph, inputs);
    if (!o.batch_given && !inputs.empty() && inputs[0].rank() > 0) batch = inputs[0].dims()[0];
  }
  if (!o.why.empty()) return explain(o, graph);
  if (o.steps) return print_steps(o, *compiled(o, graph));
  if (o.optimized) run_passes(graph, {.standard_onnx = true});
  if (o.text) {
    fmt::print("{}", to_text(graph, {.elide = true}));
    return;
  }
  Graph bound = graph;
  std::string free_dims;
  try {
    bind_batch(bound, batch, parse_dims(o.dims));
  } catch (const Error& error) {
    const bool unbound = error.code() == ErrorCode::kInvalidArgument || error.code() == ErrorCode::kUnsupported;
    if (!unbound || o.batch_given || !o.dims.empty()) throw;
    free_dims = error.what();
  }
  std::map<std::string, Row> rows;
  double flops = 0, parameters = 0, weight_bytes = 0;
  size_t nodes = 0;
  bool bodies = false;
  const std::function<void(const Graph&, bool)> count = [&](const Graph& g, bool inside) {
    for (NodeId id : g.topological_order()) {
      const Node& node = g.node(id);
      Row& row = rows[node.domain.empty() ? node.op_type : node.domain + "." + node.op_type];
      ++row.count;
      ++nodes;
      const double work = inside ? 0 : cost_of(g, node).flops;  // of a body nobody knows how often it runs
      row.flops += work;
      flops += work;
      for (const auto& [name, attribute] : node.attributes)
        if (const GraphPtr* body = std::get_if<GraphPtr>(&attribute); body != nullptr && *body != nullptr) {
          bodies = true;
          count(**body, true);
        }
    }
    for (ValueId id = 0; id < g.value_limit(); ++id)
      if (const Value& v = g.value(id); v.alive && v.is_constant() && !v.uses.empty()) {
        parameters += static_cast<double>(v.constant->elements());
        weight_bytes += static_cast<double>(v.constant->bytes());
      }
  };
  count(bound, false);
  const RowIndependence independence = find_row_independence(graph);
  if (o.json) {
    json ops = json::object(), inputs = json::array(), outputs = json::array();
    for (const auto& [name, row] : rows) ops[name] = {{"count", row.count}, {"flops", row.flops}};
    for (ValueId id : graph.inputs())
      inputs.push_back({{"name", graph.value(id).name},
                        {"dtype", to_string(graph.value(id).dtype)},
                        {"shape", to_string(graph.value(id).shape)}});
    for (ValueId id : graph.outputs())
      outputs.push_back({{"name", graph.value(id).name},
                         {"dtype", to_string(graph.value(id).dtype)},
                         {"shape", to_string(graph.value(id).shape)}});
    print_json({{"model", o.model},
                {"ir_version", graph.ir_version},
                {"opset", graph.opset()},
                {"producer", graph.producer_name},
                {"inputs", inputs},
                {"outputs", outputs},
                {"nodes", nodes},
                {"ops", ops},
                {"parameters", parameters},
                {"weight_bytes", weight_bytes},
                {"flops", flops},
                {"batch", batch},
                {"rows",
                 {{"independent", independence.proven},
                  {"reason", independence.reason},
                  {"input_axes", independence.inputs},
                  {"output_axes", independence.outputs}}},
                {"plan", plan_json(o)},
                {"file_bytes", model_bytes(o.model)},
                {"metadata", graph.metadata}});
    return;
  }
  fmt::print(
      "{}: {}, opset {}, IR {}{}\n", o.model, human_bytes(static_cast<double>(model_bytes(o.model))), graph.opset(),
      graph.ir_version,
      graph.producer_name.empty() ? "" : visible(", from " + graph.producer_name + " " + graph.producer_version));
  if (Plan::is_plan_file(o.model)) {
    const PlanShapes held = shapes_of_plan(o.model);
    fmt::print("  a plan for {} thread{}; below is the model in it, at the first of these shapes\n", held.threads,
               held.threads == 1 ? "" : "s");
    for (const std::vector<PortInfo>& inputs : held.shapes) {
      std::string text;
      for (const PortInfo& port : inputs) text += fmt::format(" {}{}", visible(port.name), to_string(port.dims));
      fmt::print("  ready  {}\n", text);
    }
  }
  for (ValueId id : graph.inputs()) fmt::print("  input   {}\n", port_text(graph, id));
  for (ValueId id : graph.outputs()) fmt::print("  output  {}\n", port_text(graph, id));
  for (const auto& [key, text] : graph.metadata) fmt::print("  carries {} ({} bytes)\n", visible(key), text.size());
  const bool free_batch = std::none_of(graph.inputs().begin(), graph.inputs().end(), [&](ValueId id) {
    const Shape& shape = graph.value(id).shape;
    return shape.rank() == 0 || shape[0].is_known();
  });
  if (independence.proven && !independence.along_first())
    fmt::print("  rows    independent along {} (batchable)\n", row_axes(graph, independence));
  else if (independence.proven)
    fmt::print(
        "  rows    independent{}\n",
        free_batch ? " (batchable)" : ", but their number is fixed; export a free first axis to have requests batched");
  else
    fmt::print("  rows    not proven independent: {}; requests are not batched\n", independence.reason);
  fmt::print("  {} nodes, {} parameters in {}, {}{}\n\n", nodes, human_count(parameters), human_bytes(weight_bytes),
             free_dims.empty() || flops > 0 ? fmt::format("{}FLOP at batch {}", human_count(flops), batch)
                                            : "operations unknown without its sizes",
             bodies ? " apart from those in the bodies of If, Loop and Scan" : "");
  Table table({"operator", "count", "FLOP", "share"});
  for (const auto& [name, row] : rows)
    table.add({name, std::to_string(row.count), row.flops > 0 ? human_count(row.flops) : "",
               flops > 0 && row.flops > 0 ? fmt::format("{:.1f} %", 100 * row.flops / flops) : ""});
  table.print();
  if (!free_dims.empty()) fmt::print("\nSizes are counted as far as known. {}\n", free_dims);
}

}  // namespace

void add_inspect(Cli& cli) {
  auto o = std::make_shared<InspectFlags>();
  CLI::App* verb =
      add_verb(cli, "inspect", "Show what a model or plan is made of",
               "  slipway inspect model.onnx\n"
               "  slipway inspect model.onnx --why layer1/conv     the candidates of one node and their times\n"
               "  slipway inspect model.plan --steps               the steps, their tactics, times and memory",
               o->json);
  verb->add_option("model", o->model, "ONNX file or plan")->required();
  verb->add_option("--why", o->why, "Print the candidates of the step that stands for this node (or makes this value)");
  verb->add_flag("--steps", o->steps, "Print the steps of the plan (of an ONNX file: build one)");
  verb->add_flag("--text", o->text, "Print the graph's text form, large constants left out");
  verb->add_flag("--optimized", o->optimized, "Run the ONNX passes first");
  CLI::Option* batch = verb->add_option("--batch", o->batch, "Samples a run")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads a run (with --why and --steps)")->capture_default_str();
  verb->add_option("--dim", o->dims, "Size of another free dimension, NAME=SIZE (repeatable)");
  verb->callback([=] {
    o->batch_given = batch->count() > 0;
    run_inspect(*o);
  });
}

}  // namespace slipway
