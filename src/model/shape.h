#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace slipway {

using Dims = std::vector<int64_t>;

/// One dimension: a number, a named symbol (equal names are equal sizes), or unknown.
class Dim {
 public:
  Dim() = default;  ///< unknown
  Dim(int64_t value) : value_(value) {}
  explicit Dim(std::string symbol) : symbol_(std::move(symbol)) {}
  bool is_known() const { return value_ >= 0; }
  bool is_symbol() const { return !symbol_.empty(); }
  bool is_unknown() const { return value_ < 0 && symbol_.empty(); }
  int64_t value() const { return value_; }  ///< -1 unless known
  const std::string& symbol() const { return symbol_; }
  /// True only when both are the same number or the same symbol.
  bool same_as(const Dim& other) const { return !is_unknown() && *this == other; }
  bool operator==(const Dim&) const = default;

 private:
  int64_t value_ = -1;
  std::string symbol_;
};

/// A tensor's shape: of unknown rank, or a list of dimensions.
class Shape {
 public:
  Shape() = default;  ///< rank unknown
  Shape(std::vector<Dim> dims) : has_rank_(true), dims_(std::move(dims)) {}
  static Shape of(std::span<const int64_t> dims) { return Shape(std::vector<Dim>(dims.begin(), dims.end())); }
  static Shape with_rank(size_t rank) { return Shape(std::vector<Dim>(rank)); }
  bool has_rank() const { return has_rank_; }
  size_t rank() const { return dims_.size(); }  ///< 0 when unknown
  const Dim& operator[](size_t i) const { return dims_[i]; }
  Dim& operator[](size_t i) { return dims_[i]; }
  const std::vector<Dim>& dims() const { return dims_; }
  bool is_static() const;
  Dims to_dims() const;  ///< requires is_static()
  bool operator==(const Shape&) const = default;

 private:
  bool has_rank_ = false;
  std::vector<Dim> dims_;
};

/// "[N,3,32,32]", "?" for an unknown dimension, "*" for an unknown rank.
std::string to_string(const Shape& shape);
std::string to_string(std::span<const int64_t> dims);
/// The product; fails with kInvalidModel on a negative dimension or beyond 2^48.
int64_t element_count(std::span<const int64_t> dims);
/// What two statements about one tensor say together; fails with kInvalidModel where numbers contradict.
Shape merge_shapes(const Shape& a, const Shape& b, const std::string& where);
/// Row-major strides in elements.
Dims strides_of(std::span<const int64_t> dims);
/// `axis` counted from the end when negative; fails with kInvalidModel outside [-rank, rank).
int64_t normalize_axis(int64_t axis, int64_t rank, const std::string& where);

}  // namespace slipway
