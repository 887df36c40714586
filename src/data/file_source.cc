// Samples that are files of their own: pictures (folder, csv), .npy files of any shapes (the same, `samples: arrays`)
// or raw fixed-size arrays. Labels come from a CSV file, from a pattern of the file's name, or from the sub-folder.
// Opening lists and stats the files; each is read when asked for.
#include <algorithm>
#include <cctype>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "data/csv.h"
#include "data/npy.h"
#include "data/sample_source.h"

namespace slipway {
namespace {

constexpr uint64_t kMaxSampleBytes = uint64_t{1} << 30;
constexpr std::string_view kLabelMark = "{label}";

bool is_picture_name(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower.ends_with(".jpg") || lower.ends_with(".jpeg") || lower.ends_with(".png");
}

/// Matches text against a pattern where `*` is any text and `{label}` the label, each as short as possible.
bool match(std::string_view pattern, std::string_view text, std::string& label) {
  if (pattern.empty()) return text.empty();
  const bool is_label = pattern.starts_with(kLabelMark);
  if (!is_label && pattern[0] != '*')
    return !text.empty() && text[0] == pattern[0] && match(pattern.substr(1), text.substr(1), label);
  const std::string_view rest = pattern.substr(is_label ? kLabelMark.size() : 1);
  for (size_t n = is_label ? 1 : 0; n <= text.size(); ++n) {
    if (!match(rest, text.substr(n), label)) continue;
    if (is_label) label = text.substr(0, n);
    return true;
  }
  return false;
}

enum class SampleFile { kPicture, kNpy, kRaw };

SampleFile kind_of(const SourceDescription& d) {
  if (d.format == "raw") return SampleFile::kRaw;
  return d.samples == "arrays" ? SampleFile::kNpy : SampleFile::kPicture;
}

bool is_sample_name(const SourceDescription& d, const std::string& name) {
  switch (kind_of(d)) {
    case SampleFile::kPicture:
      return is_picture_name(name);
    case SampleFile::kNpy:
      return name.ends_with(".npy");
    default:
      return true;
  }
}

class FileSource : public SampleSource {
 public:
  explicit FileSource(const SourceDescription& d)
      : kind_(kind_of(d)), folder_(d.folder), dims_(d.dims), dtype_(d.dtype) {}

  void add(std::string file) {
    const std::string path = join_path(folder_, file);
    const uint64_t bytes = file_bytes(path);
    if (bytes > kMaxSampleBytes)
      fail(ErrorCode::kInvalidArgument, "A sample is larger than {} bytes; remove it: {}", kMaxSampleBytes, path);
    if (kind_ == SampleFile::kRaw && bytes != bytes_of(dtype_, element_count(dims_)))
      fail(ErrorCode::kInvalidArgument, "A raw sample's size does not fit its `dims` and `dtype`: {} bytes, not {}: {}",
           bytes, bytes_of(dtype_, element_count(dims_)), path);
    files_.push_back({std::move(file), bytes});
  }

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  bool is_image() const override { return kind_ == SampleFile::kPicture; }
  std::string name(int64_t index) const override { return files_[static_cast<size_t>(index)].name; }
  uint64_t sample_bytes(int64_t index) const override { return files_[static_cast<size_t>(index)].bytes; }
  Image image(int64_t index) const override {
    const std::string path = join_path(folder_, name(index));
    return decode_image(read_file(path, kMaxSampleBytes), path);
  }
  Tensor array(int64_t index) const override {
    const std::string path = join_path(folder_, name(index));
    if (kind_ == SampleFile::kNpy) return read_npy(path);
    const std::vector<std::byte> bytes = read_file(path, kMaxSampleBytes);
    Tensor tensor(dtype_, dims_);
    if (bytes.size() != tensor.bytes())
      fail(ErrorCode::kIo, "A raw sample changed its size while in use; restore it: {}", path);
    if (!bytes.empty()) std::memcpy(tensor.mutable_raw(), bytes.data(), bytes.size());
    return tensor;
  }

 private:
  struct File {
    std::string name;
    uint64_t bytes;
  };
  SampleFile kind_;
  std::string folder_;
  Dims dims_;
  DType dtype_;
  std::vector<File> files_;
};

void add_from_csv(FileSource& source, const SourceDescription& d) {
  for (LabelledFile& row : labelled_files(read_csv(d.labels), d.label_column, d.labels)) {
    if (!file_exists(join_path(d.folder, row.file)))
      fail(ErrorCode::kNotFound, "A file named in the CSV is missing; correct the row or `folder`: {} of {} in {}",
           row.file, d.labels, d.folder);
    source.add(std::move(row.file));
    source.labels.push_back(std::move(row.label));
  }
}

void add_flat(FileSource& source, const SourceDescription& d, std::string name) {
  std::string label;
  const bool fits = d.label_pattern.empty() || match(d.label_pattern, name, label);
  if (!fits && d.format == "raw") return;
  if (!fits)
    fail(ErrorCode::kInvalidArgument, "A file's name does not fit `label_pattern`: {} against '{}'", name,
         d.label_pattern);
  source.add(std::move(name));
  if (!d.label_pattern.empty()) source.labels.push_back(std::move(label));
}

void add_from_folder(FileSource& source, const SourceDescription& d) {
  const auto wanted = [&](const std::string& name) { return is_sample_name(d, name); };
  size_t others = 0;
  std::vector<std::string> folders;
  for (std::string& name : list_folder(d.folder)) {
    if (is_folder(join_path(d.folder, name)))
      folders.push_back(std::move(name));
    else if (wanted(name))
      add_flat(source, d, std::move(name));
    else
      ++others;
  }
  const bool flat = source.size() > 0;
  for (const std::string& folder : folders)
    for (const std::string& name : list_folder(join_path(d.folder, folder))) {
      if (!wanted(name) || is_folder(join_path(d.folder, folder + "/" + name))) continue;
      if (flat)
        fail(ErrorCode::kInvalidArgument,
             "Samples lie both in the folder and in its sub-folders; move the ones or the others away: {} and {}/{}",
             source.name(0), folder, name);
      source.add(folder + "/" + name);
      source.labels.push_back(folder);
    }
  if (source.size() == 0)
    fail(ErrorCode::kInvalidArgument,
         "The data set is empty: no {} files in the folder or its sub-folders ({} other files): {}",
         kind_of(d) == SampleFile::kNpy ? ".npy" : "JPEG or PNG", others, d.folder);
}

}  // namespace

std::unique_ptr<SampleSource> open_files(const SourceDescription& d) {
  if (d.format == "csv" && d.labels.empty())
    fail(ErrorCode::kInvalidArgument,
         "The data file lacks keys for format csv: add `labels`, a CSV file of files and classes, or `inputs` and "
         "`columns`, a table and its columns of numbers");
  if (d.folder.empty())
    fail(ErrorCode::kInvalidArgument, "The data file lacks a key for format {}: add `folder`", d.format);
  if (!is_folder(d.folder))
    fail(ErrorCode::kNotFound, "There is no such folder; correct `folder` in the data file: {}", d.folder);
  if (d.format == "raw" && d.dtype == DType::kUndefined)
    fail(ErrorCode::kInvalidArgument, "The data file lacks keys for format raw: add `dims` and `dtype`");
  auto source = std::make_unique<FileSource>(d);
  if (d.labels.empty())
    add_from_folder(*source, d);
  else
    add_from_csv(*source, d);
  return source;
}

std::unique_ptr<SampleSource> open_source(const SourceDescription& d) {
  const bool files = d.format == "folder" || d.format == "raw" || (d.format == "csv" && d.columns.empty());
  return files ? open_files(d) : open_arrays(d);
}

}  // namespace slipway
