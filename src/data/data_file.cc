// The data file's YAML into a description. The keys of a source may stand at the top, for all splits, or inside a
// split, which then overrides them. A training split that names no samples takes calibration's.
#include "data/data_file.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "data/strict_yaml.h"

namespace slipway {
namespace {

/// The keys of a source, and `more`.
std::vector<std::string_view> source_keys(std::initializer_list<std::string_view> more) {
  std::vector<std::string_view> keys = {"folder",       "files",   "images", "inputs", "labels", "label_pattern",
                                        "label_column", "samples", "dims",   "dtype",  "columns"};
  keys.insert(keys.end(), more);
  return keys;
}

constexpr int64_t kMaxCount = int64_t{1} << 40, kMaxClasses = 1 << 20;
constexpr size_t kMaxInputs = 256;

void check_pattern(const StrictMap& map, const std::string& pattern) {
  const size_t mark = pattern.find("{label}");
  if (mark == std::string::npos || pattern.find("{label}", mark + 1) != std::string::npos || pattern.size() > 256 ||
      std::count(pattern.begin(), pattern.end(), '*') > 6)
    fail(ErrorCode::kInvalidArgument,
         "The pattern needs one {{label}} and at most six `*`, e.g. \"*_{{label}}.png\": '{}' at {}", pattern,
         map.place("label_pattern"));
}

/// Overrides what `map` states. Paths become relative to `folder`, the data file's.
void read_source(const StrictMap& map, const std::string& folder, SourceDescription& source) {
  const auto path = [&](std::string_view key, std::string& field) {
    if (map.has(key)) field = join_path(folder, map.text(key));
  };
  const bool archive = source.format == "npz";
  path("folder", source.folder);
  if (map.has("files")) {
    source.files.clear();
    for (const std::string& file : map.texts("files")) source.files.push_back(join_path(folder, file));
  }
  if (map.has("images") && map.has("inputs"))
    fail(ErrorCode::kInvalidArgument, "`images` and `inputs` mean the same; keep one: {}", map.place("inputs"));
  for (const char* key : {"images", "inputs"})
    if (map.has(key) && !map.node(key).IsMap())
      source.inputs = archive ? map.text(key) : join_path(folder, map.text(key));
  if (map.has("columns")) source.columns = map.texts("columns");
  if (map.has("labels")) source.labels = archive ? map.text("labels") : join_path(folder, map.text("labels"));
  source.label_pattern = map.text("label_pattern", source.label_pattern);
  if (map.has("label_pattern")) check_pattern(map, source.label_pattern);
  source.label_column = map.text("label_column", source.label_column);
  source.samples = map.choice("samples", source.samples, {"auto", "images", "arrays"});
  if (map.has("dims")) {
    source.dims = map.integers("dims", 1, int64_t{1} << 30);
    if (source.dims.size() > 8 || bytes_of(DType::kFloat64, element_count(source.dims)) > (size_t{1} << 30))
      fail(ErrorCode::kInvalidArgument, "A raw sample is larger than 1 GiB; correct the key: {}", map.place("dims"));
  }
  if (map.has("dtype")) {
    source.dtype = parse_dtype(map.text("dtype"));
    if (bits_of(source.dtype) < 8)
      fail(ErrorCode::kInvalidArgument, "There is no such element type; use i8, u8, i16, f32 or the like: '{}' at {}",
           map.text("dtype"), map.place("dtype"));
  }
  // A CSV of files stands beside them unless the data file says where they are.
  if (source.format == "csv" && source.folder.empty() && !source.labels.empty())
    source.folder = parent_folder(source.labels);
}

const std::vector<std::string_view> kFormats = {"folder", "csv", "cifar10", "idx", "npy", "npz", "raw"};

/// One line of `inputs`, which maps the model's inputs to where their samples are: keys of a source, or a text alone.
struct NamedInput {
  std::string name, text;
  std::optional<StrictMap> map;
};

/// In the file's order; empty where `inputs` is no mapping.
std::vector<NamedInput> named_inputs(const StrictMap& map) {
  std::vector<NamedInput> inputs;
  if (!map.has("inputs") || !map.node("inputs").IsMap()) return inputs;
  for (const auto& entry : map.node("inputs")) {
    NamedInput input{.name = entry.first.IsScalar() ? entry.first.Scalar() : ""};
    if (input.name.empty())
      fail(ErrorCode::kInvalidArgument, "An input needs its name in the model: {}", map.place("inputs"));
    if (std::any_of(inputs.begin(), inputs.end(), [&](const auto& other) { return other.name == input.name; }))
      fail(ErrorCode::kInvalidArgument, "An input stands twice; keep one: '{}' in {}", input.name, map.place("inputs"));
    if (entry.second.IsScalar())
      input.text = entry.second.Scalar();
    else
      input.map.emplace(entry.second, map.path(), source_keys({"format", "preprocess", "constant", "like"}));
    inputs.push_back(std::move(input));
  }
  if (inputs.empty() || inputs.size() > kMaxInputs)
    fail(ErrorCode::kInvalidArgument, "Between 1 and {} inputs of the model are expected here: {}", kMaxInputs,
         map.place("inputs"));
  return inputs;
}

/// Overrides what the line states.
void read_named_source(const NamedInput& input, const std::string& folder, SourceDescription& source) {
  if (input.map) {
    source.format = input.map->choice("format", source.format, kFormats);
    input.map->text("inputs");  // one place, and no mapping again
    return read_source(*input.map, folder, source);
  }
  const bool files = source.format == "folder" || source.format == "raw";
  (files ? source.folder : source.inputs) = source.format == "npz" ? input.text : join_path(folder, input.text);
}

ConstantInput read_constant(const NamedInput& input) {
  const StrictMap& map = *input.map;
  ConstantInput constant{.name = input.name, .value = map.real("constant", 0), .dims = {}, .like = map.text("like")};
  if (map.has("dims")) constant.dims = map.integers("dims", 1, kMaxConstant);
  if (constant.dims.size() > 8 || element_count(constant.dims) > kMaxConstant)
    fail(ErrorCode::kInvalidArgument, "A constant of more than {} elements is too large: {}", kMaxConstant,
         map.place("dims"));
  if (!constant.dims.empty() && !constant.like.empty())
    fail(ErrorCode::kInvalidArgument, "`dims` and `like` both say how large a constant is; keep one: {}",
         map.place("like"));
  return constant;
}

InputDescription read_input(const StrictMap& map, std::string name) {
  InputDescription input{.name = std::move(name), .preprocess = read_preprocess(map)};
  const bool any = map.has("preprocess");
  input.has_scale = any && map.node("preprocess")["scale"].IsDefined();
  input.keeps_dtype = !input.name.empty() && !(any && map.node("preprocess")["dtype"].IsDefined());
  if (input.name.empty()) {
    input.name = input.preprocess.input;
  } else if (!input.preprocess.input.empty() && input.preprocess.input != input.name) {
    fail(ErrorCode::kInvalidArgument, "`input` contradicts the name above it; leave it out: '{}' in {}",
         input.preprocess.input, map.place("preprocess"));
  } else {
    input.preprocess.input = input.name;
  }
  return input;
}

SplitDescription read_split(const StrictMap& top, const char* key, const std::string& folder, const DataFile& data,
                            const std::vector<SourceDescription>& shared) {
  SplitDescription split;
  split.sources = shared;
  if (!top.has(key)) return split;
  const StrictMap map = top.map(key, source_keys({"count", "seed"}));
  split.exists = true;
  for (SourceDescription& source : split.sources) read_source(map, folder, source);
  for (const NamedInput& input : named_inputs(map)) {
    const auto at = std::find_if(data.inputs.begin(), data.inputs.end(),
                                 [&](const InputDescription& known) { return known.name == input.name; });
    if (at == data.inputs.end() || (input.map && input.map->has("constant")))
      fail(ErrorCode::kInvalidArgument,
           "A split may only say where samples of the inputs at the top of the file are: '{}' at {}", input.name,
           map.place("inputs"));
    read_named_source(input, folder, split.sources[static_cast<size_t>(at - data.inputs.begin())]);
  }
  split.count = map.integer("count", -1, 1, kMaxCount);
  split.seed = static_cast<uint64_t>(map.integer("seed", 0, 0, INT64_MAX));
  return split;
}

bool names_samples(const SourceDescription& source) {
  return !source.folder.empty() || !source.files.empty() || !source.labels.empty() ||
         (!source.inputs.empty() && source.format != "npz");
}

/// The inputs of `inputs`, and their sources where no split says more; else the only one, from the keys at the top.
std::vector<SourceDescription> read_inputs(const StrictMap& top, const std::string& folder,
                                           const SourceDescription& shared, DataFile& data) {
  const std::vector<NamedInput> named = named_inputs(top);
  if (named.empty()) {
    data.inputs.push_back(read_input(top, ""));
    return {shared};
  }
  if (top.has("preprocess"))
    fail(ErrorCode::kInvalidArgument, "Each input has a pre-processing of its own; put the key below its name: {}",
         top.place("preprocess"));
  std::vector<SourceDescription> sources;
  for (const NamedInput& input : named) {
    if (input.map && input.map->has("constant")) {
      data.constants.push_back(read_constant(input));
      continue;
    }
    if (input.map && input.map->has("like"))
      fail(ErrorCode::kInvalidArgument, "`like` says how large a `constant` is; there is none: {}",
           input.map->place("like"));
    read_named_source(input, folder, sources.emplace_back(shared));
    data.inputs.push_back(
        input.map ? read_input(*input.map, input.name)
                  : InputDescription{.name = input.name, .preprocess = {.input = input.name}, .keeps_dtype = true});
  }
  if (data.inputs.empty())
    fail(ErrorCode::kInvalidArgument, "All inputs are constants; at least one must come from samples: {}",
         top.place("inputs"));
  for (const ConstantInput& constant : data.constants)
    if (!constant.like.empty() && std::none_of(data.inputs.begin(), data.inputs.end(),
                                               [&](const auto& input) { return input.name == constant.like; }))
      fail(ErrorCode::kInvalidArgument, "`like` names no input that comes from samples: '{}' at {}", constant.like,
           top.place("inputs"));
  return sources;
}

std::optional<Augment> read_augment(const StrictMap& top) {
  if (!top.has("augment")) return {};
  const StrictMap map = top.map("augment", {"crop", "flip"});
  return Augment{.crop = map.integer("crop", 0, 0, kMaxAugmentCrop), .flip = map.flag("flip", false)};
}

/// One number for both sides, or [height, width].
bool read_sides(const StrictMap& map, const char* key, int64_t& height, int64_t& width) {
  const auto sides = map.integers(key, 1, kMaxImageSide);
  if (!map.has(key)) return false;
  if (sides.empty() || sides.size() > 2)
    fail(ErrorCode::kInvalidArgument, "One number or [height, width] is expected here: {}", map.place(key));
  height = sides.front(), width = sides.back();
  return sides.size() == 2;
}

}  // namespace

Preprocess read_preprocess(const StrictMap& top) {
  const StrictMap map = top.map(
      "preprocess", {"input", "resize", "crop", "interpolation", "color", "scale", "mean", "std", "layout", "dtype"});
  Preprocess how;
  how.input = map.text("input");
  if (int64_t height = 0, width = 0; read_sides(map, "resize", height, width))
    how.resize_height = height, how.resize_width = width;
  else
    how.resize_shorter = height;
  read_sides(map, "crop", how.crop_height, how.crop_width);
  how.interpolation =
      map.choice("interpolation", how.interpolation, {"nearest", "bilinear", "bicubic", "lanczos", "hamming", "box"});
  how.color = map.choice("color", how.color, {"rgb", "bgr", "gray"});
  how.scale = map.real("scale", how.scale);
  how.mean = map.reals("mean");
  how.std = map.reals("std");
  if (std::count(how.std.begin(), how.std.end(), 0.0) > 0)
    fail(ErrorCode::kInvalidArgument, "A std of 0 divides by zero; leave the key out for 1: {}", map.place("std"));
  how.layout = map.choice("layout", how.layout, {"nchw", "nhwc"});
  how.dtype = map.choice("dtype", how.dtype, {"f32", "f16", "f64", "u8", "i8", "u16", "i16", "i32", "i64", "bool"});
  return how;
}

std::vector<std::string> read_class_names(const StrictMap& top, const std::string& folder) {
  std::vector<std::string> classes;
  if (!top.has("classes")) return classes;
  if (top.node("classes").IsSequence()) {
    classes = top.texts("classes");
  } else {
    const std::string path = join_path(folder, top.text("classes"));
    std::string_view text, rest;
    const std::string contents = read_text_file(path);
    for (rest = contents; !rest.empty(); rest.remove_prefix(std::min(text.size() + 1, rest.size()))) {
      text = rest.substr(0, rest.find('\n'));
      classes.emplace_back(text.substr(0, text.size() - text.ends_with('\r')));
    }
  }
  if (classes.empty() || classes.size() > kMaxClasses)
    fail(ErrorCode::kInvalidArgument, "The class names are missing; give a list or a text file with one a line: {}",
         top.place("classes"));
  return classes;
}

DataFile parse_data_file(const std::string& text, const std::string& path) {
  const StrictMap top(parse_yaml(text, path), path,
                      source_keys({"format", "calibration", "test", "train", "augment", "preprocess", "classes",
                                   "label_map", "label_offset", "on_bad_sample"}));
  const std::string folder = parent_folder(path);
  DataFile data;
  SourceDescription shared;
  shared.format = top.choice("format", "", kFormats);
  read_source(top, folder, shared);
  const std::vector<SourceDescription> sources = read_inputs(top, folder, shared, data);
  for (const SourceDescription& source : sources)
    if (source.format.empty())
      fail(ErrorCode::kInvalidArgument, "The data file lacks `format`; add one of {}: {}", fmt::join(kFormats, ", "),
           path);
  data.calibration = read_split(top, "calibration", folder, data, sources);
  data.test = read_split(top, "test", folder, data, sources);
  data.train = read_split(top, "train", folder, data, sources);
  const bool named = std::any_of(sources.begin(), sources.end(), names_samples);
  if (data.train.sources == sources && !named) data.train.sources = data.calibration.sources;
  data.augment = read_augment(top);
  data.test.exists = data.test.exists || named;
  if (!data.calibration.exists && !data.test.exists)
    fail(ErrorCode::kInvalidArgument,
         "The data file names no samples to calibrate or test with; `slipway data init FOLDER` writes one: {}", path);
  data.classes = read_class_names(top, folder);
  for (auto& [label, index] : top.pairs("label_map")) {
    int64_t value = -1;
    if (index.size() < 10 && !index.empty() &&
        std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; }))
      value = std::stoll(index);
    if (value < 0)
      fail(ErrorCode::kInvalidArgument, "A label must map to the index of a class: '{}: {}' at {}", label, index,
           top.place("label_map"));
    data.label_map[label] = value;
  }
  data.skip_bad_samples = top.choice("on_bad_sample", "refuse", {"refuse", "skip"}) == "skip";
  data.label_offset = top.integer("label_offset", 0, -kMaxClasses, kMaxClasses);
  return data;
}

}  // namespace slipway
