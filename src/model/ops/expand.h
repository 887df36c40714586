#pragma once
#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "model/graph.h"

namespace slipway {

/// `values` of shape `from`, repeated to fill `to` (ONNX's unidirectional broadcasting). Fails with kInvalidModel,
/// naming the node, where `from` does not broadcast to `to`.
template <typename T>
std::vector<T> expand(const Node& node, const Dims& from, const std::vector<T>& values, const Dims& to) {
  if (from == to) return values;
  const Dims own = strides_of(from);
  Dims strides(to.size(), 0);
  const size_t shift = to.size() - from.size();
  bool fits = from.size() <= to.size();
  for (size_t i = 0; fits && i < from.size(); ++i) {
    fits = from[i] == 1 || from[i] == to[i + shift];
    if (from[i] != 1) strides[i + shift] = own[i];
  }
  if (!fits)
    fail(ErrorCode::kInvalidModel, "An operand does not broadcast to the other's shape at {}: {} to {}", node.label(),
         to_string(from), to_string(to));
  std::vector<T> out(static_cast<size_t>(element_count(to)));
  Dims at(to.size(), 0);
  int64_t offset = 0;
  for (T& value : out) {
    value = values[static_cast<size_t>(offset)];
    for (size_t i = to.size(); i-- > 0;) {
      offset += strides[i];
      if (++at[i] < to[i]) break;
      offset -= strides[i] * to[i];
      at[i] = 0;
    }
  }
  return out;
}

}  // namespace slipway
