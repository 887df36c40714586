#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/top_classes.h"
#include "serve/server.h"

namespace slipway {

/// A picture's class, exactly as `slipway run --image` prints it.
struct Prediction {
  InferResponse response;            ///< without outputs; its error when there is one
  std::vector<ClassConfidence> top;  ///< at most five
};

/// Decodes a JPEG or PNG, runs the model's own pre-processing, infers, and ranks the classes. Fails with
/// kInvalidArgument for a picture that is none, kUnsupported for a model without pre-processing; `done` gets the rest.
void predict(Server& server, const Target& target, std::span<const std::byte> picture, InferRequest&& request,
             std::function<void(Prediction&&)> done);

}  // namespace slipway
