// Floats as text. A float v = c·2^q stands for all reals between the midpoints to its neighbours. Schubfach (Giulietti,
// 2020) scales v and both midpoints by 10^-k, k = floor(log10(width)), so that at least one and at most a few integers
// lie between them; candidates are the two around v, and the two multiples of ten around it, which are shorter. The
// products with 10^-k need only its 64 leading bits, rounded up, and a sticky bit ("round to odd"); quarters are kept
// so that midpoints are exact. Invariant: kPowers[i] = floor(10^(i + kFirstPower) · 2^s) + 1 with the s that makes it
// 64 bits long.
#include "serve/json/float_text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace slipway {
namespace {

constexpr int kFirstPower = -31, kLastPower = 45;

/// 256 bits, least significant word first.
using Wide = std::array<uint64_t, 4>;
__extension__ using Uint128 = unsigned __int128;

constexpr uint64_t leading_bits(const Wide& x) {
  int top = 255;
  while ((x[static_cast<size_t>(top / 64)] >> (top % 64) & 1) == 0) --top;
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) {
    const int from = top - i;
    bits = bits << 1 | (from < 0 ? 0 : x[static_cast<size_t>(from / 64)] >> (from % 64) & 1);
  }
  return bits;
}

constexpr std::array<uint64_t, kLastPower - kFirstPower + 1> make_powers() {
  std::array<uint64_t, kLastPower - kFirstPower + 1> powers{};
  Wide up{1, 0, 0, 0};
  for (int k = 0; k <= kLastPower; ++k) {
    powers[static_cast<size_t>(k - kFirstPower)] = leading_bits(up) + 1;
    uint64_t carry = 0;
    for (uint64_t& word : up) {
      const Uint128 product = Uint128{word} * 10 + carry;
      word = static_cast<uint64_t>(product);
      carry = static_cast<uint64_t>(product >> 64);
    }
  }
  Wide down{0, 0, 0, uint64_t{1} << 63};
  for (int k = -1; k >= kFirstPower; --k) {
    uint64_t rest = 0;
    for (size_t i = down.size(); i-- > 0;) {
      const Uint128 dividend = Uint128{rest} << 64 | down[i];
      down[i] = static_cast<uint64_t>(dividend / 10);
      rest = static_cast<uint64_t>(dividend % 10);
    }
    powers[static_cast<size_t>(k - kFirstPower)] = leading_bits(down) + 1;
  }
  return powers;
}
constexpr auto kPowers = make_powers();

struct Decimal {
  uint32_t digits;
  int exponent;  ///< value = digits · 10^exponent
};

constexpr int floor_log2_pow10(int k) { return (k * 1741647) >> 19; }

/// floor(power·x / 2^64) with the rest folded into the lowest bit.
uint32_t scale_to_odd(uint64_t power, uint32_t x) {
  const Uint128 product = Uint128{power} * x;
  const auto whole = static_cast<uint32_t>(product >> 64);
  return whole | static_cast<uint32_t>(static_cast<uint32_t>(product >> 32) > 1);
}

/// Of a finite float other than zero, by its bits without the sign.
Decimal shortest(uint32_t bits) {
  const uint32_t fraction = bits & 0x7fffff, biased = bits >> 23;
  const uint32_t c = biased != 0 ? fraction | 0x800000 : fraction;
  const int q = (biased != 0 ? static_cast<int>(biased) : 1) - 150;
  if (q <= 0 && std::countr_zero(c) >= -q) return {c >> -q, 0};  // an integer

  const bool irregular = fraction == 0 && biased > 1;  // the neighbour below is half as far
  const uint32_t left = 4 * c - 2 + irregular, middle = 4 * c, right = 4 * c + 2;
  const int k = (q * 1262611 - (irregular ? 524031 : 0)) >> 22;  // floor of log10(2^q), or of log10(3/4·2^q)
  const int shift = q + floor_log2_pow10(-k) + 1;
  const uint64_t power = kPowers[static_cast<size_t>(-k - kFirstPower)];
  const uint32_t open = c & 1;  // the midpoints belong to even significands
  const uint32_t low = scale_to_odd(power, left << shift) + open;
  const uint32_t value = scale_to_odd(power, middle << shift);
  const uint32_t high = scale_to_odd(power, right << shift) - open;

  // Which case applies is as good as random: arithmetic, not branches.
  const uint32_t s = value / 4, tens = s / 10, half = 4 * s + 2;
  const uint32_t tens_below = low <= 40 * tens, tens_above = 40 * tens + 40 <= high;
  const uint32_t below = low <= 4 * s, above = 4 * s + 4 <= high;
  const uint32_t nearer = (value > half) | ((value == half) & s & 1);
  const uint32_t one = s + ((below ^ above) & above) + ((below ^ above ^ 1) & nearer), ten = tens + tens_above;
  const uint32_t shorter = (s >= 10) & (tens_below ^ tens_above);
  return {one ^ ((one ^ ten) & (0 - shorter)), k + static_cast<int>(shorter)};
}

/// The digits of a number below 10^8 as bytes 0 … 9, the first one lowest: halves, quarters, eighths side by side.
uint64_t eight_digits(uint32_t number) {
  uint64_t x = number / 10000 | uint64_t{number % 10000} << 32;
  const uint64_t hundreds = (x * 10486 >> 20) & 0x0000007f0000007f;
  x = hundreds | (x - 100 * hundreds) << 16;
  const uint64_t tens = (x * 103 >> 10) & 0x000f000f000f000f;
  return tens | (x - 10 * tens) << 8;
}

char* write_null(char* out) { return static_cast<char*>(std::memcpy(out, "null", 4)) + 4; }

constexpr uint64_t kZeros = 0x3030303030303030;

}  // namespace

char* write_float(char* out, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return write_null(out);
  *out = '-';
  out += bits >> 31;
  if (magnitude == 0) return *out = '0', out + 1;
  const Decimal decimal = shortest(magnitude);

  // Up to nine digits, without the zeros at both ends: the first one, and the rest in a register, the next one lowest.
  // Stores are of eight bytes; what is too much gets written over.
  const uint32_t ninth = decimal.digits / 100'000'000;
  const uint64_t eight = eight_digits(decimal.digits % 100'000'000);
  const int skipped = std::countr_zero(eight | uint64_t{1} << 63) / 8, trailing = std::countl_zero(eight) / 8;
  const char first = static_cast<char>('0' + (ninth != 0 ? ninth : eight >> 8 * skipped & 15));
  const uint64_t rest = kZeros + (ninth != 0 ? eight : eight >> 8 * skipped >> 8);
  const int count = (ninth != 0 ? 9 : 8 - skipped) - trailing, exponent = decimal.exponent + trailing;
  const int point = count + exponent;  // digits before the point
  const auto store = [](char* to, uint64_t text) { std::memcpy(to, &text, sizeof text); };

  if (point > -5 && point < count) {  // 12.34, 0.1234, 0.0001234
    const int zeros = std::max(1 - point, 0), dot = std::max(point, 1);
    const int at = zeros + (zeros > 0);
    store(out, kZeros);
    out[at] = first;
    store(out + at + 1, rest);
    out[dot] = '.';
    store(out + std::max(at, dot) + 1, rest >> 8 * (dot - 1));
    return out + count + 1 + zeros;
  }
  *out = first;
  store(out + 1, rest);
  if (exponent >= 0 && point <= 16) {
    store(out + count, kZeros);
    store(out + count + 8, kZeros);
    return out + point;
  }
  out[1] = '.';
  store(out + 2, rest);
  out += count > 1 ? count + 1 : 1;
  *out++ = 'e';
  return std::to_chars(out, out + 4, point - 1).ptr;
}

char* write_double(char* out, double value) {
  if (!std::isfinite(value)) return write_null(out);
  return std::to_chars(out, out + kFloatTextSize, value).ptr;
}

}  // namespace slipway
