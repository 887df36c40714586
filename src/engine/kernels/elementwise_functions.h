#pragma once
// The elementwise functions, written once over a vector type; included by the per-ISA files alone, after they have
// defined in an anonymous namespace the vectors Floats and Ints of kLanes elements, Doubles of half as many, and
//   load, store           whole vectors, and the first n elements of one
//   fma(a, b, c)          a·b + c, rounded once
//   above(a, b)           a > b ? a : b, and below: the second operand when one is NaN or both are zero
//   root, nearest         the square root; the nearest integer, halves to even, −0 kept
//   scale(x, n)           x·2^n, rounded once, for integers |n| ≤ 250
//   largest(x)            over all elements, if none is NaN
//   lower(x), upper(x)    x's halves as Doubles; joined(a, b), of such halves; total(d), the sum of all elements
// Comparisons, selections and conversions are those of GCC's vector extensions.
//
// Methods: exp by Cody and Waite's reduction ("Software Manual for the Elementary Functions", 1980), where the power of
// two is applied last, so that denormal results are rounded once; log by reduction to [√½, √2) and a polynomial in
// f = m − 1; the normal distribution's tail through exp(−z²)·erfcx(z), erfcx as a polynomial in (z − 3) / (z + 3). All
// polynomials are minimax in relative error, found with Remez's algorithm in 40 digits, then rounded to float.
// What depends on exp(x) for large |x| carries the part of the argument that a float can't hold (`tail`).

namespace slipway {
namespace {

inline Floats splat(float v) { return v - Floats{}; }
inline Floats select(Ints mask, Floats a, Floats b) { return mask ? a : b; }
inline Ints bits_of(Floats x) { return (Ints)x; }
inline Floats from_bits(Ints x) { return (Floats)x; }
inline Floats absolute(Floats x) { return from_bits(bits_of(x) & 0x7fffffff); }
inline Floats with_sign_of(Floats x, Floats sign) {
  return from_bits((bits_of(x) & 0x7fffffff) | (bits_of(sign) & (int32_t)0x80000000));
}
inline Floats clamp(Floats x, float lo, float hi) { return below(splat(hi), above(splat(lo), x)); }  // NaN stays
inline Doubles halves(Floats x) { return lower(x) + upper(x); }  // whose total is x's
inline Floats power_of_two(Floats n) { return from_bits((__builtin_convertvector(n, Ints) + 127) << 23); }

template <int kTerms>
inline Floats polynomial(Floats x, const float (&c)[kTerms]) {
  Floats sum = splat(c[kTerms - 1]);
  for (int i = kTerms - 2; i >= 0; --i) sum = fma(sum, x, splat(c[i]));
  return sum;
}

// x = n·ln 2 + r; exp(r) − 1 = s, with |r| ≤ ln 2 / 2.
struct Reduced {
  Floats n, s;
};
inline Reduced reduce(Floats x, Floats tail) {
  const Floats n = nearest(x * 1.44269504f);
  Floats r = fma(n, splat(-0.693145752f), x);
  r = fma(n, splat(-1.42860677e-6f), r) + tail;
  const Floats q = polynomial(r, {0.5f, 0.166665182f, 0.041666206f, 0.00836891774f, 0.00139505405f});
  return {n, fma(r * r, q, r)};
}

// exp(x + tail) = m·2^n. Below −125 everything that this is multiplied with underflows, above 89 it overflows.
struct Power {
  Floats m, n;
};
inline Power exp_parts(Floats x, Floats tail) {
  const Reduced r = reduce(clamp(x, -125, 89), tail);
  return {r.s + 1.0f, r.n};
}
inline Floats exp_of(Floats x) {
  const Power p = exp_parts(x, Floats{});
  return scale(p.m, p.n);
}
inline Floats expm1_of(Floats x) {  // of −∞ … 60
  const Reduced r = reduce(clamp(x, -60, 60), Floats{});
  const Floats power = power_of_two(r.n);
  return fma(power, r.s, power - 1.0f);
}

// log(2^k·(1 + f)) for 1 + f in [√½, √2).
inline Floats log_of_parts(Floats k, Floats f) {
  const Floats square = f * f;
  const Floats p = polynomial(f, {0.333333313f, -0.250008225f, 0.200012326f, -0.166232988f, 0.142015532f, -0.131605834f,
                                  0.127633244f, -0.0763565227f});
  return fma(k, splat(0.693147182f), f + fma(f * square, p, -0.5f * square));
}
inline Floats log_of(Floats x) {
  const Ints tiny = x < 1.17549435e-38f;
  const Ints bits = bits_of(absolute(select(tiny, x * 8388608.0f, x)));
  const Ints exponent = (bits - 0x3f3504f3) >> 23;
  const Floats f = from_bits(bits - (exponent << 23)) - 1.0f;
  const Floats k = __builtin_convertvector(exponent, Floats) - select(tiny, splat(23), Floats{});
  Floats y = log_of_parts(k, f);
  y = select(x < __builtin_inff(), y, x);  // of ∞ and NaN
  y = select(x == 0.0f, splat(-__builtin_inff()), y);
  return select(x < 0.0f, splat(__builtin_nanf("")), y);
}
inline Floats log1p_of_unit(Floats x) {  // of 0 … 1
  const Ints upper = x > 0.41421356f;
  return log_of_parts(select(upper, splat(1), Floats{}), select(upper, 0.5f * (x - 1.0f), x));
}

// exp(z²)·erfc(z) for 0 ≤ z = a / unit ≤ 10.4.
inline Floats scaled_erfc(Floats a, float unit) {
  const Floats middle = splat(3 * unit), inverse = 1.0f / (a + middle);
  const Floats rough = (a - middle) * inverse;
  const Floats rest = fma(-rough, a, fma(rough + 1.0f, -middle, a));
  const Floats q = fma(inverse, rest, rough);
  return polynomial(q, {0.179001153f, -0.326233566f, 0.2456038f, -0.150115788f, 0.0716658756f, -0.0243942197f,
                        0.00426879991f, 0.000715629314f, -0.00059447228f, 2.90979078e-05f, 5.60092012e-05f});
}

// −∞ times a factor that has vanished is NaN, as by the functions' definitions.
inline Floats nan_of_minus_infinity(Floats x, Floats y) {
  return select(x < -3.40282347e38f, splat(__builtin_nanf("")), y);
}

// x / (1 + exp(−(g + tail))) for x ≥ 0 and, by exp's factor of the numerator, for x < 0; g, with x's sign taken off, ≥
// 0. At −limit and below the result underflows.
inline Floats gate(Floats x, Floats g, Floats tail, float limit) {
  const Power p = exp_parts(-g, -tail);
  const Floats numerator = select(x < 0.0f, scale(clamp(x, -limit, 0) * p.m, p.n), x);
  return nan_of_minus_infinity(x, numerator / (scale(p.m, p.n) + 1.0f));
}

inline Floats abs_f(Floats x, float, float) { return absolute(x); }
inline Floats neg(Floats x, float, float) { return from_bits(bits_of(x) ^ (int32_t)0x80000000); }
inline Floats sign(Floats x, float, float) { return select(x > 0.0f, splat(1), select(x < 0.0f, splat(-1), x + 0.0f)); }
inline Floats square_root(Floats x, float, float) { return root(x); }
inline Floats reciprocal(Floats x, float, float) { return 1.0f / x; }
inline Floats round_even(Floats x, float, float) { return nearest(x); }
inline Floats floor_f(Floats x, float, float) {
  const Floats n = nearest(x);
  return with_sign_of(select(n > x, n - 1.0f, n), x);
}
inline Floats ceil_f(Floats x, float, float) {
  const Floats n = nearest(x);
  return with_sign_of(select(n < x, n + 1.0f, n), x);
}
inline Floats exp_f(Floats x, float, float) { return exp_of(x); }
inline Floats log_f(Floats x, float, float) { return log_of(x); }
inline Floats relu(Floats x, float, float) { return above(Floats{}, x); }
inline Floats clip(Floats x, float lo, float hi) { return clamp(x, lo, hi); }
inline Floats leaky_relu(Floats x, float alpha, float) { return select(x < 0.0f, x * alpha, x); }
inline Floats thresholded_relu(Floats x, float alpha, float) { return select(x > alpha, x, Floats{}); }
inline Floats shrink(Floats x, float lambd, float bias) {
  return select(x < -lambd, x + bias, select(x > lambd, x - bias, Floats{}));
}
inline Floats elu(Floats x, float alpha, float) { return select(x < 0.0f, expm1_of(x) * alpha, x); }
inline Floats selu(Floats x, float alpha, float gamma) {
  return select(x < 0.0f, expm1_of(x) * (float)((double)alpha * (double)gamma), x * gamma);
}
inline Floats celu(Floats x, float alpha, float) {
  return select(x < 0.0f, with_sign_of(expm1_of(x / alpha) * alpha, x), x);
}
inline Floats hard_sigmoid(Floats x, float alpha, float beta) { return clamp(fma(x, splat(alpha), splat(beta)), 0, 1); }
inline Floats hard_swish(Floats x, float, float) { return x * (clamp(x + 3.0f, 0, 6) * 0.166666672f); }
inline Floats sigmoid(Floats x, float, float) {
  const Floats e = exp_of(-absolute(x));
  return select(x < 0.0f, e, splat(1)) / (e + 1.0f);
}
// x·sigmoid(α·x), 2^-6 ≤ α ≤ 2^6
inline Floats swish(Floats x, float alpha, float) {
  const Floats a = below(splat(200 / alpha), absolute(x)), g = a * alpha;
  return gate(x, g, fma(a, splat(alpha), -g), 200 / alpha);
}
inline Floats silu(Floats x, float, float) { return gate(x, absolute(x), Floats{}, 200); }
inline Floats tanh_f(Floats x, float, float) {
  const Floats u = expm1_of(2.0f * below(splat(10), absolute(x)));
  return with_sign_of(u / (u + 2.0f), x);
}
inline Floats softplus(Floats x, float, float) { return above(x, Floats{}) + log1p_of_unit(exp_of(-absolute(x))); }
inline Floats softsign(Floats x, float, float) { return x / (absolute(x) + 1.0f); }
// tanh(log(1 + w)) = (w² + 2w) / (w² + 2w + 2); for x > 0 both are divided by w² = exp(x)².
inline Floats mish(Floats x, float, float) {
  const Power p = exp_parts(-absolute(x), Floats{});
  const Floats e = scale(p.m, p.n);
  const Floats below_zero = scale(clamp(x, -200, 0) * p.m, p.n) * ((e + 2.0f) / fma(e, e + 2.0f, splat(2)));
  const Floats twice = fma(e, splat(2), splat(1));
  const Floats above_zero = x * (twice / fma(e, 2.0f * e, twice));
  return nan_of_minus_infinity(x, select(x < 0.0f, below_zero, above_zero));
}
inline Floats erf_f(Floats x, float, float) {
  const Floats square = x * x;
  const Floats near = fma(x,
                          polynomial(square, {0.128379226f, -0.376126379f, 0.112837471f, -0.0268624816f, 0.0052092988f,
                                              -0.000824429269f, 8.83626271e-05f}),
                          x);
  const Floats z = below(splat(4), absolute(x));
  const Floats far = 1.0f - exp_of(-z * z) * scaled_erfc(z, 1);
  return select(z < 0.85f, near, with_sign_of(far, x));
}
// max(x, 0) − a·Φ(−a), a = |x|, with Φ(−a) = exp(−a²/2)·erfcx(a/√2) / 2.
inline Floats gelu(Floats x, float, float) {
  const Floats a = below(splat(15), absolute(x));
  const Floats square = a * a;
  const Power p = exp_parts(-0.5f * square, -0.5f * fma(a, a, -square));
  const Floats w = scale(0.5f * a * p.m * scaled_erfc(a, 1.41421356f), p.n);
  return nan_of_minus_infinity(x, select(x < 0.0f, -w, x - w));
}
// x·sigmoid(g), g = √(8/π)·(x + 0.044715·x³) = x·(slope + cubic·x²), in twice the precision.
inline Floats gelu_tanh(Floats x, float, float) {
  const Floats slope = splat(1.59576917f), slope_tail = splat(-4.53406804e-8f), cubic = splat(0.0713548139f);
  const Floats a = below(splat(15), absolute(x));
  const Floats square = a * a, product = square * cubic, sum = product + slope;
  const Floats rounded = sum - product;
  Floats tail = (product - (sum - rounded)) + (slope - rounded);
  tail = tail + fma(square, cubic, -product) +
         fma(fma(a, a, -square), cubic, fma(square, splat(2.3988324e-9f), slope_tail));
  const Floats g = a * sum;
  return gate(x, g, fma(a, sum, -g) + a * tail, 200);
}

template <Floats (*kFunction)(Floats, float, float)>
void map(const float* x, float* y, int64_t count, const float* parameters) noexcept {
  const float a = parameters[0], b = parameters[1];
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, kFunction(load(x + i), a, b));
  if (i < count) store(y + i, kFunction(load(x + i, count - i, 0), a, b), count - i);
}

// One row a function: its name, its bound, its parameters with their defaults by the ONNX specification.
constexpr UnaryRow kUnary[] = {
    {"Abs", 0, {}, {}, map<abs_f>},
    {"Neg", 0, {}, {}, map<neg>},
    {"Sign", 0, {}, {}, map<sign>},
    {"Sqrt", 0.5f, {}, {}, map<square_root>},
    {"Reciprocal", 0.5f, {}, {}, map<reciprocal>},
    {"Round", 0, {}, {}, map<round_even>},
    {"Floor", 0, {}, {}, map<floor_f>},
    {"Ceil", 0, {}, {}, map<ceil_f>},
    {"Exp", 1.1f, {}, {}, map<exp_f>},
    {"Log", 1, {}, {}, map<log_f>},
    {"Relu", 0, {}, {}, map<relu>},
    {"Clip", 0, {"min", "max"}, {-__builtin_inff(), __builtin_inff()}, map<clip>},
    {"LeakyRelu", 0.5f, {"alpha"}, {0.01f}, map<leaky_relu>},
    {"ThresholdedRelu", 0, {"alpha"}, {1}, map<thresholded_relu>},
    {"Shrink", 0.5f, {"lambd", "bias"}, {0.5f, 0}, map<shrink>},
    {"Elu", 1.5f, {"alpha"}, {1}, map<elu>},
    {"Selu", 2.5f, {"alpha", "gamma"}, {1.67326319f, 1.05070102f}, map<selu>},
    {"Celu", 2, {"alpha"}, {1}, map<celu>},
    {"HardSigmoid", 0.51f, {"alpha", "beta"}, {0.2f, 0.5f}, map<hard_sigmoid>},
    {"HardSwish", 2.5f, {}, {}, map<hard_swish>},
    {"Sigmoid", 2.5f, {}, {}, map<sigmoid>},
    {"SiLU", 3.5f, {}, {}, map<silu>},
    {"Swish", 3.5f, {"alpha"}, {1}, map<swish>},
    {"Tanh", 3, {}, {}, map<tanh_f>},
    {"Softplus", 2, {}, {}, map<softplus>},
    {"Softsign", 1.5f, {}, {}, map<softsign>},
    {"Mish", 4.5f, {}, {}, map<mish>},
    {"Erf", 2, {}, {}, map<erf_f>},
    {"Gelu", 6, {}, {}, map<gelu>},
    {"GeluTanh", 3.5f, {}, {}, map<gelu_tanh>},
};

inline Floats add(Floats a, Floats b) { return a + b; }
inline Floats subtract(Floats a, Floats b) { return a - b; }
inline Floats multiply(Floats a, Floats b) { return a * b; }
inline Floats divide(Floats a, Floats b) { return a / b; }
inline Floats maximum(Floats a, Floats b) { return select(b != b, b, above(b, a)); }
inline Floats minimum(Floats a, Floats b) { return select(b != b, b, below(b, a)); }
// By the library, in double, but for squares and square roots.
inline Floats power(Floats x, Floats exponent) {
  bool same = true;
  for (int64_t k = 1; k < kLanes; ++k) same = same & (exponent[k] == exponent[0]);
  if (same && exponent[0] == 2) return x * x;
  if (same && exponent[0] == 0.5f) return select(x == -__builtin_inff(), -x, root(x) + 0.0f);  // pow(−0, ½) is +0
  float parts[kLanes];
  store(parts, x);
  for (int64_t k = 0; k < kLanes; ++k) parts[k] = (float)pow((double)parts[k], (double)exponent[k]);
  return load(parts);
}
inline Floats prelu(Floats x, Floats slope) { return select(x < 0.0f, x * slope, x); }

inline Floats take(const float* x, int32_t step) { return step ? load(x) : splat(*x); }
inline Floats take(const float* x, int32_t step, int64_t n) { return step ? load(x, n, 0) : splat(*x); }

template <Floats (*kFunction)(Floats, Floats), int32_t kStepA, int32_t kStepB>
void combine_rows(BinaryBlock block) {
  const int64_t count = block.count;
  const float *a = block.a, *b = block.b;
  if (count == kLanes) {  // a block of channels
    for (int64_t r = 0; r < block.rows; ++r, a += block.a_pitch, b += block.b_pitch)
      store(block.y + r * block.y_pitch, kFunction(take(a, kStepA), take(b, kStepB)));
    return;
  }
  for (int64_t r = 0; r < block.rows; ++r, a += block.a_pitch, b += block.b_pitch) {
    float* y = block.y + r * block.y_pitch;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      store(y + i, kFunction(take(a + i * kStepA, kStepA), take(b + i * kStepB, kStepB)));
    if (i < count)
      store(y + i, kFunction(take(a + i * kStepA, kStepA, count - i), take(b + i * kStepB, kStepB, count - i)),
            count - i);
  }
}

template <Floats (*kFunction)(Floats, Floats)>
void combine(const BinaryBlock* block) noexcept {
  if (block->a_step && block->b_step) return combine_rows<kFunction, 1, 1>(*block);
  if (block->a_step) return combine_rows<kFunction, 1, 0>(*block);
  if (block->b_step) return combine_rows<kFunction, 0, 1>(*block);
  combine_rows<kFunction, 0, 0>(*block);
}

constexpr BinaryRow kBinary[] = {
    {"Add", combine<add>},     {"Sub", combine<subtract>}, {"Mul", combine<multiply>}, {"Div", combine<divide>},
    {"Max", combine<maximum>}, {"Min", combine<minimum>},  {"Pow", combine<power>},    {"PRelu", combine<prelu>},
};

// x − peak with the rest that it rounds off, where exp does not vanish.
struct Shifted {
  Floats x, tail;
};
inline Shifted shift(Floats x, Floats peak) {
  const Floats d = x - peak, rounded = d - x;
  const Floats rest = (x - (d - rounded)) - (peak + rounded);
  return {d, select(d < -125.0f, Floats{}, rest)};
}

inline Floats exp_of(const Shifted& s) {
  const Power p = exp_parts(s.x, s.tail);
  return scale(p.m, p.n);
}

// A softmax's sum is that of exp(x − peak). For its logarithm the 1 of the peak is kept apart, as often as it occurs:
// beside it a peak far above the others would leave them no digits.
inline Floats at_peak(Floats x, Floats peak) { return select(x == peak, splat(1), Floats{}); }
inline Floats beside_peak(Floats e, Floats x, Floats peak) { return select(x == peak, Floats{}, e); }

// step(i, n): the vector that starts at i has n of its elements left.
template <typename Step>
inline void for_vectors(int64_t count, const Step& step) {
  for (int64_t i = 0; i < count; i += kLanes) step(i, count - i);
}
inline Floats load_some(const float* x, int64_t n, float rest) { return n < kLanes ? load(x, n, rest) : load(x); }
inline void store_some(float* y, Floats v, int64_t n) { n < kLanes ? store(y, v, n) : store(y, v); }

// −(log(sum) − (x − peak))
inline Floats log_quotient(const Shifted& s, Floats high, Floats low) { return -((high - s.x) + (low - s.tail)); }

template <bool kLog>
void softmax_row(const float* x, float* y, int64_t count) {
  const float nothing = -__builtin_inff();
  Floats highest = splat(nothing);
  for_vectors(count, [&](int64_t i, int64_t n) { highest = above(load_some(x + i, n, nothing), highest); });
  const float largest_x = largest(highest);
  const Floats peak = splat(largest_x);
  Doubles sum = {}, peaks = {};
  for_vectors(count, [&](int64_t i, int64_t n) {
    const Floats v = load_some(x + i, n, nothing), e = exp_of(shift(v, peak));
    if (kLog) {
      peaks += halves(at_peak(v, peak));
      sum += halves(beside_peak(e, v, peak));
    } else {
      sum += halves(e);
      store_some(y + i, e, n);
    }
  });
  if (kLog) {  // NaN when the peak is no number
    const double logarithm = log1p((total(peaks) - 1 + (double)(largest_x - largest_x)) + total(sum));
    const Floats high = splat((float)logarithm), low = splat((float)(logarithm - (double)(float)logarithm));
    for_vectors(count, [&](int64_t i, int64_t n) {
      store_some(y + i, log_quotient(shift(load_some(x + i, n, nothing), peak), high, low), n);
    });
  } else {
    const float inverse = (float)(1 / total(sum));
    for_vectors(count, [&](int64_t i, int64_t n) { store_some(y + i, load_some(y + i, n, 0) * inverse, n); });
  }
}

// As many distributions as a vector has lanes, side by side; their sums are exact to twice the precision by Knuth's
// addition ("The Art of Computer Programming" 2, 4.2.2).
template <bool kLog>
void softmax_columns(const float* x, float* y, int64_t count, int64_t step, int64_t n) {
  Floats peak = splat(-__builtin_inff());
  for (int64_t i = 0; i < count; ++i) peak = above(load_some(x + i * step, n, 0), peak);
  Floats sum = {}, rest = {}, peaks = peak - peak;
  for (int64_t i = 0; i < count; ++i) {
    const Floats v = load_some(x + i * step, n, 0), e = exp_of(shift(v, peak));
    const Floats term = beside_peak(e, v, peak), next = sum + term, rounded = next - sum;
    peaks += at_peak(v, peak);
    rest += (sum - (next - rounded)) + (term - rounded);
    sum = next;
    if (!kLog) store_some(y + i * step, e, n);
  }
  if (kLog) {
    Floats high = {}, low = {};
    for (int64_t k = 0; k < kLanes; ++k) {
      const double logarithm = log1p(((double)peaks[k] - 1) + ((double)sum[k] + (double)rest[k]));
      high[k] = (float)logarithm;
      low[k] = (float)(logarithm - (double)(float)logarithm);
    }
    for (int64_t i = 0; i < count; ++i)
      store_some(y + i * step, log_quotient(shift(load_some(x + i * step, n, 0), peak), high, low), n);
  } else {
    const Floats inverse = 1.0f / (peaks + (sum + rest));
    for (int64_t i = 0; i < count; ++i) store_some(y + i * step, load_some(y + i * step, n, 0) * inverse, n);
  }
}

template <bool kLog>
void softmax(const float* x, float* y, int64_t count, int64_t step, int64_t lanes) noexcept {
  if (step == 1) return softmax_row<kLog>(x, y, count);
  for_vectors(lanes, [&](int64_t i, int64_t n) { softmax_columns<kLog>(x + i, y + i, count, step, n); });
}

constexpr ElementwiseRows kRows = {
    kUnary, sizeof kUnary / sizeof *kUnary, kBinary, sizeof kBinary / sizeof *kBinary, softmax<false>, softmax<true>};

}  // namespace
}  // namespace slipway
