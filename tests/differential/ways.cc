// Every way from a graph to its outputs, against the reference's. A way that the product refuses for a reason that it
// states as a limit (an element type, shapes that depend on data) is passed over; any other refusal of a graph that the
// reference takes is a finding.
#include "ways.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "engine/executor.h"
#include "engine/passes/passes.h"
#include "engine/passes/pipeline.h"
#include "engine/plan.h"
#include "engine/session.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/rows.h"
#include "quantize/quantize.h"

namespace slipway {
namespace {

using Outputs = std::vector<Tensor>;

constexpr uint64_t kTunedOneOf = 4;  ///< seeds, for timing takes as long as the other ways together

struct Case {
  const Graph& graph;
  Oracle& oracle;
  const CheckOptions& options;
  Random random{options.seed};
  std::vector<std::shared_ptr<const Plan>> plans = {};  ///< built so far
};

bool is_stated_limit(const Error& error) {
  const std::string_view what = error.what();
  constexpr std::string_view kLimits[] = {"One plan is not enough", "A plan can't hold values of this type",
                                          "is not supported", "are not supported", "nothing to quantise"};
  return error.code() == ErrorCode::kUnsupported &&
         std::any_of(std::begin(kLimits), std::end(kLimits),
                     [&](std::string_view limit) { return what.find(limit) != std::string_view::npos; });
}

// What follows from a shape that itself follows from rounding may not fit together in another order of computing.
bool may_not_fit(const Error& error, Oracle& oracle) {
  return error.code() == ErrorCode::kInvalidModel && oracle.may_change_shapes();
}

// The model for exactly these inputs.
Graph bound(const Graph& graph, const std::vector<Tensor>& inputs) {
  std::map<std::string, int64_t> sizes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& v = graph.value(graph.inputs()[i]);
    for (size_t axis = 0; axis < v.shape.rank(); ++axis)
      if (!v.shape[axis].is_known()) sizes[fmt::format("{}.{}", v.name, axis)] = inputs[i].dims()[axis];
  }
  Graph result = graph;
  bind_dims(result, sizes);
  return result;
}

std::shared_ptr<const Plan> build(const Graph& graph, const std::vector<Tensor>& inputs, BuildOptions options = {}) {
  options.batch = 1;
  for (const Tensor& t : inputs)
    if (t.rank() > 0) {
      options.batch = std::max<int64_t>(t.dims()[0], 1);
      break;
    }
  options.tune = !options.timing_cache.empty();
  return Plan::build(bound(graph, inputs), options);
}

Outputs run(const std::shared_ptr<const Plan>& plan, const std::vector<Tensor>& inputs) {
  Session session(plan);
  Outputs first = session.run(inputs);
  const Outputs again = session.run(inputs);
  for (size_t i = 0; i < first.size(); ++i)
    if (!first[i].identical(again[i]))
      fail(ErrorCode::kInternal, "A second run of a session gives something else: output {}", i);
  return first;
}

Graph reread(const Graph& graph) { return parse_onnx(serialize_onnx(graph)); }

std::string identical(const Outputs& actual, const Outputs& expected) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (!actual.at(i).identical(expected[i])) return fmt::format("output {} has other bits", i);
  return "";
}

std::string by_text(Case& c) {
  const std::string text = to_text(c.graph);
  const Graph graph = parse_text(text);
  if (to_text(graph) != text) return "the text of the parsed text is another";
  return identical(evaluate(graph, c.oracle.inputs()), c.oracle.outputs());
}

std::string by_onnx(Case& c) { return identical(evaluate(reread(c.graph), c.oracle.inputs()), c.oracle.outputs()); }

std::string by_inference(Case& c) {
  Graph graph = c.graph;
  infer_shapes(graph);
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    const Tensor& t = c.oracle.values()[static_cast<size_t>(id)];
    if (!v.alive || v.producer == kNoNode || !t.defined()) continue;
    bool fits = v.dtype == t.dtype() && (!v.shape.has_rank() || v.shape.rank() == t.dims().size());
    for (size_t axis = 0; fits && axis < v.shape.rank(); ++axis)
      fits = !v.shape[axis].is_known() || v.shape[axis].value() == t.dims()[axis];
    if (!fits)
      return fmt::format("{}: inferred {}{}, evaluated {}{}", graph.producer(id)->op_type, to_string(v.dtype),
                         to_string(v.shape), to_string(t.dtype()), to_string(t.dims()));
  }
  return "";
}

std::string by_passes(Case& c) {
  Graph graph = bound(c.graph, c.oracle.inputs());
  const Graph before = graph;
  const auto reports = run_passes(graph);
  if (std::string off = c.oracle.difference(evaluate(graph, c.oracle.inputs())); !off.empty()) return off;
  for (const PassReport& report : reports) {
    if (!report.changed) continue;
    Graph without = before;
    run_passes(without, {.disabled = {report.name}});
    if (std::string off = c.oracle.difference(evaluate(without, c.oracle.inputs())); !off.empty())
      return "without " + report.name + ": " + off;
  }
  return "";
}

std::string by_engine(Case& c) {
  c.plans.push_back(build(c.graph, c.oracle.inputs()));
  return c.oracle.difference(run(c.plans.back(), c.oracle.inputs()));
}

std::string by_plain_engine(Case& c) {
  return c.oracle.difference(run(build(c.graph, c.oracle.inputs(), {.optimize = false}), c.oracle.inputs()));
}

/// A file that goes with its holder.
struct ScratchFile {
  explicit ScratchFile(const char* what) : path(fmt::format("/dev/shm/slipway_differential_{}.{}", ::getpid(), what)) {}
  ~ScratchFile() { ::unlink(path.c_str()); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::string path;
};

std::string opened(const std::shared_ptr<const Plan>& plan, const std::vector<Tensor>& inputs) {
  const ScratchFile file("plan");
  plan->save(file.path);
  return identical(run(Plan::open(file.path), inputs), run(plan, inputs));
}

// Timed candidates, each first tried in a process of its own; then again from the timings that were kept.
std::string by_tuning(Case& c) {
  if (c.options.only.empty() && c.options.seed % kTunedOneOf != 0) return "";
  const ScratchFile timings("timings");
  const BuildOptions options{.timing_cache = timings.path};
  const std::shared_ptr<const Plan> plan = build(c.graph, c.oracle.inputs(), options);
  if (std::string off = c.oracle.difference(run(plan, c.oracle.inputs())); !off.empty()) return off;
  if (std::string off = opened(plan, c.oracle.inputs()); !off.empty()) return "opened: " + off;
  const std::shared_ptr<const Plan> again = build(c.graph, c.oracle.inputs(), options);
  return again->choices_digest() == plan->choices_digest() ? "" : "the same timings lead to other choices";
}

std::string by_chance(Case& c) {
  for (int i = 0; i < c.options.choices; ++i) {
    c.plans.push_back(build(c.graph, c.oracle.inputs(), {.choice_seed = c.random.next()}));
    if (std::string off = c.oracle.difference(run(c.plans.back(), c.oracle.inputs())); !off.empty()) return off;
  }
  return "";
}

std::string by_opened_plan(Case& c) {
  if (c.plans.empty()) {
    c.plans.push_back(build(c.graph, c.oracle.inputs()));
    for (int i = 0; i < c.options.choices; ++i)
      c.plans.push_back(build(c.graph, c.oracle.inputs(), {.choice_seed = c.random.next()}));
  }
  for (const auto& plan : c.plans)
    if (std::string off = opened(plan, c.oracle.inputs()); !off.empty()) return off;
  return "";
}

std::string by_two_threads(Case& c) {
  return c.oracle.difference(run(build(c.graph, c.oracle.inputs(), {.threads = 2}), c.oracle.inputs()));
}

Tensor joined(const std::vector<Tensor>& rows) {
  Dims dims = rows[0].dims();
  dims[0] = static_cast<int64_t>(rows.size());
  Tensor all(rows[0].dtype(), dims);
  for (size_t i = 0; i < rows.size() && rows[i].bytes() > 0; ++i)
    std::memcpy(all.mutable_raw() + i * rows[i].bytes(), rows[i].raw(), rows[i].bytes());
  return all;
}

// Rows that are said to be independent, each alone.
std::string by_rows(Case& c) {
  const std::vector<ValueId>& inputs = c.graph.inputs();
  const bool free = !inputs.empty() && std::all_of(inputs.begin(), inputs.end(), [&](ValueId id) {
    const Shape& shape = c.graph.value(id).shape;
    return shape.rank() > 0 && shape[0].is_symbol();
  });
  if (!free) return "";
  Graph graph = c.graph;  // without what nothing reads, which may be valid for this number of rows only
  dead_code(graph, {});
  if (prove_row_independence(graph).proven) {
    std::vector<std::vector<Tensor>> rows(c.oracle.outputs().size());
    for (int64_t row = 0; row < c.oracle.inputs()[0].dims()[0]; ++row) {
      Outputs alone;
      for (const Tensor& t : c.oracle.inputs()) alone.push_back(rows_of(t, row, 1));
      alone = evaluate(graph, alone);
      for (size_t i = 0; i < alone.size(); ++i) rows[i].push_back(alone[i]);
    }
    Outputs whole;
    for (const auto& list : rows) whole.push_back(joined(list));
    if (std::string off = c.oracle.difference(whole); !off.empty()) return "proven independent, but alone " + off;
  }
  return "";
}

// As a program, which must take what no plan can hold, saved and opened again; then with every dimension of the inputs
// free.
std::string by_program(Case& c) {
  const auto program = compiled_backend().make(c.graph, {});
  if (std::string off = c.oracle.difference(program->open()->run(c.oracle.inputs())); !off.empty()) return off;
  const ScratchFile file("plan");
  save_program(*program, file.path);
  if (std::string off = c.oracle.difference(open_program(file.path)->open()->run(c.oracle.inputs())); !off.empty())
    return "opened " + off;
  Graph free = c.graph;
  for (const ValueId id : free.inputs()) {
    const Value& v = free.value(id);
    free.set_type(id, v.dtype, Shape(std::vector<Dim>(v.shape.rank())));
  }
  infer_shapes_anew(free, {});
  const std::string off = c.oracle.difference(Executor(free).run(c.oracle.inputs()));
  return off.empty() ? "" : "with free dimensions " + off;
}

std::string names_twice(const Graph& graph) {
  std::set<std::string> names;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.name.empty() && !names.insert(node.name).second)
      return fmt::format("two nodes of one name: '{}'", node.name);
  }
  return "";
}

// A file that the product wrote, in the reference and in the engine.
std::string as_file(const Graph& written, Oracle& oracle) {
  const Graph graph = reread(written);
  if (std::string off = oracle.difference(evaluate(graph, oracle.inputs())); !off.empty()) return "reference: " + off;
  const auto off = oracle.difference(run(build(graph, oracle.inputs()), oracle.inputs()));
  return off.empty() ? names_twice(graph) : "engine: " + off;
}

// NaN and infinity are told apart from numbers: the faults differ.
std::string_view kind_of(const std::string& difference) {
  constexpr std::string_view kSpecial[] = {" nan", "-nan", " inf", "-inf"};
  if (difference.find("of one name") != std::string::npos) return "names";
  return std::any_of(std::begin(kSpecial), std::end(kSpecial),
                     [&](std::string_view word) { return difference.find(word) != std::string::npos; })
             ? "special value"
             : "difference";
}

std::string by_optimised_file(Case& c) {
  Graph graph = c.graph;
  run_passes(graph, {.standard_onnx = true});
  return as_file(graph, c.oracle);
}

bool is_finite(const Tensor& t) {
  if (!is_float(t.dtype())) return true;
  const std::vector<double> values = to_doubles(t);
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v) && std::fabs(v) < 1e6; });
}

bool has_shapes_of_data(const Graph& graph) {
  for (ValueId id = 0; id < graph.value_limit(); ++id) {
    const Value& v = graph.value(id);
    if (v.alive && (!v.shape.has_rank() || std::any_of(v.shape.dims().begin(), v.shape.dims().end(),
                                                       [](const Dim& d) { return !d.is_known(); })))
      return true;
  }
  return false;
}

std::string by_quantised_file(Case& c) {
  if (!std::all_of(c.oracle.values().begin(), c.oracle.values().end(), is_finite)) return "";
  Random random(c.options.seed + 1);  // the same options whatever ran before
  QuantizeOptions how;
  how.profile = random.below(2) == 0 ? QuantizeProfile::kPortable : QuantizeProfile::kCpu;
  how.quantize_both_add_inputs = random.below(2) == 0;
  how.integer_bias = random.below(4) != 0;
  CalibrationSource source{.count = 1, .read = [&](std::span<const int64_t>) {
                             return std::vector<std::vector<Tensor>>{c.oracle.inputs()};
                           }};
  Graph quantised;
  try {
    quantised = quantize(c.graph, source, how, {.engine = "reference"}).graph;
  } catch (const Error&) {
    return "";  // nothing to quantise, an opset that can't be raised
  }
  std::optional<Oracle> oracle;
  try {
    oracle.emplace(quantised, c.oracle.inputs());
  } catch (const Error&) {
    if (has_shapes_of_data(bound(quantised, c.oracle.inputs()))) return "";  // rounded values have other shapes
    throw;
  }
  return as_file(quantised, *oracle);
}

struct Way {
  std::string_view name;
  std::string (*run)(Case&);
};
constexpr Way kWays[] = {
    {"text", by_text},
    {"onnx", by_onnx},
    {"inference", by_inference},
    {"passes", by_passes},
    {"engine", by_engine},
    {"plain engine", by_plain_engine},
    {"random engine", by_chance},
    {"opened plan", by_opened_plan},
    {"two threads", by_two_threads},
    {"tuned engine", by_tuning},
    {"rows", by_rows},
    {"program", by_program},
    {"optimised file", by_optimised_file},
    {"quantised file", by_quantised_file},
};

}  // namespace

std::string Finding::signature() const {
  return kind == "refused" ? way + ": " + message.substr(0, message.find_first_of(";:")) : way + ": " + kind;
}

std::vector<std::string> all_ways() {
  std::vector<std::string> names;
  for (const Way& way : kWays) names.emplace_back(way.name);
  return names;
}

std::vector<Finding> check(const Graph& graph, const std::vector<Tensor>& inputs, const CheckOptions& options) {
  std::vector<Finding> findings;
  Oracle oracle(graph, inputs);
  Case c{graph, oracle, options};
  for (const Way& way : kWays) {
    if (!options.only.empty() && std::find(options.only.begin(), options.only.end(), way.name) == options.only.end())
      continue;
    if (options.starting) options.starting(way.name);
    try {
      if (std::string off = way.run(c); !off.empty())
        findings.push_back({std::string(way.name), std::string(kind_of(off)), off});
    } catch (const Error& error) {
      if (!is_stated_limit(error) && !may_not_fit(error, c.oracle))
        findings.push_back({std::string(way.name), "refused", error.what()});
    } catch (const std::exception& error) {
      findings.push_back({std::string(way.name), "refused", fmt::format("not an Error: {}", error.what())});
    }
  }
  return findings;
}

}  // namespace slipway
