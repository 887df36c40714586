#pragma once
#include <stdint.h>

/// The border between int8_ops and its per-ISA loops: plain data, no inline code.
namespace slipway {

/// How floats become bytes: clamp to [lo, hi], round half to even, add the zero point. The bounds have it taken off.
struct RowRange {
  float lo, hi;
  int32_t zero_point;
};

/// One operand of an addition: float(q − zero_point)·multiplier.
struct RowTerm {
  const uint8_t* q;
  int32_t is_signed, zero_point;
  float multiplier;
};

/// The cells under a pooling kernel: rows × columns of them, pitches in bytes.
struct RowGrid {
  const uint8_t* x;
  int64_t rows, columns, row_pitch, column_pitch;
};

/// The loops over one contiguous run of `count` elements, single-threaded. No alignment is assumed.
struct Int8Rows {
  const char* name;
  /// x / scale
  void (*quantize)(const float* x, uint8_t* y, int64_t count, float scale, const RowRange* range) noexcept;
  void (*dequantize)(const RowTerm* x, float* y, int64_t count) noexcept;
  /// b may be null
  void (*add)(const RowTerm* a, const RowTerm* b, uint8_t* y, int64_t count, const RowRange* range) noexcept;
  /// y[i] = the largest cell[i]; there is at least one cell
  void (*max)(const RowGrid* cells, int32_t is_signed, uint8_t* y, int64_t count) noexcept;
  /// float(Σ cell[i] − offset)·multiplier
  void (*mean)(const RowGrid* cells, int32_t is_signed, int32_t offset, float multiplier, uint8_t* y, int64_t count,
               const RowRange* range) noexcept;
};

extern const Int8Rows kInt8RowsScalar;
extern const Int8Rows kInt8RowsAvx2;

}  // namespace slipway
