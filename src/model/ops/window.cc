// Sliding-window geometry of convolution and pooling (ONNX operator documentation: Conv-11, ConvTranspose-11,
// MaxPool-12, AveragePool-19). Attributes are bounded before any arithmetic, so no product below can overflow.
// With ceil_mode the last window must start inside the input or its leading padding, as in PyTorch and ONNX 1.16.
#include "model/ops/window.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace slipway {
namespace {

constexpr int64_t kMaxEntry = int64_t{1} << 24;
constexpr int64_t kMaxInput = int64_t{1} << 38;
constexpr size_t kMaxSpatialRank = 8;

Dims entries(const Node& node, std::string_view name, size_t count, int64_t lowest, int64_t fallback) {
  Dims values = node.integers(name);
  if (values.empty()) return Dims(count, fallback);
  if (values.size() != count) reject(node, fmt::format("{} has {} entries, not {}", name, values.size(), count));
  for (int64_t v : values)
    if (v < lowest || v > kMaxEntry) reject(node, fmt::format("{} has an entry out of range: {}", name, v));
  return values;
}

AutoPad read_auto_pad(const Node& node) {
  const std::string text = node.text("auto_pad", "NOTSET");
  if (text == "NOTSET" || text.empty()) return AutoPad::kNone;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text == "VALID") return AutoPad::kValid;
  reject(node, fmt::format("auto_pad is unknown: '{}'", text));
}

int64_t checked_input(const Node& node, int64_t input) {
  if (input < 1 || input > kMaxInput) reject(node, fmt::format("a spatial dimension is out of range: {}", input));
  return input;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One spatial axis of WindowAttributes.
struct Axis {
  int64_t extent, stride, pad_begin, pad_end;
};

Axis axis_of(const WindowAttributes& a, size_t i) {
  return {(a.kernel[i] - 1) * a.dilations[i] + 1, a.strides[i], a.pads_begin[i], a.pads_end[i]};
}

void share_padding(Axis& axis, int64_t total, bool more_at_end) {
  total = std::max<int64_t>(total, 0);
  axis.pad_begin = more_at_end ? total / 2 : total - total / 2;
  axis.pad_end = total - axis.pad_begin;
}

// Fills in the pads and returns the output size.
int64_t resolve(const Node& node, const WindowAttributes& a, Axis& axis, int64_t input) {
  if (a.auto_pad == AutoPad::kSameUpper || a.auto_pad == AutoPad::kSameLower) {
    const int64_t output = ceil_div(input, axis.stride);
    share_padding(axis, (output - 1) * axis.stride + axis.extent - input, a.auto_pad == AutoPad::kSameUpper);
    return output;
  }
  const int64_t room = input + axis.pad_begin + axis.pad_end - axis.extent;
  if (room < 0)
    reject(node, fmt::format("the window of {} is larger than the padded input of {}", axis.extent,
                             input + axis.pad_begin + axis.pad_end));
  int64_t output = room / axis.stride + 1;
  if (a.ceil_mode && a.auto_pad == AutoPad::kNone) {
    output = ceil_div(room, axis.stride) + 1;
    if ((output - 1) * axis.stride >= input + axis.pad_begin) --output;
  }
  return output;
}

int64_t resolve_transposed(const Node& node, const WindowAttributes& a, Axis& axis, size_t i, int64_t input) {
  const int64_t full = (input - 1) * axis.stride + axis.extent + a.output_padding[i];
  const bool same = a.auto_pad == AutoPad::kSameUpper || a.auto_pad == AutoPad::kSameLower;
  if (a.output_shape || same) {
    const int64_t output = a.output_shape ? (*a.output_shape)[i] : input * axis.stride;
    share_padding(axis, full - output, a.auto_pad == AutoPad::kSameUpper);
    return output;
  }
  const int64_t output = full - axis.pad_begin - axis.pad_end;
  if (output <= 0) reject(node, fmt::format("the pads leave no output of {}", full));
  return output;
}

template <typename Resolve>
Window concrete(const Node& node, const WindowAttributes& a, std::span<const int64_t> x, const Resolve& resolve_axis) {
  Window w{.input = Dims(x.begin() + 2, x.end()),
           .kernel = a.kernel,
           .strides = a.strides,
           .dilations = a.dilations,
           .pads_begin = a.pads_begin,
           .pads_end = a.pads_end,
           .output = Dims(a.kernel.size())};
  for (size_t i = 0; i < w.rank(); ++i) {
    Axis axis = axis_of(a, i);
    w.output[i] = resolve_axis(axis, i, checked_input(node, w.input[i]));
    w.pads_begin[i] = axis.pad_begin;
    w.pads_end[i] = axis.pad_end;
  }
  return w;
}

void require_ranks(const Node& node, size_t x, size_t kernel) {
  if (x != kernel + 2) reject(node, fmt::format("the input has rank {}, not {}", x, kernel + 2));
}

std::span<const int64_t> spatial(const Node& node, std::span<const int64_t> w) {
  if (w.size() < 3) reject(node, fmt::format("the weights have rank {}, less than 3", w.size()));
  return w.subspan(2);
}

}  // namespace

WindowAttributes read_window(const Node& node, std::span<const int64_t> kernel) {
  WindowAttributes a;
  a.kernel = node.integers("kernel_shape", Dims(kernel.begin(), kernel.end()));
  const size_t rank = a.kernel.size();
  if (rank == 0 || rank > kMaxSpatialRank) reject(node, fmt::format("kernel_shape has {} entries", rank));
  if (!kernel.empty() && !std::equal(kernel.begin(), kernel.end(), a.kernel.begin(), a.kernel.end()))
    reject(node, fmt::format("kernel_shape {} is not the weights' {}", to_string(a.kernel), to_string(kernel)));
  for (int64_t k : a.kernel)
    if (k < 1 || k > kMaxEntry) reject(node, fmt::format("the kernel's size is out of range: {}", k));
  element_count(a.kernel);
  a.strides = entries(node, "strides", rank, 1, 1);
  a.dilations = entries(node, "dilations", rank, 1, 1);
  a.auto_pad = read_auto_pad(node);
  a.ceil_mode = node.integer("ceil_mode", 0) != 0;
  const Dims pads = entries(node, "pads", 2 * rank, 0, 0);
  a.pads_begin.assign(rank, 0);
  a.pads_end.assign(rank, 0);
  if (a.auto_pad == AutoPad::kNone) {
    std::copy_n(pads.begin(), rank, a.pads_begin.begin());
    std::copy_n(pads.begin() + static_cast<int64_t>(rank), rank, a.pads_end.begin());
  }
  a.output_padding = entries(node, "output_padding", rank, 0, 0);
  if (!node.integers("output_shape").empty()) a.output_shape = entries(node, "output_shape", rank, 1, 1);
  return a;
}

Window conv_window(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w) {
  const WindowAttributes a = read_window(node, spatial(node, w));
  require_ranks(node, x.size(), a.kernel.size());
  return concrete(node, a, x, [&](Axis& axis, size_t, int64_t input) { return resolve(node, a, axis, input); });
}

bool may_have_empty_windows(const Node& node) {
  const Dims kernel = node.integers("kernel_shape"), dilations = node.integers("dilations"),
             pads = node.integers("pads");
  return std::any_of(dilations.begin(), dilations.end(), [](int64_t d) { return d != 1; }) ||
         std::any_of(pads.begin(), pads.end(), [&](int64_t pad) {
           return std::any_of(kernel.begin(), kernel.end(), [&](int64_t k) { return pad >= k; });
         });
}

Window pool_window(const Node& node, std::span<const int64_t> x) {
  const WindowAttributes a = read_window(node);
  require_ranks(node, x.size(), a.kernel.size());
  return concrete(node, a, x, [&](Axis& axis, size_t, int64_t input) { return resolve(node, a, axis, input); });
}

Window conv_transpose_window(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w) {
  const WindowAttributes a = read_window(node, spatial(node, w));
  require_ranks(node, x.size(), a.kernel.size());
  return concrete(node, a, x,
                  [&](Axis& axis, size_t i, int64_t input) { return resolve_transposed(node, a, axis, i, input); });
}

std::vector<Dim> window_output(const Node& node, const WindowAttributes& a, std::span<const Dim> input) {
  require_ranks(node, input.size() + 2, a.kernel.size());
  std::vector<Dim> output(input.size());
  for (size_t i = 0; i < input.size(); ++i) {
    Axis axis = axis_of(a, i);
    const bool same = a.auto_pad == AutoPad::kSameUpper || a.auto_pad == AutoPad::kSameLower;
    if (input[i].is_known())
      output[i] = resolve(node, a, axis, checked_input(node, input[i].value()));
    else if (axis.stride == 1 && (same || axis.pad_begin + axis.pad_end == axis.extent - 1))
      output[i] = input[i];
  }
  return output;
}

std::vector<Dim> transposed_window_output(const Node& node, const WindowAttributes& a, std::span<const Dim> input) {
  require_ranks(node, input.size() + 2, a.kernel.size());
  std::vector<Dim> output(input.size());
  for (size_t i = 0; i < input.size(); ++i) {
    Axis axis = axis_of(a, i);
    if (a.output_shape)
      output[i] = (*a.output_shape)[i];
    else if (input[i].is_known())
      output[i] = resolve_transposed(node, a, axis, i, checked_input(node, input[i].value()));
  }
  return output;
}

void taps_at(const Window& w, std::span<const int64_t> source, std::span<const int64_t> at, std::vector<Tap>& taps) {
  taps.assign(1, {0, 0});
  std::vector<Tap> longer;
  for (size_t i = 0; i < at.size(); ++i) {
    const int64_t start = at[i] * w.strides[i] - w.pads_begin[i];
    const int64_t first = start < 0 ? ceil_div(-start, w.dilations[i]) : 0;
    const int64_t last =
        start < source[i] ? std::min(w.kernel[i], ceil_div(source[i] - start, w.dilations[i])) : int64_t{0};
    longer.clear();
    for (const Tap& tap : taps)
      for (int64_t k = first; k < last; ++k)
        longer.push_back({tap.source * source[i] + start + k * w.dilations[i], tap.kernel * w.kernel[i] + k});
    taps.swap(longer);
  }
}

Range tap_range(const Window& w, size_t axis, int64_t k, int64_t positions, int64_t source) {
  const int64_t shift = k * w.dilations[axis] - w.pads_begin[axis];
  const int64_t first = shift < 0 ? ceil_div(-shift, w.strides[axis]) : 0;
  const int64_t last = shift < source ? ceil_div(source - shift, w.strides[axis]) : 0;
  return {std::min(first, positions), std::clamp(last, std::min(first, positions), positions)};
}

bool next_index(std::span<int64_t> index, std::span<const int64_t> dims) {
  for (size_t i = dims.size(); i-- > 0;) {
    if (++index[i] < dims[i]) return true;
    index[i] = 0;
  }
  return false;
}

}  // namespace slipway
