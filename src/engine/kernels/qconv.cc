// The list of INT8 convolution tactics, and the choice among them.
#include "engine/kernels/qconv.h"

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "engine/kernels/qconv_form.h"

namespace slipway {
namespace {

constexpr QConvForm kVnni = {"qconv_vnni_avx512", QConvInput::kBytes, 16, false, false, qconv_strip_vnni_avx512};
constexpr QConvForm kMaddubs = {"qconv_maddubs_avx2", QConvInput::kBytes, 8, false, true, qconv_strip_maddubs_avx2};
constexpr QConvForm kMaddwd = {"qconv_maddwd_avx2", QConvInput::kWide, 8, false, false, qconv_strip_maddwd_avx2};

constexpr QConvForm kDepthwise = {"qconv_depthwise_avx2",    QConvInput::kWide, 8, true, false,
                                  qconv_strip_depthwise_avx2};

template <const QConvForm& kForm>
constexpr QConvTactic row(Isa isa) {
  return {kForm.name,
          isa,
          [](const QConvSpec& spec, const QConvWeights& weights) { return reject_strips(kForm, spec, weights); },
          [](const QConvSpec& spec, const QConvWeights& weights) { return pack_strips(kForm, spec, weights); },
          [](const QConvSpec& spec, std::span<const std::byte> packed) { return check_strips(kForm, spec, packed); },
          [](const QConvSpec& spec, int threads) { return strips_scratch_bytes(kForm, spec, threads); },
          [](const QConvSpec& spec, const std::byte* packed, const void* x, const void* residual, void* y,
             std::byte* scratch,
             int threads) noexcept { run_strips(kForm, spec, packed, x, residual, y, scratch, threads); }};
}

const QConvTactic kTactics[] = {
    row<kVnni>(Isa::kAvx512Vnni), row<kMaddubs>(Isa::kAvx2), row<kMaddwd>(Isa::kAvx2),
    row<kDepthwise>(Isa::kAvx2),  kQConvReference,
};

bool sane(const Int8Encoding& e) {
  const int32_t low = e.type == Int8Type::kU8 ? 0 : -128;
  const auto inside = [&](int32_t q) { return q >= low && q <= low + 255; };
  return inside(e.zero_point) && inside(e.lo) && inside(e.hi) && e.lo <= e.hi;
}

// Keeps every sum of two scaled integers finite.
bool sane(float factor) { return std::abs(factor) <= 0x1p64f; }

}  // namespace

bool isa_available(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return cpu_features().avx2;
    case Isa::kAvx512Vnni:
      return cpu_features().avx512_vnni;
    case Isa::kBaseline:
      break;
  }
  return true;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kBaseline:
      break;
  }
  return "baseline";
}

std::string invalid_qconv(const QConvSpec& spec, const QConvWeights& weights) {
  const QConvShape& s = spec.shape;
  constexpr int64_t kMaxSize = 1 << 28;  // of a dimension, of a filter, and of what one output row reads, in bytes
  for (const int64_t size :
       {s.n, s.h, s.w, s.c, s.oh, s.ow, s.oc, s.kh, s.kw, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w, s.groups})
    if (size < 1 || size > kMaxSize)
      return "a size, stride, dilation or group count is not positive or is absurdly large";
  if (s.pad_top < 0 || s.pad_left < 0 || s.pad_top > kMaxSize || s.pad_left > kMaxSize) return "a pad is out of range";
  if (s.c % s.groups || s.oc % s.groups) return "channels do not divide into the groups";
  const auto product_exceeds = [](std::initializer_list<int64_t> factors, int64_t limit) {
    int64_t product = 1;
    for (const int64_t factor : factors) {
      if (factor > limit / product) return true;
      product *= factor;
    }
    return false;
  };
  const int64_t reach_h = (s.kh - 1) * s.dilation_h + 1, reach_w = (s.kw - 1) * s.dilation_w + 1;
  const int64_t columns = std::max(s.w, (s.ow - 1) * s.stride_w + reach_w);
  if (product_exceeds({s.kh, s.kw, s.c}, kMaxSize) ||
      product_exceeds({reach_h + s.stride_h, columns, s.c, 2}, kMaxSize) ||
      product_exceeds({s.oc, s.kh, s.kw, s.c / s.groups}, int64_t{1} << 32) ||
      product_exceeds({s.n, s.h, s.w, s.c}, int64_t{1} << 40) ||
      product_exceeds({s.n, s.oh, s.ow, s.oc, 4}, int64_t{1} << 40))
    return "the filter or a row of the input is too large";
  const QConvEpilogue& e = spec.epilogue;
  if (!sane(spec.x) || (e.output == QConvOutput::kInt8 && !sane(e.y)) || (e.has_residual && !sane(e.residual)) ||
      (e.has_mid && (e.mid_lo > e.mid_hi || std::abs(e.mid_lo) > 255 || std::abs(e.mid_hi) > 255 ||
                     std::abs(e.mid_zero_point) > 255)))
    return "a zero point or bound lies outside its type";
  if ((e.has_mid && !sane(e.mid_multiplier)) || (e.has_residual && !sane(e.residual_multiplier)))
    return "a multiplier is not finite or exceeds 2^64";
  for (int64_t oc = 0; oc < s.oc; ++oc) {
    if (weights.multiplier && !sane(weights.multiplier[oc])) return "a multiplier is not finite or exceeds 2^64";
    if (weights.addend && !sane(weights.addend[oc])) return "an addend is not finite or exceeds 2^64";
  }
  return {};
}

QStripEpilogue strip_epilogue(const QConvEpilogue& e) {
  QStripEpilogue s = {};
  s.output = e.output == QConvOutput::kFloat ? kStripFloat : e.y.type == Int8Type::kS8 ? kStripS8 : kStripU8;
  s.zero_point = e.y.zero_point;
  s.lo = e.y.lo;
  s.hi = static_cast<float>(e.y.hi - e.y.zero_point);
  s.has_mid = e.has_mid;
  s.mid_lo = static_cast<float>(e.mid_lo - e.mid_zero_point);
  s.mid_hi = static_cast<float>(e.mid_hi - e.mid_zero_point);
  s.mid_multiplier = e.mid_multiplier;
  s.has_residual = e.has_residual;
  s.residual_signed = e.residual.type == Int8Type::kS8;
  s.residual_zero_point = e.residual.zero_point;
  s.residual_multiplier = e.residual_multiplier;
  return s;
}

std::span<const QConvTactic> qconv_tactics() { return kTactics; }

const QConvTactic* find_qconv_tactic(std::string_view name) {
  for (const QConvTactic& tactic : kTactics)
    if (tactic.name == name) return &tactic;
  return nullptr;
}

const QConvTactic* select_qconv_tactic(const QConvSpec& spec, const QConvWeights& weights) {
  for (const QConvTactic& tactic : kTactics)
    if (isa_available(tactic.isa) && tactic.reject(spec, weights).empty()) return &tactic;
  return nullptr;
}

}  // namespace slipway
