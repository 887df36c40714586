// NAME/config.yaml: how to serve a model.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "data/data_file.h"
#include "data/strict_yaml.h"
#include "serve/repository.h"

namespace slipway {
namespace {
constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

double number(const StrictMap& map, const char* key, const std::string& name, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value))
    fail(ErrorCode::kInvalidArgument, "A number is wanted: '{}: {}' at {}", name, text, map.place(key));
  return value;
}

Padding read_padding(const StrictMap& top) {
  const StrictMap map = top.map("pad", {"sizes", "axis", "inputs", "outputs"});
  Padding padding{.sizes = map.integers("sizes", 1, int64_t{1} << 30), .axis = map.integer("axis", 1, 1, 7)};
  for (const auto& [name, value] : map.pairs("inputs")) padding.inputs[name] = number(map, "inputs", name, value);
  for (const auto& [name, axis] : map.pairs("outputs"))
    padding.outputs[name] = static_cast<int64_t>(std::clamp(number(map, "outputs", name, axis), 1.0, 7.0));
  if (padding.sizes.empty() || padding.sizes.size() > 64 || padding.inputs.empty() ||
      std::adjacent_find(padding.sizes.begin(), padding.sizes.end(), std::greater_equal<>()) != padding.sizes.end())
    fail(ErrorCode::kInvalidArgument,
         "`pad` needs `inputs` with what each is filled up with, and up to 64 ascending `sizes`: {}", top.place("pad"));
  return padding;
}
}  // namespace

ModelConfig parse_model_config(const std::string& text, const std::string& path) {
  const StrictMap top(parse_yaml(text, path), path,
                      {"batching", "instances", "threads", "timeout_ms", "dims", "max_shapes", "max_value_mib",
                       "max_run_seconds", "pad", "sticky", "preprocess", "classes", "prepare"});
  ModelConfig config;
  const StrictMap batching = top.map("batching", {"max_rows", "delay_us", "max_queue"});
  BatchingOptions& b = config.batching;
  b.max_rows = batching.integer("max_rows", b.max_rows, 1, 4096);
  b.delay_us = batching.integer("delay_us", b.delay_us, 0, 10'000'000);
  b.max_queue = batching.integer("max_queue", b.max_queue, 1, 1'000'000);
  config.instances = static_cast<int>(top.integer("instances", config.instances, 1, 256));
  config.threads = static_cast<int>(top.integer("threads", config.threads, 1, 1024));
  config.timeout_ms = top.integer("timeout_ms", 0, 0, 86'400'000);
  for (const auto& [name, size] : top.pairs("dims")) {
    const bool number = !size.empty() && size.size() < 10 && size.find_first_not_of("0123456789") == std::string::npos;
    if (!number || std::stoll(size) < 1)
      fail(ErrorCode::kInvalidArgument, "A dimension needs a positive size: '{}: {}' at {}", name, size,
           top.place("dims"));
    config.dims[name] = std::stoll(size);
  }
  config.max_shapes = top.integer("max_shapes", config.max_shapes, 1, 10'000);
  config.max_value_mib = top.integer("max_value_mib", config.max_value_mib, 1, int64_t{1} << 24);
  config.max_run_seconds = top.integer("max_run_seconds", config.max_run_seconds, 1, 86'400);
  if (top.has("pad")) config.padding = read_padding(top);
  const StrictMap sticky = top.map("sticky", {"header", "parameter"});
  config.sticky_header = sticky.text("header");
  config.sticky_parameter = sticky.text("parameter");
  if (top.has("preprocess")) config.preprocess = read_preprocess(top);
  config.labels = read_class_names(top, parent_folder(path));
  const StrictMap prepare = top.map("prepare", {"seconds", "memory_mib"});
  config.prepare.seconds = prepare.integer("seconds", config.prepare.seconds, 1, 86'400);
  config.prepare.memory_mib = prepare.integer("memory_mib", 0, 0, int64_t{1} << 24);
  return config;
}

ModelConfig load_model_config(const std::string& repository, const std::string& model) {
  const std::optional<std::string> text = model_config_text(repository, model);
  return text ? parse_model_config(*text, model_config_path(repository, model)) : ModelConfig();
}

std::optional<std::string> model_config_text(const std::string& repository, const std::string& model) {
  const std::string path = model_config_path(repository, model);
  if (!file_exists(path)) return std::nullopt;
  return read_text_file(path, kMaxConfigBytes);
}

std::string model_config_path(const std::string& repository, const std::string& model) {
  return join_path(join_path(repository, model), "config.yaml");
}

std::string model_config_template() {
  return R"(# How Slipway serves this model; every key may be left out. NAME/config.yaml in the repository.
batching:
  max_rows: 16       # rows of a batch, where rows are proven independent; plans that do not pay are dropped
  delay_us: 0        # how long an idle instance waits for more requests
  max_queue: 256     # requests waiting; beyond, they are refused (503)
instances: 1         # batches computed at the same time
threads: 1           # of one batch
timeout_ms: 0        # deadline of requests that bring none (504); 0: none
prepare:             # a version is built, timed and checked in a process of its own, which may take
  seconds: 600
  memory_mib: 0      # 0: half of what the server's memory limit leaves free
max_shapes: 32       # of a model with more free dimensions than its batch: how many shapes are kept prepared
max_value_mib: 1024  # and how large a value may become whose size follows from the request (400)
max_run_seconds: 60  # and how long a loop may go on that a request makes long (504)
# pad:                                 # lets sequences of different lengths share a batch; refused where it changes answers
#   sizes: [16, 32, 64, 128, 256]      # lengths that they are filled up to
#   axis: 1                            # of the inputs
#   inputs: {input_ids: 0, attention_mask: 0}   # what each is filled up with
#   outputs: {last_hidden_state: 1}    # axis along which an output is cut back
# dims: {sequence: 128}                # fixes free dimensions, so that plans are made and timed beforehand
# sticky: {header: X-User, parameter: user}   # what keeps a caller on one version during a rollout; else the request's id
# preprocess: {resize: 256, crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}  # where the ONNX file has none
# classes: labels.txt                  # or a list
)";
}

}  // namespace slipway
