// Tensors between the two worlds.
#include "train/tensors.h"

#include <cstring>

#include "base/error.h"

namespace slipway {
namespace {

struct Pair {
  DType ours;
  at::ScalarType theirs;
};
constexpr Pair kTypes[] = {{DType::kFloat32, at::kFloat}, {DType::kFloat64, at::kDouble}, {DType::kInt8, at::kChar},
                           {DType::kUint8, at::kByte},    {DType::kInt16, at::kShort},    {DType::kInt32, at::kInt},
                           {DType::kInt64, at::kLong},    {DType::kBool, at::kBool},      {DType::kFloat16, at::kHalf}};

}  // namespace

at::Tensor to_torch(const Tensor& tensor) {
  if (tensor.dtype() == DType::kInt4) return to_torch(cast(tensor, DType::kInt8));
  if (tensor.dtype() == DType::kUint4) return to_torch(cast(tensor, DType::kUint8));
  for (const Pair& type : kTypes) {
    if (type.ours != tensor.dtype()) continue;
    const at::Tensor result = at::empty(tensor.dims(), type.theirs);
    if (tensor.bytes() > 0) std::memcpy(result.data_ptr(), tensor.raw(), tensor.bytes());
    return result;
  }
  fail(ErrorCode::kUnsupported, "Training has no tensors of this type; convert the model to float32: {}",
       to_string(tensor.dtype()));
}

Tensor from_torch(const at::Tensor& tensor) {
  for (const Pair& type : kTypes) {
    if (type.theirs != tensor.scalar_type()) continue;
    const at::Tensor dense = tensor.detach().contiguous();
    Tensor result(type.ours, dense.sizes().vec());
    if (result.bytes() > 0) std::memcpy(result.mutable_raw(), dense.data_ptr(), result.bytes());
    return result;
  }
  fail(ErrorCode::kUnsupported, "A tensor of training has a type that models lack: {}",
       at::toString(tensor.scalar_type()));
}

}  // namespace slipway
