#include "data/feed.h"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/parallel.h"

namespace slipway {
namespace {

std::string quoted(const std::vector<std::string>& names) {
  return "'" + fmt::format("{}", fmt::join(names, "', '")) + "'";
}

std::vector<std::string> names_of(const std::vector<FeedPort>& ports) {
  std::vector<std::string> names;
  for (const FeedPort& port : ports) names.push_back(port.name);
  return names;
}

/// Integers to integers, floats to floats.
bool is_same_kind(DType from, DType to) {
  return (is_integer(from) && is_integer(to)) || (is_float(from) && is_float(to));
}

/// The axes of a sample in a request; nothing where its type or shape is not the port's.
std::optional<Dims> request_dims(const FeedPort& port, const Tensor& sample) {
  Dims dims = sample.dims();
  if (!port.shape.has_rank() || port.shape.rank() == dims.size() + 1)
    dims.insert(dims.begin(), 1);
  else if (port.shape.rank() != dims.size())
    return {};
  const size_t first = dims.size() - sample.dims().size();  // a fixed batch is filled by several samples
  for (size_t i = first; port.shape.has_rank() && i < dims.size(); ++i)
    if (port.shape[i].is_known() && port.shape[i].value() != dims[i]) return {};
  return port.dtype == sample.dtype() ? std::optional(dims) : std::nullopt;
}

}  // namespace

std::vector<FeedPort> input_ports(const Graph& model) {
  std::vector<FeedPort> ports;
  for (const ValueId id : model.inputs()) {
    const Value& v = model.value(id);
    ports.push_back({v.name, v.dtype, v.shape});
  }
  return ports;
}

std::map<std::string, int64_t> dims_of_request(const Graph& model, const std::vector<Tensor>& request) {
  std::map<std::string, int64_t> dims;
  for (size_t port = 0; port < request.size(); ++port) {
    const Dims& sizes = request[port].dims();
    for (size_t axis = 0; axis < sizes.size(); ++axis)
      if (axis > 0 || sizes[0] != 1)
        dims[fmt::format("{}.{}", model.value(model.inputs()[port]).name, axis)] = sizes[axis];
  }
  return dims;
}

Feed::Feed(Dataset data, std::vector<FeedPort> ports) : data_(std::move(data)), ports_(std::move(ports)) {
  const auto& constants = data_.constants();
  if (data_.inputs() == 1 && constants.empty() && ports_.size() == 1) {
    sources_ = {0};
    return;
  }
  std::vector<std::string> missing, described;
  for (const FeedPort& port : ports_) {
    std::optional<size_t> source;
    for (size_t i = 0; i < data_.inputs(); ++i)
      if (data_.input_name(i) == port.name) source = i;
    const bool known = source || std::any_of(constants.begin(), constants.end(),
                                             [&](const ConstantInput& c) { return c.name == port.name; });
    if (!known) missing.push_back(port.name);
    sources_.push_back(source);
  }
  for (size_t i = 0; i < data_.inputs(); ++i) described.push_back(data_.input_name(i));
  for (const ConstantInput& c : constants) described.push_back(c.name);
  const std::vector<std::string> names = names_of(ports_);
  if (described == std::vector<std::string>{""})
    fail(ErrorCode::kInvalidArgument,
         "The data file describes one input and the model takes {}; say under `inputs` where each one's samples are: "
         "{} ({})",
         names.size(), quoted(names), data_.path());
  for (const std::string& name : described)
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(ErrorCode::kInvalidArgument,
           "The data file describes an input that the model has not; it has {}: '{}' in {}", quoted(names), name,
           data_.path());
  if (!missing.empty())
    fail(ErrorCode::kInvalidArgument,
         "The data file does not describe every input of the model; add it under `inputs`, with its samples or as a "
         "`constant`: {} in {}",
         quoted(missing), data_.path());
}

Tensor to_model_dtype(Tensor value, DType wanted) {
  if (value.dtype() == wanted || !is_same_kind(value.dtype(), wanted)) return value;
  Tensor converted = cast(value, wanted);
  return is_float(wanted) || to_ints(converted) == to_ints(value) ? converted : value;
}

Tensor Feed::fitted(size_t port, Tensor value, const std::string& sample) const {
  const FeedPort& wanted = ports_[port];
  const std::optional<size_t> source = sources_[port];
  if (!source || data_.preprocess(*source).dtype.empty()) value = to_model_dtype(std::move(value), wanted.dtype);
  if (const std::optional<Dims> dims = request_dims(wanted, value)) return value.reshaped(*dims);
  const bool picture = source && data_.is_image(*source);
  fail(
      ErrorCode::kInvalidArgument,
      "The data do not fit the model; correct {} in the data file: {} is {}{}, and the model's input '{}' is {}{} with "
      "the batch first: {}",
      !source   ? "the constant's `dims`"
      : picture ? "`preprocess` (layout, resize, crop, color, dtype)"
                : "`dims` of raw files, `dtype` of `preprocess`, `columns`, or the arrays",
      sample, to_string(value.dtype()), to_string(value.dims()), wanted.name, to_string(wanted.dtype),
      to_string(wanted.shape), data_.path());
}

Tensor Feed::constant(size_t port, const std::vector<Tensor>& sample) const {
  const FeedPort& wanted = ports_[port];
  const auto& all = data_.constants();
  const ConstantInput& c =
      *std::find_if(all.begin(), all.end(), [&](const ConstantInput& one) { return one.name == wanted.name; });
  Dims dims = c.dims;
  if (!c.like.empty()) {
    for (size_t i = 0; i < data_.inputs(); ++i)
      if (data_.input_name(i) == c.like) dims = sample[i].dims();
  } else if (dims.empty()) {
    for (size_t i = 0; i < wanted.shape.rank(); ++i) {
      if (!wanted.shape[i].is_known() && i > 0)
        fail(ErrorCode::kInvalidArgument,
             "The model leaves the size of an input free that is a constant; give it `dims`, or `like` another input: "
             "'{}' {} in {}",
             wanted.name, to_string(wanted.shape), data_.path());
      dims.push_back(wanted.shape[i].is_known() ? wanted.shape[i].value() : 1);
    }
  }
  const std::vector<double> values(static_cast<size_t>(element_count(dims)), c.value);
  Tensor filled = from_doubles(wanted.dtype, dims, values);
  if (!values.empty() && !is_float(wanted.dtype) && to_doubles(filled)[0] != c.value)
    fail(ErrorCode::kInvalidArgument,
         "A constant is no number of its input's type; correct it: '{}' is {}, not {:g} in {}", wanted.name,
         to_string(wanted.dtype), c.value, data_.path());
  return filled;
}

void Feed::require_equal_sizes(const std::vector<Tensor>& request, const std::string& sample) const {
  std::map<std::string, std::pair<int64_t, std::string>> sizes;  // by symbol: size and input
  for (size_t port = 0; port < request.size(); ++port)
    for (size_t axis = 0; axis < ports_[port].shape.rank(); ++axis) {
      const Dim& dim = ports_[port].shape[axis];
      const int64_t size = request[port].dims()[axis];
      if (!dim.is_symbol()) continue;
      const auto [it, fresh] = sizes.try_emplace(dim.symbol(), size, ports_[port].name);
      if (!fresh && it->second.first != size)
        fail(ErrorCode::kInvalidArgument,
             "The inputs of a sample do not fit each other; correct its data: '{}' is {} in '{}' and {} in '{}' of {}: "
             "{}",
             dim.symbol(), it->second.first, it->second.second, size, ports_[port].name, sample, data_.path());
    }
}

std::vector<Tensor> Feed::request_of(const std::vector<Tensor>& sample, Split split, int64_t index) const {
  const auto name = [&](size_t input) {
    return fmt::format("{} of the {} split", data_.sample_name(split, index, input), to_string(split));
  };
  std::vector<Tensor> request;
  for (size_t port = 0; port < ports_.size(); ++port)
    request.push_back(sources_[port] ? fitted(port, sample[*sources_[port]], name(*sources_[port]))
                                     : fitted(port, constant(port, sample), "a constant"));
  require_equal_sizes(request, name(0));
  return request;
}

std::vector<Tensor> Feed::request(Split split, int64_t index) const {
  std::vector<Tensor> sample;
  for (size_t i = 0; i < data_.inputs(); ++i) sample.push_back(data_.input(split, index, i));
  return request_of(sample, split, index);
}

std::vector<std::vector<Tensor>> Feed::requests(Split split, std::span<const int64_t> indices, int threads) const {
  std::vector<std::vector<Tensor>> all(indices.size());
  std::mutex mutex;
  std::exception_ptr error;
  parallel_for(static_cast<int64_t>(indices.size()), threads, [&](int64_t begin, int64_t end) {
    try {
      for (int64_t i = begin; i < end; ++i)
        all[static_cast<size_t>(i)] = request(split, indices[static_cast<size_t>(i)]);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (error == nullptr) error = std::current_exception();
    }
  });
  if (error != nullptr) std::rethrow_exception(error);
  return all;
}

std::vector<InputRecipe> recipes_of(const Dataset& data) {
  std::vector<InputRecipe> recipes;
  for (size_t i = 0; i < data.inputs(); ++i)
    recipes.push_back({data.is_image(i) ? InputRecipe::Kind::kPicture : InputRecipe::Kind::kArray, data.preprocess(i)});
  for (const ConstantInput& constant : data.constants())
    recipes.push_back({.kind = InputRecipe::Kind::kConstant, .constant = constant});
  return recipes;
}

std::string carried_difference(const Dataset& data, const Graph& model) {
  std::vector<std::string> labels;
  if (model.inputs().size() == 1) {
    Preprocess carried;
    return load_preprocess(model, carried, labels) ? preprocess_difference(data.preprocess(), carried) : "";
  }
  std::vector<InputRecipe> carried;
  return load_input_recipes(model, carried, labels) ? input_recipes_difference(recipes_of(data), carried) : "";
}

void require_fitting(const Dataset& data, const Graph& model, bool training) {
  std::vector<Split> splits = {Split::kTest, Split::kCalibration};
  if (training) splits.push_back(Split::kTrain);
  const Feed feed(data, model);
  for (const Split split : splits)
    if (data.size(split) > 0) feed.request(split, 0);
  if (model.outputs().empty()) return;
  const Shape& shape = model.value(model.outputs()[0]).shape;
  if (shape.rank() < 2) return;
  int64_t scores = 1;
  for (size_t i = 1; i < shape.rank(); ++i) {
    if (!shape[i].is_known()) return;
    scores *= shape[i].value();
  }
  for (const Split split : splits)
    for (int64_t i = 0; data.has_labels(split) && i < data.size(split); ++i)
      if (data.label(split, i) >= scores)
        fail(ErrorCode::kInvalidArgument,
             "A label lies beyond the model's {} scores; correct it, `label_map` or `label_offset`: {} of {} in {}",
             scores, data.label(split, i), data.sample_name(split, i), data.path());
  if (!data.class_names().empty() && data.has_labels() && scores != static_cast<int64_t>(data.class_names().size()))
    fail(ErrorCode::kInvalidArgument,
         "The data file names {} classes and the model has {} scores; give `classes` in the model's order, and "
         "`label_map` or `label_offset` where the labels are numbered otherwise: {}",
         data.class_names().size(), scores, data.path());
}

}  // namespace slipway
