#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "model/dtype.h"
#include "model/shape.h"

namespace slipway {

/// How a value's elements lie in memory. All but kPlain are for rank 4 (N, C, H, W) alone.
enum class Layout : uint8_t {
  kPlain,      ///< row-major in the graph's order
  kNhwc,       ///< channels last
  kBlocked8,   ///< [N, C/8, H, W, 8], channels padded to 8 with zeros
  kBlocked16,  ///< [N, C/16, H, W, 16]
};
inline constexpr Layout kAllLayouts[] = {Layout::kPlain, Layout::kNhwc, Layout::kBlocked8, Layout::kBlocked16};

std::string_view to_string(Layout layout);
/// Fails with kInvalidModel when there is no such name.
Layout parse_layout(std::string_view name);
/// The dense row-major dims of the memory: [N,H,W,C] for kNhwc, [N,C/8,H,W,8] for kBlocked8.
Dims physical_dims(Layout layout, const Dims& dims);
/// Of a value of rank 4: element (n, c, h, w) lies at n·n + (c / block)·c + h·h + w·w + (c mod block)·inner.
struct ImageStrides {
  int64_t n, c, h, w, inner, block;
  int64_t channel(int64_t i) const { return i / block * c + i % block * inner; }
};
ImageStrides image_strides(Layout layout, const Dims& dims);
size_t layout_bytes(Layout layout, DType dtype, const Dims& dims);
bool layout_fits(Layout layout, const Dims& dims);
/// Whether such a value's bytes are the same in both layouts, as sizes of 1 and whole blocks may have it.
bool same_arrangement(Layout a, Layout b, const Dims& dims);

/// Copies between layouts; pads of blocked layouts are written as zero. Element sizes 1, 2, 4, 8 bytes.
void convert_layout(Layout from, const void* source, Layout to, void* target, DType dtype, const Dims& dims,
                    int threads);

/// Writes zeros to the channels that pad a blocked layout; does nothing for the others.
void clear_padding(Layout layout, float* data, const Dims& dims) noexcept;

}  // namespace slipway
