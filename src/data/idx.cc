// IDX (LeCun, "The MNIST database", file format): two zero bytes, the element type, the rank, the dimensions and the
// elements, all big-endian.
#include "data/idx.h"

#include <cstring>

#include "base/error.h"

namespace slipway {
namespace {

constexpr size_t kMaxIdxRank = 8;

DType idx_dtype(int code) {
  switch (code) {
    case 0x08:
      return DType::kUint8;
    case 0x09:
      return DType::kInt8;
    case 0x0b:
      return DType::kInt16;
    case 0x0c:
      return DType::kInt32;
    case 0x0d:
      return DType::kFloat32;
    case 0x0e:
      return DType::kFloat64;
    default:
      return DType::kUndefined;
  }
}

}  // namespace

Tensor parse_idx(const FileBytes& file, const std::string& name) {
  const auto& bytes = file.bytes;
  const auto at = [&](size_t i) { return std::to_integer<uint32_t>(bytes[i]); };
  const DType dtype =
      bytes.size() >= 4 && at(0) == 0 && at(1) == 0 ? idx_dtype(static_cast<int>(at(2))) : DType::kUndefined;
  if (dtype == DType::kUndefined || at(3) < 1 || at(3) > kMaxIdxRank)
    fail(ErrorCode::kInvalidArgument, "This is not an IDX file (its magic number is wrong); check the path: {}", name);
  const size_t rank = at(3), start = 4 + 4 * rank;
  if (bytes.size() < start)
    fail(ErrorCode::kInvalidArgument, "The IDX file ends inside its header; copy or download it again: {}", name);
  Dims dims;
  for (size_t d = 0; d < rank; ++d) {
    const size_t i = 4 + 4 * d;
    dims.push_back(at(i) << 24 | at(i + 1) << 16 | at(i + 2) << 8 | at(i + 3));
  }
  const size_t expected = bytes_of(dtype, element_count(dims));
  if (bytes.size() - start != expected)
    fail(ErrorCode::kInvalidArgument, "The IDX file holds {} bytes where {} takes {}; copy or download it again: {}",
         bytes.size() - start, to_string(dims), expected, name);
  if (bits_of(dtype) == 8) return Tensor::view(dtype, dims, bytes.data() + start, file.owner);
  Tensor tensor(dtype, dims);
  if (expected > 0) std::memcpy(tensor.mutable_raw(), bytes.data() + start, expected);
  swap_byte_order({tensor.mutable_raw(), expected}, bytes_of(dtype, 1));
  return tensor;
}

Tensor read_idx(const std::string& path) { return parse_idx(open_bytes(path), path); }

}  // namespace slipway
