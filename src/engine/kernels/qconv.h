#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/memory.h"
#include "engine/kernels/int8.h"

/// INT8 convolution and Gemm: exact integer sums, the same bits on every instruction set.
///
///   acc[oc] = Σ (x − x.zero_point)·w + bias               int32, modulo 2^32; padding counts as x.zero_point
///   f = float(acc)·multiplier[oc] + addend[oc]             float32, one rounding per operation, never fused
///   mid:      q = clamp(rne(f) + zero_point, lo, hi);  f = float(q − zero_point)·multiplier
///   residual: f = f + float(r − zero_point)·multiplier
///   y = clamp(rne(f) + y.zero_point, y.lo, y.hi)           rne: round half to even; or y = f, in float32
///
/// Activations are dense NHWC. A Gemm [M, K]·[K, N] is n = M, h = w = 1, c = K, oc = N, its weights as [N][K].
namespace slipway {

struct QConvShape {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t oh = 1, ow = 1, oc = 1;
  int64_t kh = 1, kw = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0;  ///< those below and to the right follow from oh and ow
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;
};

enum class QConvOutput : uint8_t { kInt8, kFloat };

struct QConvEpilogue {
  QConvOutput output = QConvOutput::kInt8;
  Int8Encoding y;  ///< lo and hi hold the activation (ReLU, Clip) too; unused for kFloat

  bool has_mid = false;  ///< the convolution's own quantised output, before the residual
  int32_t mid_zero_point = 0, mid_lo = -128, mid_hi = 127;
  float mid_multiplier = 1;

  bool has_residual = false;  ///< a tensor of y's shape
  Int8Encoding residual;
  float residual_multiplier = 1;
};

struct QConvSpec {
  QConvShape shape;
  Int8Encoding x;
  QConvEpilogue epilogue;
};

/// Read while packing only.
struct QConvWeights {
  const int8_t* w = nullptr;          ///< [oc][c / groups][kh][kw], zero point 0
  const int32_t* bias = nullptr;      ///< [oc] in units of x.scale·w.scale[oc], or null
  const float* multiplier = nullptr;  ///< [oc], x.scale·w.scale[oc] / (scale of what f is rounded to; 1 for kFloat)
  const float* addend = nullptr;      ///< [oc] in units of what f is rounded to, or null: a bias given in reals
};

struct QConvPacked {
  AlignedBytes data;
  size_t bytes = 0;
};

/// One implementation. The packed weights are position-independent and 64-byte aligned, so that a plan may hold and map
/// them; they depend on the whole spec except the batch n.
struct QConvTactic {
  const char* name;
  Isa isa;
  /// Empty if this tactic computes the spec exactly, else the reason why not. Looks at the weights. `isa` apart.
  std::string (*reject)(const QConvSpec&, const QConvWeights&);
  /// Requires that reject() was empty.
  QConvPacked (*pack)(const QConvSpec&, const QConvWeights&);
  /// Empty if `packed` fits the spec so that run() stays within its buffers, whatever the bytes; else the reason.
  std::string (*check)(const QConvSpec&, std::span<const std::byte> packed);
  size_t (*scratch_bytes)(const QConvSpec&, int threads);
  /// Requires isa_available(isa), 64-byte aligned packed and scratch. Allocates nothing. `residual` may be `y`.
  void (*run)(const QConvSpec&, const std::byte* packed, const void* x, const void* residual, void* y,
              std::byte* scratch, int threads) noexcept;
};

/// Likely fastest first; the last, scalar, accepts every valid spec and is the oracle of the others.
std::span<const QConvTactic> qconv_tactics();
/// Null if unknown.
const QConvTactic* find_qconv_tactic(std::string_view name);
/// The first that this CPU can run and that accepts; never null for a valid spec.
const QConvTactic* select_qconv_tactic(const QConvSpec&, const QConvWeights&);
/// Empty if sizes, ranges, multipliers and addends are sane and no offset can overflow, else what is wrong; every
/// reject() begins with it. Multipliers and addends are not looked at where weights has none.
std::string invalid_qconv(const QConvSpec&, const QConvWeights& weights);

}  // namespace slipway
