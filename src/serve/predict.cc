// A picture's way through a model: the same decoding, pre-processing and ranking as everywhere else in Slipway.
#include "serve/predict.h"

#include "base/error.h"
#include "data/image.h"
#include "serve/wire.h"

namespace slipway {
namespace {

/// Whatever is wrong with a picture is its sender's fault, not the version's.
Image decode(std::span<const std::byte> picture) {
  try {
    return decode_image(picture, "the request's body");
  } catch (const Error& error) {
    fail(ErrorCode::kInvalidArgument,
         "The request must be a bare JPEG or PNG (no form), or {{\"image\": base64 of one}}: {}", error.what());
  }
}

}  // namespace

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
  request.outputs = {version.outputs().at(0).name};
  request.owner = sample;
  server.infer(target, std::move(request), [done = std::move(done), served = target.version](InferResponse&& response) {
    Prediction prediction;
    if (!response.error) try {
        prediction.top = top_classes(to_tensor(response.outputs.at(0)), served->labels(), 5);
      } catch (const Error& error) {
        response.error = error.code();
        response.message = error.what();
      }
    response.outputs.clear();
    response.owner.reset();
    prediction.response = std::move(response);
    done(std::move(prediction));
  });
}

}  // namespace slipway
