#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/augment.h"
#include "data/data_file.h"
#include "data/image.h"
#include "data/preprocess.h"
#include "model/tensor.h"

namespace slipway {

enum class Split { kCalibration, kTest, kTrain };
/// "calibration", "test", "train".
std::string_view to_string(Split split);

/// Labelled data described by a YAML file: where the samples are, the pre-processing to the model's input, the labels,
/// the splits. Samples are read on demand; only gzipped files and .npz arrays are held, unpacked. Thread-safe to read.
///
/// The training split is what `train` says, with the keys of the others, or all samples that calibration is drawn from
/// (none without `calibration`). Samples of the test split are never in it where both have one source; those of
/// calibration may be. A training split that the file does not state is resolved, and its labels checked, when first
/// asked for.
class Dataset {
 public:
  /// Fails with kInvalidArgument naming file, key and remedy (wrong key, empty set, label out of range, with
  /// `on_bad_sample: skip` more than a few bad samples), kNotFound, kIo. So does any first use of Split::kTrain where
  /// the file has no `train`.
  static Dataset open(const std::string& yaml_path);

  int64_t size(Split split) const;
  /// The label as the model numbers its classes, or −1 when the set has none.
  int64_t label(Split split, int64_t index) const;
  std::string sample_name(Split split, int64_t index, size_t input = 0) const;
  bool has_labels(Split split = Split::kTest) const;
  /// Names of the classes by index; empty when not given.
  const std::vector<std::string>& class_names() const;
  /// How many tensors of a sample come from the data: the inputs that the file describes, constants left out. Where an
  /// input can be chosen below, it is counted in the file's order; pictures of models with one input need not choose.
  size_t inputs() const;
  /// Its name in the model; empty: the model's only input.
  const std::string& input_name(size_t input) const;
  /// Inputs of the model that are the same for all samples.
  const std::vector<ConstantInput>& constants() const;
  const Preprocess& preprocess(size_t input = 0) const;
  /// What `augment` says; pictures only. Nothing where the file has no such key.
  const std::optional<Augment>& augment() const;
  bool is_image(size_t input = 0) const;
  /// Whether an element measures something, so that a little noise leaves the sample what it was: pictures, arrays of
  /// floats, integers that the pre-processing scales to floats. Ids and other codes do not.
  bool is_continuous(size_t input = 0) const;
  /// The picture before pre-processing (image sets only). Fails naming the file when it can't be decoded.
  Image image(Split split, int64_t index, size_t input = 0) const;
  /// One sample's tensor for an input, as the model gets it, without the batch axis. Where it can't be read, the error
  /// lists all samples of the split that can't. A whole sample for a model: see Feed.
  Tensor input(Split split, int64_t index, size_t input = 0) const;
  /// Samples [first, first + count) stacked along a new first axis, read with `threads`. Fails with kInvalidArgument
  /// naming the sample when their shapes differ.
  Tensor batch(Split split, int64_t first, int64_t count, int threads = 1, size_t input = 0) const;
  /// SHA-256 over the description, the pre-processing and the samples' identities (names, sizes and labels) of the
  /// calibration and test splits. Reports refer to it: nothing about training is in it.
  std::string digest() const;
  /// The same of the training split, with the augmentation.
  std::string train_digest() const;
  const std::string& path() const;
  /// Sentences for the user about what is legal but suspicious, e.g. calibration samples that are in the test split
  /// too. About training only where the file has `train`.
  const std::vector<std::string>& warnings() const;
  /// The same for who trains: with what there is to say about a training split that the file does not state.
  std::vector<std::string> train_warnings() const;

  struct Impl;

 private:
  explicit Dataset(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace slipway
