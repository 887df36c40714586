#pragma once
#include <stdint.h>

/// The border between the elementwise kernels and their per-ISA loops: plain data, no inline code. Each loop is
/// single-threaded, assumes no alignment, and may write over the operand that it reads at the same place.
namespace slipway {

/// A float function of one float.
struct UnaryRow {
  const char* name;           ///< the ONNX operator (Gelu's tanh form: "GeluTanh"), or the fused activation (SiLU)
  float max_ulp;              ///< bound of the error over all floats, in units in the last place of the exact result
  const char* attributes[2];  ///< what the two parameters are called; null when there is none
  float defaults[2];
  void (*run)(const float* x, float* y, int64_t count, const float* parameters) noexcept;
};

/// Rows of `count` elements. y is dense; along a row a and b advance by their step of 0 or 1, between rows by their
/// pitch, both in elements.
struct BinaryBlock {
  const float *a, *b;
  float* y;
  int64_t rows, count;
  int64_t a_pitch, b_pitch, y_pitch;
  int32_t a_step, b_step;
};

/// A float function of two floats; those of IEEE 754 are exact, so there is no bound.
struct BinaryRow {
  const char* name;  ///< the ONNX operator
  void (*run)(const BinaryBlock* block) noexcept;
};

/// Softmax or its logarithm of `lanes` neighbouring distributions, each of `count` elements `step` apart; step is 1
/// (then there is one lane) or at least `lanes`.
using SoftmaxRun = void (*)(const float* x, float* y, int64_t count, int64_t step, int64_t lanes) noexcept;

/// What one instruction set offers; every set has the same rows in the same order.
struct ElementwiseRows {
  const UnaryRow* unary;
  int64_t unary_count;
  const BinaryRow* binary;
  int64_t binary_count;
  SoftmaxRun softmax, log_softmax;
};

extern const ElementwiseRows kElementwiseBaseline;
extern const ElementwiseRows kElementwiseAvx2;
extern const ElementwiseRows kElementwiseAvx512;

}  // namespace slipway
