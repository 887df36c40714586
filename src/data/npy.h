#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/file_bytes.h"
#include "model/tensor.h"

namespace slipway {

/// NumPy's .npy, versions 1 to 3, either byte order, C or Fortran order: all booleans, integers, floats and complex
/// numbers. Fails with kInvalidArgument naming the file (not .npy, cut short), kUnsupported (objects, records, text).
/// Nothing is copied where the file's bytes can serve as they are.
Tensor parse_npy(const FileBytes& file, const std::string& name);
/// A .npy file, gzipped or not.
Tensor read_npy(const std::string& path);

/// All arrays of an .npz archive by name (without ".npy").
std::vector<std::pair<std::string, Tensor>> parse_npz(std::span<const std::byte> archive, const std::string& name);
/// One array; fails with kNotFound naming those that exist.
Tensor read_npz(const std::string& path, const std::string& array);

/// Version 1.0, C order. Element types that NumPy lacks are widened: bfloat16 and 8-bit floats to float32, 4-bit
/// integers to 8. Fails with kUnsupported for strings.
std::string npy_bytes(const Tensor& tensor);
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace slipway
