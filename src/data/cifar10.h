#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/file_bytes.h"
#include "model/tensor.h"

namespace slipway {

struct LabelledTensor {
  Tensor samples;  ///< stacked along the first axis
  std::vector<int64_t> labels;
};

/// CIFAR-10's binary form: u8 [N,3,32,32]. Fails with kInvalidArgument naming the file when its size is no multiple of
/// a record or a label is above 9.
LabelledTensor parse_cifar10(const FileBytes& file, const std::string& name);

}  // namespace slipway
