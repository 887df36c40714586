// Layouts and the copies between them. The fast path of the common pairs walks the target in memory order.
#include "engine/layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"

namespace slipway {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"plain", "nhwc", "blocked8", "blocked16"};

int64_t block_of(Layout layout) { return layout == Layout::kBlocked8 ? 8 : layout == Layout::kBlocked16 ? 16 : 1; }

// Offset of (n, c, h, w) = n·sn + (c / block)·sc + h·sh + w·sw + (c % block)·si.
struct Strides {
  int64_t n, c, h, w, inner, block;
};

Strides strides(Layout layout, const Dims& d) {
  const int64_t c = d[1], h = d[2], w = d[3];
  if (layout == Layout::kPlain) return {c * h * w, h * w, w, 1, 0, 1};
  if (layout == Layout::kNhwc) return {h * w * c, 1, w * c, c, 0, 1};
  const int64_t b = block_of(layout);
  return {(c + b - 1) / b * b * h * w, h * w * b, w * b, b, 1, b};
}

// The axes with more than one element, in the order in which they lie in memory, then zeros. Channels that blocks cut
// are two pieces, unless the pieces lie side by side.
std::array<std::pair<char, int64_t>, 5> pieces(Layout layout, const Dims& d) {
  const int64_t b = block_of(layout);
  const std::string_view order = layout == Layout::kPlain ? "nchw" : layout == Layout::kNhwc ? "nhwc" : "nchwb";
  std::array<std::pair<char, int64_t>, 5> list = {};
  size_t count = 0;
  for (const char axis : order) {
    const int64_t size = axis == 'n'   ? d[0]
                         : axis == 'h' ? d[2]
                         : axis == 'w' ? d[3]
                         : axis == 'b' ? b
                                       : (d[1] + b - 1) / b;
    const char name = axis == 'b' ? 'c' : axis;
    if (size == 1) continue;
    if (count > 0 && list[count - 1].first == name)
      list[count - 1].second *= size;
    else
      list[count++] = {name, size};
  }
  return list;
}

template <typename T>
void convert(Layout from, const T* source, Layout to, T* target, const Dims& d, int threads) {
  const Strides s = strides(from, d), t = strides(to, d);
  const int64_t channels = d[1], rows = d[2], columns = d[3];
  const int64_t padded = (channels + t.block - 1) / t.block * t.block;
  // One unit of work is an image row, all channels: the inner loops run along the target's unit stride.
  const bool channels_inside = to != Layout::kPlain;
  parallel_for(
      d[0] * rows, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t unit = begin; unit < end; ++unit) {
          const int64_t n = unit / rows, h = unit % rows;
          const T* src = source + n * s.n + h * s.h;
          T* dst = target + n * t.n + h * t.h;
          if (channels_inside) {
            for (int64_t c0 = 0; c0 < padded; c0 += t.block == 1 ? padded : t.block) {
              const int64_t c1 = t.block == 1 ? padded : c0 + t.block;
              for (int64_t w = 0; w < columns; ++w)
                for (int64_t c = c0; c < c1; ++c)
                  dst[(c / t.block) * t.c + (c % t.block) * t.inner + w * t.w] =
                      c < channels ? src[(c / s.block) * s.c + (c % s.block) * s.inner + w * s.w] : T{};
            }
          } else {
            for (int64_t c = 0; c < channels; ++c) {
              const T* row = src + (c / s.block) * s.c + (c % s.block) * s.inner;
              for (int64_t w = 0; w < columns; ++w) dst[c * t.c + w] = row[w * s.w];
            }
          }
        }
      },
      16);
}

}  // namespace

std::string_view to_string(Layout layout) { return kNames[static_cast<size_t>(layout)]; }

Layout parse_layout(std::string_view name) {
  for (Layout layout : kAllLayouts)
    if (to_string(layout) == name) return layout;
  fail(ErrorCode::kInvalidModel, "There is no such memory layout; build the plan again: '{}'", name);
}

Dims physical_dims(Layout layout, const Dims& d) {
  if (layout == Layout::kPlain) return d;
  if (layout == Layout::kNhwc) return {d[0], d[2], d[3], d[1]};
  const int64_t b = block_of(layout);
  return {d[0], (d[1] + b - 1) / b, d[2], d[3], b};
}

size_t layout_bytes(Layout layout, DType dtype, const Dims& dims) {
  return bytes_of(dtype, element_count(physical_dims(layout, dims)));
}

bool layout_fits(Layout layout, const Dims& dims) { return layout == Layout::kPlain || dims.size() == 4; }

bool same_arrangement(Layout a, Layout b, const Dims& dims) {
  if (a == b) return true;
  if (!layout_fits(a, dims) || !layout_fits(b, dims)) return false;
  const int64_t channels = dims[1];  // padded ones are no other layout's
  return channels % block_of(a) == 0 && channels % block_of(b) == 0 && pieces(a, dims) == pieces(b, dims);
}

void convert_layout(Layout from, const void* source, Layout to, void* target, DType dtype, const Dims& dims,
                    int threads) {
  if (same_arrangement(from, to, dims)) {
    std::memcpy(target, source, layout_bytes(from, dtype, dims));
    return;
  }
  SLIPWAY_CHECK(dims.size() == 4);
  const auto run = [&]<typename T>(T) {
    convert(from, static_cast<const T*>(source), to, static_cast<T*>(target), dims, threads);
  };
  switch (bits_of(dtype)) {
    case 8:
      return run(uint8_t{});
    case 16:
      return run(uint16_t{});
    case 32:
      return run(uint32_t{});
    case 64:
      return run(uint64_t{});
    default:
      SLIPWAY_CHECK(false);
  }
}

void clear_padding(Layout layout, float* data, const Dims& dims) noexcept {
  const int64_t block = block_of(layout);
  if (block == 1 || dims[1] % block == 0) return;
  const int64_t used = dims[1] % block, plane = dims[2] * dims[3], image = (dims[1] / block + 1) * plane * block;
  for (int64_t n = 0; n < dims[0]; ++n)
    for (int64_t p = 0; p < plane; ++p)
      std::fill_n(data + (n + 1) * image - (plane - p) * block + used, block - used, 0.0f);
}

}  // namespace slipway
