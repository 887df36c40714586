// The portable loops: the definition that every ISA equals bit for bit.
#include "train/fake_quantize_rows.h"

#include <math.h>

namespace slipway {
namespace {

// The bounds come first in the comparisons, so that NaN passes through.
float clamp(float v, float lo, float hi) {
  v = lo > v ? lo : v;
  return hi < v ? hi : v;
}

void forward(const float* x, float* y, int64_t count, const FakeQuantizeStep* step) noexcept {
  for (int64_t i = 0; i < count; ++i) y[i] = clamp(nearbyintf(x[i] / step->scale), step->lo, step->hi) * step->scale;
}

float backward(const float* x, const float* g, float* gx, int64_t count, const FakeQuantizeStep* step) noexcept {
  float sums[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float v = x[i] / step->scale, end = clamp(v, step->lo, step->hi);
    const bool inside = v == end;
    gx[i] = inside ? g[i] : 0.0f;
    sums[i % 8] += g[i] * (inside ? nearbyintf(v) - v : end);
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

}  // namespace

const FakeQuantizeRows kFakeQuantizeRows{"baseline", forward, backward};

}  // namespace slipway
