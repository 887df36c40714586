// Signal processing: DFT, STFT and the weights of the mel scale. The transform is the mixed-radix one (Cooley and
// Tukey, 1965): a length is taken apart by its smallest prime factors, and a factor p costs p operations an element.
// Roots of unity come from one table for the whole length, so that no angle is summed up.
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

using Complex = std::complex<double>;

constexpr double kMostTransformSteps = 1e12;

int64_t smallest_factor(int64_t n) {
  for (int64_t p = 2; p * p <= n; ++p)
    if (n % p == 0) return p;
  return n;
}

class Fourier {
 public:
  Fourier(int64_t length, bool inverse) : length_(length), roots_(static_cast<size_t>(length)) {
    for (int64_t k = 0; k < length; ++k) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
      roots_[static_cast<size_t>(k)] = {std::cos(angle), inverse ? std::sin(angle) : -std::sin(angle)};
    }
  }

  std::vector<Complex> operator()(const std::vector<Complex>& in) const {
    std::vector<Complex> out(in.size());
    if (!in.empty()) run(in.data(), 1, length_, out.data());
    return out;
  }

  /// Multiplications for one transform.
  double steps() const {
    double factors = 1;
    for (int64_t n = length_; n > 1; n /= smallest_factor(n)) factors += static_cast<double>(smallest_factor(n));
    return factors * static_cast<double>(length_);
  }

 private:
  void run(const Complex* in, int64_t step, int64_t n, Complex* out) const {
    if (n == 1) {
      *out = *in;
      return;
    }
    const int64_t p = smallest_factor(n), m = n / p, turn = length_ / n;
    for (int64_t r = 0; r < p; ++r) run(in + r * step, step * p, m, out + r * m);
    std::vector<Complex> part(static_cast<size_t>(p));
    for (int64_t k = 0; k < m; ++k) {
      for (int64_t r = 0; r < p; ++r)
        part[static_cast<size_t>(r)] = out[r * m + k] * roots_[static_cast<size_t>(r * k * turn)];
      for (int64_t q = 0; q < p; ++q) {
        Complex sum = part[0];
        for (int64_t r = 1; r < p; ++r)
          sum += part[static_cast<size_t>(r)] * roots_[static_cast<size_t>(r * q % p * m * turn)];
        out[q * m + k] = sum;
      }
    }
  }

  int64_t length_;
  std::vector<Complex> roots_;
};

bool is_onesided(const Node& node, int64_t fallback) { return node.integer("onesided", fallback) != 0; }

int64_t scalar_of(const EvalContext& ctx, size_t index) {
  const std::vector<int64_t> values = to_ints(ctx.input(index));
  if (values.size() != 1) ctx.reject(fmt::format("input {} is not one number", index));
  return values[0];
}

size_t dft_axis(const Node& node, int64_t axis, int64_t rank) {
  if (rank < 2) reject(node, fmt::format("its input has rank {}, less than 2", rank));
  const int64_t found = normalize_axis(axis, rank, node.label());
  if (found == rank - 1) reject(node, "its axis is that of the real and imaginary parts");
  return static_cast<size_t>(found);
}

// Real input has a last axis of 1, complex of 2.
void require_parts(const EvalContext& ctx, const Dims& dims) {
  if (dims.empty() || (dims.back() != 1 && dims.back() != 2))
    ctx.reject(fmt::format("the last axis of {} holds no real and imaginary part", to_string(dims)));
}

void eval_dft(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  require_parts(ctx, x.dims());
  const int64_t given = ctx.opset < 20 ? ctx.node.integer("axis", 1) : ctx.has_input(2) ? scalar_of(ctx, 2) : -2;
  const size_t axis = dft_axis(ctx.node, given, x.rank());
  const bool inverse = ctx.node.integer("inverse", 0) != 0, onesided = is_onesided(ctx.node, 0);
  const int64_t size = x.dims()[axis], parts = x.dims().back();
  const bool to_real = inverse && onesided;
  if (onesided && !inverse && parts != 1) ctx.reject("a one-sided transform takes real input");
  if (to_real && parts != 2) ctx.reject("an inverse one-sided transform takes complex input");
  const int64_t length = ctx.has_input(1) ? scalar_of(ctx, 1) : to_real ? 2 * (size - 1) : size;
  if (length < 1) ctx.reject(fmt::format("the transform's length is {}", length));
  Dims dims = x.dims();
  dims[axis] = onesided && !inverse ? length / 2 + 1 : length;
  dims.back() = to_real ? 1 : 2;
  const int64_t count = bounded_count(dims);
  bounded_count(std::array{length});
  const Fourier transform(length, inverse);
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1)) / dims.back();
  const int64_t outer = element_count(std::span(dims).first(axis));
  if (transform.steps() * static_cast<double>(outer * inner) > kMostTransformSteps)
    fail(ErrorCode::kUnsupported, "A transform of this length takes too long; pad it to a power of two: {} at {}",
         length, ctx.node.label());
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y(static_cast<size_t>(count));
  std::vector<Complex> line(static_cast<size_t>(length));
  const int64_t half = length / 2 + 1, read = std::min(size, to_real ? half : length);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      std::fill(line.begin(), line.end(), Complex());
      for (int64_t n = 0; n < read; ++n) {
        const auto at = static_cast<size_t>(((o * size + n) * inner + i) * parts);
        line[static_cast<size_t>(n)] = {values[at], parts == 2 ? values[at + 1] : 0};
      }
      for (int64_t n = half; to_real && n < length; ++n)  // what a one-sided spectrum leaves out
        line[static_cast<size_t>(n)] = std::conj(line[static_cast<size_t>(length - n)]);
      const std::vector<Complex> result = transform(line);
      for (int64_t n = 0; n < dims[axis]; ++n) {
        const Complex v = result[static_cast<size_t>(n)] / (inverse ? static_cast<double>(length) : 1.0);
        const auto at = static_cast<size_t>(((o * dims[axis] + n) * inner + i) * dims.back());
        y[at] = v.real();
        if (!to_real) y[at + 1] = v.imag();
      }
    }
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_dft(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  ctx.set_output(0, ctx.dtype(0), Shape());
  if (!x.has_rank()) return;
  if (x.rank() < 2) ctx.reject(fmt::format("its input {} has rank {}, less than 2", to_string(x), x.rank()));
  const bool inverse = ctx.node.integer("inverse", 0) != 0, onesided = is_onesided(ctx.node, 0);
  Shape y = Shape::with_rank(x.rank());
  const auto given = ctx.opset < 20     ? std::optional(std::vector{ctx.node.integer("axis", 1)})
                     : ctx.has_input(2) ? ctx.ints(2)
                                        : std::optional(std::vector<int64_t>{-2});
  if (given && given->size() == 1) {
    const size_t axis = dft_axis(ctx.node, given->front(), static_cast<int64_t>(x.rank()));
    y = x;
    Dim length = x[axis];
    if (onesided && inverse) length = length.is_known() ? Dim(std::max<int64_t>(2 * (length.value() - 1), 0)) : Dim();
    if (ctx.has_input(1)) {
      const auto asked = ctx.dims(1);
      length = asked && asked->size() == 1 ? asked->front() : Dim();
    }
    if (onesided && !inverse) length = length.is_known() ? Dim(length.value() / 2 + 1) : Dim();
    y[axis] = length;
  }
  y[x.rank() - 1] = Dim(onesided && inverse ? 1 : 2);
  ctx.set_output(0, ctx.dtype(0), y);
}

struct Frames {
  int64_t length = 0, count = 0, bins = 0;
};

// `frame` and `window` are −1 where they are absent.
Frames frames_of(const Node& node, int64_t signal, int64_t step, int64_t frame, int64_t window) {
  Frames f;
  f.length = frame >= 0 ? frame : window >= 0 ? window : signal;
  if (step < 1 || f.length < 1 || window > f.length)
    reject(node, fmt::format("frames of {} every {} with a window of {} are none", f.length, step, window));
  f.count = signal < f.length ? 0 : 1 + (signal - f.length) / step;
  f.bins = is_onesided(node, 1) ? f.length / 2 + 1 : f.length;
  return f;
}

void eval_stft(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  require_parts(ctx, x.dims());
  if (x.rank() != 3) ctx.reject(fmt::format("the signal {} has not 3 axes", to_string(x.dims())));
  if (ctx.has_input(2) && ctx.input(2).rank() != 1) ctx.reject("the window is no vector");
  const int64_t batch = x.dims()[0], signal = x.dims()[1], parts = x.dims()[2], step = scalar_of(ctx, 1);
  const Frames f = frames_of(ctx.node, signal, step, ctx.has_input(3) ? scalar_of(ctx, 3) : -1,
                             ctx.has_input(2) ? ctx.input(2).elements() : -1);
  if (is_onesided(ctx.node, 1) && parts == 2) ctx.reject("a one-sided transform takes real input");
  const Dims dims = {batch, f.count, f.bins, 2};
  std::vector<double> y(static_cast<size_t>(bounded_count(dims)));
  bounded_count(std::array{f.length});
  std::vector<double> window =
      ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(static_cast<size_t>(f.length), 1.0);
  window.resize(static_cast<size_t>(f.length));
  const Fourier transform(f.length, false);
  if (transform.steps() * static_cast<double>(batch * f.count) > kMostTransformSteps)
    fail(ErrorCode::kUnsupported, "Transforms of this length take too long; take a power of two: {} at {}", f.length,
         ctx.node.label());
  const std::vector<double> values = to_doubles(x);
  std::vector<Complex> line(static_cast<size_t>(f.length));
  size_t to = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t frame = 0; frame < f.count; ++frame) {
      for (int64_t n = 0; n < f.length; ++n) {
        const auto at = static_cast<size_t>((b * signal + frame * step + n) * parts);
        line[static_cast<size_t>(n)] =
            window[static_cast<size_t>(n)] * Complex(values[at], parts == 2 ? values[at + 1] : 0);
      }
      const std::vector<Complex> result = transform(line);
      for (int64_t n = 0; n < f.bins; ++n) {
        y[to++] = result[static_cast<size_t>(n)].real();
        y[to++] = result[static_cast<size_t>(n)].imag();
      }
    }
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_stft(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  Shape y({x.rank() == 3 ? x[0] : Dim(), Dim(), Dim(), Dim(2)});
  const auto step = ctx.ints(1), frame = ctx.ints(3);
  const bool window_known = !ctx.has_input(2) || (ctx.shape(2).rank() == 1 && ctx.shape(2)[0].is_known());
  const bool known = step && step->size() == 1 && (!ctx.has_input(3) || (frame && frame->size() == 1)) && window_known;
  if (x.rank() == 3 && x[1].is_known() && known) {
    const Frames f = frames_of(ctx.node, x[1].value(), step->front(), ctx.has_input(3) ? frame->front() : -1,
                               ctx.has_input(2) ? ctx.shape(2)[0].value() : -1);
    y[1] = Dim(f.count);
    y[2] = Dim(f.bins);
  }
  ctx.set_output(0, ctx.dtype(0), y);
}

template <typename Context>
DType mel_type(const Context& ctx) {
  const int64_t type = ctx.node.integer("output_datatype", 1);
  if (type <= 0 || type >= kDTypeCount || static_cast<DType>(type) == DType::kString)
    ctx.reject(fmt::format("output_datatype is no number type: {}", type));
  return static_cast<DType>(type);
}

// Column i is a triangle over the bins between the edges i and i + 2 of equal steps on the mel scale, its peak at i
// + 1.
void eval_mel_weights(EvalContext& ctx) {
  const int64_t bands = scalar_of(ctx, 0), length = scalar_of(ctx, 1), rate = scalar_of(ctx, 2);
  const auto edge = [&](size_t index) {
    const std::vector<double> values = to_doubles(ctx.input(index));
    if (values.size() != 1) ctx.reject(fmt::format("input {} is not one number", index));
    return 2595 * std::log10(1 + values[0] / 700);
  };
  const double low = edge(3), high = edge(4);
  if (bands < 0 || length < 0 || rate < 1)
    ctx.reject(fmt::format("{} bands of {} at {} Hz are none", bands, length, rate));
  const Dims dims = {length / 2 + 1, bands};
  std::vector<double> weights(static_cast<size_t>(bounded_count(dims)));
  std::vector<int64_t> bins;
  for (int64_t i = 0; i < bands + 2; ++i) {
    const double mel = low + static_cast<double>(i) * (high - low) / static_cast<double>(bands + 2);
    const double hertz = 700 * (std::pow(10, mel / 2595) - 1);
    const double bin = std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
    if (!(bin >= 0 && bin <= static_cast<double>(length / 2)) ||
        (!bins.empty() && static_cast<int64_t>(bin) < bins.back()))
      ctx.reject(fmt::format("an edge at {} Hz is outside the spectrum", hertz));
    bins.push_back(static_cast<int64_t>(bin));
  }
  const auto at = [&](int64_t bin, int64_t band) -> double& {
    return weights[static_cast<size_t>(bin * bands + band)];
  };
  for (int64_t i = 0; i < bands; ++i) {
    const int64_t left = bins[static_cast<size_t>(i)], peak = bins[static_cast<size_t>(i + 1)],
                  right = bins[static_cast<size_t>(i + 2)];
    for (int64_t k = left; k < peak; ++k) at(k, i) = static_cast<double>(k - left) / static_cast<double>(peak - left);
    at(peak, i) = 1;
    for (int64_t k = peak + 1; k < right; ++k)
      at(k, i) = static_cast<double>(right - k) / static_cast<double>(right - peak);
  }
  ctx.set_output(0, from_doubles(mel_type(ctx), dims, weights));
}

void infer_mel_weights(InferContext& ctx) {
  const auto bands = ctx.ints(0), length = ctx.ints(1);
  Shape y = Shape::with_rank(2);
  if (length && length->size() == 1 && length->front() >= 0) y[0] = Dim(length->front() / 2 + 1);
  if (bands && bands->size() == 1 && bands->front() >= 0) y[1] = Dim(bands->front());
  ctx.set_output(0, mel_type(ctx), y);
}

constexpr OpSpec kSignalOps[] = {
    {.name = "DFT", .since = 17, .min_inputs = 1, .max_inputs = 3, .infer = infer_dft, .eval = eval_dft},
    {.name = "STFT", .since = 17, .min_inputs = 2, .max_inputs = 4, .infer = infer_stft, .eval = eval_stft},
    {.name = "MelWeightMatrix",
     .since = 17,
     .min_inputs = 5,
     .max_inputs = 5,
     .infer = infer_mel_weights,
     .eval = eval_mel_weights},
};

}  // namespace

std::span<const OpSpec> signal_ops() { return kSignalOps; }

}  // namespace slipway
