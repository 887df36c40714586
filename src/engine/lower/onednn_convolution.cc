// FP32 convolution through oneDNN: every implementation that it has for every layout that pays, each one candidate
// (its own default is often not the fastest). The residual is a sum post-op in place, the activation an eltwise
// post-op.
#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "base/error.h"
#include "engine/lower/onednn.h"
#include "engine/magnitudes.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

constexpr size_t kBias = 2, kResidual = 3;

bool is_convolution(const Node& node) { return node.is("Conv") || node.is_fused("Conv"); }

// Depthwise and grouped weights are [G, O/G, I/G, H, W] to oneDNN.
dnnl::memory::dims weight_dims(const LowerContext& c) {
  Dims w = c.input_dims(1);
  const int64_t groups = c.node.integer("group", 1);
  if (groups == 1) return w;
  Dims grouped = {groups, w[0] / groups};
  grouped.insert(grouped.end(), w.begin() + 1, w.end());
  return grouped;
}

using PrimitiveDesc = dnnl::convolution_forward::primitive_desc;

dnnl::memory::desc any_weights(const LowerContext& c) {
  return {weight_dims(c), dnnl::memory::data_type::f32, dnnl::memory::format_tag::any};
}

template <typename Visit>
PrimitiveDesc describe(const LowerContext& c, Layout in, Layout out, const dnnl::memory::desc& weights, bool activated,
                       const Visit& visit) {
  using dnnl::memory;
  const Window window = conv_window(c.node, c.input_dims(0), c.input_dims(1));
  const Dims x = c.input_dims(0), y = c.output_dims();
  if (!onednn_can_count(window, in, out, x, y)) return {};
  memory::dims dilations;
  for (int64_t d : window.dilations) dilations.push_back(d - 1);
  const ImageDescs images = onednn_images(in, out, x, y);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops ops;
  if (c.has_input(kResidual)) ops.append_sum(1);
  if (activated) append_activation(c.node, ops);
  attr.set_post_ops(ops);
  const auto kind = dnnl::prop_kind::forward_inference;
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const memory::desc bias =
      c.has_input(kBias) ? memory::desc({y[1]}, memory::data_type::f32, memory::format_tag::a) : memory::desc();
  const dnnl::convolution_forward::desc desc(kind, algorithm, images.in, weights, bias, images.out, window.strides,
                                             dilations, window.pads_begin, window.pads_end);
  return visit_implementations<dnnl::convolution_forward>(desc, attr, visit);
}

std::string variant_of(const PrimitiveDesc& pd) { return onednn_variant(pd.impl_info_str(), pd.weights_desc()); }

// oneDNN 2.6.3's brgconv reads through a null pointer where a residual is added to a row of windows that lie in the
// padding alone.
bool crashes(const LowerContext& c, const std::string& implementation) {
  if (!c.has_input(kResidual) || !implementation.starts_with("brgconv")) return false;
  const Window window = conv_window(c.node, c.input_dims(0), c.input_dims(1));
  for (size_t axis = 0; axis < window.rank(); ++axis)
    if (std::max(window.pads_begin[axis], window.pads_end[axis]) >= window.extent(axis)) return true;
  return false;
}

PrimitiveDesc find(const LowerContext& c, const Candidate& candidate) {
  return require_found(describe(c, candidate.inputs[0], candidate.outputs[0], any_weights(c), true,
                                [&](const PrimitiveDesc& pd) {
                                  return variant_of(pd) == candidate.variant && !crashes(c, pd.impl_info_str());
                                }),
                       candidate.variant);
}

// The same without the activation, on the same packed weights; empty when there is none.
PrimitiveDesc without_activation(const LowerContext& c, Layout in, Layout out, const PrimitiveDesc& pd) try {
  const auto visit = [&](const auto& wanted) { return describe(c, in, out, pd.weights_desc(), false, wanted); };
  const PrimitiveDesc same = visit([&](const PrimitiveDesc& other) { return variant_of(other) == variant_of(pd); });
  if (same) return same;
  return visit([&](const PrimitiveDesc& other) {
    const std::string name = other.impl_info_str();
    return !name.starts_with("ref") && !onednn_needs_aligned_pixels(name, in, out);
  });
} catch (const dnnl::error&) {
  return {};
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!is_convolution(c.node) || c.input_dtype(0) != DType::kFloat32) return;
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_conv", .rejected = std::move(why)});
  };
  if (c.input_dims(0).size() != 4) return reject("not two spatial dimensions");
  if (!c.is_constant(1) || (c.has_input(kBias) && !c.is_constant(kBias))) return reject("weights are no constants");
  dnnl::post_ops probe;
  if (!append_activation(c.node, probe)) return reject("oneDNN has no such activation");
  if (!std::isfinite(constant_magnitude(c.constant(1))))
    return reject("NaN or infinity among its weights: some of oneDNN's kernels multiply padding by them");
  const size_t before = candidates.size();
  const Layout block = cpu_features().avx512 ? Layout::kBlocked16 : Layout::kBlocked8;
  const std::pair<Layout, Layout> pairs[] = {{block, block},
                                             {Layout::kPlain, block},
                                             {Layout::kNhwc, Layout::kNhwc},
                                             {Layout::kPlain, Layout::kPlain},
                                             {Layout::kBlocked8, Layout::kBlocked8}};
  std::vector<std::pair<ImageDescs, std::string>> seen;
  for (const auto& [in, out] : pairs) {
    const ImageDescs images = onednn_images(in, out, c.input_dims(0), c.output_dims());
    try {
      describe(c, in, out, any_weights(c), true, [&](PrimitiveDesc& pd) {
        const std::string name = pd.impl_info_str();
        if (name.starts_with("ref") || name.starts_with("simple")) return false;
        Candidate candidate{.tactic = "onednn_conv", .variant = variant_of(pd)};
        const auto same = [&](const auto& other) {
          return other.first.in == images.in && other.first.out == images.out && other.second == candidate.variant;
        };
        if (std::any_of(seen.begin(), seen.end(), same)) return false;
        seen.emplace_back(images, candidate.variant);
        candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
        candidate.inputs[0] = in;
        candidate.outputs = {out};
        if (c.has_input(kResidual)) {
          candidate.inputs[kResidual] = out;
          candidate.inplace_input = kResidual;
        }
        candidate.loses_special = c.node.has("activation");
        if (candidate.loses_special && !without_activation(c, in, out, pd))
          candidate.rejected = "its activation loses NaN, and without it there is none for the same packed weights";
        if (onednn_needs_aligned_pixels(name, in, out))
          candidate.rejected = "its pixels must lie at multiples of 16 bytes";
        if (crashes(c, name)) candidate.rejected = "it crashes where a row of windows lies in the padding alone";
        candidates.push_back(std::move(candidate));
        return false;
      });
    } catch (const dnnl::error&) {  // no implementation for these layouts
    }
  }
  if (candidates.size() == before) reject("oneDNN has no implementation for these sizes");
}

std::vector<Blob> pack(const LowerContext& c, const Candidate& candidate) try {
  const PrimitiveDesc pd = find(c, candidate);
  std::vector<Blob> blobs;
  blobs.push_back(reorder_blob(c.constant(1).raw(), onednn_plain(DType::kFloat32, weight_dims(c)), pd.weights_desc()));
  if (c.has_input(kBias)) blobs.push_back(share_blob(c.constant(kBias)));
  return blobs;
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) try {
  if (!is_convolution(c.node) || c.input_dims(0).size() != 4)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const PrimitiveDesc pd = find(c, candidate);
  std::vector<DnnlArg> args = {{DNNL_ARG_SRC, DnnlArg::kInput, 0, pd.src_desc()},
                               {DNNL_ARG_WEIGHTS, DnnlArg::kBlob, 0, pd.weights_desc()},
                               {DNNL_ARG_DST, DnnlArg::kOutput, 0, pd.dst_desc()},
                               {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}};
  if (c.has_input(kBias)) args.push_back({DNNL_ARG_BIAS, DnnlArg::kBlob, 1, pd.bias_desc()});
  const Layout in = candidate.inputs[0], out = candidate.outputs[0];
  Faithful faithful{.layout = out, .dims = c.output_dims()};
  if (c.node.has("activation")) {
    const PrimitiveDesc plain = require_found(without_activation(c, in, out, pd), candidate.variant);
    leave_activation_to<dnnl::convolution_forward>(plain, c.node, faithful);
  }
  return make_dnnl_kernel(dnnl::convolution_forward(pd), std::move(args), blobs, pd.scratchpad_desc().get_size(),
                          c.has_input(kResidual) ? static_cast<int>(kResidual) : -1, std::move(faithful));
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_convolution() {
  return {"onednn_conv", propose, pack, create, [](const Node&, size_t i) { return i == 1 || i == kBias; }};
}

}  // namespace slipway
