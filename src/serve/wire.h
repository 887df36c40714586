#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/tensor.h"
#include "serve/model_version.h"
#include "serve/protocol.h"

namespace slipway {

/// A tensor from the protocol's binary form, and back. Fails with kInvalidArgument, naming the tensor, when the bytes
/// do not fit its shape.
Tensor to_tensor(const WireTensor& wire);
std::vector<std::byte> wire_bytes(const Tensor& tensor);

/// Checks a request against the version's ports and puts its inputs in their order; the number of rows (1 for a model
/// with fixed shapes). Fails with kInvalidArgument naming tensor, what is expected and what came.
int64_t match_inputs(InferRequest& request, const ModelVersion& version);

}  // namespace slipway
