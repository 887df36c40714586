// slipway data: a commented data file for a folder, and a look at what a model would get from one.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "data/data_init.h"
#include "data/feed.h"
#include "data/npy.h"
#include "data/preview.h"
#include "data/top_classes.h"
#include "engine/executor.h"
#include "metrics/classification.h"
#include "metrics/significance.h"
#include "verify/checks.h"

namespace slipway {
namespace {

struct InitOptions {
  std::string folder, output, model;
  bool json = false;
};

void init(const InitOptions& o) {
  std::string prefix;  // of the folder, from the file's; a whole path stays one
  if (!o.output.empty()) {
    prefix = std::filesystem::proximate(o.folder, std::filesystem::absolute(o.output).parent_path()).string();
    if (prefix == ".")
      prefix.clear();
    else if (o.folder.starts_with('/'))
      prefix = o.folder;
  }
  const std::vector<FeedPort> ports = o.model.empty() ? std::vector<FeedPort>{} : input_ports(load_model(o.model));
  const std::string text = data_init_text(o.folder, prefix, ports);
  if (!o.output.empty()) {
    if (file_exists(o.output))
      fail(ErrorCode::kInvalidArgument, "The file exists already; remove it or choose another name: {}", o.output);
    write_file(o.output, text);
  }
  if (o.json)
    print_json({{"output", o.output}, {"text", text}});
  else if (o.output.empty())
    fmt::print("{}", text);
  else
    fmt::print("wrote {}; read it, correct it, then: slipway data preview MODEL {}\n", o.output, o.output);
}

struct PreviewOptions {
  std::string model, data, output;
  int64_t count = 40, samples = 1000;
  int threads = 1;
  bool json = false;
};

/// One sample's scores; nothing of a model that is no classifier.
std::optional<Tensor> scores_for(Executor& executor, const std::vector<Tensor>& request) {
  std::vector<Tensor> outputs = executor.run_requests(std::span(&request, 1))[0];
  const std::optional<size_t> which = scores_output(outputs, 1);
  if (!which) return std::nullopt;
  return std::move(outputs[*which]);
}

void preview(const PreviewOptions& o) {
  const std::string output = o.output.empty() ? file_name(o.data) + ".preview.html" : o.output;
  require_replaces_nothing({output}, {o.model}, {o.data});
  require_writable(output);
  const Graph model = load_model(o.model);
  const Dataset data = Dataset::open(o.data);
  require_fitting(data, model);
  std::vector<std::string> warnings = input_warnings(data, Split::kTest);
  const int64_t size = data.size(Split::kTest), shown = std::min<int64_t>({o.count, size, kMaxPreviewSamples});
  Executor executor(model, {.program = {.threads = o.threads}});
  const Feed feed(data, model);
  std::vector<int64_t> predictions;
  for (int64_t i = 0; i < shown; ++i)
    if (const auto scores =
            scores_for(executor, feed.request(Split::kTest, preview_index(data, Split::kTest, shown, i))))
      predictions.push_back(argmax(to_floats(*scores)));
  const bool classifier = !predictions.empty() || shown == 0;
  nlohmann::json facts = {{"data", o.data}, {"output", output}, {"samples", size}};
  for (size_t input = 0; input < data.inputs(); ++input) {
    const InputStatistics stats = input_statistics(data, Split::kTest, std::min<int64_t>(size, 200), input);
    facts["inputs"].push_back({{"name", data.input_name(input)},
                               {"dims", stats.dims},
                               {"min", stats.min},
                               {"max", stats.max},
                               {"mean", stats.mean},
                               {"std", stats.std},
                               {"remark", stats.remark}});
  }
  std::string verdict = classifier ? "the set has no labels, so there is no accuracy to show"
                                   : "no output has the form [N, classes]: it is no classifier, so there is no "
                                     "accuracy to show";
  if (data.has_labels() && classifier) {
    const int64_t count = std::min(o.samples, size);
    Progress progress("FP32 accuracy", count, o.json);
    std::vector<std::pair<int64_t, int64_t>> said;  // label, prediction
    int64_t classes = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t index = size * i / count;
      const std::optional<Tensor> scores = scores_for(executor, feed.request(Split::kTest, index));
      if (!scores)
        fail(ErrorCode::kInvalidModel, "The form of the model's outputs changes with its input: {}", o.model);
      said.emplace_back(data.label(Split::kTest, index), argmax(to_floats(*scores)));
      classes = scores->elements();
      if (said.back().first >= classes)
        fail(ErrorCode::kInvalidArgument,
             "A label lies beyond the model's classes; correct label_map or label_offset in {}: {} of sample '{}', the "
             "model has {} classes",
             o.data, said.back().first, data.sample_name(Split::kTest, index), classes);
      progress.step();
    }
    ConfusionMatrix matrix(classes);
    for (const auto& [label, predicted] : said) matrix.add(label, predicted);
    const auto interval = wilson_interval(matrix.correct(), count);
    const double accuracy = matrix.accuracy();
    verdict = fmt::format("top-1 accuracy {:.2f} % on {} samples (95 % interval {:.1f} to {:.1f} %)", 100 * accuracy,
                          count, 100 * interval.low, 100 * interval.high);
    facts["accuracy"] = accuracy;
    facts["accuracy_samples"] = count;
    const std::string warning = chance_warning(accuracy, chance_agreement(matrix));
    facts["warning"] = warning;
    if (!warning.empty()) warnings.push_back(warning);
  }
  facts["warnings"] = warnings;
  write_file(output, contact_sheet_html(data, Split::kTest, shown, predictions));
  if (o.json) return print_json(facts);
  fmt::print("{}", contact_sheet_text(data, Split::kTest, shown, predictions));
  fmt::print("\n{}\n", verdict);
  for (const std::string& warning : warnings) fmt::print("WARNING: {}\n", warning);
  fmt::print("contact sheet: {}\n", output);
}

struct ExportOptions {
  std::string data, output, split = "test", input;
  int64_t count = 0;
  int threads = 1;
  bool json = false;
};

/// Dataset's number of an input; the only one where none is named.
size_t input_named(const Dataset& data, const std::string& name) {
  std::vector<std::string> names;
  for (size_t i = 0; i < data.inputs(); ++i) {
    if (data.input_name(i) == name) return i;
    names.push_back(data.input_name(i));
  }
  if (name.empty() && data.inputs() == 1) return 0;
  fail(ErrorCode::kInvalidArgument, "The data file describes several inputs; name one of them with --input: '{}' of {}",
       fmt::join(names, "', '"), data.path());
}

void export_inputs(const ExportOptions& o) {
  require_replaces_nothing({o.output}, {}, {o.data});
  require_writable(o.output);
  const Dataset data = Dataset::open(o.data);
  if (o.split != "test" && o.split != "calibration")
    fail(ErrorCode::kInvalidArgument, "A split is test or calibration: '{}'", o.split);
  const Split split = o.split == "test" ? Split::kTest : Split::kCalibration;
  const int64_t size = data.size(split), count = o.count > 0 ? std::min(o.count, size) : size;
  const Tensor inputs = data.batch(split, 0, count, o.threads, input_named(data, o.input));
  write_npy(o.output, inputs);
  if (o.json)
    print_json({{"output", o.output}, {"dims", inputs.dims()}});
  else
    fmt::print("wrote {}{} to {}\n", to_string(inputs.dtype()), to_string(inputs.dims()), o.output);
}

}  // namespace

void add_data(Cli& cli) {
  CLI::App* data = cli.app.add_subcommand("data", "Describe labelled data, and look at what a model gets from it");
  data->require_subcommand(1);
  Cli inner{*data};
  auto i = std::make_shared<InitOptions>();
  CLI::App* first = add_verb(inner, "init", "Write a commented data file for a folder",
                             "  slipway data init /data/pets -o pets.yaml", i->json);
  first->add_option("folder", i->folder, "Folder with pictures, CIFAR or IDX files, .npy, .npz or CSV")->required();
  first->add_option("--model", i->model, "ONNX file that the data are for: its inputs are described by name and shape");
  first->add_option("-o,--output", i->output, "Data file to write (default: standard output)");
  first->callback([=] { init(*i); });
  auto p = std::make_shared<PreviewOptions>();
  CLI::App* second = add_verb(inner, "preview", "Show samples with labels, the input's range and the model's accuracy",
                              "  slipway data preview model.onnx pets.yaml -o pets.html", p->json);
  second->add_option("model", p->model, "ONNX file")->required();
  second->add_option("data", p->data, "Data file")->required();
  second->add_option("-o,--output", p->output, "Page with the contact sheet (default: DATA.preview.html here)");
  second->add_option("--count", p->count, "Samples shown")->capture_default_str();
  second->add_option("--samples", p->samples, "Samples for the accuracy")->capture_default_str();
  second->add_option("--threads", p->threads, "Threads")->capture_default_str();
  second->callback([=] { preview(*p); });
  auto e = std::make_shared<ExportOptions>();
  CLI::App* third = add_verb(inner, "export", "Write the pre-processed inputs as one .npy, for other tools",
                             "  slipway data export pets.yaml -o x.npy --count 100", e->json);
  third->add_option("data", e->data, "Data file")->required();
  third->add_option("-o,--output", e->output, ".npy file to write")->required();
  third->add_option("--split", e->split, "test or calibration")->capture_default_str();
  third->add_option("--input", e->input, "The model's input, where the data file describes several");
  third->add_option("--count", e->count, "Samples from the start (default: all)")->check(CLI::Range(1, 1'000'000'000));
  third->add_option("--threads", e->threads, "Threads")->capture_default_str();
  third->callback([=] { export_inputs(*e); });
}

}  // namespace slipway
