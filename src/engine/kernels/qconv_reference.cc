// The scalar convolution: the definition in qconv.h, written down. The oracle of every other tactic.
#include <bit>
#include <cstring>

#include "base/hash.h"
#include "base/parallel.h"
#include "engine/kernels/qconv_form.h"

namespace slipway {
namespace {

constexpr QConvForm kForm = {"qconv_reference", QConvInput::kBytes, 1, false, false, nullptr};

// The packed form: QConvHeader, multipliers, biases, addends, weights in OIHW.
struct Layout {
  size_t multiplier, bias, addend, w, bytes, w_bytes;
};

Layout layout_of(const QConvShape& s) {
  Layout at;
  const auto oc = static_cast<size_t>(s.oc);
  at.w_bytes = static_cast<size_t>(s.oc * (s.c / s.groups) * s.kh * s.kw);
  at.multiplier = sizeof(QConvHeader);
  at.bias = at.multiplier + oc * 4;
  at.addend = at.bias + oc * 4;
  at.w = at.addend + oc * 4;
  at.bytes = at.w + at.w_bytes;
  return at;
}

std::string reject(const QConvSpec& spec, const QConvWeights& weights) { return invalid_qconv(spec, weights); }

QConvPacked pack(const QConvSpec& spec, const QConvWeights& weights) {
  const Layout at = layout_of(spec.shape);
  QConvPacked packed{allocate_aligned(at.bytes), at.bytes};
  QConvHeader header;
  header.digest = qconv_digest(kForm, spec);
  header.bytes = at.bytes;
  std::byte* to = packed.data.get();
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + at.multiplier, weights.multiplier, at.bias - at.multiplier);
  std::memset(to + at.bias, 0, at.w - at.bias);
  if (weights.bias) std::memcpy(to + at.bias, weights.bias, at.addend - at.bias);
  if (weights.addend) std::memcpy(to + at.addend, weights.addend, at.w - at.addend);
  std::memcpy(to + at.w, weights.w, at.w_bytes);
  return packed;
}

std::string check(const QConvSpec& spec, std::span<const std::byte> packed) {
  if (std::string why = invalid_qconv(spec, {}); !why.empty()) return why;
  QConvHeader header;
  if (packed.size() != layout_of(spec.shape).bytes) return "packed weights are truncated";
  std::memcpy(&header, packed.data(), sizeof header);
  if (header.digest != qconv_digest(kForm, spec)) return "packed weights belong to another convolution or tactic";
  return {};
}

size_t scratch_bytes(const QConvSpec&, int) { return 0; }

int32_t sum(const QConvSpec& spec, const int8_t* w, const void* x, int64_t n, int64_t oy, int64_t ox, int64_t oc) {
  const QConvShape& s = spec.shape;
  const int64_t group_c = s.c / s.groups, c0 = oc / (s.oc / s.groups) * group_c;
  uint32_t total = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    const int64_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
    if (iy < 0 || iy >= s.h) continue;
    for (int64_t kx = 0; kx < s.kw; ++kx) {
      const int64_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
      if (ix < 0 || ix >= s.w) continue;
      for (int64_t c = 0; c < group_c; ++c) {
        const int32_t q = load_int8(spec.x.type, x, ((n * s.h + iy) * s.w + ix) * s.c + c0 + c) - spec.x.zero_point;
        total += static_cast<uint32_t>(q * w[((oc * group_c + c) * s.kh + ky) * s.kw + kx]);
      }
    }
  }
  return std::bit_cast<int32_t>(total);
}

float finish(const QConvEpilogue& e, int32_t acc, float multiplier, float addend, const void* residual, int64_t i) {
  const float product = static_cast<float>(acc) * multiplier;
  float f = product + addend;
  if (e.has_mid) {
    const int32_t q = round_to_int8(f, e.mid_zero_point, e.mid_lo, e.mid_hi);
    f = static_cast<float>(q - e.mid_zero_point) * e.mid_multiplier;
  }
  if (e.has_residual) {
    const int32_t r = load_int8(e.residual.type, residual, i) - e.residual.zero_point;
    const float scaled = static_cast<float>(r) * e.residual_multiplier;
    f = f + scaled;
  }
  return f;
}

void run(const QConvSpec& spec, const std::byte* packed, const void* x, const void* residual, void* y, std::byte*,
         int threads) noexcept {
  const QConvShape& s = spec.shape;
  const QConvEpilogue& e = spec.epilogue;
  const Layout at = layout_of(s);
  const auto* multiplier = reinterpret_cast<const float*>(packed + at.multiplier);
  const auto* bias = reinterpret_cast<const uint32_t*>(packed + at.bias);
  const auto* addend = reinterpret_cast<const float*>(packed + at.addend);
  const auto* w = reinterpret_cast<const int8_t*>(packed + at.w);
  parallel_for(s.n * s.oh * s.ow, threads, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const int64_t n = pixel / (s.oh * s.ow), oy = pixel / s.ow % s.oh, ox = pixel % s.ow;
      for (int64_t oc = 0; oc < s.oc; ++oc) {
        const int64_t i = pixel * s.oc + oc;
        const auto products = static_cast<uint32_t>(sum(spec, w, x, n, oy, ox, oc));
        const auto acc = std::bit_cast<int32_t>(products + bias[oc]);
        const float f = finish(e, acc, multiplier[oc], addend[oc], residual, i);
        if (e.output == QConvOutput::kFloat) {
          static_cast<float*>(y)[i] = f;
        } else {
          static_cast<uint8_t*>(y)[i] = static_cast<uint8_t>(round_to_int8(f, e.y.zero_point, e.y.lo, e.y.hi));
        }
      }
    }
  });
}

}  // namespace

const QConvTactic kQConvReference = {"qconv_reference", Isa::kBaseline, reject, pack, check, scratch_bytes, run};

}  // namespace slipway
