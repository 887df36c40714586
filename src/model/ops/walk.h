#pragma once
#include <array>
#include <cstdint>

#include "model/ops/shape_rules.h"

namespace slipway {

/// Visits a box of `dims` in row-major order with N strided operands: row(out, offsets, length) for each innermost
/// row, where `out` counts elements visited so far and offsets[k] is operand k's offset at the row's start; within the
/// row, operand k advances by strides[k].back() (a box of rank 0 is one row of one element).
template <size_t N, typename Row>
void walk(const Dims& dims, const std::array<Dims, N>& strides, Row&& row) {
  int64_t rows = 1;
  for (int64_t d : dims)
    if (d == 0) return;
  const size_t outer = dims.empty() ? 0 : dims.size() - 1;
  for (size_t i = 0; i < outer; ++i) rows *= dims[i];
  const int64_t length = dims.empty() ? 1 : dims.back();
  Dims at(outer, 0);
  std::array<int64_t, N> offsets{};
  for (int64_t r = 0; r < rows; ++r) {
    row(r * length, offsets, length);
    for (size_t axis = outer; axis-- > 0;) {
      for (size_t k = 0; k < N; ++k) offsets[k] += strides[k][axis];
      if (++at[axis] < dims[axis]) break;
      for (size_t k = 0; k < N; ++k) offsets[k] -= strides[k][axis] * dims[axis];
      at[axis] = 0;
    }
  }
}

/// to[i] = f(a[…], b[…]) in the type Compute over `dims`, to which a and b broadcast.
template <typename From, typename To, typename Compute, typename Result>
void combine(const Dims& dims, const Dims& a_dims, const From* a, const Dims& b_dims, const From* b, To* to,
             Result (*f)(Compute, Compute)) {
  const std::array<Dims, 2> strides = {broadcast_strides(a_dims, dims), broadcast_strides(b_dims, dims)};
  const int64_t a_step = dims.empty() ? 0 : strides[0].back(), b_step = dims.empty() ? 0 : strides[1].back();
  walk<2>(dims, strides, [&](int64_t out, const std::array<int64_t, 2>& at, int64_t length) {
    const From *left = a + at[0], *right = b + at[1];
    for (int64_t i = 0; i < length; ++i)
      to[out + i] = static_cast<To>(f(static_cast<Compute>(left[i * a_step]), static_cast<Compute>(right[i * b_step])));
  });
}

}  // namespace slipway
