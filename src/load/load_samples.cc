// What a load sends: samples of a data set, recorded requests, or noise of the right shape.
#include "load/load_samples.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "data/feed.h"
#include "model/tensor.h"

namespace slipway {
namespace {

/// Calls `make` for indices spread evenly over the test split until a limit is met.
template <typename Make>
std::vector<LoadSample> spread(const Dataset& data, SampleLimits limits, Make&& make) {
  const int64_t size = data.size(Split::kTest), count = std::min(size, std::max<int64_t>(1, limits.max_samples));
  std::vector<LoadSample> samples;
  uint64_t bytes = 0;
  for (int64_t i = 0; i < count; ++i) {
    samples.push_back(make(i * size / count));
    bytes += samples.back().picture.size();
    for (const WireTensor& t : samples.back().inputs) bytes += t.bytes.size();
    if (bytes > limits.max_bytes) break;
  }
  if (samples.empty()) fail(ErrorCode::kInvalidArgument, "The data have no test samples to send: {}", data.path());
  return samples;
}

LoadSample sample_of(const std::vector<Port>& ports, std::vector<Tensor> tensors) {
  auto owner = std::make_shared<const std::vector<Tensor>>(std::move(tensors));
  LoadSample sample{.inputs = {}, .owner = owner};
  for (size_t i = 0; i < ports.size(); ++i)
    sample.inputs.push_back(
        {ports[i].name, (*owner)[i].dtype(), (*owner)[i].dims(), {(*owner)[i].raw(), (*owner)[i].bytes()}});
  return sample;
}

}  // namespace

std::vector<LoadSample> dataset_samples(const Dataset& data, const ModelDescription& model, SampleLimits limits) {
  std::vector<FeedPort> ports;
  for (const Port& port : model.inputs) {
    std::vector<Dim> dims;
    for (const int64_t size : port.dims) dims.push_back(size < 0 ? Dim() : Dim(size));
    ports.push_back({port.name, port.dtype, Shape(std::move(dims))});
  }
  const Feed feed(data, std::move(ports));
  return spread(data, limits,
                [&](int64_t index) { return sample_of(model.inputs, feed.request(Split::kTest, index)); });
}

std::vector<LoadSample> picture_samples(const Dataset& data, SampleLimits limits) {
  if (!data.is_image())
    fail(ErrorCode::kInvalidArgument, "POST /predict takes pictures, and the data are none; leave out --predict: {}",
         data.path());
  return spread(data, limits, [&](int64_t index) {
    const std::vector<std::byte> png = encode_png(data.image(Split::kTest, index));
    return LoadSample{.inputs = {}, .picture{reinterpret_cast<const char*>(png.data()), png.size()}};
  });
}

std::vector<LoadSample> random_samples(const ModelDescription& model, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<LoadSample> samples;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<Tensor> tensors;
    for (const Port& port : model.inputs) {
      Dims dims = port.dims;
      if (!dims.empty() && dims[0] == -1) dims[0] = 1;
      if (port.dtype == DType::kString || datatype_name(port.dtype).empty())
        fail(ErrorCode::kInvalidArgument, "There are no random texts; give --data or --recording for input '{}' of {}",
             port.name, model.name);
      int64_t elements = 1;
      for (const int64_t dim : dims)
        if (dim < 0 || __builtin_mul_overflow(elements, dim, &elements) || elements > int64_t{1} << 28)
          fail(ErrorCode::kInvalidArgument,
               "Input '{}' of {} has a free or huge axis; give --data or --recording, whose samples have a size",
               port.name, model.name);
      std::vector<double> values(static_cast<size_t>(elements));
      for (double& v : values) v = is_float(port.dtype) ? random.uniform() : static_cast<double>(random.below(2));
      tensors.push_back(from_doubles(port.dtype, dims, values));
    }
    samples.push_back(sample_of(model.inputs, std::move(tensors)));
  }
  return samples;
}

std::vector<LoadSample> recorded_samples(const std::vector<RecordedRequest>& records, const std::string& model,
                                         double speed) {
  std::set<std::string> models;
  for (const RecordedRequest& r : records) models.insert(r.model);
  if (model.empty() && models.size() > 1)
    fail(ErrorCode::kInvalidArgument, "The recording holds requests of several models; choose one with --model: {}",
         fmt::join(models, ", "));
  std::vector<LoadSample> samples;
  for (const RecordedRequest& r : records) {
    if ((!model.empty() && r.model != model) || r.inputs.empty() || r.error == to_string(ErrorCode::kInvalidArgument))
      continue;
    samples.push_back({.inputs = r.inputs, .id = r.id, .owner = r.owner, .at_us = r.arrival_us});
  }
  if (samples.empty())
    fail(ErrorCode::kInvalidArgument, "The recording holds no requests {}; it has those of: {}",
         model.empty() ? "that could be sent again" : "of model " + model, fmt::join(models, ", "));
  // Requests are recorded as they are answered, which is not the order in which they came.
  std::stable_sort(samples.begin(), samples.end(),
                   [](const LoadSample& a, const LoadSample& b) { return a.at_us < b.at_us; });
  const int64_t first_us = samples.front().at_us;
  for (LoadSample& sample : samples)
    sample.at_us = speed > 0 ? static_cast<int64_t>(static_cast<double>(sample.at_us - first_us) / speed) : -1;
  return samples;
}

}  // namespace slipway
