#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/top_classes.h"
#include "serve/json/infer_codec.h"
#include "serve/server.h"

namespace slipway {

/// What a model says of a picture.
struct Prediction {
  InferResponse response;  ///< of a classifier without outputs; its error when there is one
  std::vector<ClassConfidence>
      top;  ///< at most five, exactly as `slipway run --image` prints them; empty: no classifier
};

/// Whether the first output is the scores of a picture's classes: floats along one axis besides the first, as many as
/// the model has labels, or the only output there is.
bool is_classifier(const ModelVersion& version);

/// A sample's values for the model's inputs, as the data file's samples come: decodes pictures and arrays, runs the
/// model's own pre-processing, fills in constants, infers, and ranks the classes; of a model that is no classifier all
/// outputs are in the response. Takes as long as decoding does, so no connection's thread may call it. Fails with
/// kInvalidArgument for an input that is missing, unknown, sent twice or of another kind, and a picture that is none or
/// larger than kMaxPicturePixels; kUnsupported for a picture to a model without pre-processing; `done` gets the rest.
inline constexpr int64_t kMaxPicturePixels = int64_t{1} << 26;
void predict(Server& server, const Target& target, std::span<const PredictValue> values, InferRequest&& request,
             std::function<void(Prediction&&)> done);

}  // namespace slipway
