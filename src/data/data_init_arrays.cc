// Guesses for arrays and tables: .npz and .npy files with a row a sample, folders of .npy files with a sample each, CSV
// files that name files, and CSV files of numbers.
#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/file.h"
#include "data/csv.h"
#include "data/data_init_guess.h"
#include "data/npy.h"

namespace slipway {
namespace {

constexpr size_t kLookedAtRows = 100;
constexpr size_t kFewArrays = 8;  ///< more .npy files of any names are samples

bool names_part(const std::string& name, std::string_view part) { return name.find(part) != std::string::npos; }

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// Headers as people call what is to be told.
bool is_label_header(const std::string& header) {
  const std::string name = lower_case(header);
  for (const char* label : {"label", "labels", "target", "class", "y", "species", "kind", "category", "outcome"})
    if (name == label) return true;
  return false;
}

struct Table {
  std::string file;
  bool has_header = false;
  std::vector<std::string> numbers, texts;  ///< columns, by header or number
  std::string label;                        ///< one of them; empty: none is known
};

/// Columns of numbers and others; nothing where the file is no table of numbers.
std::optional<Table> table_of(const std::string& path) {
  const CsvRows rows = read_csv(path);
  if (rows.size() < 3) return {};
  const size_t width = rows[1].size();
  const auto number = [&](size_t row, size_t column) {
    float value = 0;
    return column < rows[row].size() && parse_number(rows[row][column], value);
  };
  Table table{.file = path};
  std::vector<bool> numeric(width, true);
  for (size_t column = 0; column < width; ++column)
    for (size_t row = 1; row < std::min(rows.size(), kLookedAtRows) && numeric[column]; ++row)
      numeric[column] = number(row, column);
  for (size_t column = 0; column < width; ++column)
    table.has_header = table.has_header || (numeric[column] && !number(0, column));
  if (table.has_header && rows[0].size() != width) return {};
  for (size_t column = 0; column < width; ++column) {
    const std::string name = table.has_header ? rows[0][column] : std::to_string(column + 1);
    if (table.has_header && is_label_header(name)) table.label = name;
    (numeric[column] ? table.numbers : table.texts).push_back(name);
  }
  if (table.label.empty() && table.texts.size() == 1 && !numeric.back()) table.label = table.texts[0];
  std::erase(table.numbers, table.label);
  std::erase_if(table.numbers, [](const std::string& name) { return lower_case(name) == "id"; });
  return table.numbers.empty() ? std::nullopt : std::optional(table);
}

SourceDescription table_source(const Table& table, const std::string& path) {
  return {.format = "csv", .inputs = path, .columns = table.numbers, .label_column = table.label};
}

std::vector<std::string> npy_files(const std::vector<std::string>& files) {
  std::vector<std::string> npy;
  for (const std::string& name : files)
    if (name.ends_with(".npy") || name.ends_with(".npy.gz")) npy.push_back(name);
  return npy;
}

/// Labels and inputs that have as many rows; else what the names say.
void pick_arrays(const std::vector<std::pair<std::string, int64_t>>& arrays, std::string& inputs, std::string& labels) {
  std::vector<std::string> names;
  for (const auto& [name, rows] : arrays) names.push_back(name);
  labels = likely_name(names, true);
  const auto rows_of = [&](const std::string& name) {
    return std::find_if(arrays.begin(), arrays.end(), [&](const auto& a) { return a.first == name; })->second;
  };
  std::vector<std::string> fitting;
  for (const std::string& name : names)
    if (name != labels && (labels.empty() || rows_of(name) == rows_of(labels))) fitting.push_back(name);
  if (fitting.empty()) {
    labels.clear();
    fitting = names;
  }
  inputs = likely_name(fitting, false);
  if (inputs.empty()) inputs = fitting.back();
}

}  // namespace

bool is_picture_file(const std::string& name) {
  const std::string lower = lower_case(name);
  return lower.ends_with(".jpg") || lower.ends_with(".jpeg") || lower.ends_with(".png");
}

std::string yaml_text(const std::string& text) {
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

std::string likely_name(const std::vector<std::string>& names, bool labels) {
  for (const char* part : labels ? std::vector<const char*>{"label", "target", "y"}
                                 : std::vector<const char*>{"image", "input", "data", "x"})
    for (const std::string& name : names)
      if (names_part(name, part) && (std::string_view(part).size() > 1 || name.starts_with(part))) return name;
  return "";
}

int64_t rows_of_array(const Tensor& array) { return array.rank() == 0 ? 0 : array.dims()[0]; }

std::string DataFolder::named(const std::string& name) const { return join_path(prefix, name); }

DataFolder DataFolder::list(const std::string& path, const std::string& prefix) {
  DataFolder folder{path, prefix, {}, {}};
  for (std::string& name : list_folder(path))
    (is_folder(join_path(path, name)) ? folder.folders : folder.files).push_back(std::move(name));
  return folder;
}

std::optional<DataGuess> guess_arrays(const DataFolder& folder) {
  const std::vector<std::string> npy = npy_files(folder.files);
  const auto npz = std::find_if(folder.files.begin(), folder.files.end(),
                                [](const std::string& name) { return name.ends_with(".npz"); });
  const bool archive = npz != folder.files.end();
  if (npy.empty() && !archive) return {};
  std::vector<std::pair<std::string, int64_t>> arrays;
  if (archive) {
    const FileBytes bytes = open_bytes(join_path(folder.path, *npz));
    for (const auto& [name, array] : parse_npz(bytes.bytes, *npz)) arrays.emplace_back(name, rows_of_array(array));
  } else {
    for (const std::string& name : npy)
      arrays.emplace_back(name, rows_of_array(read_npy(join_path(folder.path, name))));
  }
  if (arrays.empty()) return {};
  std::string inputs, labels;
  pick_arrays(arrays, inputs, labels);
  const bool equal = std::all_of(arrays.begin(), arrays.end(), [&](auto& a) { return a.second == arrays[0].second; });
  if (!archive && arrays.size() > 1 && labels.empty() && (!equal || arrays.size() > kFewArrays)) return {};
  DataGuess guess;
  if (archive) {
    guess.head = "format: npz\nfiles: " + yaml_text(folder.named(*npz)) + "\n";
    guess.test_source = {.format = "npz", .files = {join_path(folder.path, *npz)}};
  } else {
    guess.head = "format: npy\n";
    guess.test_source = {.format = "npy"};
  }
  guess.head += "inputs: " + yaml_text(archive ? inputs : folder.named(inputs)) + "  # samples along the first axis\n";
  guess.head += labels.empty() ? "# labels: labels.npy  # one whole number per sample; or a CSV file\n"
                               : "labels: " + yaml_text(archive ? labels : folder.named(labels)) + "\n";
  guess.test_source.inputs = archive ? inputs : join_path(folder.path, inputs);
  return guess;
}

std::optional<DataGuess> guess_array_files(const DataFolder& folder) {
  bool classes = false;
  for (const std::string& inner : folder.folders)
    classes = classes || !npy_files(list_folder(join_path(folder.path, inner))).empty();
  const bool flat = npy_files(folder.files).size() > 1;
  if (!flat && !classes) return {};
  DataGuess guess;
  guess.head = "format: folder  # of .npy files, each a sample; their lengths may differ\nsamples: arrays\nfolder: " +
               yaml_text(folder.prefix.empty() ? "." : folder.prefix) + "\n";
  guess.head += flat ? "# The files lie flat, so they have no labels yet; either of these gives them:\n"
                       "# labels: labels.csv             # rows of file,label\n"
                       "# label_pattern: \"{label}_*.npy\"  # the label is part of the file's name\n"
                     : "# The sub-folders' names are the labels.\n";
  guess.test_source = {.format = "folder", .folder = folder.path, .samples = "arrays"};
  return guess;
}

std::optional<DataGuess> guess_listed_files(const DataFolder& folder) {
  for (const std::string& name : folder.files) {
    if (!name.ends_with(".csv")) continue;
    const CsvRows rows = read_csv(join_path(folder.path, name));
    if (rows.size() < 2) continue;
    const std::string& file = rows[1][0];
    const std::string path = join_path(folder.path, file);
    const size_t width = rows[1].size();
    if (file.empty() || !file_exists(path) || is_folder(path) || width < 2) continue;
    const std::string column =
        width == 2 ? "" : fmt::format("label_column: {}  # header or number of the labels' column\n", width);
    const std::string labels = "labels: " + yaml_text(folder.named(name)) + "\n" + column;
    const std::string here = "folder: " + yaml_text(folder.prefix.empty() ? "." : folder.prefix) + "\n";
    DataGuess guess;
    if (is_picture_file(file)) {
      guess.head = "format: csv  # each row names a picture and its label\n" + labels;
      guess.test_source = {.format = "csv", .folder = folder.path, .labels = join_path(folder.path, name)};
    } else if (file.ends_with(".npy")) {
      guess.head =
          "format: folder  # each row of the CSV names a .npy file, which is a sample, and its label\n"
          "samples: arrays\n" +
          here + labels;
      guess.test_source = {
          .format = "folder", .folder = folder.path, .labels = join_path(folder.path, name), .samples = "arrays"};
    } else {
      const auto bytes = static_cast<int64_t>(file_bytes(path));
      guess.head =
          "format: raw  # each file is one sample: numbers without a header\n" + here + labels +
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

std::optional<DataGuess> guess_table(const DataFolder& folder) {
  std::string train, test;
  std::optional<Table> table;
  for (const std::string& name : folder.files) {
    if (!name.ends_with(".csv") && !name.ends_with(".tsv")) continue;
    std::optional<Table> found = table_of(join_path(folder.path, name));
    if (!found || (table && found->numbers != table->numbers)) continue;
    table = std::move(found);
    (names_part(name, "test") || names_part(name, "val") ? test : train) = name;
  }
  if (!table) return {};
  DataGuess guess;
  guess.head = "format: csv  # a table: a row a sample\n";
  if (!train.empty() && !test.empty()) {
    guess.calibration = "  inputs: " + yaml_text(folder.named(train)) + "\n";
    guess.test = "  inputs: " + yaml_text(folder.named(test)) + "\n";
    guess.calibration_source = table_source(*table, join_path(folder.path, train));
    guess.test_source = table_source(*table, join_path(folder.path, test));
  } else {
    const std::string& only = test.empty() ? train : test;
    guess.head += "inputs: " + yaml_text(folder.named(only)) + "\n";
    guess.test_source = table_source(*table, join_path(folder.path, only));
  }
  std::vector<std::string> columns;
  for (const std::string& column : table->numbers) columns.push_back(yaml_text(column));
  guess.head += fmt::format("columns: [{}]  # what the model takes, in its order\n", fmt::join(columns, ", "));
  guess.head += table->label.empty() ? "# label_column: kind  # the column of labels; it must not be among `columns`\n"
                                     : "label_column: " + yaml_text(table->label) + "\n";
  if (!table->texts.empty() && table->texts != std::vector<std::string>{table->label})
    guess.head += fmt::format("# Columns that hold no numbers: {}\n", fmt::join(table->texts, ", "));
  return guess;
}

}  // namespace slipway
