// The data file's YAML into a description. The keys of a source may stand at the top, for all splits, or inside a
// split, which then overrides them. A training split that names no samples takes calibration's.
#include "data/data_file.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "data/strict_yaml.h"

namespace slipway {
namespace {

/// The keys of a source, and `more`.
std::vector<std::string_view> source_keys(std::initializer_list<std::string_view> more) {
  std::vector<std::string_view> keys = {"folder",        "files",        "images",  "inputs", "labels",
                                        "label_pattern", "label_column", "samples", "dims",   "dtype"};
  keys.insert(keys.end(), more);
  return keys;
}

constexpr int64_t kMaxCount = int64_t{1} << 40, kMaxClasses = 1 << 20;

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
    if (map.has(key)) source.inputs = archive ? map.text(key) : join_path(folder, map.text(key));
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

SplitDescription read_split(const StrictMap& top, const char* key, const std::string& folder,
                            const SourceDescription& shared) {
  SplitDescription split;
  split.source = shared;
  if (!top.has(key)) return split;
  const StrictMap map = top.map(key, source_keys({"count", "seed"}));
  split.exists = true;
  read_source(map, folder, split.source);
  split.count = map.integer("count", -1, 1, kMaxCount);
  split.seed = static_cast<uint64_t>(map.integer("seed", 0, 0, INT64_MAX));
  return split;
}

bool names_samples(const SourceDescription& source) {
  return !source.folder.empty() || !source.files.empty() || !source.inputs.empty() || !source.labels.empty();
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
  shared.format = top.choice("format", "", {"folder", "csv", "cifar10", "idx", "npy", "npz", "raw"});
  if (shared.format.empty())
    fail(ErrorCode::kInvalidArgument,
         "The data file lacks `format`; add one of folder, csv, cifar10, idx, npy, npz, raw: {}", path);
  read_source(top, folder, shared);
  data.calibration = read_split(top, "calibration", folder, shared);
  data.test = read_split(top, "test", folder, shared);
  data.train = read_split(top, "train", folder, shared);
  if (data.train.source == shared && !names_samples(shared)) data.train.source = data.calibration.source;
  data.augment = read_augment(top);
  const SourceDescription nothing{.format = shared.format};
  data.test.exists = data.test.exists || shared != nothing;
  if (!data.calibration.exists && !data.test.exists)
    fail(ErrorCode::kInvalidArgument,
         "The data file names no samples to calibrate or test with; `slipway data init FOLDER` writes one: {}", path);
  data.preprocess = read_preprocess(top);
  data.has_scale = top.has("preprocess") && top.node("preprocess")["scale"].IsDefined();
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
