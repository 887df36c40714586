// slipway run: one inference, from .npy files, from ONNX's own test folders (and compared with their outputs), or from
// a picture that the model's own pre-processing turns into its input.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "data/image.h"
#include "data/npy.h"
#include "data/preprocess.h"
#include "data/top_classes.h"
#include "engine/program.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

using nlohmann::json;

struct RunFlags {
  std::string model, engine = "slipway", test_data, output_dir, image;
  std::vector<std::string> inputs, dims;
  double rtol = 1e-3, atol = 1e-5;
  int threads = 1, top = 5;
  int64_t max_steps = RunLimits().iterations;
  bool json = false, no_optimize = false;
};

/// The model behind an ONNX file or a plan.
struct Model {
  ModelPorts ports;
  std::shared_ptr<const Program> program;
  std::unique_ptr<ProgramSession> session;

  std::vector<Tensor> run(std::span<const Tensor> values) { return session->run(values); }
};

Model open_model(const RunFlags& o) {
  Model m;
  if (Plan::is_plan_file(o.model) && o.engine == "slipway") {
    m.program = open_program(o.model);
  } else {
    Graph graph = load_model(o.model);
    if (!o.dims.empty()) bind_dims(graph, parse_dims(o.dims));
    m.program = backend_named(o.engine).make(graph, {.threads = o.threads, .optimize = !o.no_optimize});
  }
  m.ports = m.program->ports();
  m.session = m.program->open();
  return m;
}

void require_tensor_file(const ModelPort& port) {
  if (is_sequence(present_of(port.dtype)))
    fail(ErrorCode::kUnsupported,
         "A sequence is not read from an .npy file; give all inputs as ONNX's input_N.pb with --test-data: '{}' ({})",
         port.name, to_string(port.dtype));
}

std::vector<Tensor> read_inputs(const RunFlags& o, const Model& m) {
  std::vector<Tensor> values(m.ports.inputs.size());
  for (const std::string& pair : o.inputs) {
    const size_t equals = pair.rfind('=');
    const std::string name = equals == std::string::npos ? "" : pair.substr(0, equals);
    const auto port =
        std::find_if(m.ports.inputs.begin(), m.ports.inputs.end(), [&](const ModelPort& p) { return p.name == name; });
    if (port == m.ports.inputs.end()) {
      std::string names;
      for (const ModelPort& p : m.ports.inputs) names += (names.empty() ? "" : ", ") + p.name;
      fail(ErrorCode::kInvalidArgument, "An input is given as NAME=FILE.npy, and NAME is one of [{}]: '{}'", names,
           pair);
    }
    require_tensor_file(*port);
    values[static_cast<size_t>(port - m.ports.inputs.begin())] = read_npy(pair.substr(equals + 1));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].defined()) continue;
    if (is_optional(m.ports.inputs[i].dtype)) {
      values[i] = Tensor::absent(m.ports.inputs[i].dtype);
      continue;
    }
    require_tensor_file(m.ports.inputs[i]);
    fail(ErrorCode::kInvalidArgument, "An input is missing; give it with --input {}=FILE.npy", m.ports.inputs[i].name);
  }
  return values;
}

struct Deviation {
  double max_abs = 0, max_rel = 0;
  int64_t beyond = 0, elements = 0;
  std::string mismatch;
};

Deviation compare(const Tensor& actual, const Tensor& expected, double rtol, double atol);

// All items' deviations as one.
Deviation compare_items(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected, double rtol,
                        double atol) {
  Deviation all;
  if (actual.size() != expected.size())
    all.mismatch = fmt::format("{} items instead of {}", actual.size(), expected.size());
  for (size_t i = 0; i < expected.size() && all.mismatch.empty(); ++i) {
    const Deviation d = compare(actual[i], expected[i], rtol, atol);
    all.max_abs = std::max(all.max_abs, d.max_abs);
    all.max_rel = std::max(all.max_rel, d.max_rel);
    all.beyond += d.beyond;
    all.elements += d.elements;
    if (!d.mismatch.empty()) all.mismatch = fmt::format("item {}: {}", i, d.mismatch);
  }
  return all;
}

// numpy's allclose: |actual − expected| ≤ atol + rtol·|expected|; NaN equals NaN, integers are compared exactly.
Deviation compare(const Tensor& actual, const Tensor& expected, double rtol, double atol) {
  Deviation d;
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims()) {
    d.mismatch = fmt::format("{}{} instead of {}{}", to_string(actual.dtype()), to_string(actual.dims()),
                             to_string(expected.dtype()), to_string(expected.dims()));
    return d;
  }
  if (is_sequence(expected.dtype())) return compare_items(actual.items(), expected.items(), rtol, atol);
  d.elements = expected.elements();
  if (expected.dtype() == DType::kString) {
    for (int64_t i = 0; i < d.elements; ++i)
      d.beyond += actual.strings()[static_cast<size_t>(i)] != expected.strings()[static_cast<size_t>(i)];
    return d;
  }
  const auto a = to_doubles(actual), e = to_doubles(expected);
  for (size_t i = 0; i < e.size(); ++i) {
    if (a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]))) continue;
    const double off = std::abs(a[i] - e[i]);
    const double allowed = is_float(expected.dtype()) ? atol + rtol * std::abs(e[i]) : 0;
    if (!(std::isfinite(e[i]) && off <= allowed)) ++d.beyond;  // infinity allows no other value
    d.max_abs = std::max(d.max_abs, std::isnan(off) ? INFINITY : off);
    d.max_rel = std::max(d.max_rel, std::isnan(off) ? INFINITY : off / std::max(std::abs(e[i]), 1e-30));
  }
  return d;
}

// 0 when all outputs of all data sets agree, 1 otherwise.
int run_test_data(const RunFlags& o) {
  std::vector<std::string> sets;
  for (const std::string& name : list_folder(o.test_data))
    if (name.starts_with("test_data_set_")) sets.push_back(join_path(o.test_data, name));
  if (sets.empty()) sets.push_back(o.test_data);
  Model m = open_model(o);
  bool good = true;
  json results = json::array();
  Table table({"data set", "output", "max abs", "max rel", "beyond", "verdict"});
  for (const std::string& set : sets) {
    std::vector<Tensor> inputs, expected;
    for (size_t i = 0; file_exists(join_path(set, fmt::format("input_{}.pb", i))); ++i)
      inputs.push_back(load_value_pb(join_path(set, fmt::format("input_{}.pb", i)),
                                     i < m.ports.inputs.size() ? m.ports.inputs[i].dtype : DType::kUndefined));
    for (size_t i = 0; file_exists(join_path(set, fmt::format("output_{}.pb", i))); ++i)
      expected.push_back(load_value_pb(join_path(set, fmt::format("output_{}.pb", i)),
                                       i < m.ports.outputs.size() ? m.ports.outputs[i].dtype : DType::kUndefined));
    if (expected.empty())
      fail(ErrorCode::kNotFound, "There are no input_N.pb and output_N.pb files in this folder: {}", set);
    const std::vector<Tensor> outputs = m.run(inputs);
    if (outputs.size() < expected.size())
      fail(ErrorCode::kInvalidArgument, "The folder has {} outputs, the model {}: {}", expected.size(), outputs.size(),
           set);
    for (size_t i = 0; i < expected.size(); ++i) {
      const Deviation d = compare(outputs[i], expected[i], o.rtol, o.atol);
      const bool ok = d.mismatch.empty() && d.beyond == 0;
      good = good && ok;
      results.push_back({{"data_set", set},
                         {"output", m.ports.outputs[i].name},
                         {"max_abs", d.max_abs},
                         {"max_rel", d.max_rel},
                         {"beyond", d.beyond},
                         {"elements", d.elements},
                         {"mismatch", d.mismatch},
                         {"ok", ok}});
      table.add({file_name(set), m.ports.outputs[i].name, fmt::format("{:.3g}", d.max_abs),
                 fmt::format("{:.3g}", d.max_rel),
                 d.mismatch.empty() ? fmt::format("{} of {}", d.beyond, d.elements) : d.mismatch, ok ? "ok" : "OFF"});
    }
  }
  if (o.json)
    print_json({{"model", o.model},
                {"engine", o.engine},
                {"rtol", o.rtol},
                {"atol", o.atol},
                {"results", results},
                {"ok", good}});
  else
    table.print();
  return good ? 0 : 1;
}

void classify(const RunFlags& o) {
  Model m = open_model(o);
  Preprocess how;
  std::vector<std::string> labels;
  Graph carrier;
  carrier.metadata = m.ports.metadata;
  if (!load_preprocess(carrier, how, labels))
    fail(ErrorCode::kInvalidArgument,
         "The model carries no pre-processing for pictures; `slipway quantize` writes it into its result, or give "
         "--input: {}",
         o.model);
  const auto bytes = read_file(o.image);
  const Tensor sample = preprocess_image(how, decode_image(bytes, o.image));
  Dims dims = sample.dims();
  dims.insert(dims.begin(), 1);
  const std::vector<Tensor> outputs = m.run(std::vector<Tensor>{sample.reshaped(dims)});
  json top = json::array();
  Table table({"class", "label", "confidence"});
  for (const ClassConfidence& c : top_classes(outputs.at(0), labels, std::max(o.top, 1))) {
    top.push_back({{"class", c.index}, {"label", c.label}, {"confidence", c.confidence}});
    table.add({std::to_string(c.index), c.label, fmt::format("{:.2f} %", 100 * c.confidence)});
  }
  if (o.json)
    print_json({{"model", o.model}, {"image", o.image}, {"top", top}});
  else
    table.print();
}

// The first values of a tensor, written to `place`.npy where `place` is given.
json show_tensor(const RunFlags& o, const std::string& name, const Tensor& t, const std::string& place) {
  const std::string file = place.empty() ? "" : place + ".npy";
  if (!file.empty()) write_npy(file, t);
  std::string values;
  if (t.dtype() != DType::kString) {
    const auto numbers = to_doubles(t);
    for (size_t k = 0; k < std::min<size_t>(numbers.size(), 8); ++k) values += fmt::format(" {:.6g}", numbers[k]);
    if (numbers.size() > 8) values += " …";
  }
  if (!o.json)
    fmt::print("{} {}{} ={}{}\n", name, to_string(t.dtype()), to_string(t.dims()), values,
               file.empty() ? "" : "  -> " + file);
  return {{"name", name}, {"dtype", to_string(t.dtype())}, {"dims", t.dims()}, {"file", file}};
}

// A sequence's items are shown and written as tensors of their own.
json show_output(const RunFlags& o, const std::string& name, const Tensor& value, const std::string& place) {
  if (is_tensor(value.dtype())) return show_tensor(o, name, value, place);
  json entry = {{"name", name}, {"dtype", to_string(value.dtype())}, {"present", is_sequence(value.dtype())}};
  if (!o.json)
    fmt::print("{} {}{}\n", name, to_string(value.dtype()),
               is_sequence(value.dtype()) ? fmt::format(" of {}", value.items().size()) : " is absent");
  if (!is_sequence(value.dtype())) return entry;
  entry["items"] = json::array();
  for (size_t i = 0; i < value.items().size(); ++i)
    entry["items"].push_back(show_tensor(o, fmt::format("{}[{}]", name, i), value.items()[i],
                                         place.empty() ? "" : fmt::format("{}.{}", place, i)));
  return entry;
}

void run_once(const RunFlags& o) {
  if (!o.output_dir.empty()) make_folders(o.output_dir);
  Model m = open_model(o);
  const std::vector<Tensor> outputs = m.run(read_inputs(o, m));
  json list = json::array();
  for (size_t i = 0; i < outputs.size(); ++i)
    list.push_back(show_output(o, m.ports.outputs[i].name, outputs[i],
                               o.output_dir.empty() ? "" : join_path(o.output_dir, std::to_string(i))));
  if (o.json) print_json({{"model", o.model}, {"engine", o.engine}, {"outputs", list}});
}

}  // namespace

void add_run(Cli& cli) {
  auto o = std::make_shared<RunFlags>();
  CLI::App* verb = add_verb(
      cli, "run", "Run one inference",
      "  slipway run model.onnx --input image=x.npy --output-dir out      writes out/0.npy, out/1.npy, …\n"
      "  slipway run model.onnx --test-data test_data_set_0               compares with ONNX's own test files\n"
      "  slipway run model.int8.onnx --image cat.jpg                      label and confidence",
      o->json);
  verb->add_option("model", o->model, "ONNX file or plan")->required();
  auto* input = verb->add_option("--input", o->inputs, "NAME=FILE.npy (repeatable)");
  auto* data = verb->add_option(
      "--test-data", o->test_data,
      "Folder with input_N.pb and output_N.pb, or with test_data_set_N folders; exit 1 when outputs are off");
  auto* image = verb->add_option("--image", o->image, "JPEG or PNG, for a model that carries its pre-processing");
  input->excludes(data)->excludes(image);
  data->excludes(image);
  verb->add_option("--output-dir", o->output_dir, "Folder for the outputs, 0.npy, 1.npy, … in the model's order");
  std::string engines;
  for (const Backend& backend : all_backends())
    engines += fmt::format("{}{}: {}", engines.empty() ? "" : "; ", backend.name, backend.summary);
  verb->add_option("--engine", o->engine, engines)->capture_default_str();
  verb->add_option("--rtol", o->rtol, "Relative tolerance of --test-data")->capture_default_str();
  verb->add_option("--atol", o->atol, "Absolute tolerance of --test-data")->capture_default_str();
  verb->add_option("--top", o->top, "Classes to print with --image")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads")->capture_default_str();
  verb->add_option("--dim", o->dims, "Size of a free dimension, NAME=SIZE (repeatable)");
  verb->add_flag("--no-optimize", o->no_optimize, "Leave the graph passes out");
  verb->add_option("--max-steps", o->max_steps, "Iterations of one Loop, at most")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb->callback([=, &cli] {
    const ScopedRunLimits limits({.iterations = o->max_steps});
    if (*data)
      cli.exit_code = run_test_data(*o);
    else if (*image)
      classify(*o);
    else
      run_once(*o);
  });
}

}  // namespace slipway
