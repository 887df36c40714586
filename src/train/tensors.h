#pragma once
#include "model/tensor.h"
#include "train/libtorch.h"

namespace slipway {

/// The same values in libtorch's form, copied: float and integer types, bool, 4 bits widened to 8. Fails with
/// kUnsupported for the others.
at::Tensor to_torch(const Tensor& tensor);
/// And back.
Tensor from_torch(const at::Tensor& tensor);

}  // namespace slipway
