// CIFAR-10's binary form (Krizhevsky, "The CIFAR-10 dataset"): records of a label byte and 3×32×32 bytes, planar RGB.
#include "data/cifar10.h"

#include <cstring>

#include "base/error.h"

namespace slipway {

LabelledTensor parse_cifar10(const FileBytes& file, const std::string& name) {
  constexpr size_t kPixels = 3 * 32 * 32, kRecord = 1 + kPixels;
  const size_t count = file.bytes.size() / kRecord;
  if (count == 0 || file.bytes.size() % kRecord != 0)
    fail(ErrorCode::kInvalidArgument, "The file is no whole number of CIFAR-10 records of {} bytes: {} bytes in {}",
         kRecord, file.bytes.size(), name);
  LabelledTensor out{Tensor(DType::kUint8, {static_cast<int64_t>(count), 3, 32, 32}), {}};
  std::byte* to = out.samples.mutable_raw();
  for (size_t i = 0; i < count; ++i) {
    const std::byte* record = file.bytes.data() + i * kRecord;
    out.labels.push_back(std::to_integer<int64_t>(record[0]));
    if (out.labels.back() > 9)
      fail(ErrorCode::kInvalidArgument, "A CIFAR-10 label lies outside 0 to 9: {} in record {} of {}",
           out.labels.back(), i, name);
    std::memcpy(to + i * kPixels, record + 1, kPixels);
  }
  return out;
}

}  // namespace slipway
