// A compiled program in a plan file (plan_file.h). In its JSON,
//
//   program = {ports, shapes}                     the model's; what else it may need is in the model beside it
//   shape   = {inputs, slots, outputs, stages}    one combination of input shapes
//   stage   = {reads, makes, done} and one of
//             {plan}                              plan_record.h
//             {node, bodies: [{attribute, captured, program: part}]}
//             {remainder: part}
//   part    = {graph, shapes}
//
// Graphs are text, with all but small constants among the blobs. The text is untrusted: every slot is checked to hold a
// value when it is read, every graph to be one that its operators allow; what flows between stages is checked at run
// time, as a stranger's inputs are.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/compiled_program.h"
#include "engine/lower/step_graph.h"
#include "engine/plan_file.h"
#include "engine/plan_impl.h"
#include "engine/plan_record.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr size_t kMaxSlots = size_t{1} << 24;

json to_json(const Shape& shape) {
  if (!shape.has_rank()) return nullptr;
  json dims = json::array();
  for (const Dim& d : shape.dims())
    dims.push_back(d.is_known() ? json(d.value()) : d.is_symbol() ? json(d.symbol()) : json());
  return dims;
}

Shape shape_from(const json& j) {
  if (j.is_null()) return Shape();
  std::vector<Dim> dims;
  for (const json& d : j) {
    if (d.is_number() && d.get<int64_t>() < 0) fail(ErrorCode::kInvalidModel, "a negative dimension");
    dims.push_back(d.is_null() ? Dim() : d.is_string() ? Dim(d.get<std::string>()) : Dim(d.get<int64_t>()));
  }
  return Shape(std::move(dims));
}

json to_json(const ModelPorts& ports) {
  const auto list = [](const std::vector<ModelPort>& of) {
    json j = json::array();
    for (const ModelPort& port : of)
      j.push_back({{"name", port.name}, {"dtype", to_string(port.dtype)}, {"shape", to_json(port.shape)}});
    return j;
  };
  return {{"inputs", list(ports.inputs)}, {"outputs", list(ports.outputs)}, {"metadata", ports.metadata}};
}

ModelPorts model_ports_from(const json& j) {
  const auto list = [](const json& of) {
    std::vector<ModelPort> ports;
    for (const json& item : of)
      ports.push_back(
          {item.at("name"), parse_dtype(item.at("dtype").get<std::string>()), shape_from(item.at("shape"))});
    return ports;
  };
  return {list(j.at("inputs")), list(j.at("outputs")),
          j.at("metadata").get<std::map<std::string, std::string, std::less<>>>()};
}

/// Programs to JSON, their weights and constants to a table.
class ProgramWriter {
 public:
  json shapes(const CompiledProgram& program) {
    json list = json::array();
    const auto ready = program.ready();
    for (auto entry = ready.rbegin(); entry != ready.rend(); ++entry)
      list.push_back(shape(**entry));  // first ones first
    return list;
  }

  BlobTable blobs;

 private:
  json shape(const Prepared& prepared) {
    json inputs = json::array(), stages = json::array();
    for (size_t i = 0; i < prepared.signature.dims.size(); ++i)
      inputs.push_back({{"dtype", to_string(prepared.signature.dtypes[i])}, {"dims", prepared.signature.dims[i]}});
    for (const PreparedStage& s : prepared.stages) stages.push_back(stage(s));
    return {{"inputs", std::move(inputs)},
            {"slots", prepared.slots},
            {"outputs", prepared.outputs},
            {"stages", std::move(stages)}};
  }

  json stage(const PreparedStage& stage) {
    json j = {{"reads", stage.reads}, {"makes", stage.makes}, {"done", stage.done}};
    if (stage.plan != nullptr) j["plan"] = plan_record(*stage.plan, blobs);
    if (stage.remainder != nullptr) j["remainder"] = part(*stage.remainder);
    if (stage.node == nullptr) return j;
    j["node"] = text(*stage.node);
    j["bodies"] = json::array();
    for (const Body& body : stage.bodies)
      j["bodies"].push_back(
          {{"attribute", body.attribute}, {"captured", body.captured}, {"program", part(*body.program)}});
    return j;
  }

  json part(const CompiledProgram& program) { return {{"graph", text(*program.graph())}, {"shapes", shapes(program)}}; }

  std::string text(const Graph& graph) {
    return to_text(graph, {.keep = [&](const Tensor& t) { return blobs.add({t.raw(), t.bytes()}); }});
  }
};

/// Programs from JSON.
class ProgramReader {
 public:
  ProgramReader(const PlanFile& file, ProgramOptions options, std::shared_ptr<WeightPool> weights)
      : file_(file), options_(std::move(options)), weights_(std::move(weights)) {}

  CompiledProgram::Entries shapes(const json& list, const ModelPorts& ports, int depth = 0) const {
    if (depth > kMaxSubgraphDepth) fail(ErrorCode::kInvalidModel, "parts are nested too deeply");
    CompiledProgram::Entries entries;
    for (const json& item : list) entries.push_back(shape(item, ports, depth));
    return entries;
  }

 private:
  std::shared_ptr<Prepared> shape(const json& j, const ModelPorts& ports, int depth) const {
    Signature signature;
    for (const json& input : j.at("inputs")) {
      signature.dtypes.push_back(parse_dtype(input.at("dtype").get<std::string>()));
      signature.dims.push_back(input.at("dims"));
      element_count(signature.dims.back());
    }
    auto prepared = std::make_shared<Prepared>(std::move(signature));
    prepared->slots = j.at("slots");
    prepared->outputs = j.at("outputs").get<std::vector<size_t>>();
    const size_t inputs = prepared->signature.dims.size();
    if (prepared->slots > kMaxSlots || inputs > prepared->slots || inputs != ports.inputs.size() ||
        prepared->outputs.size() != ports.outputs.size())
      fail(ErrorCode::kInvalidModel, "its inputs and outputs are not the model's");
    std::vector<bool> filled(prepared->slots, false);
    std::fill_n(filled.begin(), inputs, true);
    const auto fill = [&](const std::vector<size_t>& slots, bool before, bool after) {
      for (const size_t slot : slots) {
        if (slot >= filled.size() || filled[slot] != before) fail(ErrorCode::kInvalidModel, "a value is not there");
        filled[slot] = after;
      }
    };
    for (const json& item : j.at("stages")) {
      const PreparedStage& made = prepared->stages.emplace_back(stage(item, depth));
      fill(made.reads, true, true);
      fill(made.makes, false, true);
      fill(made.done, true, false);
    }
    fill(prepared->outputs, true, true);
    prepared->from_file = true;
    prepared->ready = true;
    return prepared;
  }

  PreparedStage stage(const json& j, int depth) const {
    PreparedStage stage{.reads = j.at("reads").get<std::vector<size_t>>(),
                        .makes = j.at("makes").get<std::vector<size_t>>(),
                        .done = j.at("done").get<std::vector<size_t>>()};
    const auto require_ports = [&](size_t reads, size_t makes) {
      if (reads != stage.reads.size() || makes != stage.makes.size())
        fail(ErrorCode::kInvalidModel, "a stage's operands are incomplete");
    };
    if (j.contains("plan")) {
      stage.plan = plan_from(j.at("plan"), file_);
      require_ports(stage.plan->inputs().size(), stage.plan->outputs().size());
    } else if (j.contains("remainder")) {
      stage.remainder = part(j.at("remainder"), depth);
      require_ports(stage.remainder->ports().inputs.size(), stage.remainder->ports().outputs.size());
    } else {
      Graph inferred = parsed(j.at("node").get<std::string>());
      infer_shapes(inferred);
      const auto graph = std::make_shared<const Graph>(std::move(inferred));
      require_ports(graph->inputs().size(), graph->outputs().size());
      const Node& node = step_node(*graph);
      for (const ValueId id : graph->outputs())
        if (graph->producer(id) == nullptr) fail(ErrorCode::kInvalidModel, "a node does not make what it should");
      for (const json& item : j.at("bodies")) stage.bodies.push_back(body(item, node, depth));
      for (const auto& [name, attribute] : node.attributes)
        if (std::holds_alternative<GraphPtr>(attribute) &&
            std::none_of(stage.bodies.begin(), stage.bodies.end(), [&](const Body& b) { return b.attribute == name; }))
          fail(ErrorCode::kInvalidModel, "a subgraph is missing");
      stage.node = graph;
    }
    return stage;
  }

  Body body(const json& j, const Node& node, int depth) const {
    Body body{.attribute = j.at("attribute"),
              .captured = j.at("captured").get<std::vector<size_t>>(),
              .program = part(j.at("program"), depth)};
    const auto it = node.attributes.find(body.attribute);
    const GraphPtr* graph = it == node.attributes.end() ? nullptr : std::get_if<GraphPtr>(&it->second);
    if (graph == nullptr || *graph == nullptr || body.program->ports().outputs.size() != (*graph)->outputs().size() ||
        std::any_of(body.captured.begin(), body.captured.end(), [&](size_t i) { return i >= node.captures.size(); }))
      fail(ErrorCode::kInvalidModel, "a subgraph is not the node's");
    return body;
  }

  // Its shapes are inferred where it is run: a branch that is not taken need not make sense for them.
  std::shared_ptr<const CompiledProgram> part(const json& j, int depth) const {
    Graph graph = parsed(j.at("graph").get<std::string>());
    CompiledProgram::Entries ready = shapes(j.at("shapes"), ports_of(graph), depth + 1);
    return std::make_shared<const CompiledProgram>(std::move(graph), options_, CompiledProgram::Part::kInner, weights_,
                                                   std::move(ready));
  }

  Graph parsed(const std::string& text) const {
    Graph graph = parse_text(text, [&](int64_t number, DType dtype, const Dims& dims) {
      const Blob& blob = file_.blob(number);
      if (dtype == DType::kString || blob.bytes != bytes_of(dtype, element_count(dims)))
        fail(ErrorCode::kInvalidModel, "a constant has not the size of its blob");
      const Tensor kept = Tensor::view(dtype, dims, blob.data.get(), blob.data);
      return dtype == DType::kBool ? cast(cast(kept, DType::kUint8), DType::kBool) : kept;
    });
    verify(graph);
    return graph;
  }

  const PlanFile& file_;
  const ProgramOptions options_;
  const std::shared_ptr<WeightPool> weights_;
};

/// Runs `read` on a file's JSON; what it finds wrong there is said of the file.
template <typename Read>
auto read_checked(const PlanFile& file, const Read& read) try {
  return read(file.program());
} catch (const json::exception& error) {
  file.fail_damaged(error.what());
} catch (const Error& error) {
  if (error.code() != ErrorCode::kInvalidModel) throw;
  file.fail_damaged(error.what());
}

}  // namespace

void save_program(const Program& program, const std::string& path) {
  const auto* compiled = dynamic_cast<const CompiledProgram*>(&program);
  if (compiled == nullptr || compiled->was_opened())
    fail(ErrorCode::kInvalidArgument, "Only what was compiled here can be saved as a plan; copy the file instead: {}",
         path);
  ProgramWriter writer;
  json shapes = writer.shapes(*compiled);
  write_plan_file(path, {{"ports", to_json(compiled->ports())}, {"shapes", std::move(shapes)}},
                  compiled->options().threads, writer.blobs, serialize_onnx(*compiled->graph()));
}

std::shared_ptr<const Program> open_program(const std::string& path, int64_t max_shapes) {
  const auto file = std::make_shared<PlanFile>(path);
  const auto weights = std::make_shared<WeightPool>();
  file->read(*weights);
  return read_checked(*file, [&](const json& program) {
    ModelPorts ports = model_ports_from(program.at("ports"));
    ProgramOptions options{.threads = file->threads(), .max_shapes = max_shapes};
    CompiledProgram::Entries ready = ProgramReader(*file, options, weights).shapes(program.at("shapes"), ports);
    options.max_shapes = std::max(max_shapes, static_cast<int64_t>(ready.size()));
    return std::make_shared<const CompiledProgram>(
        std::move(ports), [file] { return file->model(); }, std::move(options), weights, std::move(ready));
  });
}

std::string adopt_shapes(const Program& program, const std::string& path) {
  const auto* compiled = dynamic_cast<const CompiledProgram*>(&program);
  if (compiled == nullptr)
    fail(ErrorCode::kInvalidArgument, "Only a compiled program takes over what a plan file has ready: {}", path);
  PlanFile file(path);
  const auto alike = [](const std::vector<ModelPort>& a, const std::vector<ModelPort>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const ModelPort& x, const ModelPort& y) { return x.name == y.name && x.dtype == y.dtype; });
  };
  const ModelPorts ports = read_checked(file, [](const json& j) { return model_ports_from(j.at("ports")); });
  if (!alike(ports.inputs, program.ports().inputs) || !alike(ports.outputs, program.ports().outputs))
    fail(ErrorCode::kInvalidArgument, "The plan file is of another model: its inputs and outputs differ: {}", path);
  if (file.threads() != compiled->options().threads)
    fail(ErrorCode::kInvalidArgument, "The plan file is for {} threads, not for {}; build it anew: {}", file.threads(),
         compiled->options().threads, path);
  file.read(*compiled->weights());
  compiled->adopt(read_checked(file, [&](const json& j) {
    return ProgramReader(file, compiled->options(), compiled->weights()).shapes(j.at("shapes"), ports);
  }));
  return file.digest();
}

PlanShapes shapes_of_plan(const std::string& path) {
  const PlanFile file(path);
  PlanShapes result{.threads = file.threads(), .shapes = {}};
  return read_checked(file, [&](const json& program) {
    const ModelPorts ports = model_ports_from(program.at("ports"));
    for (const json& shape : program.at("shapes")) {
      std::vector<PortInfo>& inputs = result.shapes.emplace_back();
      for (const json& input : shape.at("inputs")) {
        if (inputs.size() == ports.inputs.size()) fail(ErrorCode::kInvalidModel, "its inputs are not the model's");
        inputs.push_back({ports.inputs[inputs.size()].name, parse_dtype(input.at("dtype").get<std::string>()),
                          input.at("dims").get<Dims>()});
        element_count(inputs.back().dims);
      }
      if (inputs.size() != ports.inputs.size()) fail(ErrorCode::kInvalidModel, "its inputs are not the model's");
    }
    return result;
  });
}

void Plan::save(const std::string& path) const {
  const Impl& p = *impl_;
  if (p.model.empty())
    fail(ErrorCode::kInvalidArgument,
         "An opened plan does not hold the model that it was built from; copy its file: {}", path);
  BlobTable blobs;
  json inputs = json::array(), reads = json::array(), makes = json::array();
  for (const PortInfo& port : p.inputs) {
    reads.push_back(inputs.size());
    inputs.push_back({{"dtype", to_string(port.dtype)}, {"dims", port.dims}});
  }
  for (size_t i = 0; i < p.outputs.size(); ++i) makes.push_back(inputs.size() + i);
  const json stage = {{"reads", reads}, {"makes", makes}, {"done", json::array()}, {"plan", plan_record(*this, blobs)}};
  const json shape = {{"inputs", inputs},
                      {"slots", inputs.size() + p.outputs.size()},
                      {"outputs", makes},
                      {"stages", json::array({stage})}};
  write_plan_file(path, {{"ports", to_json(p.ports)}, {"shapes", json::array({shape})}}, p.threads, blobs, p.model);
}

std::shared_ptr<const Plan> Plan::open(const std::string& path, std::shared_ptr<WeightPool> weights) {
  PlanFile file(path);
  if (weights == nullptr) weights = std::make_shared<WeightPool>();
  file.read(*weights);
  return read_checked(file, [&](const json& program) {
    const json& shapes = program.at("shapes");
    const auto has_one = [](const json& list) { return list.is_array() && list.size() == 1; };
    if (!has_one(shapes) || !has_one(shapes[0].at("stages")) || !shapes[0]["stages"][0].contains("plan"))
      fail(ErrorCode::kUnsupported,
           "The file holds more than one plan, where one is needed; build one for a single combination of shapes: {}",
           path);
    return plan_from(shapes[0]["stages"][0]["plan"], file);
  });
}

std::string file_digest(const Plan& plan) { return plan.impl().file_digest; }

}  // namespace slipway
