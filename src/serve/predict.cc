// A picture's way through a model: the same decoding, pre-processing and ranking as everywhere else in Slipway.
#include "serve/predict.h"

#include <new>

#include "base/error.h"
#include "data/image.h"
#include "serve/wire.h"

namespace slipway {
namespace {

/// Whatever is wrong with a picture is its sender's fault, not the version's.
Image decode(std::span<const std::byte> picture) {
  try {
    return decode_image(picture, "the request's body", kMaxPicturePixels);
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument,
         "The request must be a JPEG or PNG, bare or as the file of a form, or {{\"image\": base64 of one}}: {}",
         error.what());
  }
}

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

void predict(Server& server, const Target& target, std::span<const std::byte> picture, InferRequest&& request,
             std::function<void(Prediction&&)> done) {
  const ModelVersion& version = *target.version;
  if (version.preprocess() == nullptr)
    fail(ErrorCode::kUnsupported,
         "The model carries no pre-processing for pictures; publish what `slipway quantize` or `ship` wrote, or put it "
         "into config.yaml: {}/{}",
         version.model(), version.version());
  const auto sample = std::make_shared<Tensor>(preprocess_image(*version.preprocess(), decode(picture)));
  Dims dims = sample->dims();
  dims.insert(dims.begin(), 1);
  const std::string& input =
      version.preprocess()->input.empty() ? version.inputs().at(0).name : version.preprocess()->input;
  request.inputs = {{input, sample->dtype(), std::move(dims), {sample->raw(), sample->bytes()}}};
  const bool classifies = is_classifier(version);
  if (classifies) request.outputs = {version.outputs().at(0).name};
  request.owner = sample;
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
