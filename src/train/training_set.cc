// Samples for training. Which are held out depends on the seed alone; an epoch's order on seed and epoch; a sample's
// augmentation on seed, epoch and sample: so a training that goes on from a checkpoint sees what it would have seen.
// All pictures of a sample are moved alike.
#include "train/training_set.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/random.h"
#include "train/tensors.h"

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

TrainingSet::TrainingSet(Feed feed, int64_t scores, const TrainingSetOptions& options)
    : feed_(std::move(feed)), options_(options), has_labels_(feed_.data().has_labels(Split::kTrain)) {
  const Dataset& data = feed_.data();
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
  cache_.resize(static_cast<size_t>(all));
  size_t bytes = 0;
  Progress progress("reading samples", count);
  for (int64_t first = 0; first < count && bytes < kMaxCacheBytes; first += kChunk) {
    const int64_t n = std::min(kChunk, count - first);
    for_all(n, options.threads, [&](int64_t i) {
      const int64_t sample = chosen[static_cast<size_t>(first + i)];
      cache_[static_cast<size_t>(sample)] = read_sample(sample);
    });
    for (int64_t i = first; i < first + n; ++i)
      for (const Tensor& tensor : cache_[static_cast<size_t>(chosen[static_cast<size_t>(i)])]) bytes += tensor.bytes();
    progress.step(n);
  }
}

std::vector<Tensor> TrainingSet::read_sample(int64_t sample) const {
  if (const auto& kept = cache_[static_cast<size_t>(sample)]; !kept.empty()) return kept;
  std::vector<Tensor> request = feed_.request(Split::kTrain, sample);
  for (const Tensor& tensor : request) {
    if (tensor.dtype() != DType::kFloat32) continue;
    const std::span<const float> values = tensor.values<float>();
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
      fail(ErrorCode::kInvalidArgument, "A training sample holds NaN or infinity; correct or remove it: {} in {}",
           feed_.data().sample_name(Split::kTrain, sample), feed_.data().path());
  }
  return request;
}

void TrainingSet::augment(std::vector<Tensor>& sample, uint64_t seed) const {
  for (size_t port = 0; port < sample.size(); ++port) {
    const std::optional<size_t> source = feed_.source_of(port);
    if (!source || !feed_.data().is_image(*source)) continue;
    const Tensor& plain = sample[port];
    Tensor moved(plain.dtype(), plain.dims());
    Random random(seed);
    augment_sample(options_.augment, feed_.data().preprocess(*source), {plain.dims().begin() + 1, plain.dims().end()},
                   plain.values<float>(), random, moved.mutable_values<float>());
    sample[port] = std::move(moved);
  }
}

std::vector<TrainingSet::Batch> TrainingSet::gather(const std::vector<int64_t>& samples, int64_t epoch) const {
  std::vector<std::vector<Tensor>> requests(samples.size());
  for_all(static_cast<int64_t>(samples.size()), options_.threads, [&](int64_t i) {
    const int64_t sample = samples[static_cast<size_t>(i)];
    std::vector<Tensor>& request = requests[static_cast<size_t>(i)] = read_sample(sample);
    if (epoch != kNoEpoch && augments())
      augment(request, mix(options_.seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(sample)));
  });
  std::map<std::vector<Dims>, std::vector<size_t>> alike;
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<Dims> shapes;
    for (const Tensor& tensor : requests[i]) shapes.push_back(tensor.dims());
    alike[std::move(shapes)].push_back(i);
  }
  std::vector<Batch> batches;
  for (const auto& [shapes, members] : alike) {
    Batch batch{.size = static_cast<int64_t>(members.size())};
    for (size_t port = 0; port < shapes.size(); ++port) {
      std::vector<at::Tensor> rows;
      for (const size_t i : members) rows.push_back(to_torch(requests[i][port]));
      batch.inputs.push_back(at::cat(rows));
    }
    std::vector<int64_t> labels;
    for (const size_t i : members) labels.push_back(feed_.data().label(Split::kTrain, samples[i]));
    if (has_labels_) batch.labels = at::tensor(labels);
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<TrainingSet::Batch> TrainingSet::train_batches(int64_t epoch, int64_t first, int64_t count) const {
  if (order_epoch_ != epoch) {
    order_ = train_;
    shuffle(order_, mix(options_.seed, static_cast<uint64_t>(epoch), 0));
    order_epoch_ = epoch;
  }
  return gather({order_.begin() + first, order_.begin() + first + count}, epoch);
}

std::vector<TrainingSet::Batch> TrainingSet::held_out_batches(int64_t first, int64_t count) const {
  return gather({held_out_.begin() + first, held_out_.begin() + first + count}, kNoEpoch);
}

}  // namespace slipway
