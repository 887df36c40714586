#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/preprocess.h"
#include "model/tensor.h"

namespace slipway {

enum class Split { kCalibration, kTest };

/// Labelled data described by a YAML file: where the samples are, the pre-processing to the model's input, the labels,
/// the splits. Samples are read on demand; only gzipped files and .npz arrays are held, unpacked. Thread-safe to read.
class Dataset {
 public:
  /// Fails with kInvalidArgument naming file, key and remedy (wrong key, empty set, label out of range), kNotFound,
  /// kIo.
  static Dataset open(const std::string& yaml_path);

  int64_t size(Split split) const;
  /// The label as the model numbers its classes, or −1 when the set has none.
  int64_t label(Split split, int64_t index) const;
  std::string sample_name(Split split, int64_t index) const;
  bool has_labels() const;  ///< of the test split
  /// Names of the classes by index; empty when not given.
  const std::vector<std::string>& class_names() const;
  const Preprocess& preprocess() const;
  bool is_image() const;
  /// The picture before pre-processing (image sets only). Fails naming the file when it can't be decoded.
  Image image(Split split, int64_t index) const;
  /// One sample as the model gets it, without the batch axis.
  Tensor input(Split split, int64_t index) const;
  /// Samples [first, first + count) stacked along a new first axis, read with `threads`. Fails with kInvalidArgument
  /// naming the sample when their shapes differ.
  Tensor batch(Split split, int64_t first, int64_t count, int threads = 1) const;
  /// SHA-256 over the description, the pre-processing and the samples' identities (names, sizes and labels).
  std::string digest() const;
  const std::string& path() const;
  /// Sentences for the user about what is legal but suspicious, e.g. calibration samples that are in the test split
  /// too.
  const std::vector<std::string>& warnings() const;

  /// Fails with kInvalidArgument unless the names of the classes, where given, are as many as a sample has scores in
  /// the model's first output (where that is known): labels would be printed wrong.
  void require_classes_of(const Graph& model) const;

  struct Impl;

 private:
  explicit Dataset(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace slipway
