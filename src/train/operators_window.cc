// Convolution and pooling. model/ops/window.h resolves the geometry; where libtorch's own padding (as much before as
// after) says the same, it is handed over and nothing is copied. Otherwise the input is padded first to what the
// windows cover, no more and no less, which also stands for ceil_mode.
#include <algorithm>
#include <limits>

#include "model/ops/window.h"
#include "train/operators.h"

namespace slipway {
namespace {

using Tensors = std::vector<at::Tensor>;

std::span<const int64_t> sizes_of(const at::Tensor& x) { return {x.sizes().data(), x.sizes().size()}; }

// libtorch's order of pads: last axis first, before and after of each.
at::Tensor pad_spatial(const at::Tensor& x, const Dims& before, const Dims& after, double value) {
  std::vector<int64_t> pads;
  for (size_t i = before.size(); i-- > 0;) pads.insert(pads.end(), {before[i], after[i]});
  return at::constant_pad_nd(x, pads, value);
}

// What the windows reach beyond the input's end; negative where they leave some of it out.
Dims reach_after(const Window& w) {
  Dims after(w.rank());
  for (size_t i = 0; i < w.rank(); ++i)
    after[i] = (w.output[i] - 1) * w.strides[i] + w.extent(i) - w.input[i] - w.pads_begin[i];
  return after;
}

at::Tensor bias_of(const TorchCall& call) { return call.has(2) ? call.inputs[2] : at::Tensor(); }

Tensors conv(const TorchCall& call) {
  const at::Tensor& weights = call.inputs[1];
  const Window w = conv_window(call.node, sizes_of(call.x()), sizes_of(weights));
  const int64_t group = call.node.integer("group", 1);
  const Dims none(w.rank(), 0);
  if (w.pads_begin == w.pads_end)
    return {
        at::convolution(call.x(), weights, bias_of(call), w.strides, w.pads_begin, w.dilations, false, none, group)};
  const at::Tensor padded = pad_spatial(call.x(), w.pads_begin, w.pads_end, 0);
  return {at::convolution(padded, weights, bias_of(call), w.strides, none, w.dilations, false, none, group)};
}

// The pads before crop what libtorch's padding crops; what the end has too much is cut off, too little is its
// output_padding.
Tensors conv_transpose(const TorchCall& call) {
  const at::Tensor& weights = call.inputs[1];
  const Window w = conv_transpose_window(call.node, sizes_of(call.x()), sizes_of(weights));
  Dims more(w.rank());
  bool cut = false;
  for (size_t i = 0; i < w.rank(); ++i) {
    more[i] = w.output[i] - ((w.input[i] - 1) * w.strides[i] + w.extent(i) - 2 * w.pads_begin[i]);
    if (more[i] >= std::max(w.strides[i], w.dilations[i])) call.refuse("the output's size");
    cut |= more[i] < 0;
    more[i] = std::max<int64_t>(more[i], 0);
  }
  at::Tensor y = at::convolution(call.x(), weights, bias_of(call), w.strides, w.pads_begin, w.dilations, true, more,
                                 call.node.integer("group", 1));
  for (size_t i = 0; cut && i < w.rank(); ++i) y = y.narrow(static_cast<int64_t>(i) + 2, 0, w.output[i]);
  return {y};
}

// Whether libtorch's pooling has this geometry; `ceil` tells its ceil_mode.
bool is_plain(const Window& w, bool& ceil) {
  ceil = false;
  for (size_t i = 0; i < w.rank(); ++i) {
    if (w.pads_begin[i] != w.pads_end[i] || 2 * w.pads_begin[i] > w.kernel[i]) return false;
    const int64_t room = w.input[i] + 2 * w.pads_begin[i] - w.extent(i);
    ceil |= w.output[i] != room / w.strides[i] + 1;
  }
  for (size_t i = 0; ceil && i < w.rank(); ++i) {  // ceil_mode is for all axes or none
    const int64_t room = w.input[i] + 2 * w.pads_begin[i] - w.extent(i);
    int64_t output = (room + w.strides[i] - 1) / w.strides[i] + 1;
    if ((output - 1) * w.strides[i] >= w.input[i] + w.pads_begin[i]) --output;
    if (w.output[i] != output) return false;
  }
  return true;
}

at::Tensor max_pool_nd(const at::Tensor& x, const Window& w, const Dims& pads, bool ceil) {
  if (w.rank() == 1) return at::max_pool1d(x, w.kernel, w.strides, pads, w.dilations, ceil);
  if (w.rank() == 2) return at::max_pool2d(x, w.kernel, w.strides, pads, w.dilations, ceil);
  return at::max_pool3d(x, w.kernel, w.strides, pads, w.dilations, ceil);
}

at::Tensor avg_pool_nd(const at::Tensor& x, const Window& w, const Dims& pads, bool ceil, bool include_pad) {
  if (w.rank() == 1) return at::avg_pool1d(x, w.kernel, w.strides, pads, ceil, include_pad);
  if (w.rank() == 2) return at::avg_pool2d(x, w.kernel, w.strides, pads, ceil, include_pad);
  return at::avg_pool3d(x, w.kernel, w.strides, pads, ceil, include_pad);
}

Window window_of(const TorchCall& call) {
  const Window w = pool_window(call.node, sizes_of(call.x()));
  if (w.rank() > 3) call.refuse("the number of its axes");
  return w;
}

Tensors max_pool(const TorchCall& call) {
  const Window w = window_of(call);
  if (call.node.output(1) != kNoValue) call.refuse("the output of indices");
  bool ceil = false;
  if (is_plain(w, ceil)) return {max_pool_nd(call.x(), w, w.pads_begin, ceil)};
  const double lowest = -std::numeric_limits<double>::infinity();
  return {max_pool_nd(pad_spatial(call.x(), w.pads_begin, reach_after(w), lowest), w, Dims(w.rank(), 0), false)};
}

bool is_dilated(const Window& w) {
  return std::any_of(w.dilations.begin(), w.dilations.end(), [](int64_t d) { return d != 1; });
}

// Each window's sum; what lies outside the input is 0.
at::Tensor window_sums(const at::Tensor& x, const Window& w) {
  const Dims none(w.rank(), 0);
  const at::Tensor padded = pad_spatial(x, w.pads_begin, reach_after(w), 0);
  if (!is_dilated(w)) return avg_pool_nd(padded, w, none, false, true) * static_cast<double>(element_count(w.kernel));
  const at::Tensor ones = at::ones(w.kernel, x.options()).unsqueeze(0).unsqueeze(0);
  const at::Tensor planes = padded.flatten(0, 1).unsqueeze(1);
  const at::Tensor sums = at::convolution(planes, ones, {}, w.strides, none, w.dilations, false, none, 1);
  return sums.squeeze(1).unflatten(0, {x.size(0), x.size(1)});
}

// How much of each window counts: the input, and its padding where asked, but not what ceil_mode adds.
at::Tensor window_counts(const at::Tensor& x, Window w, bool include_pad) {
  Dims dims = {1, 1};
  for (size_t i = 0; i < w.rank(); ++i) {
    if (include_pad) w.input[i] += std::exchange(w.pads_begin[i], 0) + std::exchange(w.pads_end[i], 0);
    dims.push_back(w.input[i]);
  }
  return window_sums(at::ones(dims, x.options()), w).clamp_min(1);
}

Tensors average_pool(const TorchCall& call) {
  const Window w = window_of(call);
  const bool include_pad = call.node.integer("count_include_pad", 0) != 0;
  bool ceil = false;
  if (!is_dilated(w) && is_plain(w, ceil)) return {avg_pool_nd(call.x(), w, w.pads_begin, ceil, include_pad)};
  return {window_sums(call.x(), w) / window_counts(call.x().detach(), w, include_pad)};
}

Tensors lp_pool(const TorchCall& call) {
  const auto p = static_cast<double>(call.node.integer("p", 2));
  return {at::pow(window_sums(at::pow(at::abs(call.x()), p), window_of(call)), 1 / p)};
}

std::vector<int64_t> spatial_axes(const TorchCall& call) {
  std::vector<int64_t> axes;
  for (int64_t i = 2; i < call.x().dim(); ++i) axes.push_back(i);
  return axes;
}

Tensors global_average_pool(const TorchCall& call) { return {at::mean(call.x(), spatial_axes(call), true)}; }
Tensors global_max_pool(const TorchCall& call) { return {at::amax(call.x(), spatial_axes(call), true)}; }
Tensors global_lp_pool(const TorchCall& call) {
  return {at::linalg_vector_norm(call.x(), call.node.integer("p", 2), spatial_axes(call), true)};
}

constexpr OperatorRow kWindowRows[] = {
    {"Conv", conv},
    {"ConvTranspose", conv_transpose},
    {"MaxPool", max_pool},
    {"AveragePool", average_pool},
    {"LpPool", lp_pool},
    {"GlobalAveragePool", global_average_pool},
    {"GlobalMaxPool", global_max_pool},
    {"GlobalLpPool", global_lp_pool},
};

}  // namespace

std::span<const OperatorRow> window_operators() { return kWindowRows; }

}  // namespace slipway
