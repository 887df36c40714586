// Runs strips over a whole convolution.
//
// Each thread takes a range of output rows (and, if there are fewer rows than threads, a range of channel blocks). It
// copies the input rows that a few output rows need into its own scratch, with padding filled in, so that the inner
// kernel never sees an edge: a pixel is a base offset, a step an offset from it. The copy is sized to stay in the L1
// cache. Bytes that need no padding and no conversion are read where they are.
#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "engine/kernels/qconv_form.h"

namespace slipway {
namespace {

constexpr int64_t kWindowBytes = 32 << 10;
constexpr int64_t kDepthwiseWindowBytes = 192 << 10;  // few operations per byte: rather spare copies than L1 misses
constexpr int64_t kMaxRowsOut = 1024;
constexpr int64_t kSlack = 64;  // a step may read up to 3 bytes beyond the last tap

struct Buffers {
  std::byte* window;
  int32_t* pixels;
};

void convert(const QConvForm& form, const QConvSpec& spec, const uint8_t* from, std::byte* to, int64_t count,
             bool flip) {
  if (form.input == QConvInput::kWide) {
    qconv_widen_avx2(from, reinterpret_cast<int16_t*>(to), count, spec.x.type == Int8Type::kS8, spec.x.zero_point);
  } else if (flip) {
    qconv_flip_avx2(from, reinterpret_cast<uint8_t*>(to), count);
  } else {
    std::memcpy(to, from, static_cast<size_t>(count));
  }
}

/// Input rows first .. first + rows − 1 of one image; those outside it, and columns outside it, hold the zero point.
void fill_window(const QConvForm& form, const QConvSpec& spec, const QConvShape& s, const QConvWindow& window,
                 const uint8_t* image, int64_t first, int64_t rows, std::byte* to) {
  const int zero = form.input == QConvInput::kWide ? 0 : spec.x.zero_point + (window.flip ? 128 : 0);
  const int64_t left = std::min(s.pad_left, window.columns);
  const int64_t middle = std::clamp<int64_t>(s.w, 0, window.columns - left);
  const int64_t right = window.columns - left - middle;
  const int64_t pixel = s.c * window.element;
  for (int64_t r = 0; r < rows; ++r, to += window.pitch * window.element) {
    const int64_t y = first + r;
    if (y < 0 || y >= s.h) {
      std::memset(to, zero, static_cast<size_t>(window.pitch * window.element));
      continue;
    }
    std::memset(to, zero, static_cast<size_t>(left * pixel));
    convert(form, spec, image + y * s.w * s.c, to + left * pixel, middle * s.c, window.flip);
    std::memset(to + (left + middle) * pixel, zero, static_cast<size_t>(right * pixel));
  }
}

struct Range {
  int64_t begin, end;
};

Range part_of(int64_t count, int64_t part, int64_t parts) { return {count * part / parts, count * (part + 1) / parts}; }

}  // namespace

QConvShape flatten_pointwise(const QConvShape& shape) {
  QConvShape s = shape;
  if (s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 &&
      s.h == s.oh && s.w == s.ow) {
    s.h = s.oh = s.n * s.h;
    s.n = 1;
  }
  return s;
}

QConvWindow qconv_window(const QConvForm& form, const QConvSpec& spec) {
  const QConvShape s = flatten_pointwise(spec.shape);
  QConvWindow window;
  const bool wide = form.input == QConvInput::kWide;
  window.element = wide ? 2 : 1;
  window.flip = !wide && spec.x.type == Int8Type::kS8 && std::min(spec.x.lo, spec.x.zero_point) < 0;
  const int64_t reach_h = (s.kh - 1) * s.dilation_h + 1, reach_w = (s.kw - 1) * s.dilation_w + 1;
  const int64_t needed_h = (s.oh - 1) * s.stride_h + reach_h;
  window.columns = (s.ow - 1) * s.stride_w + reach_w;
  const int64_t run = s.groups == 1 && s.dilation_w == 1 ? s.kw * s.c : s.c / s.groups;
  window.direct = !wide && !window.flip && s.pad_top == 0 && s.pad_left == 0 && needed_h <= s.h &&
                  window.columns <= s.w && run % 4 == 0;
  window.pitch = (window.direct ? s.w : window.columns) * s.c;
  const int64_t row_bytes = window.pitch * window.element;
  const int64_t rows_in_cache = (form.depthwise ? kDepthwiseWindowBytes : kWindowBytes) / row_bytes;
  window.rows_out = std::clamp<int64_t>((rows_in_cache - reach_h) / s.stride_h + 1, 1, std::min(s.oh, kMaxRowsOut));
  window.rows_in = (window.rows_out - 1) * s.stride_h + reach_h;
  window.bytes =
      window.direct
          ? 0
          : static_cast<int64_t>(round_up(static_cast<size_t>(window.rows_in * row_bytes + kSlack), kAlignment));
  window.table_bytes = static_cast<int64_t>(round_up(static_cast<size_t>(window.rows_out * s.ow * 4), kAlignment));
  return window;
}

size_t strips_scratch_bytes(const QConvForm& form, const QConvSpec& spec, int threads) {
  const QConvWindow window = qconv_window(form, spec);
  return static_cast<size_t>(window.bytes + window.table_bytes) * static_cast<size_t>(std::max(threads, 1));
}

void run_strips(const QConvForm& form, const QConvSpec& spec, const std::byte* packed, const void* x,
                const void* residual, void* y, std::byte* scratch, int threads) noexcept {
  const QConvShape s = flatten_pointwise(spec.shape);
  const QConvWindow window = qconv_window(form, spec);
  const QStripEpilogue epilogue = strip_epilogue(spec.epilogue);
  const auto* header = reinterpret_cast<const QConvHeader*>(packed);
  const auto* blocks = reinterpret_cast<const QConvBlock*>(header + 1);
  const int64_t rows = s.n * s.oh, size = spec.epilogue.output == QConvOutput::kFloat ? 4 : 1;
  const int64_t row_parts = std::clamp<int64_t>(rows, 1, std::max(threads, 1));
  const auto block_count = static_cast<int64_t>(header->blocks);
  const int64_t block_parts = std::min(block_count, std::max(threads, 1) / row_parts);

  const auto work = [&](int64_t part) {
    const Buffers own = {
        scratch + part * (window.bytes + window.table_bytes),
        reinterpret_cast<int32_t*>(scratch + part * (window.bytes + window.table_bytes) + window.bytes)};
    for (int64_t r = 0; r < window.rows_out; ++r)
      for (int64_t c = 0; c < s.ow; ++c)
        own.pixels[r * s.ow + c] =
            static_cast<int32_t>((r * s.stride_h * window.pitch + c * s.stride_w * s.c) * window.element);
    const Range row_range = part_of(rows, part / block_parts, row_parts);
    const Range block_range = part_of(block_count, part % block_parts, block_parts);
    for (int64_t row = row_range.begin; row < row_range.end;) {
      const int64_t image = row / s.oh, y0 = row % s.oh;
      const int64_t count = std::min({window.rows_out, s.oh - y0, row_range.end - row});
      const int64_t first = y0 * s.stride_h - s.pad_top;
      const uint8_t* from = static_cast<const uint8_t*>(x) + image * s.h * s.w * s.c;
      if (!window.direct) {
        const int64_t rows_in = (count - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
        fill_window(form, spec, s, window, from, first, rows_in, own.window);
      }
      QStrip strip;
      strip.x = window.direct ? from + first * window.pitch : reinterpret_cast<const uint8_t*>(own.window);
      strip.pixels = own.pixels;
      strip.count = count * s.ow;
      strip.epilogue = &epilogue;
      strip.pitch = s.oc;
      for (int64_t b = block_range.begin; b < block_range.end; ++b) {
        const QConvBlock& block = blocks[b];
        const int64_t at = row * s.ow * s.oc + block.first_channel;
        strip.steps = reinterpret_cast<const int32_t*>(packed + block.steps);
        strip.groups = block.groups;
        strip.step_count = block.step_count;
        strip.weights = reinterpret_cast<const int8_t*>(packed + block.weights);
        strip.init = reinterpret_cast<const int32_t*>(packed + block.init);
        strip.multiplier = reinterpret_cast<const float*>(packed + block.multiplier);
        strip.addend = block.addend == 0 ? nullptr : reinterpret_cast<const float*>(packed + block.addend);
        strip.y = static_cast<uint8_t*>(y) + at * size;
        strip.residual = epilogue.has_residual ? static_cast<const uint8_t*>(residual) + at : nullptr;
        strip.vectors = block.vectors;
        strip.channels = block.channels;
        form.strip(&strip);
      }
      row += count;
    }
  };
  parallel_for(row_parts * block_parts, threads, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) work(part);
  });
}

}  // namespace slipway
