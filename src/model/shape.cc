#include "model/shape.h"

#include <algorithm>

#include "base/error.h"

namespace slipway {

bool Shape::is_static() const {
  return has_rank_ && std::all_of(dims_.begin(), dims_.end(), [](const Dim& d) { return d.is_known(); });
}

Dims Shape::to_dims() const {
  SLIPWAY_CHECK(is_static());
  Dims dims;
  for (const Dim& d : dims_) dims.push_back(d.value());
  return dims;
}

std::string to_string(const Shape& shape) {
  if (!shape.has_rank()) return "*";
  std::string text = "[";
  for (const Dim& d : shape.dims()) {
    if (text.size() > 1) text += ",";
    text += d.is_known() ? std::to_string(d.value()) : d.is_symbol() ? d.symbol() : "?";
  }
  return text + "]";
}

std::string to_string(std::span<const int64_t> dims) { return to_string(Shape::of(dims)); }

int64_t element_count(std::span<const int64_t> dims) {
  constexpr int64_t kLimit = int64_t{1} << 48;
  int64_t count = 1;
  bool empty = false;
  for (int64_t d : dims) {
    if (d < 0) fail(ErrorCode::kInvalidModel, "A tensor's dimension is negative: {}", d);
    if (d == 0)
      empty = true;
    else if (count > kLimit / d)
      fail(ErrorCode::kInvalidModel, "A tensor is absurdly large; check its shape: {}", to_string(dims));
    else
      count *= d;
  }
  return empty ? 0 : count;
}

Shape merge_shapes(const Shape& a, const Shape& b, const std::string& where) {
  if (!a.has_rank()) return b;
  if (!b.has_rank()) return a;
  if (a.rank() != b.rank())
    fail(ErrorCode::kInvalidModel, "Two statements about one tensor's rank contradict each other at {}: {} and {}",
         where, to_string(a), to_string(b));
  Shape merged = a;
  for (size_t i = 0; i < a.rank(); ++i) {
    if (a[i].is_known() && b[i].is_known() && a[i] != b[i])
      fail(ErrorCode::kInvalidModel, "Two statements about one tensor's shape contradict each other at {}: {} and {}",
           where, to_string(a), to_string(b));
    if (b[i].is_known() || a[i].is_unknown()) merged[i] = b[i];
  }
  return merged;
}

Dims strides_of(std::span<const int64_t> dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

int64_t normalize_axis(int64_t axis, int64_t rank, const std::string& where) {
  if (axis < -rank || axis >= rank)
    fail(ErrorCode::kInvalidModel, "An axis lies outside the tensor's rank {} at {}: {}", rank, where, axis);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace slipway
