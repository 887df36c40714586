// The scalar loops behind int8_ops: the oracle of the AVX2 ones.
#include "engine/kernels/int8_rows.h"

#include <algorithm>

#include "engine/kernels/int8.h"

namespace slipway {
namespace {

uint8_t to_byte(float f, const RowRange& range) {
  const float clamped = f > range.lo ? (f < range.hi ? f : range.hi) : range.lo;
  return static_cast<uint8_t>(static_cast<int32_t>(std::nearbyintf(clamped)) + range.zero_point);
}

int32_t load(const uint8_t* x, int64_t i, int32_t is_signed) {
  return is_signed ? int32_t{static_cast<int8_t>(x[i])} : int32_t{x[i]};
}

float term(const RowTerm& t, int64_t i) {
  return static_cast<float>(load(t.q, i, t.is_signed) - t.zero_point) * t.multiplier;
}

void quantize(const float* x, uint8_t* y, int64_t count, float scale, const RowRange* range) noexcept {
  for (int64_t i = 0; i < count; ++i) y[i] = to_byte(x[i] / scale, *range);
}

void dequantize(const RowTerm* x, float* y, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) y[i] = term(*x, i);
}

void add(const RowTerm* a, const RowTerm* b, uint8_t* y, int64_t count, const RowRange* range) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    float f = term(*a, i);
    if (b) f = f + term(*b, i);
    y[i] = to_byte(f, *range);
  }
}

template <typename Body>
void for_cells(const RowGrid& cells, const Body& body) {
  for (int64_t r = 0; r < cells.rows; ++r)
    for (int64_t c = 0; c < cells.columns; ++c) body(cells.x + r * cells.row_pitch + c * cells.column_pitch);
}

void max(const RowGrid* cells, int32_t is_signed, uint8_t* y, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    int32_t most = load(cells->x, i, is_signed);
    for_cells(*cells, [&](const uint8_t* cell) { most = std::max(most, load(cell, i, is_signed)); });
    y[i] = static_cast<uint8_t>(most);
  }
}

void mean(const RowGrid* cells, int32_t is_signed, int32_t offset, float multiplier, uint8_t* y, int64_t count,
          const RowRange* range) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    int32_t sum = -offset;
    for_cells(*cells, [&](const uint8_t* cell) { sum += load(cell, i, is_signed); });
    y[i] = to_byte(static_cast<float>(sum) * multiplier, *range);
  }
}

}  // namespace

const Int8Rows kInt8RowsScalar = {"int8_rows_scalar", quantize, dequantize, add, max, mean};

}  // namespace slipway
