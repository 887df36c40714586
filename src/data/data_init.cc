// Guesses a data file. Each guess looks for one layout and returns its lines, or nothing; the first that fits wins:
// IDX pairs, CIFAR-10 batches, .npz, .npy, files listed in a CSV, a table of numbers, train/ and test/ folders of
// pictures, class folders, a flat folder, folders of .npy files.
#include "data/data_init.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/data_init_guess.h"
#include "data/file_bytes.h"

namespace slipway {
namespace {

constexpr int64_t kCalibrationCount = 256;

bool has(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

bool is_training(const std::string& name) { return has(name, "train"); }

std::string splits_text(const DataGuess& guess, int64_t available) {
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

std::optional<DataGuess> guess_idx(const DataFolder& folder) {
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
    const std::string text = indent + "images: " + yaml_text(folder.named(pair.images)) + "\n";
    return pair.labels.empty() ? text : text + indent + "labels: " + yaml_text(folder.named(pair.labels)) + "\n";
  };
  const auto train = std::find_if(pairs.begin(), pairs.end(), [](const Pair& p) { return is_training(p.images); });
  const auto test = std::find_if(pairs.begin(), pairs.end(), [](const Pair& p) { return !is_training(p.images); });
  DataGuess guess;
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

std::optional<DataGuess> guess_cifar10(const DataFolder& folder) {
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
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + yaml_text(folder.named(name));
    return names.size() == 1 ? text : "[" + text + "]";
  };
  const auto describe = [&](const std::vector<std::string>& names) {
    return SourceDescription{.format = "cifar10", .files = {join_path(folder.path, names.front())}};
  };
  DataGuess guess;
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

bool holds_pictures(const std::string& folder) {
  for (const std::string& name : list_folder(folder)) {
    if (is_picture_file(name)) return true;
    if (!is_folder(join_path(folder, name))) continue;
    const std::vector<std::string> inner = list_folder(join_path(folder, name));
    if (std::any_of(inner.begin(), inner.end(), is_picture_file)) return true;
  }
  return false;
}

std::optional<DataGuess> guess_pictures(const DataFolder& folder) {
  std::string train, test;
  for (const std::string& name : folder.folders) {
    if (!holds_pictures(join_path(folder.path, name))) continue;
    if (is_training(name)) train = name;
    if (has(name, "test") || has(name, "val")) test = name;
  }
  DataGuess guess;
  guess.head = "format: folder  # of JPEG and PNG files; the sub-folders' names are the labels\n";
  if (!train.empty() && !test.empty()) {
    guess.calibration = "  folder: " + yaml_text(folder.named(train)) + "\n";
    guess.test = "  folder: " + yaml_text(folder.named(test)) + "\n";
    guess.calibration_source = {.format = "folder", .folder = join_path(folder.path, train)};
    guess.test_source = {.format = "folder", .folder = join_path(folder.path, test)};
    return guess;
  }
  if (!holds_pictures(folder.path)) return {};
  guess.head += "folder: " + yaml_text(folder.prefix.empty() ? "." : folder.prefix) + "\n";
  if (std::any_of(folder.files.begin(), folder.files.end(), is_picture_file))
    guess.head +=
        "# The pictures lie flat, so they have no labels yet; either of these gives them:\n"
        "# labels: labels.csv             # rows of file,label\n"
        "# label_pattern: \"{label}_*.jpg\"  # the label is part of the file's name\n";
  guess.test_source = {.format = "folder", .folder = folder.path};
  return guess;
}

/// An integer of more than 8 bits is an id or a count, which stays one.
std::string array_dtype(const SampleSource& samples, const FeedPort* port) {
  if (port != nullptr) return std::string(to_string(port->dtype));
  const DType dtype = samples.array(0).dtype();
  return is_integer(dtype) && bits_of(dtype) > 8 ? std::string(to_string(dtype)) : "f32";
}

/// `port`: the model's only input; null: not known.
std::string preprocess_text(const SampleSource& samples, const FeedPort* port) {
  std::string text =
      "\n# From a sample to the model's input. It must be what the model was trained with: a wrong scale or mean is "
      "the\n"
      "# usual reason for an accuracy near chance. `slipway data preview` shows the result.\npreprocess:\n"
      "  # input: x             # the model's input; needed only if it has several\n";
  if (!samples.is_image())
    return text +
           fmt::format("  # The samples are arrays of {} {}; each value becomes (value * scale - mean) / std.\n",
                       to_string(samples.array(0).dtype()), to_string(samples.array(0).dims())) +
           fmt::format("  scale: 1\n  # mean: 0\n  # std: 1\n  dtype: {:<16}# the input's element type\n",
                       array_dtype(samples, port));
  if (port != nullptr) {
    std::string keys = picture_keys(*port);
    for (size_t at = 0; (at = keys.find(", ", at)) != std::string::npos;)
      if (keys.find(']', at) < keys.find('[', at))
        at += 2;
      else
        keys.replace(at, 2, "\n  ");
    return text + "  # What the model's input " + to_string(port->shape) +
           " asks for; `crop` after a larger `resize` cuts the middle out.\n  " + keys +
           "\n  # interpolation: bilinear # nearest, bilinear, bicubic, lanczos, hamming, box: as Pillow's\n"
           "  # mean: [0.485, 0.456, 0.406]  # ImageNet's, as in torchvision\n"
           "  # std: [0.229, 0.224, 0.225]\n";
  }
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

std::string ending_text(const std::string& classes) {
  return "\n# The names of the model's classes, by index: a list, or a text file with one a line.\n" +
         (classes.empty() ? "# classes: classes.txt\n" : classes) +
         "# If the data number the classes differently than the model:\n"
         "# label_offset: 1                # added to each label, e.g. for 1001 classes\n"
         "# label_map: {n01440764: 0, n02102040: 217}  # the data's label: the model's index\n"
         "# on_bad_sample: skip            # leave out what can't be read, up to 5 % of a split; default: refuse\n";
}

}  // namespace

std::string data_init_text(const std::string& path, const std::string& prefix, std::span<const FeedPort> ports) {
  if (!is_folder(path)) fail(ErrorCode::kNotFound, "There is no such folder; check the path: {}", path);
  const DataFolder folder = DataFolder::list(path, prefix);
  const std::string head = "# A data set for Slipway. Paths are relative to this file" +
                           std::string(prefix.empty() ? ", which belongs into the folder itself" : "") + ".\n";
  if (ports.size() > 1) {
    int64_t samples = 0;
    const std::string inputs = named_inputs_text(folder, ports, samples);
    return head + inputs + splits_text({}, samples) + ending_text("");
  }
  std::optional<DataGuess> guess;
  for (const auto& attempt :
       {guess_idx, guess_cifar10, guess_arrays, guess_listed_files, guess_table, guess_pictures, guess_array_files})
    if (!guess) guess = attempt(folder);
  if (!guess)
    fail(
        ErrorCode::kNotFound,
        "No data were recognised (IDX, CIFAR-10 .bin, .npz, .npy, a CSV of files or numbers, JPEG or PNG pictures): {}",
        path);
  const auto samples = open_source(guess->test_source);
  const int64_t available =
      guess->calibration.empty() ? samples->size() : open_source(guess->calibration_source)->size();
  return head + guess->head + splits_text(*guess, available) +
         preprocess_text(*samples, ports.empty() ? nullptr : &ports[0]) +
         (samples->is_image() ? "# augment: {crop: 4, flip: true}  # in training: shifted by up to 4 pixels, mirrored "
                                "half the time\n"
                              : "") +
         "\n# A model with several inputs: describe each by its name in the model, instead of `inputs` and "
         "`preprocess`\n"
         "# above. Each may have its own format and preprocess. `slipway data init FOLDER --model MODEL` writes them.\n"
         "# inputs:\n"
         "#   input_ids: ids.npy                             # one row a sample\n"
         "#   attention_mask: {constant: 1, like: input_ids}\n" +
         ending_text(guess->classes);
}

}  // namespace slipway
