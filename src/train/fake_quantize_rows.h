#pragma once
#include <stdint.h>

/// The border between fake_quantize and its per-ISA loops: plain data, no inline code.
namespace slipway {

/// y = clamp(rne(x / scale), lo, hi) · scale: lo and hi are the grid's ends less the zero point.
struct FakeQuantizeStep {
  float scale, lo, hi;
};

/// The loops over one contiguous run of `count` elements, single-threaded. No alignment is assumed. NaN stays NaN.
struct FakeQuantizeRows {
  const char* name;
  void (*forward)(const float* x, float* y, int64_t count, const FakeQuantizeStep* step) noexcept;
  /// Straight through where x / scale lies in [lo, hi], zero outside; returns Σ g · ∂y/∂scale, where
  /// ∂y/∂scale = rne(v) − v inside and the clamped end outside, v = x / scale (LSQ, Esser et al. 2020, eq. 3 and 5).
  /// Summed in eight interleaved parts, then those in order, so that every ISA gives the same bits.
  float (*backward)(const float* x, const float* g, float* gx, int64_t count, const FakeQuantizeStep* step) noexcept;
};

extern const FakeQuantizeRows kFakeQuantizeRows, kFakeQuantizeRowsAvx2;

}  // namespace slipway
