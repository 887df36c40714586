// INT8 operators other than convolution: splits the work over threads and hands contiguous runs to the row loops.
#include "engine/kernels/int8_ops.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "engine/kernels/int8_rows.h"

namespace slipway {
namespace {

constexpr int64_t kGrain = 4096;  // elements worth a thread
constexpr int64_t kTile = 64;     // pixels and channels of a layout change at a time

const Int8Rows& rows() { return isa_available(Isa::kAvx2) ? kInt8RowsAvx2 : kInt8RowsScalar; }

RowRange range_of(const Int8Encoding& e) {
  return {static_cast<float>(e.lo - e.zero_point), static_cast<float>(e.hi - e.zero_point), e.zero_point};
}

RowTerm term_of(const Int8Encoding& e, const void* q, float multiplier) {
  return {static_cast<const uint8_t*>(q), e.type == Int8Type::kS8, e.zero_point, multiplier};
}

RowTerm at(RowTerm term, int64_t i) {
  term.q += i;
  return term;
}

void add_run(const RowTerm& a, const RowTerm* b, uint8_t* y, int64_t count, const RowRange& range) {
  rows().add(&a, b, y, count, &range);
}

/// body(image, first pixel, pixels, first channel, channels) over tiles of at most kTile × kTile.
template <typename Body>
void for_tiles(const ImageShape& image, int threads, const Body& body) {
  const int64_t plane = image.h * image.w, tiles = (plane + kTile - 1) / kTile;
  const int64_t grain = std::max<int64_t>(1, kGrain / (kTile * image.c));
  parallel_for(
      image.n * tiles, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t pixel = i % tiles * kTile;
          for (int64_t c = 0; c < image.c; c += kTile)
            body(i / tiles, pixel, std::min(kTile, plane - pixel), c, std::min(kTile, image.c - c));
        }
      },
      grain);
}

struct Span {
  int64_t first, count;  // in steps of the dilation
};

/// The kernel positions k in [0, size) for which start + k·dilation lies in [0, limit).
Span inside(int64_t start, int64_t size, int64_t dilation, int64_t limit) {
  const int64_t first = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const int64_t end = start < limit ? std::min(size, (limit - start + dilation - 1) / dilation) : 0;
  return {first, std::max<int64_t>(0, end - first)};
}

/// body(cells, offset in y): the cells of each output position that lie inside the image, from their first channel on.
template <typename Body>
void for_outputs(const QPool& op, const void* x, int threads, const Body& body) {
  const ImageShape& s = op.x;
  parallel_for(s.n * op.oh, threads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t top = row % op.oh * op.stride_h - op.pad_top;
      const Span ky = inside(top, op.kh, op.dilation_h, s.h);
      const int64_t first_row = row / op.oh * s.h + top + ky.first * op.dilation_h;
      for (int64_t ox = 0; ox < op.ow; ++ox) {
        const int64_t left = ox * op.stride_w - op.pad_left;
        const Span kx = inside(left, op.kw, op.dilation_w, s.w);
        const int64_t first = (first_row * s.w + left + kx.first * op.dilation_w) * s.c;
        const RowGrid cells = {static_cast<const uint8_t*>(x) + (ky.count * kx.count > 0 ? first : 0), ky.count,
                               kx.count, op.dilation_h * s.w * s.c, op.dilation_w * s.c};
        body(cells, (row * op.ow + ox) * s.c);
      }
    }
  });
}

}  // namespace

void quantize(const float* x, void* y, int64_t count, float scale, const Int8Encoding& enc, int threads) noexcept {
  const RowRange range = range_of(enc);
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        rows().quantize(x + begin, static_cast<uint8_t*>(y) + begin, end - begin, scale, &range);
      },
      kGrain);
}

void quantize_nchw_to_nhwc(const float* x, void* y, const ImageShape& image, float scale, const Int8Encoding& enc,
                           int threads) noexcept {
  const RowRange range = range_of(enc);
  const int64_t plane = image.h * image.w;
  for_tiles(image, threads, [&](int64_t n, int64_t pixel, int64_t pixels, int64_t first, int64_t channels) {
    uint8_t tile[kTile][kTile];
    for (int64_t c = 0; c < channels; ++c)
      rows().quantize(x + (n * image.c + first + c) * plane + pixel, tile[c], pixels, scale, &range);
    uint8_t* to = static_cast<uint8_t*>(y) + (n * plane + pixel) * image.c + first;
    for (int64_t p = 0; p < pixels; ++p, to += image.c)
      for (int64_t c = 0; c < channels; ++c) to[c] = tile[c][p];
  });
}

void dequantize(const void* x, float* y, int64_t count, float scale, const Int8Encoding& enc, int threads) noexcept {
  const RowTerm term = term_of(enc, x, scale);
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        const RowTerm here = at(term, begin);
        rows().dequantize(&here, y + begin, end - begin);
      },
      kGrain);
}

void dequantize_nhwc_to_nchw(const void* x, float* y, const ImageShape& image, float scale, const Int8Encoding& enc,
                             int threads) noexcept {
  const int64_t plane = image.h * image.w;
  for_tiles(image, threads, [&](int64_t n, int64_t pixel, int64_t pixels, int64_t first, int64_t channels) {
    uint8_t tile[kTile][kTile];
    const uint8_t* from = static_cast<const uint8_t*>(x) + (n * plane + pixel) * image.c + first;
    for (int64_t p = 0; p < pixels; ++p, from += image.c)
      for (int64_t c = 0; c < channels; ++c) tile[c][p] = from[c];
    for (int64_t c = 0; c < channels; ++c) {
      const RowTerm term = term_of(enc, tile[c], scale);
      rows().dequantize(&term, y + (n * image.c + first + c) * plane + pixel, pixels);
    }
  });
}

void qadd(const QAdd& op, const void* a, const void* b, void* y, int64_t count, int threads) noexcept {
  const RowRange range = range_of(op.y);
  const RowTerm term_a = term_of(op.a, a, op.a_multiplier), term_b = term_of(op.b, b, op.b_multiplier);
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        const RowTerm second = b ? at(term_b, begin) : term_b;
        add_run(at(term_a, begin), b ? &second : nullptr, static_cast<uint8_t*>(y) + begin, end - begin, range);
      },
      kGrain);
}

void lookup(const uint8_t table[256], const void* x, void* y, int64_t count, int threads) noexcept {
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        const auto* from = static_cast<const uint8_t*>(x);
        auto* to = static_cast<uint8_t*>(y);
        for (int64_t i = begin; i < end; ++i) to[i] = table[from[i]];
      },
      kGrain);
}

void copy_columns(const void* x, int64_t x_pitch, void* y, int64_t y_pitch, int64_t count, int64_t columns,
                  int threads) noexcept {
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          std::memcpy(static_cast<uint8_t*>(y) + r * y_pitch, static_cast<const uint8_t*>(x) + r * x_pitch,
                      static_cast<size_t>(columns));
      },
      kGrain / std::max<int64_t>(columns, 1) + 1);
}

void requantize_columns(const QAdd& op, const void* x, int64_t x_pitch, void* y, int64_t y_pitch, int64_t count,
                        int64_t columns, int threads) noexcept {
  const RowRange range = range_of(op.y);
  const RowTerm term = term_of(op.a, x, op.a_multiplier);
  parallel_for(
      count, threads,
      [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          add_run(at(term, r * x_pitch), nullptr, static_cast<uint8_t*>(y) + r * y_pitch, columns, range);
      },
      kGrain / std::max<int64_t>(columns, 1) + 1);
}

void qmaxpool(const QPool& op, const void* x, void* y, int threads) noexcept {
  const int32_t is_signed = op.in.type == Int8Type::kS8;
  for_outputs(op, x, threads, [&](const RowGrid& cells, int64_t to) {
    uint8_t* out = static_cast<uint8_t*>(y) + to;
    if (cells.rows * cells.columns > 0) {
      rows().max(&cells, is_signed, out, op.x.c);
    } else {
      std::memset(out, is_signed ? 0x80 : 0, static_cast<size_t>(op.x.c));
    }
  });
}

void qavgpool(const QPool& op, const void* x, void* y, int threads) noexcept {
  const RowRange range = range_of(op.out);
  const int32_t is_signed = op.in.type == Int8Type::kS8;
  for_outputs(op, x, threads, [&](const RowGrid& cells, int64_t to) {
    const int64_t count = cells.rows * cells.columns;
    const int64_t divisor = op.count_include_pad ? op.kh * op.kw : std::max<int64_t>(count, 1);
    const auto offset = static_cast<int32_t>(count * op.in.zero_point);
    rows().mean(&cells, is_signed, offset, op.multiplier / static_cast<float>(divisor), static_cast<uint8_t*>(y) + to,
                op.x.c, &range);
  });
}

}  // namespace slipway
