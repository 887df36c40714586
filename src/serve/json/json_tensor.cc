// JSON arrays to tensors, in one pass over the text.
// Numbers: digits are gathered eight at a time into a 64-bit integer m, so that value = m·10^e. With m ≤ 2^53 and
// |e| ≤ 22 both m and 10^|e| are exact doubles and one multiplication or division rounds correctly (Clinger, "How to
// read floating point numbers accurately", PLDI 1990). The double then rounds to the right float unless it lies exactly
// on the border of two floats or below the normal ones; those few, and whatever has more digits, go through
// std::from_chars.
#include "serve/json/json_tensor.h"

#include <bit>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "base/half.h"

namespace slipway {
namespace {

struct Place {
  std::string_view name;
  DType dtype;
};

/// The token at `p`, for a message.
std::string shown_token(const char* p, const char* end) {
  const char* stop = p;
  while (stop < end && stop - p < 65 && *stop != ',' && *stop != ']' && *stop != '}' && *stop != ' ' && *stop != '\n')
    ++stop;
  return quote_name({p, static_cast<size_t>(stop - p)});
}

[[noreturn]] void refuse(const char* sentence, const Place& place, size_t index, const char* p, const char* end) {
  fail(ErrorCode::kInvalidArgument, "{}: input {}, {}, element {}, {}", sentence, quote_name(place.name),
       datatype_name(place.dtype), index, shown_token(p, end));
}
constexpr const char* kNoNumber =
    "An element of a tensor must be a number as JSON writes it; NaN and infinities travel only in binary";
constexpr const char* kNoInteger = "An element of a tensor of integers must have no fraction and no exponent";
constexpr const char* kOutOfRange = "An element of a tensor is out of range for its type";

bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

struct Number {
  uint64_t mantissa = 0;
  int64_t exponent = 0;  ///< value = mantissa · 10^exponent, when `exact`
  int64_t power = 0;     ///< what stands behind the e
  bool negative = false, integral = true, exact = true;
  const char* end = nullptr;  ///< nullptr: no number
};

/// At most eight digits at `p` appended to `value`, wrapping; their number. No branch depends on it.
[[gnu::always_inline]] inline int64_t gather_eight(const char* p, uint64_t& value) {
  constexpr uint64_t kTens[] = {1, 10, 100, 1000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000};
  uint64_t x;
  std::memcpy(&x, p, sizeof x);
  x ^= 0x3030303030303030;  // digits become 0 … 9, all else more
  const uint64_t other = ((x + 0x7676767676767676) | x) & 0x8080808080808080;
  const int64_t count = (std::countr_zero(other >> 7 | uint64_t{1} << 63) + 7) / 8;
  const auto half_shift = static_cast<int>(32 - 4 * count);
  x = x << half_shift << half_shift;  // zeros before the digits
  x = x * 10 + (x >> 8);              // pairs, then fours, then all
  const uint64_t even = x & 0x000000ff000000ff, odd = x >> 16 & 0x000000ff000000ff;
  value = value * kTens[count] + ((even * 0x000f424000000064 + odd * 0x0000271000000001) >> 32);
  return count;
}

/// All digits at `p`; returns where they end.
[[gnu::always_inline]] inline const char* gather_digits(const char* p, uint64_t& value) {
  p += gather_eight(p, value);
  int64_t count = gather_eight(p, value);
  for (p += count; count == 8; p += count) count = gather_eight(p, value);
  return p;
}

[[gnu::always_inline]] inline Number scan_number(const char* p) {
  Number n;
  n.negative = *p == '-';
  p += n.negative;
  const char* const whole = p;
  if (!is_digit(*p)) return n;
  if (p[1] == '.' || *p == '0')
    n.mantissa = static_cast<uint64_t>(*p++ - '0');
  else
    p = gather_digits(p, n.mantissa);
  int64_t digits = p - whole;
  if (*p == '.') {
    const char* const fraction = ++p;
    p = gather_digits(p, n.mantissa);
    if (p == fraction) return n;
    n.exponent = fraction - p;
    digits += p - fraction;
    n.integral = false;
  }
  if (*p == 'e' || *p == 'E') {
    ++p;
    const bool down = *p == '-';
    if (down || *p == '+') ++p;
    if (!is_digit(*p)) return n;
    for (; is_digit(*p); ++p) n.power = std::min<int64_t>(n.power * 10 + (*p - '0'), 1'000'000'000);
    if (down) n.power = -n.power;
    n.exponent += n.power;
    n.integral = false;
  }
  n.exact = digits <= 19;
  n.end = p;
  return n;
}

constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/// Whether a number that does not fit its type is too large, not too small: the place of its first digit decides.
bool is_large(const char* p, const Number& n) {
  p += n.negative;
  int64_t whole = 0, zeros = 0;
  while (is_digit(*p) && *p != '0') ++p, ++whole;
  if (whole > 0)
    while (is_digit(*p)) ++p, ++whole;
  else if (p[1] == '.')
    for (p += 2; *p == '0'; ++p) ++zeros;
  return whole - zeros + n.power > 0;
}

/// Any number; false when it is too large. What is too small for the type is zero.
template <typename T>
[[gnu::noinline]] bool convert_slowly(const char* p, const Number& n, T& value) {
  if (std::from_chars(p, n.end, value).ec == std::errc()) return std::isfinite(value);
  value = n.negative ? -T{0} : T{0};
  return !is_large(p, n);
}

template <typename T>
[[gnu::always_inline]] inline bool to_real(const char* p, const Number& n, T& value) {
  if (n.exact && n.mantissa <= uint64_t{1} << 53 && static_cast<uint64_t>(n.exponent + 22) <= 44) {
    const double m = static_cast<double>(n.mantissa);
    const double d = n.exponent < 0 ? m / kPowersOfTen[-n.exponent] : m * kPowersOfTen[n.exponent];
    if constexpr (std::is_same_v<T, double>) {
      value = n.negative ? -d : d;
      return true;
    } else {
      const bool border = (std::bit_cast<uint64_t>(d) & 0x1fffffff) == 0x10000000;
      if (!border && (d >= FLT_MIN || d == 0)) {
        value = static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(d) | uint64_t{n.negative} << 63));
        return d <= FLT_MAX || std::isfinite(value);
      }
    }
  }
  return convert_slowly(p, n, value);
}

/// One element's text to its place in the tensor; returns where it ends.
template <typename T>
struct NumberReader {
  T* out;
  const char* end;
  Place place;

  const char* operator()(const char* p, size_t index) const {
    const Number n = scan_number(p);
    if (n.end == nullptr) refuse(kNoNumber, place, index, p, end);
    if constexpr (std::is_floating_point_v<T>) {
      if (!to_real(p, n, out[index])) refuse(kOutOfRange, place, index, p, end);
    } else {
      if (!n.integral) refuse(kNoInteger, place, index, p, end);
      bool fits = true;
      if (!n.exact && (n.negative || n.end - p > 20 || std::from_chars(p, n.end, out[index]).ec != std::errc())) {
        fits = false;
      } else if (n.exact && n.negative) {
        const uint64_t least = std::is_signed_v<T> ? uint64_t{1} << (8 * sizeof(T) - 1) : 0;
        fits = n.mantissa <= least;
        out[index] = static_cast<T>(-n.mantissa);
      } else if (n.exact) {
        fits = n.mantissa <= static_cast<uint64_t>(std::numeric_limits<T>::max());
        out[index] = static_cast<T>(n.mantissa);
      }
      if (!fits) refuse(kOutOfRange, place, index, p, end);
    }
    return n.end;
  }
};

/// FP16 and BF16.
struct HalfReader {
  uint16_t* out;
  const char* end;
  Place place;

  const char* operator()(const char* p, size_t index) const {
    float value;
    const char* stop = NumberReader<float>{&value, end, place}(p, 0);
    const bool brain = place.dtype == DType::kBfloat16;
    out[index] = brain ? float_to_bfloat16(value) : float_to_half(value);
    if (!std::isfinite(brain ? bfloat16_to_float(out[index]) : half_to_float(out[index])))
      refuse(kOutOfRange, place, index, p, end);
    return stop;
  }
};

struct BoolReader {
  uint8_t* out;
  const char* end;
  Place place;

  const char* operator()(const char* p, size_t index) const {
    const std::string_view rest(p, static_cast<size_t>(end - p));
    for (const auto& [token, value] : {std::pair{"true", 1}, {"false", 0}, {"1", 1}, {"0", 0}})
      if (rest.starts_with(token)) {
        out[index] = static_cast<uint8_t>(value);
        return p + std::strlen(token);
      }
    refuse("An element of a BOOL tensor must be true or false", place, index, p, end);
  }
};

/// Strings, each behind its length.
struct StringReader {
  std::byte* at;
  const char* end;
  Place place;

  const char* operator()(const char* p, size_t index) {
    if (*p != '"') refuse("An element of a BYTES tensor must be a string", place, index, p, end);
    const char* const begin = p++;
    char* out = reinterpret_cast<char*>(at) + 4;
    while (*p != '"') {
      if (p >= end) refuse("A string must end", place, index, begin, end);
      if (*p != '\\') {
        *out++ = *p++;
        continue;
      }
      ++p;
      constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
      if (const size_t which = names.find(*p); which != names.npos) {
        *out++ = meanings[which];
        ++p;
      } else if (!append_code_point(p, out)) {
        refuse("A string holds an escape that JSON does not know", place, index, begin, end);
      }
    }
    const auto length = static_cast<uint32_t>(out - reinterpret_cast<char*>(at) - 4);
    std::memcpy(at, &length, sizeof length);
    at = reinterpret_cast<std::byte*>(out);
    return p + 1;
  }

  static bool read_unit(const char*& p, uint32_t& unit) {
    if (*p != 'u') return false;
    const auto result = std::from_chars(p + 1, p + 5, unit, 16);
    if (result.ec != std::errc() || result.ptr != p + 5) return false;
    p += 5;
    return true;
  }

  /// "uD83D\uDE00" at `p`, as UTF-8; halves of a pair alone are refused.
  static bool append_code_point(const char*& p, char*& out) {
    uint32_t code = 0, low = 0;
    if (!read_unit(p, code) || (code >= 0xdc00 && code < 0xe000)) return false;
    if (code >= 0xd800 && code < 0xdc00) {
      if (*p++ != '\\' || !read_unit(p, low) || low < 0xdc00 || low >= 0xe000) return false;
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    const auto put = [&](uint32_t byte) { *out++ = static_cast<char>(byte); };
    if (code < 0x80) return put(code), true;
    if (code < 0x800) {
      put(0xc0 | code >> 6);
    } else {
      if (code < 0x10000) {
        put(0xe0 | code >> 12);
      } else {
        put(0xf0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3f));
      }
      put(0x80 | (code >> 6 & 0x3f));
    }
    put(0x80 | (code & 0x3f));
    return true;
  }
};

/// The brackets and commas around the elements.
template <typename Reader>
struct ArrayScan {
  const char* p;
  const char* end;
  std::span<const int64_t> dims;
  Reader read;
  size_t done = 0;

  void skip_space() {
    while (static_cast<unsigned char>(*p) <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) ++p;
  }

  [[noreturn]] void refuse_array(const char* sentence, size_t index) { refuse(sentence, read.place, index, p, end); }

  /// "[" entry "," … "]" with `count` entries.
  template <typename Entry>
  void list(size_t count, Entry entry) {
    if (*p != '[') refuse_array("A tensor's data must be flat or nested as its shape says", done);
    ++p;
    skip_space();
    size_t found = 0;
    if (*p != ']')
      while (true) {
        if (found == count) refuse_array("A tensor's data hold more elements than its shape says", done);
        entry();
        ++found;
        skip_space();
        if (*p == ']') break;
        if (*p != ',') refuse_array("Elements must be separated by commas", done);
        ++p;
        skip_space();
      }
    ++p;
    if (found != count)
      fail(ErrorCode::kInvalidArgument, "A tensor's data hold fewer elements than its shape says: input {}, {} of {}",
           quote_name(read.place.name), found, count);
  }

  void row(size_t count) {
    list(count, [&] {
      p = read(p, done);
      ++done;
    });
  }

  void level(size_t axis) {
    const auto count = static_cast<size_t>(dims[axis]);
    if (axis + 1 == dims.size()) return row(count);
    list(count, [&] { level(axis + 1); });
  }

  void run(size_t elements) {
    const char* inside = p + 1;
    while (*inside == ' ' || *inside == '\n' || *inside == '\r' || *inside == '\t') ++inside;
    if (*inside == '[' && dims.size() > 1)
      level(0);
    else
      row(elements);
    const bool inside_text = p <= end;  // what follows the text may be blanks, too
    skip_space();
    if (!inside_text || p < end) refuse_array("A tensor's data must be one array", done);
  }
};

}  // namespace

std::string quote_name(std::string_view text) {
  constexpr size_t kMost = 64;
  std::string clean = "'";
  for (const char c : text.substr(0, kMost)) clean += c >= ' ' && c <= '~' ? c : '?';
  return clean + (text.size() > kMost ? "...'" : "'");
}

TensorBytes parse_json_tensor(std::string_view text, DType dtype, std::span<const int64_t> dims,
                              std::string_view name) {
  size_t elements = 1;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0)
      fail(ErrorCode::kInvalidArgument, "A shape in a request has no negative dimension: input {}, {}",
           quote_name(name), dim);
    empty |= dim == 0;
    if (dim > 0 && __builtin_mul_overflow(elements, static_cast<size_t>(dim), &elements))
      elements = std::numeric_limits<size_t>::max();
  }
  if (empty) elements = 0;

  // An element takes two characters, a string three; of whatever can't be there nothing is stored.
  const size_t room = std::min(elements, text.size() / 2 + 1);
  TensorBytes tensor;
  tensor.size = dtype == DType::kString ? 4 * room + text.size() : bytes_of(dtype, static_cast<int64_t>(room));
  tensor.data = allocate_aligned(tensor.size);
  const Place place{name, dtype};
  const char* const end = text.data() + text.size();
  const auto scan = [&](auto reader) {
    ArrayScan<decltype(reader)> array{text.data(), end, dims, reader};
    array.run(elements);
    return array.read;
  };
  const auto numbers = [&]<typename T>(T) {
    scan(NumberReader<T>{reinterpret_cast<T*>(tensor.data.get()), end, place});
  };
  switch (dtype) {
    case DType::kBool:
      scan(BoolReader{reinterpret_cast<uint8_t*>(tensor.data.get()), end, place});
      break;
    case DType::kUint8:
      numbers(uint8_t{});
      break;
    case DType::kUint16:
      numbers(uint16_t{});
      break;
    case DType::kUint32:
      numbers(uint32_t{});
      break;
    case DType::kUint64:
      numbers(uint64_t{});
      break;
    case DType::kInt8:
      numbers(int8_t{});
      break;
    case DType::kInt16:
      numbers(int16_t{});
      break;
    case DType::kInt32:
      numbers(int32_t{});
      break;
    case DType::kInt64:
      numbers(int64_t{});
      break;
    case DType::kFloat32:
      numbers(float{});
      break;
    case DType::kFloat64:
      numbers(double{});
      break;
    case DType::kFloat16:
    case DType::kBfloat16:
      scan(HalfReader{reinterpret_cast<uint16_t*>(tensor.data.get()), end, place});
      break;
    case DType::kString:
      tensor.size = static_cast<size_t>(scan(StringReader{tensor.data.get(), end, place}).at - tensor.data.get());
      break;
    default:
      fail(ErrorCode::kInvalidArgument, "A tensor has a type that the protocol does not know: input {}",
           quote_name(name));
  }
  return tensor;
}

}  // namespace slipway
