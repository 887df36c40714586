// Copying elements from place to place, whatever their type: by index lists and by strided walks. 4-bit types are
// widened to bytes first; strings go by value.
#include "model/ops/layout.h"

#include <cstring>
#include <vector>

#include "base/error.h"
#include "model/ops/walk.h"

namespace slipway {
namespace {

constexpr int64_t kIndexMask = (int64_t{1} << 48) - 1;

struct Block16 {
  uint64_t low, high;
};

DType widened(DType dtype) {
  if (dtype == DType::kInt4) return DType::kInt8;
  return dtype == DType::kUint4 ? DType::kUint8 : dtype;
}

// Calls f with a value of a type as wide as the element.
template <typename F>
void with_width(DType dtype, F&& f) {
  switch (bits_of(dtype)) {
    case 8:
      return f(uint8_t{});
    case 16:
      return f(uint16_t{});
    case 32:
      return f(uint32_t{});
    case 64:
      return f(uint64_t{});
    default:
      return f(Block16{});
  }
}

std::vector<int64_t> sources_of(const Dims& box, const Dims& strides, int64_t base) {
  std::vector<int64_t> sources(static_cast<size_t>(element_count(box)));
  const int64_t step = strides.empty() ? 1 : strides.back();
  walk<1>(box, {strides}, [&](int64_t out, const std::array<int64_t, 1>& at, int64_t length) {
    for (int64_t i = 0; i < length; ++i) sources[static_cast<size_t>(out + i)] = base + at[0] + i * step;
  });
  return sources;
}

}  // namespace

Tensor pick(std::span<const Tensor* const> pools, Dims dims, std::span<const int64_t> sources) {
  SLIPWAY_CHECK(!pools.empty() && element_count(dims) == static_cast<int64_t>(sources.size()));
  const DType dtype = pools[0]->dtype();
  for (const Tensor* pool : pools) SLIPWAY_CHECK(pool->dtype() == dtype);
  if (widened(dtype) != dtype) {
    std::vector<Tensor> wide;
    std::vector<const Tensor*> refs;
    for (const Tensor* pool : pools) wide.push_back(cast(*pool, widened(dtype)));
    for (const Tensor& pool : wide) refs.push_back(&pool);
    return cast(pick(refs, std::move(dims), sources), dtype);
  }
  if (dtype == DType::kString) {
    std::vector<std::string> values;
    for (int64_t s : sources)
      values.push_back(pools[static_cast<size_t>(s >> 48)]->strings()[static_cast<size_t>(s & kIndexMask)]);
    return Tensor::of_strings(std::move(dims), std::move(values));
  }
  Tensor out(dtype, std::move(dims));
  with_width(dtype, [&]<typename T>(T) {
    std::vector<const T*> from;
    for (const Tensor* pool : pools) from.push_back(reinterpret_cast<const T*>(pool->raw()));
    T* to = reinterpret_cast<T*>(out.mutable_raw());
    for (size_t i = 0; i < sources.size(); ++i)
      to[i] = from[static_cast<size_t>(sources[i] >> 48)][sources[i] & kIndexMask];
  });
  return out;
}

Tensor pick(const Tensor& pool, Dims dims, std::span<const int64_t> sources) {
  const Tensor* one = &pool;
  return pick(std::span<const Tensor* const>(&one, 1), std::move(dims), sources);
}

Tensor copy_strided(const Tensor& from, Dims dims, const Dims& box, const Dims& strides, int64_t base) {
  const DType dtype = from.dtype();
  if (dtype == DType::kString || widened(dtype) != dtype)
    return pick(from, std::move(dims), sources_of(box, strides, base));
  Tensor out(dtype, std::move(dims));
  SLIPWAY_CHECK(out.elements() == element_count(box));
  const int64_t step = strides.empty() ? 1 : strides.back();
  with_width(dtype, [&]<typename T>(T) {
    const T* source = reinterpret_cast<const T*>(from.raw()) + base;
    T* to = reinterpret_cast<T*>(out.mutable_raw());
    walk<1>(box, {strides}, [&](int64_t start, const std::array<int64_t, 1>& at, int64_t length) {
      const T* row = source + at[0];
      if (step == 1)
        std::memcpy(to + start, row, static_cast<size_t>(length) * sizeof(T));
      else
        for (int64_t i = 0; i < length; ++i) to[start + i] = row[i * step];
    });
  });
  return out;
}

}  // namespace slipway
