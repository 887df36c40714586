// A sample's way through a model: the same decoding, pre-processing and ranking as everywhere else in Slipway. What an
// input takes says its recipe, which the model carries; one without is an array as the model has it.
#include "serve/predict.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <new>

#include "base/error.h"
#include "data/feed.h"
#include "data/image.h"
#include "data/npy.h"
#include "serve/json/json_tensor.h"
#include "serve/wire.h"

namespace slipway {
namespace {

constexpr size_t kMaxArrayRank = 8;

std::string names_of(const ModelVersion& version) {
  std::vector<std::string> names;
  for (const Port& port : version.inputs()) names.push_back(port.name);
  return "'" + fmt::format("{}", fmt::join(names, "', '")) + "'";
}

bool is_npy(std::span<const std::byte> file) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  return file.size() > kMagic.size() && std::memcmp(file.data(), kMagic.data(), kMagic.size()) == 0;
}

/// The sizes of a nested array, by the first list at each depth; whether the others have them shows when it is read.
Dims dims_of(std::string_view text) {
  size_t rank = 0, begin = 0;
  for (; begin < text.size() && (text[begin] == '[' || std::isspace(static_cast<unsigned char>(text[begin]))); ++begin)
    rank += text[begin] == '[' ? 1 : 0;
  if (rank > kMaxArrayRank)
    fail(ErrorCode::kInvalidArgument, "An array of the request has more than {} axes: {}", kMaxArrayRank, rank);
  Dims dims(rank, 1);
  if (rank > 0 && begin < text.size() && text[begin] == ']') dims.back() = 0;
  size_t depth = rank, closed = rank;  // the first lists below `closed` have ended
  bool in_string = false;
  for (size_t i = begin; i < text.size() && closed > 0; ++i) {
    if (in_string) {
      i += text[i] == '\\' ? 1 : 0;
      in_string = text[i] != '"';
      continue;
    }
    in_string = text[i] == '"';
    if (text[i] == '[') ++depth;
    if (text[i] == ',' && depth <= closed) ++dims[depth - 1];
    if (text[i] == ']') closed = std::min(closed, --depth);
  }
  return dims;
}

/// A sample's tensors for a model, from what a caller sends. Whatever is wrong with that is its sender's fault, not the
/// version's.
class SampleReader {
 public:
  explicit SampleReader(const ModelVersion& version) : version_(version) {}

  std::vector<WireTensor> read(std::span<const PredictValue> values) {
    std::vector<const PredictValue*> by_port(version_.inputs().size(), nullptr);
    for (const PredictValue& value : values) {
      const PredictValue*& place = by_port[port_of(value)];
      if (place != nullptr)
        fail(ErrorCode::kInvalidArgument, "An input of the request stands twice; send it once: {}",
             quote_name(value.input));
      place = &value;
    }
    std::vector<std::string> missing;
    for (size_t i = 0; i < by_port.size(); ++i) {
      const InputRecipe* recipe = recipe_of(i);
      if (by_port[i] == nullptr && (recipe == nullptr || recipe->kind != InputRecipe::Kind::kConstant))
        missing.push_back(version_.inputs()[i].name);
    }
    if (!missing.empty())
      fail(ErrorCode::kInvalidArgument,
           "The request lacks inputs of the model; send each by its name, as JSON {{\"inputs\": {{…}}}} or as parts of "
           "a form: '{}'",
           fmt::join(missing, "', '"));
    tensors_.resize(by_port.size());
    for (size_t i = 0; i < by_port.size(); ++i)
      if (by_port[i] != nullptr) tensors_[i] = sample_of(i, *by_port[i]);
    for (size_t i = 0; i < by_port.size(); ++i)
      if (by_port[i] == nullptr) tensors_[i] = constant(i, recipe_of(i)->constant);
    for (size_t i = 0; i < by_port.size(); ++i) {
      const Port& port = version_.inputs()[i];
      if (port.dims.size() == tensors_[i].dims.size() + 1) tensors_[i].dims.insert(tensors_[i].dims.begin(), 1);
      tensors_[i].name = port.name;
    }
    return std::move(tensors_);
  }

  /// What the tensors' bytes lie in.
  std::vector<std::shared_ptr<const void>> memory;

 private:
  size_t port_of(const PredictValue& value) const {
    const std::vector<Port>& ports = version_.inputs();
    const bool alone = ports.size() == 1;
    std::vector<size_t> pictures;
    for (size_t i = 0; i < ports.size(); ++i) {
      if (ports[i].name == value.input || (alone && value.input.empty())) return i;
      if (takes_pictures(i)) pictures.push_back(i);
    }
    if (!value.input.empty())
      fail(ErrorCode::kInvalidArgument, "The model has no such input; it has {}: {}", names_of(version_),
           quote_name(value.input));
    if (pictures.size() == 1) return pictures[0];
    fail(ErrorCode::kInvalidArgument,
         "The model has several inputs; send each by its name, as JSON {{\"inputs\": {{…}}}} or as parts of a form: {}",
         names_of(version_));
  }

  const InputRecipe* recipe_of(size_t port) const {
    for (const InputRecipe& recipe : version_.recipes())
      if (recipe.input() == version_.inputs()[port].name) return &recipe;
    return nullptr;
  }

  /// Its own, or that of a model with one input, which may be for pictures or arrays.
  const Preprocess* preprocess_of(size_t port) const {
    if (const InputRecipe* recipe = recipe_of(port))
      return recipe->kind == InputRecipe::Kind::kConstant ? nullptr : &recipe->preprocess;
    const Preprocess* how = version_.preprocess();
    const bool meant = how != nullptr && (version_.inputs().size() == 1 || how->input == version_.inputs()[port].name);
    return meant ? how : nullptr;
  }

  bool takes_pictures(size_t port) const {
    const InputRecipe* recipe = recipe_of(port);
    return recipe == nullptr ? preprocess_of(port) != nullptr : recipe->kind == InputRecipe::Kind::kPicture;
  }

  WireTensor sample_of(size_t port, const PredictValue& value) {
    const InputRecipe* recipe = recipe_of(port);
    const std::string& name = version_.inputs()[port].name;
    const bool array = !value.array.empty() || is_npy(value.file);
    if (array && recipe != nullptr && recipe->kind == InputRecipe::Kind::kPicture)
      fail(ErrorCode::kInvalidArgument, "This input of the model is a picture; send a JPEG or PNG: '{}'", name);
    if (!array && recipe != nullptr && recipe->kind != InputRecipe::Kind::kPicture)
      fail(ErrorCode::kInvalidArgument,
           "This input of the model is an array; send numbers as a JSON array, or a .npy file: '{}'", name);
    return array ? array_of(port, value) : keep(picture_of(port, value));
  }

  Tensor picture_of(size_t port, const PredictValue& value) const {
    const Preprocess* how = preprocess_of(port);
    if (how == nullptr)
      fail(ErrorCode::kUnsupported,
           "The model carries no pre-processing for pictures; publish what `slipway quantize` or `ship` wrote, or put "
           "it into config.yaml: {}/{}",
           version_.model(), version_.version());
    try {
      return preprocess_image(*how, decode_image(value.file, "the request's body", kMaxPicturePixels));
    } catch (const Error& error) {
      if (!value.input.empty())
        fail(ErrorCode::kInvalidArgument, "The request must hold a JPEG or PNG for {}: {}", quote_name(value.input),
             error.what());
      fail(ErrorCode::kInvalidArgument,
           "The request must be a JPEG or PNG, bare or as the file of a form, or {{\"image\": base64 of one}}: {}",
           error.what());
    }
  }

  WireTensor array_of(size_t port, const PredictValue& value) {
    const Port& wanted = version_.inputs()[port];
    const Preprocess* how = preprocess_of(port);
    const bool plain = how == nullptr || how->keeps_values();
    if (value.array.empty()) {
      const auto file = std::make_shared<std::vector<std::byte>>(value.file.begin(), value.file.end());
      Tensor sample = parse_npy({file, *file}, wanted.name);
      if (!plain) sample = preprocess_array(*how, sample);
      return keep(to_model_dtype(std::move(sample), wanted.dtype));
    }
    const Dims dims = dims_of(value.array);
    const DType dtype = plain ? wanted.dtype : DType::kFloat64;
    TensorBytes bytes = parse_json_tensor(value.array, dtype, dims, wanted.name);
    const auto owner = std::make_shared<AlignedBytes>(std::move(bytes.data));
    memory.push_back(owner);
    if (plain) return {.dtype = dtype, .dims = dims, .bytes = {owner->get(), bytes.size}};
    return keep(to_model_dtype(preprocess_array(*how, Tensor::view(dtype, dims, owner->get(), owner)), wanted.dtype));
  }

  WireTensor constant(size_t port, const ConstantInput& how) {
    const Port& wanted = version_.inputs()[port];
    Dims dims = how.dims;
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (!how.like.empty() && version_.inputs()[i].name == how.like) dims = tensors_[i].dims;
    if (how.like.empty() && dims.empty())
      for (const int64_t dim : wanted.dims) dims.push_back(dim < 0 ? 1 : dim);
    return keep(
        from_doubles(wanted.dtype, dims, std::vector<double>(static_cast<size_t>(element_count(dims)), how.value)));
  }

  WireTensor keep(Tensor tensor) {
    const auto owner = std::make_shared<const Tensor>(std::move(tensor));
    memory.push_back(owner);
    return {.dtype = owner->dtype(), .dims = owner->dims(), .bytes = {owner->raw(), owner->bytes()}};
  }

  const ModelVersion& version_;
  std::vector<WireTensor> tensors_;
};

}  // namespace

bool is_classifier(const ModelVersion& version) {
  const Port& scores = version.outputs().at(0);
  if (!is_float(scores.dtype) || scores.dims.empty()) return false;
  const auto axes = std::span(scores.dims).subspan(scores.dims.size() == 1 ? 0 : 1);
  int64_t classes = 1;
  for (const int64_t size : axes) {
    if (size != 1 && classes != 1) return false;
    classes = size == 1 ? classes : size;
  }
  return classes > 1 && (version.outputs().size() == 1 || classes == static_cast<int64_t>(version.labels().size()));
}

void predict(Server& server, const Target& target, std::span<const PredictValue> values, InferRequest&& request,
             std::function<void(Prediction&&)> done) {
  const ModelVersion& version = *target.version;
  SampleReader reader(version);
  request.inputs = reader.read(values);
  const bool classifies = is_classifier(version);
  if (classifies) request.outputs = {version.outputs().at(0).name};
  request.owner = std::make_shared<decltype(reader.memory)>(std::move(reader.memory));
  server.infer(target, std::move(request),
               [done = std::move(done), served = target.version, classifies](InferResponse&& response) {
                 Prediction prediction{.response = std::move(response), .top = {}};
                 InferResponse& r = prediction.response;
                 if (!r.error && classifies) {
                   try {
                     try {
                       prediction.top = top_classes(to_tensor(r.outputs.at(0)), served->labels(), 5);
                     } catch (const Error& error) {
                       r.error = error.code();
                       r.message = error.what();
                     }
                   } catch (const std::bad_alloc&) {
                     r.error = ErrorCode::kOutOfMemory;
                   }
                   r.outputs.clear();
                   r.owner.reset();
                 }
                 done(std::move(prediction));
               });
}

}  // namespace slipway
