#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image.h"
#include "model/tensor.h"

namespace slipway {

/// Where samples come from, as the data file says it for one split.
struct SourceDescription {
  std::string format;                ///< folder, csv, cifar10, idx, npy, npz, raw
  std::string folder;                ///< folder, csv, raw: the samples' files
  std::vector<std::string> files;    ///< cifar10: one or more; npz: one
  std::string inputs;                ///< idx, npy: the file; npz: the array's name; csv with columns: the table
  std::vector<std::string> columns;  ///< csv: the numbers of a sample, each its header or number from 1
  std::string labels;                ///< idx, npy: the file; npz: the array's name; folder, csv, raw: a CSV file
  std::string label_pattern;         ///< folder, raw: the label in the file's name, e.g. "tst_*_*_{label}.bin"
  std::string label_column;          ///< of a CSV: its header or number from 1; empty: the second, or the only one
  /// npy, npz: images, arrays, or auto (bytes shaped like pictures are pictures). folder: arrays are .npy files.
  std::string samples = "auto";
  Dims dims;                        ///< raw: of a sample
  DType dtype = DType::kUndefined;  ///< raw
  bool operator==(const SourceDescription&) const = default;
};

/// Samples by index; labels as the files give them. Thread-safe to read.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t size() const = 0;
  virtual bool is_image() const = 0;
  virtual std::string name(int64_t index) const = 0;
  virtual uint64_t sample_bytes(int64_t index) const = 0;
  virtual Image image(int64_t index) const = 0;
  virtual Tensor array(int64_t index) const = 0;

  /// One text per sample (a number or a name), or empty when there are no labels.
  std::vector<std::string> labels;
};

/// Opens files and checks what is cheap to check: that they exist, their formats, that counts agree, that there is at
/// least one sample. Fails with kNotFound, kIo or kInvalidArgument, naming the file.
std::unique_ptr<SampleSource> open_source(const SourceDescription& description);

std::unique_ptr<SampleSource> open_files(const SourceDescription& description);   ///< folder, csv of files, raw
std::unique_ptr<SampleSource> open_arrays(const SourceDescription& description);  ///< cifar10, idx, npy, npz, csv table

}  // namespace slipway
