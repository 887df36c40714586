// Samples for training. Which are held out depends on the seed alone; an epoch's order on seed and epoch; a sample's
// augmentation on seed, epoch and sample: so a training that goes on from a checkpoint sees what it would have seen.
#include "train/training_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/random.h"

namespace slipway {
namespace {

constexpr size_t kMaxCacheBytes = size_t{2} << 30;
constexpr int64_t kLeastSamples = 8, kNoEpoch = -1, kChunk = 256;

uint64_t mix(uint64_t seed, uint64_t a, uint64_t b) {
  return Random(Random(Random(seed).next() ^ a).next() ^ b).next();
}

void shuffle(std::vector<int64_t>& values, uint64_t seed) {
  Random random(seed);
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

/// parallel_for whose body may throw; the first error is thrown again.
template <typename Body>
void for_all(int64_t count, int threads, const Body& body) {
  std::mutex mutex;
  std::exception_ptr error;
  parallel_for(count, threads, [&](int64_t begin, int64_t end) {
    try {
      for (int64_t i = begin; i < end; ++i) body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (error == nullptr) error = std::current_exception();
    }
  });
  if (error != nullptr) std::rethrow_exception(error);
}

}  // namespace

TrainingSet::TrainingSet(const Dataset& data, const Dims& sample_dims, int64_t scores,
                         const TrainingSetOptions& options)
    : data_(data), dims_(sample_dims), options_(options), has_labels_(data.has_labels(Split::kTrain)) {
  const int64_t all = data.size(Split::kTrain);
  const int64_t count = options.samples < 0 ? all : std::min(options.samples, all);
  const auto held_out =
      std::min(options.max_held_out, static_cast<int64_t>(static_cast<double>(count) * options.held_out));
  if (count - held_out < kLeastSamples)
    fail(ErrorCode::kInvalidArgument,
         "There are too few training samples; give more in the data file's `train` split, or raise --samples: {} in {}",
         count, data.path());
  std::vector<int64_t> chosen(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) chosen[static_cast<size_t>(i)] = i * (all / count) + i * (all % count) / count;
  if (has_labels_)
    for (const int64_t sample : chosen)
      if (const int64_t label = data.label(Split::kTrain, sample); label < 0 || label >= scores)
        fail(ErrorCode::kInvalidArgument,
             "A label lies outside the model's {} classes; correct it, `label_map` or `label_offset`: {} of {} in {}",
             scores, label, data.sample_name(Split::kTrain, sample), data.path());
  shuffle(chosen, options.seed);
  held_out_.assign(chosen.begin(), chosen.begin() + held_out);
  train_.assign(chosen.begin() + held_out, chosen.end());
  for (const int64_t d : dims_) elements_ *= static_cast<size_t>(d);
  if (static_cast<size_t>(all) * elements_ * sizeof(float) > kMaxCacheBytes) return;
  std::vector<float> cache(static_cast<size_t>(all) * elements_);
  Progress progress("reading samples", count);
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t n = std::min(kChunk, count - first);
    for_all(n, options.threads, [&](int64_t i) {
      const int64_t sample = chosen[static_cast<size_t>(first + i)];
      read_sample(sample, cache.data() + static_cast<size_t>(sample) * elements_);
    });
    progress.step(n);
  }
  cache_ = std::move(cache);
}

void TrainingSet::read_sample(int64_t sample, float* to) const {
  if (!cache_.empty()) {
    std::memcpy(to, cache_.data() + static_cast<size_t>(sample) * elements_, elements_ * sizeof(float));
    return;
  }
  const Tensor tensor = data_.input(Split::kTrain, sample);
  if (tensor.dims() != dims_ || tensor.dtype() != DType::kFloat32)
    fail(ErrorCode::kInvalidArgument,
         "A training sample does not fit the model; correct `preprocess` in the data file: {} is {}{}, the model takes "
         "f32{}",
         data_.sample_name(Split::kTrain, sample), to_string(tensor.dtype()), to_string(tensor.dims()),
         to_string(dims_));
  const std::span<const float> values = tensor.values<float>();
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
    fail(ErrorCode::kInvalidArgument, "A training sample holds NaN or infinity; correct or remove it: {} in {}",
         data_.sample_name(Split::kTrain, sample), data_.path());
  std::memcpy(to, tensor.raw(), tensor.bytes());
}

TrainingSet::Batch TrainingSet::gather(const std::vector<int64_t>& samples, int64_t epoch) const {
  const auto count = static_cast<int64_t>(samples.size());
  Dims dims = dims_;
  dims.insert(dims.begin(), count);
  Batch batch{at::empty(dims), has_labels_ ? at::empty({count}, at::kLong) : at::Tensor()};
  float* to = batch.inputs.data_ptr<float>();
  const bool augment = epoch != kNoEpoch && augments();
  for_all(count, options_.threads, [&](int64_t i) {
    const int64_t sample = samples[static_cast<size_t>(i)];
    float* place = to + static_cast<size_t>(i) * elements_;
    if (!augment) return read_sample(sample, place);
    std::vector<float> plain(elements_);
    read_sample(sample, plain.data());
    Random random(mix(options_.seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(sample)));
    augment_sample(options_.augment, data_.preprocess(), dims_, plain, random, {place, elements_});
  });
  if (has_labels_)
    for (int64_t i = 0; i < count; ++i)
      batch.labels.data_ptr<int64_t>()[i] = data_.label(Split::kTrain, samples[static_cast<size_t>(i)]);
  return batch;
}

TrainingSet::Batch TrainingSet::train_batch(int64_t epoch, int64_t first, int64_t count) const {
  if (order_epoch_ != epoch) {
    order_ = train_;
    shuffle(order_, mix(options_.seed, static_cast<uint64_t>(epoch), 0));
    order_epoch_ = epoch;
  }
  return gather({order_.begin() + first, order_.begin() + first + count}, epoch);
}

TrainingSet::Batch TrainingSet::held_out_batch(int64_t first, int64_t count) const {
  return gather({held_out_.begin() + first, held_out_.begin() + first + count}, kNoEpoch);
}

}  // namespace slipway
