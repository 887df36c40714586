#pragma once
// Normalisation of rows, written once over a vector type; included by the per-ISA files alone, after
// elementwise_functions.h. All is in double, in the steps of the reference, and rounded once: the mean, then the
// squared distances from it, so that a mean far above the deviation costs no digits, and a bias that takes the result
// near zero none either. No float is too large or too small for it.

namespace slipway {
namespace {

// The mean, or 0 without centring, and 1 / √(variance + epsilon).
struct RowMoments {
  double mean, inverse;
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

template <bool kCentre, bool kBias>
inline void normalize_row(const NormalizationBlock& b, const float* x, float* y) {
  const RowMoments m = moments_of<kCentre>(x, b.count, b.epsilon);
  const Doubles mean = m.mean - Doubles{}, inverse = m.inverse - Doubles{};
  for_vectors(b.count, [&](int64_t i, int64_t n) {
    const auto operand = [&](const float* of, int32_t step) {
      return n < kLanes ? take(of + i * step, step, n) : take(of + i * step, step);
    };
    const Floats v = load_some(x + i, n, 0), scale = operand(b.scale, b.scale_step);
    Doubles low = (lower(v) - mean) * inverse * lower(scale), high = (upper(v) - mean) * inverse * upper(scale);
    if (kBias) {
      const Floats bias = operand(b.bias, b.bias_step);
      low += lower(bias);
      high += upper(bias);
    }
    store_some(y + i, joined(low, high), n);
  });
}

void normalize(const NormalizationBlock* block) noexcept {
  const NormalizationBlock& b = *block;
  for (int64_t r = 0; r < b.rows; ++r) {
    const float* x = b.x + r * b.count;
    float* y = b.y + r * b.count;
    if (b.centre)
      b.bias != nullptr ? normalize_row<true, true>(b, x, y) : normalize_row<true, false>(b, x, y);
    else
      b.bias != nullptr ? normalize_row<false, true>(b, x, y) : normalize_row<false, false>(b, x, y);
  }
}

}  // namespace
}  // namespace slipway
