#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/graph.h"

namespace slipway {

enum class AutoPad { kNone, kSameUpper, kSameLower, kValid };

/// The window attributes of a Conv, ConvTranspose or pooling node, defaults filled in, every entry checked and bounded:
/// kernel, strides, dilations ≥ 1; pads, output padding ≥ 0. One entry a spatial axis.
struct WindowAttributes {
  Dims kernel, strides, dilations;
  Dims pads_begin, pads_end;  ///< zero unless auto_pad is kNone
  AutoPad auto_pad = AutoPad::kNone;
  bool ceil_mode = false;
  Dims output_padding;               ///< of a transposed convolution
  std::optional<Dims> output_shape;  ///< of a transposed convolution
};

/// `kernel`: the weights' spatial dims; empty for pooling, which must then have kernel_shape. Fails with kInvalidModel,
/// naming the node.
WindowAttributes read_window(const Node& node, std::span<const int64_t> kernel = {});

/// The geometry at concrete input sizes, auto_pad and ceil_mode resolved. Window `o` covers, along each axis, the input
/// positions o·stride − pad_begin + k·dilation for k < kernel, of which those in [0, input) exist. For a transposed
/// convolution the same holds with input and output changed about: input `i` adds to output i·stride − pad_begin +
/// k·dilation.
struct Window {
  Dims input, kernel, strides, dilations, pads_begin, pads_end, output;
  size_t rank() const { return kernel.size(); }
  int64_t extent(size_t axis) const { return (kernel[axis] - 1) * dilations[axis] + 1; }
};

/// From the full dims of the operands: x [N,C,…], w [M,C/group,…]. Work for any node with ONNX Conv or pooling
/// attributes, fused ones included. Fail with kInvalidModel, naming the node, also where the output would be empty.
Window conv_window(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w);
Window pool_window(const Node& node, std::span<const int64_t> x);
/// w [C,M/group,…]; output_shape and output_padding resolved.
Window conv_transpose_window(const Node& node, std::span<const int64_t> x, std::span<const int64_t> w);

/// Whether a pool of these attributes may have windows that lie in the padding alone, whatever its sizes: their maximum
/// is minus infinity. False is a proof.
bool may_have_empty_windows(const Node& node);

/// Output sizes for input sizes that may be symbolic: a size that the window keeps stays the same symbol.
std::vector<Dim> window_output(const Node& node, const WindowAttributes& attributes, std::span<const Dim> input);
std::vector<Dim> transposed_window_output(const Node& node, const WindowAttributes& attributes,
                                          std::span<const Dim> input);

/// One tap of a window that exists: its flat index over the source's axes and over the kernel's.
struct Tap {
  int64_t source, kernel;
};
/// The taps at position `at` over the first at.size() axes, in row-major order; `source` holds those axes' sizes (the
/// window's input, or the output of a transposed one). Never more taps than the source has positions.
void taps_at(const Window& window, std::span<const int64_t> source, std::span<const int64_t> at,
             std::vector<Tap>& taps);
/// The positions [first, last) of `axis` below `positions` whose tap `k` falls inside [0, source).
struct Range {
  int64_t first, last;
};
Range tap_range(const Window& window, size_t axis, int64_t k, int64_t positions, int64_t source);

/// Steps to the next index in row-major order; false, and all zero, after the last.
bool next_index(std::span<int64_t> index, std::span<const int64_t> dims);

}  // namespace slipway
