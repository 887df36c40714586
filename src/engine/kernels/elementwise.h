#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/kernels/elementwise_rows.h"
#include "model/shape.h"

/// FP32 functions element by element, on the best instruction set that this CPU has and ONEDNN_MAX_CPU_ISA allows. NaN,
/// infinities, the sign of zero and denormals come out as by the reference evaluation in model/ops; each unary function
/// states its bound of error (UnaryRow::max_ulp), the arithmetic of two operands is exact. Outputs may be written over
/// an operand of the same elements.
namespace slipway {

/// A function of one operand with its parameters; none when `row` is null.
struct Unary {
  const UnaryRow* row = nullptr;
  float parameters[2] = {0, 0};

  explicit operator bool() const { return row != nullptr; }
  /// On this thread.
  void run(const float* x, float* y, int64_t count) const noexcept { row->run(x, y, count, parameters); }
  /// On up to `threads` threads.
  void run(const float* x, float* y, int64_t count, int threads) const noexcept;
};

/// All functions that there are, the same whatever the CPU.
std::span<const UnaryRow> unary_functions();
std::span<const BinaryRow> binary_functions();

/// The ONNX operator of that name ("GeluTanh" for Gelu's other form) with its default parameters.
Unary find_unary(std::string_view op);
/// Null when there is no such function.
const BinaryRow* find_binary(std::string_view op);
/// The activation fused into another operator: its attributes `activation`, `alpha` and `beta` (Clip's bounds,
/// HardSigmoid's slope and offset, the slope of LeakyRelu and Elu). None when the name is not one.
Unary fused_activation(std::string_view name, float alpha, float beta);

/// Two operands with broadcasting, as nested loops over memory. `dims` are the output's, dense and row-major; an
/// operand's strides, in elements, are 0 where it repeats. Axes that all three walk as one are joined.
class BinaryLoops {
 public:
  /// `strides` have dims' rank; the last one is 0 or 1 for each operand, or its axis is 1 long.
  BinaryLoops(const BinaryRow& row, const Dims& dims, const Dims& a_strides, const Dims& b_strides);
  void run(const float* a, const float* b, float* y, int threads) const noexcept;

 private:
  void run_rows(const float* a, const float* b, float* y, int64_t begin, int64_t end) const noexcept;

  const BinaryRow* row_;
  Dims dims_, a_strides_, b_strides_;  ///< at least two axes
};

/// Softmax (or its logarithm) of outer × inner distributions over `count` elements: x is [outer, count, inner].
void softmax(const float* x, float* y, int64_t outer, int64_t count, int64_t inner, bool log, int threads) noexcept;

}  // namespace slipway
