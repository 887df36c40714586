// A data file for a model with several inputs: what lies in the folder, an array, a folder or a table at a time, is
// given to the input whose name it has, else to the one that it fits by kind and rank. What is left becomes a constant
// where its name says which (masks are 1, types and states 0), else a line to fill in.
#include <algorithm>
#include <cctype>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "data/data_init_guess.h"
#include "data/npy.h"

namespace slipway {
namespace {

constexpr int kSameName = 1000, kLikeName = 100, kKind = 10;

/// Something that may fill an input.
struct Part {
  std::string name;
  SourceDescription source;
  std::vector<std::string> lines;  ///< "key: value" of the data file
  std::string labels;              ///< that it brings: lines at the top; empty: none
  bool picture = false;
  DType dtype = DType::kUndefined;
  Dims dims = {};  ///< of the first sample
};

std::string simplified(const std::string& name) {
  std::string out;
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool contains_text(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

class InputGuesses {
 public:
  InputGuesses(const DataFolder& folder, std::span<const FeedPort> ports) : folder_(folder), ports_(ports) {
    for (const std::string& name : folder.files) add_file(name);
    for (const std::string& name : folder.folders) add_folder(name, name);
    if (std::any_of(folder.files.begin(), folder.files.end(), is_picture_file)) add_folder("", "");
    add_tables();
    match();
  }

  std::string text() const {
    std::string out, labels = labels_text();
    out += labels;
    out += "inputs:  # by their names in the model; samples are matched by their order\n";
    for (const size_t port : order_) out += input_text(port);
    return out;
  }

  int64_t samples() const {
    return order_.empty() || !part_of(order_[0]) ? 0 : open_source(part_of(order_[0])->source)->size();
  }

 private:
  const Part* part_of(size_t port) const {
    const auto found = taken_.find(port);
    return found == taken_.end() ? nullptr : &parts_[found->second];
  }

  void add(Part part) {
    const auto source = open_source(part.source);
    part.picture = source->is_image();
    if (!part.picture) {
      const Tensor first = source->array(0);
      part.dtype = first.dtype();
      part.dims = first.dims();
    }
    parts_.push_back(std::move(part));
  }

  void add_file(const std::string& name) {
    const std::string path = join_path(folder_.path, name), shown = yaml_text(folder_.named(name));
    if (name.ends_with(".npy")) {
      if (rows_of_array(read_npy(path)) > 0)
        add({name.substr(0, name.size() - 4), {.format = "npy", .inputs = path}, {"format: npy", "inputs: " + shown}});
    } else if (name.ends_with(".npz")) {
      const FileBytes bytes = open_bytes(path);
      for (const auto& [member, array] : parse_npz(bytes.bytes, name))
        if (rows_of_array(array) > 0)
          add({member,
               {.format = "npz", .files = {path}, .inputs = member},
               {"format: npz", "files: " + shown, "inputs: " + yaml_text(member)}});
    }
  }

  void add_folder(const std::string& name, const std::string& inner) {
    const std::string path = inner.empty() ? folder_.path : join_path(folder_.path, inner);
    std::string shown = inner.empty() ? folder_.prefix : folder_.named(inner);
    if (shown.empty()) shown = ".";
    const DataFolder inside = DataFolder::list(path, shown);
    SourceDescription source{.format = "folder", .folder = path};
    std::vector<std::string> lines = {"format: folder", "folder: " + yaml_text(shown)};
    if (std::any_of(inside.files.begin(), inside.files.end(), is_picture_file)) return add({name, source, lines});
    source.samples = "arrays";
    lines.emplace_back("samples: arrays  # .npy files; their lengths may differ");
    if (std::any_of(inside.files.begin(), inside.files.end(), [](auto& file) { return file.ends_with(".npy"); }))
      add({name, source, lines});
  }

  void add_tables() {
    for (const std::string& name : folder_.files) {
      DataFolder one = folder_;
      one.files = {name};
      const std::optional<DataGuess> guess = guess_table(one);
      if (!guess) continue;
      const SourceDescription& source = guess->test_source;
      std::vector<std::string> columns;
      for (const std::string& column : source.columns) columns.push_back(yaml_text(column));
      Part part{name.substr(0, name.rfind('.')),
                source,
                {"format: csv", "inputs: " + yaml_text(folder_.named(name)),
                 fmt::format("columns: [{}]", fmt::join(columns, ", "))}};
      if (!source.label_column.empty())
        part.labels =
            "labels: " + yaml_text(folder_.named(name)) + "\nlabel_column: " + yaml_text(source.label_column) + "\n";
      add(std::move(part));
    }
  }

  /// How well a part fits an input; 0: not at all.
  int score(const Part& part, const FeedPort& port) const {
    const size_t rank = part.picture ? 3 : part.dims.size();
    if (port.shape.has_rank() && port.shape.rank() != rank + 1) return 0;
    for (size_t i = 0; i < part.dims.size() && port.shape.has_rank(); ++i)
      if (port.shape[i + 1].is_known() && port.shape[i + 1].value() != part.dims[i]) return 0;
    if (!part.picture && is_float(part.dtype) && !is_float(port.dtype)) return 0;
    const std::string a = simplified(part.name), b = simplified(port.name);
    const bool alike = !a.empty() && (contains_text(b, a) || contains_text(a, b));
    return (a == b  ? kSameName
            : alike ? kLikeName
                    : 0) +
           (part.picture || is_float(part.dtype) == is_float(port.dtype) ? kKind : 1);
  }

  void match() {
    std::vector<std::string> names;
    for (const Part& part : parts_)
      if (part.dims.empty() && !part.picture && is_integer(part.dtype)) names.push_back(part.name);
    label_ = likely_name(names, true);
    std::vector<bool> used(parts_.size(), false);
    while (true) {
      int best = 0;
      size_t best_part = 0, best_port = 0;
      for (size_t port = 0; port < ports_.size(); ++port)
        for (size_t part = 0; part < parts_.size(); ++part) {
          const int now = taken_.contains(port) || used[part] ? 0 : score(parts_[part], ports_[port]);
          if (parts_[part].name == label_ && now < kSameName) continue;
          if (now > best) best = now, best_part = part, best_port = port;
        }
      if (best == 0) break;
      taken_[best_port] = best_part;
      used[best_part] = true;
    }
    // Labels belong to the first input, whose files then are no list of names.
    for (const bool arrays : {true, false})
      for (size_t port = 0; port < ports_.size(); ++port)
        if (const Part* part = part_of(port); part != nullptr && (part->source.format != "folder") == arrays)
          order_.push_back(port);
    for (size_t port = 0; port < ports_.size(); ++port)
      if (!taken_.contains(port)) order_.push_back(port);
    if (taken_.empty())
      fail(ErrorCode::kNotFound,
           "Nothing in the folder fits an input of the model (.npy, .npz, tables, folders of pictures or .npy): {}",
           folder_.path);
  }

  std::string labels_text() const {
    const Part* first = part_of(order_[0]);
    for (const Part& part : parts_)
      if (part.name == label_ &&
          (part.source.format == "npy" ? first->source.format == "npy" || first->source.format == "csv"
                                       : first->source.files == part.source.files))
        return "labels: " + (part.source.format == "npy" ? part.lines.back().substr(8) : part.source.inputs) + "\n";
    for (const Part& part : parts_)
      if (!part.labels.empty() && first->source.format != "folder" && first->source.format != "npz") return part.labels;
    return "# labels: labels.csv  # a row a sample, the first input's; or a .npy file, or an array of its .npz\n"
           "# label_column: kind   # of the CSV\n";
  }

  std::string preprocess_of(const Part& part, const FeedPort& port) const {
    if (!part.picture)
      return is_float(part.dtype) == is_float(port.dtype)
                 ? ""
                 : fmt::format("    preprocess: {{dtype: {}}}  # and mean, std\n", to_string(port.dtype));
    return "    preprocess: {" + picture_keys(port) + "}  # and mean, std: what the model was trained with\n";
  }

  std::string input_text(size_t port) const {
    const FeedPort& p = ports_[port];
    const std::string shape = fmt::format("{}{}", to_string(p.dtype), to_string(p.shape));
    if (const Part* part = part_of(port)) {
      std::string text = fmt::format("  {}:  # {}\n", yaml_text(p.name), shape);
      for (const std::string& line : part->lines) text += "    " + line + "\n";
      return text + preprocess_of(*part, p);
    }
    const std::string name = simplified(p.name);
    const bool mask = contains_text(name, "mask");
    const bool zero = contains_text(name, "type") || contains_text(name, "state") || contains_text(name, "past");
    if (!mask && !zero)
      return fmt::format(
          "  {}: {{format: npy, inputs: FILL_IN.npy}}  # {}: nothing in the folder fits; a .npy file with a row a "
          "sample, or {{constant: 0}}\n",
          yaml_text(p.name), shape);
    std::string like;
    for (const auto& [other, part] : taken_)
      if (ports_[other].shape == p.shape) like = ", like: " + yaml_text(ports_[other].name);
    return fmt::format("  {}: {{constant: {}{}}}  # {}: guessed, as nothing in the folder is called so\n",
                       yaml_text(p.name), mask ? 1 : 0, like, shape);
  }

  const DataFolder& folder_;
  std::span<const FeedPort> ports_;
  std::vector<Part> parts_;
  std::map<size_t, size_t> taken_;  ///< port to part
  std::vector<size_t> order_;       ///< of ports in the file
  std::string label_;
};

}  // namespace

std::string picture_keys(const FeedPort& port) {
  const auto known = [&](size_t axis) {
    return axis < port.shape.rank() && port.shape[axis].is_known() ? port.shape[axis].value() : 0;
  };
  const bool last = (known(3) == 1 || known(3) == 3) && known(1) != 1 && known(1) != 3;
  const int64_t height = known(last ? 1 : 2), width = known(last ? 2 : 3);
  std::string keys = height > 0 && width > 0 ? fmt::format("resize: [{}, {}], ", height, width) : "";
  keys += fmt::format("color: {}, layout: {}, scale: 1/255", known(last ? 3 : 1) == 1 ? "gray" : "rgb",
                      last ? "nhwc" : "nchw");
  return port.dtype == DType::kFloat32 ? keys : keys + ", dtype: " + std::string(to_string(port.dtype));
}

std::string named_inputs_text(const DataFolder& folder, std::span<const FeedPort> ports, int64_t& samples) {
  const InputGuesses guesses(folder, ports);
  samples = guesses.samples();
  return guesses.text();
}

}  // namespace slipway
