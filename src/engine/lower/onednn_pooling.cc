// FP32 pooling through oneDNN, global pooling as a window of the whole image.
#include <algorithm>

#include "base/cpu.h"
#include "base/error.h"
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
  return make_dnnl_kernel(dnnl::pooling_v2_forward(pd),
                          {{DNNL_ARG_SRC, DnnlArg::kInput, 0, pd.src_desc()},
                           {DNNL_ARG_DST, DnnlArg::kOutput, 0, pd.dst_desc()},
                           {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}},
                          blobs, pd.scratchpad_desc().get_size());
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_pooling() { return {"onednn_pool", propose, nullptr, create, nullptr}; }

}  // namespace slipway
