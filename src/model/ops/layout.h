#pragma once
#include <cstdint>
#include <span>

#include "model/tensor.h"

namespace slipway {

/// Names element `index` of tensor `pool` for pick().
constexpr int64_t source_of(int64_t pool, int64_t index) { return (pool << 48) | index; }

/// A tensor of shape `dims` whose elements are copied from the pools, all of one element type (strings and 4-bit types
/// included); `sources` holds one source_of() per element, in range.
Tensor pick(std::span<const Tensor* const> pools, Dims dims, std::span<const int64_t> sources);
/// The same from one tensor: sources are plain indices.
Tensor pick(const Tensor& pool, Dims dims, std::span<const int64_t> sources);

/// Copies the elements that a strided walk over `box` meets (element strides, start at `base`) into a tensor of shape
/// `dims`, which has as many elements as the box.
Tensor copy_strided(const Tensor& from, Dims dims, const Dims& box, const Dims& strides, int64_t base = 0);

}  // namespace slipway
