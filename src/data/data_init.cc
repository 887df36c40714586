// Guesses a data file. Each guess looks for one layout and returns its lines, or nothing; the first that fits wins:
// IDX pairs, CIFAR-10 batches, .npz, .npy, pictures listed in a CSV, train/ and test/ folders, class folders, a flat
// folder, raw records of one size.
#include "data/data_init.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/csv.h"
#include "data/file_bytes.h"
#include "data/npy.h"
#include "data/sample_source.h"

namespace slipway {
namespace {

constexpr int64_t kCalibrationCount = 256;

struct Folder {
  std::string path, prefix;
  std::vector<std::string> files, folders;
  std::string named(const std::string& name) const { return join_path(prefix, name); }
};

struct Guess {
  std::string head;               ///< the YAML of the format, and of the source when both splits share it
  std::string calibration, test;  ///< the indented lines of each split's own source; empty: shared
  SourceDescription calibration_source, test_source;
  std::string classes;
};

bool has(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

bool is_picture(const std::string& name) {
  for (const char* end : {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"})
    if (name.ends_with(end)) return true;
  return false;
}

bool is_training(const std::string& name) { return has(name, "train"); }

/// How a YAML list or value needs to be quoted is left to JSON's rules, which YAML shares.
std::string quoted(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
  });
  if (plain && text[0] != '-' && text[0] != '.') return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string splits_text(const Guess& guess, int64_t available) {
  if (!guess.calibration.empty())
    return fmt::format(
        "calibration:\n{}  count: {}  # drawn at random; 100 to 500 are usually enough\n  seed: 0\ntest:\n{}"
        "# train: {{count: 10000}}  # for `slipway qat`; without it, all samples that calibration is drawn from\n",
        guess.calibration, std::min(kCalibrationCount, available), guess.test);
  return fmt::format(
      "# Both splits are drawn from the same samples, without overlap. For figures you can publish, calibrate on\n"
      "# training data: give `calibration` its own files.\n"
      "calibration: {{count: {}, seed: 0}}  # 100 to 500 are usually enough\n"
      "test: {{}}                           # the others, or `count` of them\n"
      "# train: {{}}                        # for `slipway qat`; what `test` leaves: give it a `count`\n",
      std::clamp<int64_t>(available / 4, 1, kCalibrationCount));
}

std::optional<Guess> guess_idx(const Folder& folder) {
  struct Pair {
    std::string images, labels;
  };
  std::vector<Pair> pairs;
  for (const std::string& name : folder.files) {
    const size_t at = name.find("images");
    if (at == std::string::npos || (!has(name, "idx") && !has(name, "ubyte"))) continue;
    std::string labels = name;
    labels.replace(at, 6, "labels");
    if (const size_t rank = labels.find("idx3"); rank != std::string::npos) labels.replace(rank, 4, "idx1");
    const bool found = std::find(folder.files.begin(), folder.files.end(), labels) != folder.files.end();
    pairs.push_back({name, found ? labels : ""});
  }
  if (pairs.empty()) return {};
  const auto lines = [&](const Pair& pair, const std::string& indent) {
    const std::string text = indent + "images: " + quoted(folder.named(pair.images)) + "\n";
    return pair.labels.empty() ? text : text + indent + "labels: " + quoted(folder.named(pair.labels)) + "\n";
  };
  const auto train = std::find_if(pairs.begin(), pairs.end(), [](const Pair& p) { return is_training(p.images); });
  const auto test = std::find_if(pairs.begin(), pairs.end(), [](const Pair& p) { return !is_training(p.images); });
  Guess guess;
  guess.head = "format: idx  # MNIST's format, gzipped or not\n";
  const auto describe = [&](const Pair& pair) {
    return SourceDescription{.format = "idx", .inputs = join_path(folder.path, pair.images)};
  };
  if (train != pairs.end() && test != pairs.end()) {
    guess.calibration = lines(*train, "  ");
    guess.test = lines(*test, "  ");
    guess.calibration_source = describe(*train);
    guess.test_source = describe(*test);
  } else {
    guess.head += lines(pairs.front(), "");
    guess.test_source = describe(pairs.front());
  }
  return guess;
}

std::optional<Guess> guess_cifar10(const Folder& folder) {
  std::vector<std::string> train, test;
  for (const std::string& name : folder.files) {
    if (!name.ends_with(".bin") && !name.ends_with(".bin.gz")) continue;
    const std::string path = join_path(folder.path, name);
    if (!has(name, "batch") && !has(name, "train") && !has(name, "test")) continue;
    if (file_bytes(path) > (uint64_t{1} << 30) || open_bytes(path, uint64_t{1} << 31).bytes.size() % 3073 != 0)
      continue;
    (has(name, "test") ? test : train).push_back(name);
  }
  if (train.empty() && test.empty()) return {};
  const auto list = [&](const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + quoted(folder.named(name));
    return names.size() == 1 ? text : "[" + text + "]";
  };
  const auto describe = [&](const std::vector<std::string>& names) {
    return SourceDescription{.format = "cifar10", .files = {join_path(folder.path, names.front())}};
  };
  Guess guess;
  guess.head = "format: cifar10  # the binary form, gzipped or not\n";
  guess.classes = "classes: [airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]\n";
  guess.test_source = describe(test.empty() ? train : test);
  if (!train.empty() && !test.empty()) {
    guess.calibration = "  files: " + list(train) + "\n";
    guess.test = "  files: " + list(test) + "\n";
    guess.calibration_source = describe(train);
  } else {
    guess.head += "files: " + list(test.empty() ? train : test) + "\n";
  }
  return guess;
}

/// The likeliest of `names` for labels (or for inputs).
std::string pick(const std::vector<std::string>& names, bool labels) {
  for (const char* part : labels ? std::vector<const char*>{"label", "target", "y"}
                                 : std::vector<const char*>{"image", "input", "data", "x"})
    for (const std::string& name : names)
      if (has(name, part) && (std::string_view(part).size() > 1 || name.starts_with(part))) return name;
  return "";
}

std::optional<Guess> guess_arrays(const Folder& folder) {
  std::vector<std::string> npy, npz;
  for (const std::string& name : folder.files) {
    if (name.ends_with(".npy") || name.ends_with(".npy.gz")) npy.push_back(name);
    if (name.ends_with(".npz")) npz.push_back(name);
  }
  if (npy.empty() && npz.empty()) return {};
  Guess guess;
  std::vector<std::string> names = npy;
  const bool archive = !npz.empty();
  if (archive) {
    names.clear();
    const FileBytes bytes = open_bytes(join_path(folder.path, npz.front()));
    for (const std::string& member : zip_members(bytes.bytes, npz.front()))
      if (member.ends_with(".npy")) names.push_back(member.substr(0, member.size() - 4));
    guess.head = "format: npz\nfiles: " + quoted(folder.named(npz.front())) + "\n";
    guess.test_source = {.format = "npz", .files = {join_path(folder.path, npz.front())}};
  } else {
    guess.head = "format: npy\n";
    guess.test_source = {.format = "npy"};
  }
  const std::string labels = pick(names, true);
  std::string inputs = pick(names, false);
  if (inputs.empty() || inputs == labels)
    for (const std::string& name : names)
      if (name != labels) inputs = name;
  if (inputs.empty()) return {};
  guess.head += "inputs: " + quoted(archive ? inputs : folder.named(inputs)) + "  # samples along the first axis\n";
  guess.head += labels.empty() ? "# labels: labels.npy  # one whole number per sample; or a CSV file\n"
                               : "labels: " + quoted(archive ? labels : folder.named(labels)) + "\n";
  guess.test_source.inputs = archive ? inputs : join_path(folder.path, inputs);
  return guess;
}

std::optional<Guess> guess_csv(const Folder& folder) {
  for (const std::string& name : folder.files) {
    if (!name.ends_with(".csv")) continue;
    const CsvRows rows = read_csv(join_path(folder.path, name));
    if (rows.size() < 2) continue;
    const std::string& file = rows[1][0];
    const std::string path = join_path(folder.path, file);
    const size_t width = rows[1].size();
    if (!file_exists(path) || width < 2) continue;
    const std::string column =
        width == 2 ? "" : fmt::format("label_column: {}  # header or number of the labels' column\n", width);
    Guess guess;
    if (is_picture(file)) {
      guess.head = "format: csv  # each row names a picture and its label\nlabels: " + quoted(folder.named(name)) +
                   "\n" + column;
      guess.test_source = {.format = "csv", .folder = folder.path, .labels = join_path(folder.path, name)};
    } else {
      const auto bytes = static_cast<int64_t>(file_bytes(path));
      guess.head =
          "format: raw  # each file is one sample: numbers without a header\nfolder: " +
          quoted(folder.prefix.empty() ? "." : folder.prefix) + "\nlabels: " + quoted(folder.named(name)) + "\n" +
          column +
          fmt::format("dims: [{}]  # of a sample, e.g. [49, 10, 1]\ndtype: i8     # or u8, i16, f32, …\n", bytes);
      guess.test_source = {.format = "raw",
                           .folder = folder.path,
                           .labels = join_path(folder.path, name),
                           .dims = {bytes},
                           .dtype = DType::kInt8};
    }
    guess.test_source.label_column = width == 2 ? "" : std::to_string(width);
    return guess;
  }
  return {};
}

bool holds_pictures(const std::string& folder) {
  for (const std::string& name : list_folder(folder)) {
    if (is_picture(name)) return true;
    if (!is_folder(join_path(folder, name))) continue;
    for (const std::string& inner : list_folder(join_path(folder, name)))
      if (is_picture(inner)) return true;
  }
  return false;
}

std::optional<Guess> guess_pictures(const Folder& folder) {
  std::string train, test;
  for (const std::string& name : folder.folders) {
    if (!holds_pictures(join_path(folder.path, name))) continue;
    if (is_training(name)) train = name;
    if (has(name, "test") || has(name, "val")) test = name;
  }
  Guess guess;
  guess.head = "format: folder  # of JPEG and PNG files; the sub-folders' names are the labels\n";
  if (!train.empty() && !test.empty()) {
    guess.calibration = "  folder: " + quoted(folder.named(train)) + "\n";
    guess.test = "  folder: " + quoted(folder.named(test)) + "\n";
    guess.calibration_source = {.format = "folder", .folder = join_path(folder.path, train)};
    guess.test_source = {.format = "folder", .folder = join_path(folder.path, test)};
    return guess;
  }
  if (!holds_pictures(folder.path)) return {};
  guess.head += "folder: " + quoted(folder.prefix.empty() ? "." : folder.prefix) + "\n";
  if (std::any_of(folder.files.begin(), folder.files.end(), is_picture))
    guess.head +=
        "# The pictures lie flat, so they have no labels yet; either of these gives them:\n"
        "# labels: labels.csv             # rows of file,label\n"
        "# label_pattern: \"{label}_*.jpg\"  # the label is part of the file's name\n";
  guess.test_source = {.format = "folder", .folder = folder.path};
  return guess;
}

std::string preprocess_text(const SampleSource& samples) {
  std::string text =
      "\n# From a sample to the model's input. It must be what the model was trained with: a wrong scale or mean is "
      "the\n"
      "# usual reason for an accuracy near chance. `slipway data preview` shows the result.\npreprocess:\n"
      "  # input: x             # the model's input; needed only if it has several\n";
  if (!samples.is_image())
    return text +
           fmt::format("  # The samples are arrays of {} {}; each value becomes (value * scale - mean) / std.\n",
                       to_string(samples.array(0).dtype()), to_string(samples.array(0).dims())) +
           "  scale: 1\n  # mean: 0\n  # std: 1\n  dtype: f32             # the input's element type\n";
  const Image first = samples.image(0);
  bool sizes_differ = false;
  for (int64_t i = 1; i < std::min<int64_t>(samples.size(), 16) && !sizes_differ; ++i) {
    const Image other = samples.image(i);
    sizes_differ = other.height != first.height || other.width != first.width;
  }
  const bool large = sizes_differ || std::min(first.height, first.width) > 160;
  text += fmt::format("  # The {}picture is {}x{}, {}.\n", sizes_differ ? "first " : "", first.width, first.height,
                      first.channels == 1 ? "grey" : "colour");
  text += fmt::format(
      "  {}resize: 256            # the shorter side; or [height, width]\n"
      "  {}crop: 224              # from the centre; or [height, width]\n"
      "  {}interpolation: bilinear # nearest, bilinear, bicubic, lanczos, hamming, box: as Pillow's\n",
      large ? "" : "# ", large ? "" : "# ", large ? "" : "# ");
  text += fmt::format(
      "  color: {:<16}# rgb, bgr, gray\n"
      "  scale: 1/255           # 0..255 becomes 0..1; then (value - mean) / std. With mean and std in 0..255: scale: "
      "1\n",
      first.channels == 1 ? "gray" : "rgb");
  text += first.channels == 1 ? "  # mean: 0.5\n  # std: 0.5\n"
                              : "  # mean: [0.485, 0.456, 0.406]  # ImageNet's, as in torchvision\n"
                                "  # std: [0.229, 0.224, 0.225]\n";
  return text +
         "  layout: nchw           # PyTorch's; TensorFlow's is nhwc\n"
         "  # dtype: f32           # the input's element type\n";
}

}  // namespace

std::string data_init_text(const std::string& path, const std::string& prefix) {
  if (!is_folder(path)) fail(ErrorCode::kNotFound, "There is no such folder; check the path: {}", path);
  Folder folder{path, prefix, {}, {}};
  for (std::string& name : list_folder(path))
    (is_folder(join_path(path, name)) ? folder.folders : folder.files).push_back(std::move(name));
  std::optional<Guess> guess;
  for (const auto& attempt : {guess_idx, guess_cifar10, guess_arrays, guess_csv, guess_pictures})
    if (!guess) guess = attempt(folder);
  if (!guess)
    fail(ErrorCode::kNotFound,
         "No data were recognised (IDX, CIFAR-10 .bin, .npz, .npy, a CSV of files, JPEG or PNG pictures): {}", path);
  const auto samples = open_source(guess->test_source);
  const int64_t available =
      guess->calibration.empty() ? samples->size() : open_source(guess->calibration_source)->size();
  return "# A data set for Slipway. Paths are relative to this file" +
         std::string(prefix.empty() ? ", which belongs into the folder itself" : "") + ".\n" + guess->head +
         splits_text(*guess, available) + preprocess_text(*samples) +
         (samples->is_image() ? "# augment: {crop: 4, flip: true}  # in training: shifted by up to 4 pixels, mirrored "
                                "half the time\n"
                              : "") +
         "\n# A model with several inputs: describe each by its name in the model, instead of `inputs` and "
         "`preprocess`\n"
         "# above. Each may have its own format and preprocess.\n"
         "# inputs:\n"
         "#   input_ids: ids.npy                             # one row a sample\n"
         "#   attention_mask: {constant: 1, like: input_ids}\n"
         "\n# The names of the model's classes, by index: a list, or a text file with one a line.\n" +
         (guess->classes.empty() ? "# classes: classes.txt\n" : guess->classes) +
         "# If the data number the classes differently than the model:\n"
         "# label_offset: 1                # added to each label, e.g. for 1001 classes\n"
         "# label_map: {n01440764: 0, n02102040: 217}  # the data's label: the model's index\n"
         "# on_bad_sample: skip            # leave out what can't be read, up to 5 % of a split; default: refuse\n";
}

}  // namespace slipway
