// Samples out of array files: CIFAR-10, IDX, .npy, .npz and the columns of a CSV table. The arrays stay as they are
// (mapped, or unpacked when the file is gzipped); a sample is a view of a row, or a picture made from it. Layouts are
// told from the shape: [N,H,W] and [N,1,H,W] grey, [N,H,W,3] and [N,3,H,W] RGB.
#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "data/cifar10.h"
#include "data/csv.h"
#include "data/idx.h"
#include "data/npy.h"
#include "data/sample_source.h"

namespace slipway {
namespace {

/// How a sample's bytes form a picture; channels 0: they don't.
struct Picture {
  int64_t height = 0, width = 0, channels = 0;
  bool planar = false;
};

Picture picture_of(const Tensor& samples) {
  const Dims& d = samples.dims();
  if (samples.dtype() != DType::kUint8) return {};
  if (d.size() == 3) return {d[1], d[2], 1, false};
  if (d.size() != 4) return {};
  if (d[1] == 1 || d[1] == 3) return {d[2], d[3], d[1], true};
  if (d[3] == 1 || d[3] == 3) return {d[1], d[2], d[3], false};
  return {};
}

class ArraySource : public SampleSource {
 public:
  /// `samples`: images, arrays or auto.
  void add(std::string file, Tensor tensor, const std::string& samples) {
    if (tensor.rank() < 1 || tensor.elements() == 0)
      fail(ErrorCode::kInvalidArgument, "The data set is empty; name a file with samples: {}", file);
    const Picture picture = samples == "arrays" ? Picture{} : picture_of(tensor);
    if (samples == "images" && picture.channels == 0)
      fail(ErrorCode::kInvalidArgument,
           "These samples are no pictures (u8 of [N,H,W], [N,H,W,3] or [N,3,H,W]); use `samples: arrays`: {}{} in {}",
           to_string(tensor.dtype()), to_string(tensor.dims()), file);
    if (picture.channels != 0 &&
        (std::max(picture.height, picture.width) > kMaxImageSide || picture.height * picture.width > kMaxImagePixels))
      fail(ErrorCode::kInvalidArgument, "The pictures are too large; use `samples: arrays`: {}x{} in {}", picture.width,
           picture.height, file);
    parts_.push_back({std::move(file), std::make_shared<const Tensor>(std::move(tensor)), size_, picture});
    size_ += parts_.back().tensor->dims()[0];
  }

  int64_t size() const override { return size_; }
  bool is_image() const override { return parts_.front().picture.channels != 0; }
  std::string name(int64_t index) const override {
    const Part& part = part_of(index);
    return fmt::format("{}[{}]", file_name(part.file), index - part.first);
  }
  uint64_t sample_bytes(int64_t index) const override {
    const Tensor& t = *part_of(index).tensor;
    return bytes_of(t.dtype(), t.elements() / t.dims()[0]);
  }
  Image image(int64_t index) const override {
    const Part& part = part_of(index);
    const auto [height, width, channels, planar] = part.picture;
    SLIPWAY_CHECK(channels != 0);
    const auto* from = reinterpret_cast<const uint8_t*>(row(part, index));
    Image image{height, width, channels, std::vector<uint8_t>(from, from + height * width * channels)};
    if (planar && channels > 1) {
      uint8_t* to = image.pixels.data();
      for (int64_t i = 0; i < height * width; ++i)
        for (int64_t c = 0; c < channels; ++c) *to++ = from[c * height * width + i];
    }
    return image;
  }
  Tensor array(int64_t index) const override {
    const Part& part = part_of(index);
    const Dims& dims = part.tensor->dims();
    return Tensor::view(part.tensor->dtype(), {dims.begin() + 1, dims.end()}, row(part, index), part.tensor);
  }

 private:
  struct Part {
    std::string file;
    std::shared_ptr<const Tensor> tensor;
    int64_t first;
    Picture picture;
  };
  const Part& part_of(int64_t index) const {
    SLIPWAY_CHECK(index >= 0 && index < size_);
    auto part = parts_.end();
    while (index < (--part)->first) {
    }
    return *part;
  }
  const std::byte* row(const Part& part, int64_t index) const {
    return part.tensor->raw() + sample_bytes(index) * static_cast<uint64_t>(index - part.first);
  }

  std::vector<Part> parts_;
  int64_t size_ = 0;
};

std::vector<std::string> as_labels(const Tensor& tensor, const std::string& name) {
  const bool one_each = tensor.rank() == 1 || (tensor.rank() == 2 && tensor.dims()[1] == 1);
  if (!one_each || !is_integer(tensor.dtype()))
    fail(ErrorCode::kInvalidArgument, "Labels must be one whole number per sample: {}{} in {}",
         to_string(tensor.dtype()), to_string(tensor.dims()), name);
  std::vector<std::string> labels;
  for (const int64_t label : to_ints(tensor)) labels.push_back(std::to_string(label));
  return labels;
}

void require_file(const std::string& value, const char* key, const SourceDescription& d) {
  if (value.empty())
    fail(ErrorCode::kInvalidArgument, "The data file lacks a key for format {}: add `{}`", d.format, key);
}

void set_labels(ArraySource& source, std::vector<std::string> labels, const SourceDescription& d) {
  if (static_cast<int64_t>(labels.size()) != source.size())
    fail(ErrorCode::kInvalidArgument, "The counts of samples and labels differ: {} samples in {}, {} labels in {}",
         source.size(), d.inputs, labels.size(), d.labels);
  source.labels = std::move(labels);
}

}  // namespace

std::unique_ptr<SampleSource> open_arrays(const SourceDescription& d) {
  auto source = std::make_unique<ArraySource>();
  if (d.format == "cifar10") {
    if (d.files.empty()) require_file("", "files", d);
    for (const std::string& file : d.files) {
      LabelledTensor part = parse_cifar10(open_bytes(file), file);
      for (const int64_t label : part.labels) source->labels.push_back(std::to_string(label));
      source->add(file, std::move(part.samples), "images");
    }
    return source;
  }
  if (d.format == "npz") {
    if (d.files.size() != 1) require_file("", "files", d);
    require_file(d.inputs, "inputs", d);
    source->add(d.files[0] + ":" + d.inputs, read_npz(d.files[0], d.inputs), d.samples);
    if (!d.labels.empty()) set_labels(*source, as_labels(read_npz(d.files[0], d.labels), d.labels), d);
    return source;
  }
  require_file(d.inputs, d.format == "idx" ? "images" : "inputs", d);
  if (d.format == "csv") {
    const CsvRows rows = read_csv(d.inputs);
    const auto second = [&](const std::string& column) {
      return column == "2" || (rows.front().size() > 1 && column == rows.front()[1]);
    };
    if (d.labels == d.inputs && d.label_column.empty() && std::any_of(d.columns.begin(), d.columns.end(), second))
      fail(ErrorCode::kInvalidArgument,
           "The table's second column would be the labels, and it is among `columns`; add `label_column`: {}",
           d.inputs);
    source->add(d.inputs, numeric_table(rows, d.columns, d.inputs), "arrays");
    if (d.labels.empty() && !d.label_column.empty())
      set_labels(*source, label_list(rows, d.label_column, source->size(), d.inputs), d);
  } else {
    source->add(d.inputs, d.format == "idx" ? read_idx(d.inputs) : read_npy(d.inputs), d.samples);
  }
  if (d.labels.ends_with(".csv"))
    set_labels(*source, label_list(read_csv(d.labels), d.label_column, source->size(), d.labels), d);
  else if (!d.labels.empty())
    set_labels(*source, as_labels(d.format == "idx" ? read_idx(d.labels) : read_npy(d.labels), d.labels), d);
  return source;
}

}  // namespace slipway
