// FP32 transposed convolution through oneDNN, which calls it deconvolution: every implementation that it has for every
// layout that pays, each one candidate. Blocked layouts are offered where the channels fill their blocks, so that no
// channel of padding is computed.
#include <cmath>

#include "base/cpu.h"
#include "base/error.h"
#include "engine/lower/onednn.h"
#include "engine/magnitudes.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr size_t kDeconvolutionBias = 2;

using Deconvolution = dnnl::deconvolution_forward;

// ONNX has [I, O/G, H, W]; oneDNN [O, I, H, W], or [G, O/G, I/G, H, W] where there are groups.
dnnl::memory::desc given_weights(const LowerContext& c) {
  const Dims w = c.input_dims(1);
  const int64_t groups = c.node.integer("group", 1), taps = w[2] * w[3];
  if (groups == 1)
    return {{w[1], w[0], w[2], w[3]}, dnnl::memory::data_type::f32, dnnl::memory::dims{taps, w[1] * taps, w[3], 1}};
  return {{groups, w[1], w[0] / groups, w[2], w[3]},
          dnnl::memory::data_type::f32,
          dnnl::memory::dims{w[0] / groups * w[1] * taps, taps, w[1] * taps, w[3], 1}};
}

template <typename Visit>
Deconvolution::primitive_desc describe_deconvolution(const LowerContext& c, Layout in, Layout out, const Visit& visit) {
  using dnnl::memory;
  const Dims x = c.input_dims(0), y = c.output_dims();
  const Window window = conv_transpose_window(c.node, x, c.input_dims(1));
  if (!onednn_can_count(window, in, out, x, y)) return {};
  memory::dims dilations, pads_end;
  for (size_t axis = 0; axis < window.rank(); ++axis) {
    dilations.push_back(window.dilations[axis] - 1);
    pads_end.push_back((x[axis + 2] - 1) * window.strides[axis] + window.extent(axis) - window.pads_begin[axis] -
                       y[axis + 2]);
    if (window.pads_begin[axis] < 0 || pads_end.back() < 0) return {};  // rows that no input reaches
  }
  const ImageDescs images = onednn_images(in, out, x, y);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc weights(given_weights(c).dims(), memory::data_type::f32, memory::format_tag::any);
  const memory::desc bias = c.has_input(kDeconvolutionBias)
                                ? memory::desc({y[1]}, memory::data_type::f32, memory::format_tag::a)
                                : memory::desc();
  const Deconvolution::desc desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, images.in,
                                 weights, bias, images.out, window.strides, dilations, window.pads_begin, pads_end);
  return visit_implementations<Deconvolution>(desc, attr, visit);
}

std::string variant_of_deconvolution(const Deconvolution::primitive_desc& pd) {
  return onednn_variant(pd.impl_info_str(), pd.weights_desc());
}

Deconvolution::primitive_desc find_deconvolution(const LowerContext& c, const Candidate& candidate) {
  return require_found(describe_deconvolution(c, candidate.inputs[0], candidate.outputs[0],
                                              [&](const Deconvolution::primitive_desc& pd) {
                                                return variant_of_deconvolution(pd) == candidate.variant;
                                              }),
                       candidate.variant);
}

void propose_deconvolution(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!c.node.is("ConvTranspose") || c.input_dtype(0) != DType::kFloat32) return;
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_deconv", .rejected = std::move(why)});
  };
  const Dims x = c.input_dims(0), y = c.output_dims();
  if (x.size() != 4) return reject("not two spatial dimensions");
  if (!c.is_constant(1) || (c.has_input(kDeconvolutionBias) && !c.is_constant(kDeconvolutionBias)))
    return reject("weights are no constants");
  if (!std::isfinite(constant_magnitude(c.constant(1))))
    return reject("NaN or infinity among its weights: some of oneDNN's kernels multiply padding by them");
  const size_t before = candidates.size();
  const Layout block = cpu_features().avx512 ? Layout::kBlocked16 : Layout::kBlocked8;
  const int64_t channels = block == Layout::kBlocked16 ? 16 : 8;
  for (const Layout layout : {block, Layout::kNhwc, Layout::kPlain}) {
    if (layout == block && (x[1] % channels != 0 || y[1] % channels != 0)) continue;
    try {
      describe_deconvolution(c, layout, layout, [&](Deconvolution::primitive_desc& pd) {
        const std::string name = pd.impl_info_str();
        if (name.starts_with("ref") || name.starts_with("simple")) return false;
        Candidate candidate{.tactic = "onednn_deconv", .variant = variant_of_deconvolution(pd)};
        candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
        candidate.inputs[0] = layout;
        candidate.outputs = {layout};
        if (onednn_needs_aligned_pixels(name, layout, layout))
          candidate.rejected = "its pixels must lie at multiples of 16 bytes";
        candidates.push_back(std::move(candidate));
        return false;
      });
    } catch (const dnnl::error&) {  // no implementation for this layout
    }
  }
  if (candidates.size() == before) reject("oneDNN has no implementation for these sizes");
}

std::vector<Blob> pack_deconvolution(const LowerContext& c, const Candidate& candidate) try {
  const Deconvolution::primitive_desc pd = find_deconvolution(c, candidate);
  std::vector<Blob> blobs;
  blobs.push_back(reorder_blob(c.constant(1).raw(), given_weights(c), pd.weights_desc()));
  if (c.has_input(kDeconvolutionBias)) blobs.push_back(share_blob(c.constant(kDeconvolutionBias)));
  return blobs;
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

std::unique_ptr<Kernel> create_deconvolution(const LowerContext& c, const Candidate& candidate,
                                             std::span<const BlobView> blobs) try {
  if (!c.node.is("ConvTranspose") || c.input_dims(0).size() != 4)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const Deconvolution::primitive_desc pd = find_deconvolution(c, candidate);
  std::vector<DnnlArg> args = {{DNNL_ARG_SRC, DnnlArg::kInput, 0, pd.src_desc()},
                               {DNNL_ARG_WEIGHTS, DnnlArg::kBlob, 0, pd.weights_desc()},
                               {DNNL_ARG_DST, DnnlArg::kOutput, 0, pd.dst_desc()},
                               {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}};
  if (c.has_input(kDeconvolutionBias)) args.push_back({DNNL_ARG_BIAS, DnnlArg::kBlob, 1, pd.bias_desc()});
  return make_dnnl_kernel(Deconvolution(pd), std::move(args), blobs, pd.scratchpad_desc().get_size());
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_deconvolution() {
  return {"onednn_deconv", propose_deconvolution, pack_deconvolution, create_deconvolution,
          [](const Node&, size_t i) { return i == 1 || i == kDeconvolutionBias; }};
}

}  // namespace slipway
