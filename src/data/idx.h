#pragma once
#include <string>

#include "data/file_bytes.h"
#include "model/tensor.h"

namespace slipway {

/// IDX, the format of MNIST and Fashion-MNIST. Fails with kInvalidArgument naming the file: wrong magic, cut short.
Tensor parse_idx(const FileBytes& file, const std::string& name);
Tensor read_idx(const std::string& path);

}  // namespace slipway
