// Top-k of an output as text, as the classification extension of the protocol wants it. Integers keep all their digits:
// they are compared as they are, not as floats.
#include "serve/classification.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "base/error.h"
#include "base/half.h"

namespace slipway {
namespace {

template <typename T>
T load_one(const std::byte* bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));
  return value;
}

void append_element(std::vector<std::byte>& bytes, const std::string& element) {
  const auto length = static_cast<uint32_t>(element.size());
  const auto* head = reinterpret_cast<const std::byte*>(&length);
  bytes.insert(bytes.end(), head, head + sizeof length);
  const auto* text = reinterpret_cast<const std::byte*>(element.data());
  bytes.insert(bytes.end(), text, text + element.size());
}

template <typename Load>
void rank_row(size_t first, size_t classes, size_t best, std::span<const std::string> labels, Load load,
              std::vector<std::byte>& storage) {
  using Value = decltype(load(size_t{0}));
  std::vector<Value> values(classes);
  std::vector<size_t> order(classes);
  for (size_t i = 0; i < classes; ++i) values[i] = load(first + i);
  std::iota(order.begin(), order.end(), size_t{0});
  const auto better = [&](size_t a, size_t b) {
    if constexpr (std::is_floating_point_v<Value>) {
      const bool a_nan = std::isnan(values[a]), b_nan = std::isnan(values[b]);
      if (a_nan != b_nan) return b_nan;
      if (a_nan) return a < b;
    }
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(best), order.end(), better);
  for (size_t k = 0; k < best; ++k) {
    const size_t i = order[k];
    std::string text = std::is_floating_point_v<Value> ? fmt::format("{:f}:{}", static_cast<double>(values[i]), i)
                                                       : fmt::format("{}:{}", values[i], i);
    if (i < labels.size()) text += ":" + labels[i];
    append_element(storage, text);
  }
}

}  // namespace

WireTensor classify(const WireTensor& scores, int64_t count, bool by_row, std::span<const std::string> labels,
                    std::vector<std::byte>& storage) {
  const bool rowwise = by_row && !scores.dims.empty();
  const size_t rows = rowwise ? static_cast<size_t>(scores.dims[0]) : 1;
  size_t classes = 1;
  for (size_t axis = rowwise ? 1 : 0; axis < scores.dims.size(); ++axis)
    classes *= static_cast<size_t>(scores.dims[axis]);
  const size_t best = std::min(classes, static_cast<size_t>(std::max<int64_t>(count, 0)));
  const std::byte* bytes = scores.bytes.data();
  storage.clear();
  const auto rank = [&](auto load) {
    for (size_t row = 0; row < rows; ++row) rank_row(row * classes, classes, best, labels, load, storage);
  };
  switch (scores.dtype) {
    case DType::kUint8:
      rank([&](size_t i) { return unsigned{load_one<uint8_t>(bytes, i)}; });
      break;
    case DType::kUint16:
      rank([&](size_t i) { return load_one<uint16_t>(bytes, i); });
      break;
    case DType::kUint32:
      rank([&](size_t i) { return load_one<uint32_t>(bytes, i); });
      break;
    case DType::kUint64:
      rank([&](size_t i) { return load_one<uint64_t>(bytes, i); });
      break;
    case DType::kInt8:
      rank([&](size_t i) { return int{load_one<int8_t>(bytes, i)}; });
      break;
    case DType::kInt16:
      rank([&](size_t i) { return load_one<int16_t>(bytes, i); });
      break;
    case DType::kInt32:
      rank([&](size_t i) { return load_one<int32_t>(bytes, i); });
      break;
    case DType::kInt64:
      rank([&](size_t i) { return load_one<int64_t>(bytes, i); });
      break;
    case DType::kFloat16:
      rank([&](size_t i) { return half_to_float(load_one<uint16_t>(bytes, i)); });
      break;
    case DType::kBfloat16:
      rank([&](size_t i) { return bfloat16_to_float(load_one<uint16_t>(bytes, i)); });
      break;
    case DType::kFloat32:
      rank([&](size_t i) { return load_one<float>(bytes, i); });
      break;
    case DType::kFloat64:
      rank([&](size_t i) { return load_one<double>(bytes, i); });
      break;
    default:
      fail(ErrorCode::kInvalidArgument,
           "Classification needs an output of numbers; ask for this one as it is: '{}', {}", scores.name,
           datatype_name(scores.dtype));
  }
  Dims dims;
  if (rowwise) dims.push_back(static_cast<int64_t>(rows));
  dims.push_back(static_cast<int64_t>(best));
  return {scores.name, DType::kString, std::move(dims), storage};
}

}  // namespace slipway
