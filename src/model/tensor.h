#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/dtype.h"
#include "model/shape.h"
#include "model/small_float.h"

namespace slipway {

/// A dense row-major tensor with a concrete shape. A value: copies share the bytes, writing copies them first. What
/// else an ONNX value may be is one too, without shape and elements: a sequence of tensors, or an optional that is
/// absent (one that is there is what it holds).
class Tensor {
 public:
  Tensor() = default;  ///< kUndefined, no bytes
  /// Zero-filled (strings empty). Fails with kInvalidModel on an absurd shape.
  Tensor(DType dtype, Dims dims);
  /// Over bytes that `owner` keeps alive (a mapping, a buffer); `data` holds bytes_of(dtype, elements) bytes.
  static Tensor view(DType dtype, Dims dims, const void* data, std::shared_ptr<const void> owner);
  template <typename T>
  static Tensor of(Dims dims, std::span<const T> values) {
    Tensor t(dtype_of<T>, std::move(dims));
    t.fill_from(values.data(), values.size(), sizeof(T));
    return t;
  }
  template <typename T>
  static Tensor of(Dims dims, std::initializer_list<T> values) {
    return of<T>(std::move(dims), std::span<const T>(values.begin(), values.size()));
  }
  template <typename T>
  static Tensor of(Dims dims, const std::vector<T>& values) {
    return of<T>(std::move(dims), std::span<const T>(values));
  }
  template <typename T>
  static Tensor scalar(T value) {
    return of<T>({}, {value});
  }
  static Tensor of_strings(Dims dims, std::vector<std::string> values);
  /// Every item is a tensor of that type (checked). Fails with kInvalidArgument on more than one value's memory can
  /// hold.
  static Tensor sequence(DType element, std::vector<Tensor> items);
  static Tensor absent(DType type);  ///< `type` is an optional's

  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int64_t rank() const { return static_cast<int64_t>(dims_.size()); }
  int64_t elements() const { return elements_; }
  size_t bytes() const { return bytes_of(dtype_, elements_); }
  bool defined() const { return dtype_ != DType::kUndefined; }

  const std::byte* raw() const { return data_.get(); }
  std::byte* mutable_raw();
  /// T must match dtype() (checked).
  template <typename T>
  std::span<const T> values() const {
    require(dtype_of<T>);
    return {reinterpret_cast<const T*>(data_.get()), static_cast<size_t>(elements_)};
  }
  template <typename T>
  std::span<T> mutable_values() {
    require(dtype_of<T>);
    return {reinterpret_cast<T*>(mutable_raw()), static_cast<size_t>(elements_)};
  }
  const std::vector<std::string>& strings() const;
  const std::vector<Tensor>& items() const;  ///< of a sequence (checked)

  /// The same bytes under another shape with as many elements.
  Tensor reshaped(Dims dims) const;
  /// Same dtype, dims and bytes (NaNs equal when their bits are), or items.
  bool identical(const Tensor& other) const;

 private:
  void require(DType dtype) const;
  void fill_from(const void* values, size_t count, size_t element_bytes);

  DType dtype_ = DType::kUndefined;
  Dims dims_;
  int64_t elements_ = 0;
  std::shared_ptr<const std::byte> data_;
  bool owned_ = false;  ///< the bytes came from allocate_aligned and may be written when not shared
  std::shared_ptr<const std::vector<std::string>> strings_;
  std::shared_ptr<const std::vector<Tensor>> items_;
};

/// Any numeric or bool dtype (2-bit, 4-bit and 8-bit types included) as float, double or int64, element by element.
/// Integers saturate when narrowed from floats out of range; fails with kUnsupported for strings and complex.
std::vector<float> to_floats(const Tensor& tensor);
std::vector<double> to_doubles(const Tensor& tensor);
std::vector<int64_t> to_ints(const Tensor& tensor);
/// Values into a tensor of `dtype` with ONNX Cast's rounding (floats to integers truncate, to half nearest even).
Tensor from_doubles(DType dtype, Dims dims, std::span<const double> values);
/// ONNX Cast: exact between integers (modulo 2^bits), as above otherwise; to small floats by the rules.
Tensor cast(const Tensor& tensor, DType dtype, const SmallFloatRules& rules = {});
/// Places [first, first + count) along an axis that has some, the last one repeated beyond the end.
Tensor rows_of(const Tensor& tensor, int64_t first, int64_t count, size_t axis = 0);

}  // namespace slipway
