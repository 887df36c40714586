#pragma once
#include <cstdint>
#include <string>

#include "engine/program.h"
#include "model/tensor.h"
#include "serve/model_version.h"
#include "serve/protocol.h"

namespace slipway {

// Sequences of different lengths in one batch: each is filled up to one of few lengths, and its outputs are cut back.

/// The smallest of `sizes` that holds so many; `length` itself where none does.
int64_t padded_length(const Padding& padding, int64_t length);

/// The length that the request's padded inputs have along the padded axis; 0 where they differ, or the model is not
/// padded.
int64_t length_of(const Padding& padding, const InferRequest& request);

/// The tensor with `axis` as long as asked: what is added holds `value`, what is too much is cut off.
Tensor resized(const Tensor& tensor, int64_t axis, int64_t length, double value = 0);

/// Fails with kInvalidArgument where the configuration names an input, an output or an axis that the model has not,
/// kVerificationFailed where padding made-up sequences changes an answer by more than `allowed` of the output's range,
/// or the model can't be run on any.
void require_padding_changes_nothing(const Program& program, const Graph& graph, const Padding& padding,
                                     double allowed);

}  // namespace slipway
