// FP32 pooling through oneDNN, global pooling as a window of the whole image.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "engine/lower/onednn.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

bool is_global(const Node& node) { return node.is("GlobalAveragePool") || node.is("GlobalMaxPool"); }
bool is_max(const Node& node) { return node.is("MaxPool") || node.is("GlobalMaxPool"); }

Window window_of(const LowerContext& c) {
  const Dims x = c.input_dims(0);
  if (!is_global(c.node)) return pool_window(c.node, x);
  const Dims spatial(x.begin() + 2, x.end()), ones(spatial.size(), 1), zeros(spatial.size(), 0);
  return {.input = spatial,
          .kernel = spatial,
          .strides = ones,
          .dilations = ones,
          .pads_begin = zeros,
          .pads_end = zeros,
          .output = ones};
}

using PrimitiveDesc = dnnl::pooling_v2_forward::primitive_desc;

template <typename Visit>
PrimitiveDesc describe(const LowerContext& c, Layout layout, const Visit& visit) {
  using dnnl::algorithm;
  Window w = window_of(c);
  Dims dilations;
  for (size_t i = 0; i < w.rank(); ++i) {
    dilations.push_back(w.dilations[i] - 1);
    w.pads_end[i] = (w.output[i] - 1) * w.strides[i] + w.extent(i) - w.input[i] - w.pads_begin[i];
  }
  const algorithm how = is_max(c.node)                                ? algorithm::pooling_max
                        : c.node.integer("count_include_pad", 0) != 0 ? algorithm::pooling_avg_include_padding
                                                                      : algorithm::pooling_avg_exclude_padding;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (!onednn_can_count(w, layout, layout, c.input_dims(0), c.output_dims())) return {};
  const ImageDescs images = onednn_images(layout, layout, c.input_dims(0), c.output_dims());
  const dnnl::pooling_v2_forward::desc desc(dnnl::prop_kind::forward_inference, how, images.in, images.out, w.strides,
                                            w.kernel, dilations, w.pads_begin, w.pads_end);
  return visit_implementations<dnnl::pooling_v2_forward>(desc, attr, visit);
}

std::string variant_of(const PrimitiveDesc& pd) { return onednn_variant(pd.impl_info_str(), pd.src_desc()); }

// Its maximum is minus infinity, of which oneDNN knows nothing.
bool has_empty_window(const Window& w) {
  for (size_t axis = 0; axis < w.rank(); ++axis)
    for (int64_t o = 0; o < w.output[axis]; ++o) {
      bool empty = true;
      for (int64_t k = 0; k < w.kernel[axis] && empty; ++k) {
        const int64_t at = o * w.strides[axis] - w.pads_begin[axis] + k * w.dilations[axis];
        empty = at < 0 || at >= w.input[axis];
      }
      if (empty) return true;
    }
  return false;
}

// oneDNN's maximum drops NaN and never falls below the least finite number, its averages are sums in single precision:
// where values are not proven finite, plain loops do as the reference does.
class PoolKernel : public Kernel {
 public:
  PoolKernel(const LowerContext& c, Layout layout, std::unique_ptr<Kernel> fast)
      : fast_(std::move(fast)),
        window_(window_of(c)),
        layout_(layout),
        x_(c.input_dims(0)),
        y_(c.output_dims()),
        max_(is_max(c.node)),
        include_padding_(c.node.integer("count_include_pad", 0) != 0) {}

  size_t scratch_bytes() const override { return fast_->scratch_bytes(); }
  std::unique_ptr<KernelState> make_state() const override { return fast_->make_state(); }

  void run(const KernelArgs& args) const override {
    if (!args.faithful) return fast_->run(args);
    const auto* x = static_cast<const float*>(args.inputs[0]);
    auto* y = static_cast<float*>(args.outputs[0]);
    const ImageStrides from = image_strides(layout_, x_), to = image_strides(layout_, y_);
    std::memset(y, 0, layout_bytes(layout_, DType::kFloat32, y_));  // padded channels are zero
    parallel_for(y_[0] * y_[1], args.threads, [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) {
        const int64_t n = plane / y_[1], c = plane % y_[1];
        const float* source = x + n * from.n + from.channel(c);
        float* target = y + n * to.n + to.channel(c);
        for (int64_t h = 0; h < y_[2]; ++h)
          for (int64_t w = 0; w < y_[3]; ++w) target[h * to.h + w * to.w] = pooled(source, from, h, w);
      }
    });
  }

 private:
  float pooled(const float* x, const ImageStrides& at, int64_t out_h, int64_t out_w) const {
    double sum = 0, best = -std::numeric_limits<double>::infinity();
    int64_t count = 0;
    for (int64_t i = 0; i < window_.kernel[0]; ++i) {
      const int64_t h = out_h * window_.strides[0] - window_.pads_begin[0] + i * window_.dilations[0];
      if (h < 0 || h >= x_[2]) continue;
      for (int64_t j = 0; j < window_.kernel[1]; ++j) {
        const int64_t w = out_w * window_.strides[1] - window_.pads_begin[1] + j * window_.dilations[1];
        if (w < 0 || w >= x_[3]) continue;
        const double v = x[h * at.h + w * at.w];
        if (v > best || (std::isnan(v) && !std::isnan(best))) best = v;
        sum += v;
        ++count;
      }
    }
    if (include_padding_) count = window_.kernel[0] * window_.kernel[1];
    return static_cast<float>(max_ ? best : sum / static_cast<double>(std::max<int64_t>(count, 1)));
  }

  std::unique_ptr<Kernel> fast_;
  Window window_;
  Layout layout_;
  Dims x_, y_;
  bool max_, include_padding_;
};

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!is_global(c.node) && !c.node.is("MaxPool") && !c.node.is("AveragePool")) return;
  if (c.input_dtype(0) != DType::kFloat32) return;
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_pool", .rejected = std::move(why)});
  };
  if (c.input_dims(0).size() != 4) return reject("not two spatial dimensions");
  if (c.node.outputs.size() > 1) return reject("indices are asked for");
  if (!is_global(c.node) && c.node.integer("ceil_mode", 0) != 0 && c.node.integer("count_include_pad", 0) != 0)
    return reject("counting of padding beyond the image differs from ONNX");
  if (has_empty_window(window_of(c))) return reject("a window lies in the padding alone");
  std::vector<ImageDescs> seen;
  for (const Layout layout :
       {cpu_features().avx512 ? Layout::kBlocked16 : Layout::kBlocked8, Layout::kNhwc, Layout::kPlain}) {
    const ImageDescs images = onednn_images(layout, layout, c.input_dims(0), c.output_dims());
    const auto same = [&](const ImageDescs& other) { return other.in == images.in && other.out == images.out; };
    if (std::any_of(seen.begin(), seen.end(), same)) continue;
    seen.push_back(images);
    try {
      const PrimitiveDesc pd = describe(c, layout, [](const PrimitiveDesc&) { return true; });
      if (!pd) continue;
      const std::string name = pd.impl_info_str();
      if (name.starts_with("ref")) continue;
      Candidate candidate{.tactic = "onednn_pool", .variant = variant_of(pd)};
      candidate.inputs = {layout};
      candidate.outputs = {layout};
      candidate.loses_special = true;
      if (onednn_needs_aligned_pixels(name, layout, layout))
        candidate.rejected = "its pixels must lie at multiples of 16 bytes";
      candidates.push_back(std::move(candidate));
    } catch (const dnnl::error&) {
    }
  }
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) try {
  if ((!is_global(c.node) && !c.node.is("MaxPool") && !c.node.is("AveragePool")) || c.input_dims(0).size() != 4)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const PrimitiveDesc pd = require_found(
      describe(c, candidate.inputs[0], [&](const PrimitiveDesc& p) { return variant_of(p) == candidate.variant; }),
      candidate.variant);
  return std::make_unique<PoolKernel>(
      c, candidate.inputs[0],
      make_dnnl_kernel(dnnl::pooling_v2_forward(pd),
                       {{DNNL_ARG_SRC, DnnlArg::kInput, 0, pd.src_desc()},
                        {DNNL_ARG_DST, DnnlArg::kOutput, 0, pd.dst_desc()},
                        {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}},
                       blobs, pd.scratchpad_desc().get_size()));
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_pooling() { return {"onednn_pool", propose, nullptr, create, nullptr}; }

}  // namespace slipway
