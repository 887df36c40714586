#pragma once
// Normalisation of rows, written once over a vector type; included by the per-ISA files alone, after
// elementwise_functions.h. The statistics are sums in double in two passes, the mean and then the squared distances
// from it, as the reference takes them: a mean far above the deviation costs no digits. The mean is subtracted in two
// parts, so that a float's result is right to a few units in the last place before the bias is added.

namespace slipway {
namespace {

struct RowMoments {
  double mean, inverse;  ///< 1 / √(variance + epsilon)
};

template <bool kCentre>
inline RowMoments moments_of(const float* x, int64_t count, double epsilon) {
  double mean = 0;
  if (kCentre) {
    Doubles sum = {};
    for_vectors(count, [&](int64_t i, int64_t n) { sum += halves(load_some(x + i, n, 0)); });
    mean = total(sum) / (double)count;
  }
  const Doubles middle = mean - Doubles{};
  Doubles low = {}, high = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats v = load(x + i);
    const Doubles a = lower(v) - middle, b = upper(v) - middle;
    low += a * a;
    high += b * b;
  }
  double squares = total(low + high);
  for (; i < count; ++i) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
  return {mean, 1 / sqrt(squares / (double)count + epsilon)};
}

// In double throughout: NaN, infinities, and deviations so large or small that floats would overflow or vanish.
inline void normalize_exactly(const NormalizationBlock& b, const float* x, float* y, RowMoments m) {
  for (int64_t i = 0; i < b.count; ++i) {
    const double scaled = ((double)x[i] - m.mean) * m.inverse * (double)b.scale[i * b.scale_step];
    y[i] = (float)(b.bias == nullptr ? scaled : scaled + (double)b.bias[i * b.bias_step]);
  }
}

template <bool kCentre>
inline void normalize_row(const NormalizationBlock& b, const float* x, float* y) {
  const RowMoments m = moments_of<kCentre>(x, b.count, b.epsilon);
  if (!(m.inverse >= 0x1p-60 && m.inverse <= 0x1p60)) return normalize_exactly(b, x, y, m);
  const Floats mean = splat((float)m.mean), rest = splat((float)(m.mean - (double)(float)m.mean));
  const Floats inverse = splat((float)m.inverse);
  for_vectors(b.count, [&](int64_t i, int64_t n) {
    const bool whole = n >= kLanes;
    const auto operand = [&](const float* of, int32_t step) {
      return whole ? take(of + i * step, step) : take(of + i * step, step, n);
    };
    Floats v = whole ? load(x + i) : load(x + i, n, 0);
    if (kCentre) v = (v - mean) - rest;
    const Floats scale = operand(b.scale, b.scale_step), normal = v * inverse;
    store_some(y + i, b.bias == nullptr ? normal * scale : fma(normal, scale, operand(b.bias, b.bias_step)), n);
  });
}

void normalize(const NormalizationBlock* block) noexcept {
  const NormalizationBlock& b = *block;
  for (int64_t r = 0; r < b.rows; ++r) {
    const float* x = b.x + r * b.count;
    b.centre ? normalize_row<true>(b, x, b.y + r * b.count) : normalize_row<false>(b, x, b.y + r * b.count);
  }
}

}  // namespace
}  // namespace slipway
