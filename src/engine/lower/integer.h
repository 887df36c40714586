#pragma once
#include <cstdint>

#include "engine/kernels/int8.h"
#include "engine/lower/lower.h"

namespace slipway {

bool is_int8(DType dtype);
/// Codes that an 8-bit value can take, from what makes it: a ReLU folded into its producer, copies, pools. Building
/// only.
struct CodeRange {
  int32_t lo, hi;
};
CodeRange code_range(const Graph& graph, ValueId id);
/// The encoding of input i, with the range found while building and carried in the candidate's variant ("…|lo|hi").
Int8Encoding input_encoding(const LowerContext& c, size_t i, int64_t zero_point, CodeRange range);
/// The encoding that the attributes y_dtype, y_zero_point, y_lo and y_hi state.
Int8Encoding output_encoding(const Node& node);

}  // namespace slipway
