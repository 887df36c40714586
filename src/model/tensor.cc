// Tensors: shared immutable bytes with copy on write, and conversion between element types.
#include "model/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/half.h"
#include "base/memory.h"
#include "model/run_limits.h"

namespace slipway {
namespace {

std::shared_ptr<const std::byte> allocate_zeroed(size_t bytes) {
  AlignedBytes buffer = allocate_aligned(bytes);
  std::memset(buffer.get(), 0, bytes);
  std::byte* raw = buffer.release();
  return {raw, [](const std::byte* p) { AlignedFree()(const_cast<std::byte*>(p)); }};
}

int unpack_nibble(const std::byte* raw, int64_t i) { return (static_cast<int>(raw[i / 2]) >> (i % 2 ? 4 : 0)) & 15; }
int unpack_pair(const std::byte* raw, int64_t i) { return (static_cast<int>(raw[i / 4]) >> (i % 4 * 2)) & 3; }

// Calls f(i, value) with the element in its natural C++ type.
template <typename F>
void for_each_element(const Tensor& t, F&& f) {
  const std::byte* raw = t.raw();
  const int64_t n = t.elements();
  const auto run = [&]<typename T>(T) {
    const T* p = reinterpret_cast<const T*>(raw);
    for (int64_t i = 0; i < n; ++i) f(i, p[i]);
  };
  switch (t.dtype()) {
    case DType::kFloat32:
      return run(float{});
    case DType::kFloat64:
      return run(double{});
    case DType::kUint8:
      return run(uint8_t{});
    case DType::kBool:
      return run(uint8_t{});
    case DType::kInt8:
      return run(int8_t{});
    case DType::kUint16:
      return run(uint16_t{});
    case DType::kInt16:
      return run(int16_t{});
    case DType::kUint32:
      return run(uint32_t{});
    case DType::kInt32:
      return run(int32_t{});
    case DType::kUint64:
      return run(uint64_t{});
    case DType::kInt64:
      return run(int64_t{});
    case DType::kFloat16:
      for (int64_t i = 0; i < n; ++i) f(i, half_to_float(reinterpret_cast<const uint16_t*>(raw)[i]));
      return;
    case DType::kBfloat16:
      for (int64_t i = 0; i < n; ++i) f(i, bfloat16_to_float(reinterpret_cast<const uint16_t*>(raw)[i]));
      return;
    case DType::kUint4:
      for (int64_t i = 0; i < n; ++i) f(i, static_cast<uint8_t>(unpack_nibble(raw, i)));
      return;
    case DType::kInt4:
      for (int64_t i = 0; i < n; ++i) f(i, static_cast<int8_t>((unpack_nibble(raw, i) ^ 8) - 8));
      return;
    case DType::kUint2:
      for (int64_t i = 0; i < n; ++i) f(i, static_cast<uint8_t>(unpack_pair(raw, i)));
      return;
    case DType::kInt2:
      for (int64_t i = 0; i < n; ++i) f(i, static_cast<int8_t>((unpack_pair(raw, i) ^ 2) - 2));
      return;
    case DType::kFloat4E2M1:
      for (int64_t i = 0; i < n; ++i) f(i, decode_small_float(t.dtype(), static_cast<uint8_t>(unpack_nibble(raw, i))));
      return;
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ:
    case DType::kFloat8E8M0:
      for (int64_t i = 0; i < n; ++i) f(i, decode_small_float(t.dtype(), static_cast<uint8_t>(raw[i])));
      return;
    default:
      fail(ErrorCode::kUnsupported, "Values of this element type can't be converted to numbers: {}",
           to_string(t.dtype()));
  }
}

// Float to integer as numpy and C do in range, saturating beyond, NaN to zero.
template <typename To, typename From>
To convert(From v) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(v)) return 0;
    const double d = static_cast<double>(v);
    if (d <= static_cast<double>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (d >= static_cast<double>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(d);
  } else {
    return static_cast<To>(v);
  }
}

template <typename To>
void convert_into(const Tensor& from, To* to) {
  for_each_element(from, [&](int64_t i, auto v) { to[i] = convert<To>(v); });
}

}  // namespace

Tensor::Tensor(DType dtype, Dims dims) : dtype_(dtype), dims_(std::move(dims)), elements_(element_count(dims_)) {
  if (bytes_of(dtype_, elements_) > run_limits().value_bytes)
    fail(ErrorCode::kInvalidArgument,
         "A value would take more memory than one may; give smaller inputs: {}{} takes {} MiB, {} are allowed",
         to_string(dtype_), to_string(dims_), bytes_of(dtype_, elements_) >> 20, run_limits().value_bytes >> 20);
  if (dtype == DType::kString)
    strings_ = std::make_shared<const std::vector<std::string>>(static_cast<size_t>(elements_));
  else
    data_ = allocate_zeroed(bytes_of(dtype_, elements_));
  owned_ = true;
}

Tensor Tensor::view(DType dtype, Dims dims, const void* data, std::shared_ptr<const void> owner) {
  Tensor t;
  t.dtype_ = dtype;
  t.elements_ = element_count(dims);
  t.dims_ = std::move(dims);
  t.data_ = std::shared_ptr<const std::byte>(std::move(owner), static_cast<const std::byte*>(data));
  return t;
}

Tensor Tensor::of_strings(Dims dims, std::vector<std::string> values) {
  Tensor t(DType::kString, std::move(dims));
  SLIPWAY_CHECK(static_cast<int64_t>(values.size()) == t.elements_);
  t.strings_ = std::make_shared<const std::vector<std::string>>(std::move(values));
  return t;
}

Tensor Tensor::sequence(DType element, std::vector<Tensor> items) {
  if (items.size() > run_limits().value_bytes / sizeof(Tensor))
    fail(ErrorCode::kInvalidArgument, "A sequence would hold more tensors than one may; give smaller inputs: {}",
         items.size());
  for (const Tensor& item : items) SLIPWAY_CHECK(item.dtype_ == element && is_tensor(element));
  Tensor t;
  t.dtype_ = sequence_of(element);
  t.items_ = std::make_shared<const std::vector<Tensor>>(std::move(items));
  return t;
}

Tensor Tensor::absent(DType type) {
  SLIPWAY_CHECK(is_optional(type));
  Tensor t;
  t.dtype_ = type;
  return t;
}

std::byte* Tensor::mutable_raw() {
  if (!owned_ || data_.use_count() > 1) {
    auto copy = allocate_zeroed(bytes());
    if (bytes() > 0) std::memcpy(const_cast<std::byte*>(copy.get()), data_.get(), bytes());
    data_ = std::move(copy);
    owned_ = true;
  }
  return const_cast<std::byte*>(data_.get());
}

const std::vector<std::string>& Tensor::strings() const {
  require(DType::kString);
  return *strings_;
}

const std::vector<Tensor>& Tensor::items() const {
  SLIPWAY_CHECK(items_ != nullptr);
  return *items_;
}

Tensor Tensor::reshaped(Dims dims) const {
  SLIPWAY_CHECK(element_count(dims) == elements_);
  Tensor t = *this;
  t.dims_ = std::move(dims);
  return t;
}

bool Tensor::identical(const Tensor& other) const {
  if (dtype_ != other.dtype_ || dims_ != other.dims_) return false;
  if (dtype_ == DType::kString) return *strings_ == *other.strings_;
  if (items_ != nullptr)
    return std::equal(items_->begin(), items_->end(), other.items_->begin(), other.items_->end(),
                      [](const Tensor& a, const Tensor& b) { return a.identical(b); });
  return bytes() == 0 || std::memcmp(raw(), other.raw(), bytes()) == 0;
}

void Tensor::require(DType dtype) const { SLIPWAY_CHECK(dtype_ == dtype); }

void Tensor::fill_from(const void* values, size_t count, size_t element_bytes) {
  SLIPWAY_CHECK(static_cast<int64_t>(count) == elements_);
  if (count > 0) std::memcpy(mutable_raw(), values, count * element_bytes);
}

std::vector<float> to_floats(const Tensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  convert_into(tensor, out.data());
  return out;
}

std::vector<double> to_doubles(const Tensor& tensor) {
  std::vector<double> out(static_cast<size_t>(tensor.elements()));
  convert_into(tensor, out.data());
  return out;
}

std::vector<int64_t> to_ints(const Tensor& tensor) {
  std::vector<int64_t> out(static_cast<size_t>(tensor.elements()));
  convert_into(tensor, out.data());
  return out;
}

Tensor from_doubles(DType dtype, Dims dims, std::span<const double> values) {
  Tensor wide = Tensor::of<double>(std::move(dims), values);
  return dtype == DType::kFloat64 ? wide : cast(wide, dtype);
}

Tensor cast(const Tensor& from, DType dtype, const SmallFloatRules& rules) {
  if (from.dtype() == dtype) return from;
  Tensor to(dtype, from.dims());
  std::byte* raw = to.mutable_raw();
  const auto run = [&]<typename T>(T) { convert_into(from, reinterpret_cast<T*>(raw)); };
  auto* codes = reinterpret_cast<uint16_t*>(raw);
  switch (dtype) {
    case DType::kFloat32:
      run(float{});
      break;
    case DType::kFloat64:
      run(double{});
      break;
    case DType::kUint8:
      run(uint8_t{});
      break;
    case DType::kInt8:
      run(int8_t{});
      break;
    case DType::kUint16:
      run(uint16_t{});
      break;
    case DType::kInt16:
      run(int16_t{});
      break;
    case DType::kUint32:
      run(uint32_t{});
      break;
    case DType::kInt32:
      run(int32_t{});
      break;
    case DType::kUint64:
      run(uint64_t{});
      break;
    case DType::kInt64:
      run(int64_t{});
      break;
    case DType::kBool:
      for_each_element(from, [&](int64_t i, auto v) { raw[i] = static_cast<std::byte>(v != 0); });
      break;
    case DType::kFloat16:
      for_each_element(from, [&](int64_t i, auto v) { codes[i] = float_to_half(static_cast<float>(v)); });
      break;
    case DType::kBfloat16:
      for_each_element(from, [&](int64_t i, auto v) { codes[i] = float_to_bfloat16(static_cast<float>(v)); });
      break;
    case DType::kUint4:
    case DType::kInt4:
      for_each_element(from, [&](int64_t i, auto v) {
        const auto nibble = static_cast<unsigned>(convert<int64_t>(v)) & 15u;
        raw[i / 2] |= static_cast<std::byte>(i % 2 ? nibble << 4 : nibble);
      });
      break;
    case DType::kUint2:
    case DType::kInt2:
      for_each_element(from, [&](int64_t i, auto v) {
        raw[i / 4] |= static_cast<std::byte>((static_cast<unsigned>(convert<int64_t>(v)) & 3u) << (i % 4 * 2));
      });
      break;
    case DType::kFloat4E2M1:
      for_each_element(from, [&](int64_t i, auto v) {
        raw[i / 2] |= static_cast<std::byte>(encode_small_float(dtype, static_cast<double>(v), rules) << (i % 2 * 4));
      });
      break;
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ:
    case DType::kFloat8E8M0:
      for_each_element(from, [&](int64_t i, auto v) {
        raw[i] = static_cast<std::byte>(encode_small_float(dtype, static_cast<double>(v), rules));
      });
      break;
    default:
      fail(ErrorCode::kUnsupported, "Numbers can't be converted to this element type: {}", to_string(dtype));
  }
  return to;
}

Tensor rows_of(const Tensor& tensor, int64_t first, int64_t count, size_t axis) {
  const int64_t rows = tensor.dims().at(axis);
  if (first == 0 && count == rows) return tensor;
  Dims dims = tensor.dims();
  const int64_t outer = element_count({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)});
  dims[axis] = count;
  Tensor part(tensor.dtype(), dims);
  if (part.bytes() == 0) return part;
  const size_t row_bytes = tensor.bytes() / static_cast<size_t>(outer * rows);
  std::byte* to = part.mutable_raw();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < count; ++i, to += row_bytes)
      std::memcpy(to, tensor.raw() + static_cast<size_t>(o * rows + std::min(first + i, rows - 1)) * row_bytes,
                  row_bytes);
  return part;
}

}  // namespace slipway
