#pragma once
#include <cstdint>
#include <vector>

#include "data/feed.h"
#include "train/libtorch.h"

namespace slipway {

struct TrainingSetOptions {
  int64_t samples = -1;  ///< of the training split, spread evenly; −1: all
  double held_out = 0.1;
  int64_t max_held_out = 2000;
  Augment augment = {};
  uint64_t seed = 0;
  int threads = 1;
};

/// The training split, cut at random into samples to train on and samples held out. Samples are kept in memory,
/// pre-processed, as long as they take less than 2 GiB, and the others read again each time.
class TrainingSet {
 public:
  /// Shows progress. Fails with kInvalidArgument where there are too few samples, or a label is not below `scores`.
  TrainingSet(Feed feed, int64_t scores, const TrainingSetOptions& options);

  /// Samples of equal shapes, stacked.
  struct Batch {
    std::vector<at::Tensor> inputs;  ///< [n, …] each, in the model's order
    at::Tensor labels;               ///< int64 [n]; undefined without labels
    int64_t size = 0;                ///< n
  };
  int64_t train_size() const { return static_cast<int64_t>(train_.size()); }
  int64_t held_out_size() const { return static_cast<int64_t>(held_out_.size()); }
  bool has_labels() const { return has_labels_; }
  bool augments() const { return options_.augment != Augment{}; }
  /// Places [first, first + count) of that epoch's order, augmented; the same for the same seed and epoch. One batch
  /// for each combination of shapes among them.
  std::vector<Batch> train_batches(int64_t epoch, int64_t first, int64_t count) const;
  std::vector<Batch> held_out_batches(int64_t first, int64_t count) const;

 private:
  std::vector<Batch> gather(const std::vector<int64_t>& samples, int64_t epoch) const;
  std::vector<Tensor> read_sample(int64_t sample) const;
  void augment(std::vector<Tensor>& sample, uint64_t seed) const;

  const Feed feed_;
  const TrainingSetOptions options_;
  bool has_labels_;
  std::vector<int64_t> train_, held_out_;   ///< indices into the split
  std::vector<std::vector<Tensor>> cache_;  ///< by index in the split; empty ones are read
  mutable int64_t order_epoch_ = -1;
  mutable std::vector<int64_t> order_;
};

}  // namespace slipway
