// slipway build: tune a model for this machine and freeze it as a plan file, for one or several combinations of shapes.
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "data/feed.h"
#include "engine/program.h"
#include "model/infer.h"
#include "verify/measure.h"

namespace slipway {
namespace {

using nlohmann::json;

struct BuildFlags {
  std::string model, output, data, target = "cpu", timing_cache;
  std::vector<std::string> dims, shapes;
  int64_t batch = 1;
  int threads = 1;
  bool json = false, no_tune = false, threads_given = false, batch_given = false;
};

[[noreturn]] void fail_shapes(const std::string& text) {
  fail(ErrorCode::kInvalidArgument,
       "Shapes are given as INPUT=SIZExSIZE,… where a size may be FROM..TO (doubling) or FROM..TO/STEP: '{}'", text);
}

int64_t size_of(std::string_view text, const std::string& whole) {
  int64_t size = 0;
  const char* end = text.data() + text.size();
  if (std::from_chars(text.data(), end, size) != std::from_chars_result{end, std::errc()} || size < 1)
    fail_shapes(whole);
  return size;
}

std::vector<std::string> pieces(const std::string& text, char separator) {
  std::vector<std::string> list(1);
  for (const char c : text)
    if (c == separator)
      list.emplace_back();
    else
      list.back() += c;
  return list;
}

/// "16", "16..64" or "16..64/16".
std::vector<int64_t> sizes_of(const std::string& text, const std::string& whole) {
  const size_t dots = text.find("..");
  if (dots == std::string::npos) return {size_of(text, whole)};
  const size_t slash = text.find('/', dots);
  const int64_t from = size_of(text.substr(0, dots), whole),
                to = size_of(text.substr(dots + 2, slash - dots - 2), whole);
  const int64_t step = slash == std::string::npos ? 0 : size_of(text.substr(slash + 1), whole);
  constexpr size_t kMostSizes = 256;
  std::vector<int64_t> sizes;
  for (int64_t size = from; size <= to; size = step > 0 ? size + step : 2 * size) {
    if (sizes.size() == kMostSizes)
      fail(ErrorCode::kInvalidArgument, "More than {} sizes are asked for; take larger steps: '{}'", kMostSizes, whole);
    sizes.push_back(size);
  }
  if (sizes.empty()) fail(ErrorCode::kInvalidArgument, "A range begins above its end: '{}'", whole);
  if (sizes.back() != to) sizes.push_back(to);
  return sizes;
}

/// An input's shapes one after the other: "ids=1x32..128,4x32".
std::pair<std::string, std::vector<Dims>> parse_shapes(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) fail_shapes(text);
  std::vector<Dims> shapes;
  for (const std::string& item : pieces(text.substr(equals + 1), ',')) {
    std::vector<Dims> growing = {{}};
    for (const std::string& dim : pieces(item, 'x')) {
      std::vector<Dims> next;
      for (const Dims& dims : growing)
        for (const int64_t size : sizes_of(dim, text)) {
          next.push_back(dims);
          next.back().push_back(size);
        }
      growing = std::move(next);
    }
    shapes.insert(shapes.end(), growing.begin(), growing.end());
  }
  return {text.substr(0, equals), std::move(shapes)};
}

/// Sizes of the inputs' dimensions by "input.axis", for each combination: the first shape of each input, the second, …;
/// an input with one shape has it in all of them.
std::vector<std::map<std::string, int64_t>> combinations_of(const BuildFlags& o, const Graph& graph) {
  std::vector<std::pair<std::string, std::vector<Dims>>> inputs;
  size_t count = 1;
  for (const std::string& text : o.shapes) {
    auto [name, given] = parse_shapes(text);
    auto known =
        std::find_if(inputs.begin(), inputs.end(), [&, n = name](const auto& input) { return input.first == n; });
    if (known == inputs.end()) known = inputs.insert(inputs.end(), {name, {}});
    std::vector<Dims>& shapes = known->second;
    shapes.insert(shapes.end(), given.begin(), given.end());
    const ValueId id = graph.find(name);
    if (id == kNoValue || !graph.value(id).is_input)
      fail(ErrorCode::kInvalidArgument, "The model has no input of this name; `slipway inspect {}` lists them: '{}'",
           o.model, name);
    for (const Dims& dims : shapes)
      if (dims.size() != graph.value(id).shape.rank())
        fail(ErrorCode::kInvalidArgument, "An input has another number of dimensions; it is {}{}: '{}'", name,
             to_string(graph.value(id).shape), text);
  }
  for (const auto& [name, shapes] : inputs) count = std::max(count, shapes.size());
  for (const auto& [name, shapes] : inputs)
    if (shapes.size() != 1 && shapes.size() != count)
      fail(ErrorCode::kInvalidArgument, "The inputs are given different numbers of shapes, {} and {}: '{}'", count,
           shapes.size(), name);
  std::vector<std::map<std::string, int64_t>> combinations(count);
  for (size_t i = 0; i < count; ++i)
    for (const auto& [name, shapes] : inputs) {
      const Dims& dims = shapes[shapes.size() == 1 ? 0 : i];
      for (size_t axis = 0; axis < dims.size(); ++axis) combinations[i][fmt::format("{}.{}", name, axis)] = dims[axis];
    }
  return combinations;
}

/// A request of each combination of shapes that test samples have.
std::vector<std::vector<Tensor>> requests_of(const std::string& path, const Graph& graph) {
  constexpr int64_t kMostSamples = 256;
  const Feed feed(Dataset::open(path), graph);
  const int64_t size = feed.data().size(Split::kTest), count = std::min(size, kMostSamples);
  std::map<std::vector<Dims>, std::vector<Tensor>> examples;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<Tensor> request = feed.request(Split::kTest, i * size / count);
    std::vector<Dims> dims;
    for (const Tensor& tensor : request) dims.push_back(tensor.dims());
    examples.try_emplace(std::move(dims), std::move(request));
  }
  std::vector<std::vector<Tensor>> list;
  for (auto& [dims, request] : examples) list.push_back(std::move(request));
  return list;
}

/// What --shapes left free: first axes are the batch's.
void bind_left(Graph& graph, int64_t batch, const std::map<std::string, int64_t>& dims) {
  std::map<std::string, int64_t> sizes = dims;
  for (const ValueId id : graph.inputs())
    if (const Value& v = graph.value(id); v.shape.rank() > 0 && !v.shape[0].is_known())
      sizes.emplace(v.shape[0].is_symbol() ? v.shape[0].symbol() : v.name + ".0", batch);
  bind_dims(graph, sizes);
  if (const std::vector<std::string> left = free_dims(graph); !left.empty())
    fail(ErrorCode::kInvalidArgument,
         "The model leaves more dimensions free; give them with --shapes of their input or --dim NAME=SIZE: {}",
         fmt::join(left, ", "));
}

/// Made-up inputs for each combination of shapes, or those of a data file.
std::vector<std::vector<Tensor>> examples_of(const BuildFlags& o, const Graph& graph) {
  if (!o.data.empty()) return requests_of(o.data, graph);
  if (Plan::is_plan_file(o.model) && o.shapes.empty() && o.dims.empty() && !o.batch_given) {  // what it was built for
    std::vector<std::vector<Tensor>> same;
    for (const std::vector<PortInfo>& inputs : shapes_of_plan(o.model).shapes) same.push_back(random_inputs(inputs));
    return same;
  }
  std::vector<std::vector<Tensor>> examples;
  const std::map<std::string, int64_t> dims = parse_dims(o.dims);
  for (const std::map<std::string, int64_t>& sizes : combinations_of(o, graph)) {
    Graph bound = graph;
    bind_dims(bound, sizes);
    if (o.shapes.empty())
      bind_batch(bound, o.batch, dims);
    else
      bind_left(bound, o.batch, dims);
    examples.push_back(random_inputs(bound));
  }
  return examples;
}

std::string shapes_text(const PreparedShape& shape, const ModelPorts& ports) {
  std::string text;
  for (size_t i = 0; i < shape.inputs.size(); ++i)
    text += fmt::format("{}{}{}", i == 0 ? "" : " ", ports.inputs[i].name, to_string(shape.inputs[i]));
  return text;
}

void report(const BuildFlags& o, const Program& program, double seconds, const std::string& unprepared) {
  const ProgramInfo info = program.info();
  std::vector<PreparedShape> prepared = program.prepared();
  std::reverse(prepared.begin(), prepared.end());
  if (o.json) {
    json shapes = json::array();
    for (const PreparedShape& shape : prepared) {
      json plans = json::array();
      for (const auto& plan : shape.plans) {
        const MemoryInfo m = plan->memory();
        plans.push_back({{"steps", plan->steps().size()},
                         {"choices_digest", plan->choices_digest()},
                         {"arena_bytes", m.arena_bytes},
                         {"arena_lower_bound_bytes", m.lower_bound_bytes},
                         {"weight_bytes", m.weight_bytes},
                         {"scratch_bytes", m.scratch_bytes}});
      }
      shapes.push_back({{"inputs", shape.inputs}, {"plans", plans}, {"interpreted", shape.interpreted}});
    }
    print_json({{"model", o.model},
                {"output", o.output},
                {"bytes", file_bytes(o.output)},
                {"precision", precision_of(plans_of(program))},
                {"threads", o.threads},
                {"build_s", seconds},
                {"cpu", to_string(cpu_features())},
                {"weight_bytes", info.weight_bytes},
                {"shapes", shapes},
                {"unprepared", unprepared}});
    return;
  }
  fmt::print("built in {:.1f} s for {} ({}), {} thread{}: {}\n", seconds, cpu_name(), to_string(cpu_features()),
             o.threads, o.threads == 1 ? "" : "s", o.output);
  fmt::print("precision {}, weights {}, file {}\n", precision_of(plans_of(program)),
             human_bytes(static_cast<double>(info.weight_bytes)),
             human_bytes(static_cast<double>(file_bytes(o.output))));
  Table table({"inputs", "plans", "steps", "activations", "lower bound", "scratch", "interpreted"});
  for (const PreparedShape& shape : prepared) {
    MemoryInfo most;
    size_t steps = 0;
    for (const auto& plan : shape.plans) {
      const MemoryInfo m = plan->memory();
      steps += plan->steps().size();
      most.arena_bytes = std::max(most.arena_bytes, m.arena_bytes);
      most.lower_bound_bytes = std::max(most.lower_bound_bytes, m.lower_bound_bytes);
      most.scratch_bytes = std::max(most.scratch_bytes, m.scratch_bytes);
    }
    const auto bytes = [](uint64_t n) { return human_bytes(static_cast<double>(n)); };
    table.add({shapes_text(shape, program.ports()), std::to_string(shape.plans.size()), std::to_string(steps),
               bytes(most.arena_bytes), bytes(most.lower_bound_bytes), bytes(most.scratch_bytes),
               fmt::format("{}", fmt::join(shape.interpreted, ", "))});
  }
  table.print();
  std::map<std::string, int> slow;
  for (const auto& plan : plans_of(program))
    for (const StepInfo& step : plan->steps())
      if (step.tactic == "reference") ++slow[step.op];
  std::string list;
  for (const auto& [op, number] : slow) list += fmt::format("{}{} {}", list.empty() ? "" : ", ", number, op);
  if (!slow.empty()) fmt::print("\nwithout a fast kernel: {}\n", list);
  if (!unprepared.empty())
    fmt::print("\nWhat depends on the inputs' contents is prepared when they come; --data gives some to go by: {}\n",
               unprepared);
}

void require_timings(const std::string& path) {
  if (!path.empty() && file_exists(path) && !json::parse(read_text_file(path), nullptr, false).is_object())
    fail(ErrorCode::kInvalidArgument, "The file holds no timings, and would be written over; name another: {}", path);
}

void run_build(BuildFlags o) {
  if (o.target != "cpu")
    fail(ErrorCode::kUnsupported,
         "Slipway builds plans for CPUs; for '{}' give the ONNX file to TensorRT: trtexec --onnx={} "
         "--saveEngine=model.engine",
         o.target, o.model);
  if (o.threads < 1 || o.threads > 1024)
    fail(ErrorCode::kInvalidArgument, "The number of threads must lie between 1 and 1024: {}", o.threads);
  if (o.output.empty()) fail(ErrorCode::kInvalidArgument, "The plan to write needs a name: --output PLAN");
  if (!Plan::is_plan_file(o.model)) require_replaces_nothing({o.output}, {o.model});
  require_timings(o.timing_cache);
  if (Plan::is_plan_file(o.model) && !o.threads_given) o.threads = shapes_of_plan(o.model).threads;
  require_writable(o.output);
  const Graph graph = load_model(o.model);
  const std::vector<std::vector<Tensor>> examples = examples_of(o, graph);
  const int64_t start = now_ns();
  const auto program =
      compiled_backend().make(graph, {.threads = o.threads,
                                      .tune = !o.no_tune,
                                      .timing_cache = o.timing_cache.empty() ? default_timing_cache() : o.timing_cache,
                                      .quiet = o.json,
                                      .max_shapes = static_cast<int64_t>(examples.size())});
  const std::string unprepared = prepare_wholly(*program, examples);
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  save_program(*program, o.output);
  report(o, *program, seconds, unprepared);
}

}  // namespace

void add_build(Cli& cli) {
  auto o = std::make_shared<BuildFlags>();
  CLI::App* verb =
      add_verb(cli, "build", "Time the candidates on this machine and freeze the fastest as a plan",
               "  slipway build model.onnx -o model.plan --batch 8 --threads 2\n"
               "  slipway build encoder.onnx -o encoder.plan --shapes ids=1x32,1x128 --shapes mask=1x32,1x128\n"
               "  slipway build encoder.onnx -o encoder.plan --shapes ids=1x16..512      16, 32, … 512 tokens",
               o->json);
  verb->add_option("model", o->model, "ONNX file, or a plan to build anew, for the same shapes unless others are given")
      ->required();
  verb->add_option("-o,--output", o->output, "Plan to write")->required();
  auto* batch = verb->add_option("--batch", o->batch, "Samples a run (size of the inputs' free first dimension)")
                    ->capture_default_str();
  auto* threads = verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  auto* dims = verb->add_option("--dim", o->dims, "Size of another free dimension, NAME=SIZE (repeatable)");
  auto* shapes = verb->add_option(
      "--shapes", o->shapes,
      "Shapes of an input, INPUT=1x32,1x128 (repeatable; the first shapes of all inputs go together, then "
      "the second): one file holds them all, weights once. A size may be 16..128 (doubling) or 16..128/16 (steps); "
      "the end is always among them");
  verb->add_option("--data", o->data, "Data file: the shapes that its test samples have, and contents to go by")
      ->excludes(shapes)
      ->excludes(dims)
      ->excludes(batch);
  shapes->excludes(batch);
  verb->add_option("--target", o->target, "cpu")->capture_default_str();
  verb->add_option("--timing-cache", o->timing_cache,
                   "File of timings, read and extended (default: in the user's cache folder)");
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=] {
    o->threads_given = threads->count() > 0;
    o->batch_given = batch->count() > 0;
    run_build(*o);
  });
}

}  // namespace slipway
