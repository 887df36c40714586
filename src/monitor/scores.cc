// Confidence, entropy and margin of a classifier's scores, on the computing thread: two passes over the scores, no
// allocation. With d = score − top and Z = Σ eᵈ the softmax's entropy is ln Z − Σ d·eᵈ / Z. eˣ is Cephes' expf
// (Moshier), four at a time.
#include "monitor/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "base/half.h"

namespace slipway {
namespace {

constexpr int64_t kLanes = 4, kAllRequestsClasses = 1024, kMaxClasses = int64_t{1} << 20;
constexpr float kNegligible = 1e-7f;  ///< a probability that adds less than 2e-6 to an entropy
// GCC's and Clang's vectors: element by element, four lanes being every x86-64's.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));

Floats load(const float* at) {
  Floats v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
Floats all(float v) { return Floats{v, v, v, v}; }
Floats larger(Floats a, Floats b) { return a > b ? a : b; }
Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

/// eˣ for −87 ≤ x ≤ 0, relative error below 2e-7.
Floats exp_of(Floats x) {
  const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);
  const Floats whole = __builtin_convertvector(n, Floats);
  const Floats r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Floats p = all(1.9875691500e-4f);
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = p * r + c;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<Floats>((n + 127) << 23);
}

struct Extent {
  float top, second, lowest, sum;
};

Extent extent_of(const float* s, int64_t n) {
  Floats top = all(-INFINITY), second = top, lowest = all(INFINITY), sum = all(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats v = load(s + i);
    second = larger(second, smaller(v, top));
    top = larger(v, top);
    lowest = smaller(v, lowest);
    sum += v;
  }
  Extent e{-INFINITY, -INFINITY, INFINITY, 0};
  const auto take = [&](float v) {
    e.second = std::max(e.second, std::min(v, e.top));
    e.top = std::max(e.top, v);
  };
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    take(top[lane]);
    take(second[lane]);
    e.lowest = std::min(e.lowest, lowest[lane]);
    e.sum += sum[lane];
  }
  for (; i < n; ++i) {
    take(s[i]);
    e.lowest = std::min(e.lowest, s[i]);
    e.sum += s[i];
  }
  return e;
}

/// Entropy in nats, of values that are probabilities already.
float entropy_of(const float* p, int64_t n) {
  float entropy = 0;
  for (int64_t i = 0; i < n; ++i)
    if (p[i] > kNegligible) entropy -= p[i] * std::log(p[i]);
  return entropy;
}

size_t element_bytes(DType type) { return static_cast<size_t>(bits_of(type)) / 8; }

float element(const std::byte* at, DType type) {
  uint16_t half = 0;
  double wide = 0;
  if (type == DType::kFloat64) {
    std::memcpy(&wide, at, sizeof wide);
    return static_cast<float>(wide);
  }
  std::memcpy(&half, at, sizeof half);
  return type == DType::kFloat16 ? half_to_float(half) : bfloat16_to_float(half);
}

}  // namespace

ScoreFigures score_figures(const float* s, int64_t n) noexcept {
  const Extent e = extent_of(s, n);
  if (!std::isfinite(e.sum)) return {};
  const float most = std::log(static_cast<float>(n));
  if (e.lowest >= 0 && std::abs(e.sum - 1) < 1e-2f)
    return {std::min(e.top, 1.0f), std::clamp(entropy_of(s, n) / most, 0.0f, 1.0f),
            std::clamp(e.top - e.second, 0.0f, 1.0f)};
  Floats totals = all(0), weights = all(0);
  const auto take = [&](Floats values, Floats kept) {
    const Floats d = larger(values - e.top, all(-87.0f)), power = exp_of(d) * kept;
    totals += power;
    weights += power * d;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) take(load(s + i), all(1));
  Floats rest = all(e.top), kept = all(0);
  for (int64_t lane = 0; i < n; ++i, ++lane) rest[lane] = s[i], kept[lane] = 1;
  take(rest, kept);
  float total = 0, weight = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) total += totals[lane], weight += weights[lane];
  const float second = std::exp(e.second - e.top);
  return {1 / total, std::clamp((std::log(total) - weight / total) / most, 0.0f, 1.0f), (1 - second) / total};
}

ScoreShape score_shape(const std::string& output, DType dtype, const Dims& dims, bool only_output) {
  if (dtype != DType::kFloat32 && dtype != DType::kFloat64 && dtype != DType::kFloat16 && dtype != DType::kBfloat16)
    return {.reason =
                fmt::format("the first output, '{}', holds {}, no classifier's scores", output, to_string(dtype))};
  Dims kept = dims;
  while (only_output && kept.size() > 2 && kept.back() == 1) kept.pop_back();
  ScoreShape shape;
  if (kept.size() == 2 && kept[1] >= 2 && kept[1] <= kMaxClasses) {
    shape.classes = kept[1];
  } else if (kept.size() == 1 && kept[0] >= 2 && kept[0] <= kMaxClasses) {
    shape.classes = kept[0];
  } else {
    shape.reason = fmt::format("the first output, '{}', has shape [{}], no classifier's [samples, classes]", output,
                               fmt::join(dims, ", "));
  }
  return shape;
}

void LiveScores::Distribution::add(float value) noexcept {
  const auto bin = static_cast<size_t>(value * static_cast<float>(ScoreHistogram::kBins));
  counts[std::min(bin, ScoreHistogram::kBins - 1)].fetch_add(1, std::memory_order_relaxed);
  sum_nano.fetch_add(static_cast<int64_t>(static_cast<double>(value) * 1e9), std::memory_order_relaxed);
}

ScoreHistogram LiveScores::Distribution::copy() const {
  ScoreHistogram h;
  for (size_t i = 0; i < h.counts.size(); ++i) h.counts[i] = counts[i].load(std::memory_order_relaxed);
  h.sum = static_cast<double>(sum_nano.load(std::memory_order_relaxed)) * 1e-9;
  return h;
}

void LiveScores::add(const WireTensor& t, const ScoreShape& shape) noexcept {
  const auto classes = static_cast<size_t>(shape.classes);
  const size_t row_bytes = classes * element_bytes(t.dtype);
  if (row_bytes == 0 || t.bytes.size() % row_bytes != 0) return;
  const size_t rows = t.bytes.size() / row_bytes;
  const uint64_t stride = (classes + kAllRequestsClasses - 1) / kAllRequestsClasses;
  const uint64_t request = requests_.fetch_add(1, std::memory_order_relaxed);
  if (rows == 0 || request % stride != 0) return;
  const std::byte* at = t.bytes.data() + request / stride % rows * row_bytes;
  ScoreFigures figures;
  if (t.dtype == DType::kFloat32 && reinterpret_cast<uintptr_t>(at) % alignof(float) == 0) {
    figures = score_figures(reinterpret_cast<const float*>(at), shape.classes);
  } else {
    // kept per thread: grows to the widest output once
    thread_local std::vector<float> copy;
    try {
      copy.resize(classes);
    } catch (const std::bad_alloc&) {
      return;
    }
    for (size_t i = 0; i < classes; ++i)
      if (t.dtype == DType::kFloat32)
        std::memcpy(&copy[i], at + i * sizeof(float), sizeof(float));
      else
        copy[i] = element(at + i * element_bytes(t.dtype), t.dtype);
    figures = score_figures(copy.data(), shape.classes);
  }
  confidence_.add(figures.confidence);
  entropy_.add(figures.entropy);
  margin_.add(figures.margin);
}

void LiveScores::copy_to(Observation& o) const {
  o.confidence = confidence_.copy();
  o.entropy = entropy_.copy();
  o.margin = margin_.copy();
}

}  // namespace slipway
