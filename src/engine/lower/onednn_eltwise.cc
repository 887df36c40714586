// FP32 unary operators through oneDNN's eltwise, over the flat buffer in any layout.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "engine/lower/onednn.h"

namespace slipway {
namespace {

using dnnl::algorithm;

struct Eltwise {
  algorithm how;
  float alpha = 0, beta = 0;
};

std::optional<Eltwise> eltwise_of(const LowerContext& c) {
  const Node& n = c.node;
  if (!n.domain.empty()) return std::nullopt;
  const std::string& op = n.op_type;
  if (op == "Relu") return Eltwise{algorithm::eltwise_relu};
  if (op == "LeakyRelu") return Eltwise{algorithm::eltwise_relu, n.real("alpha", 0.01f)};
  if (op == "Elu") return Eltwise{algorithm::eltwise_elu, n.real("alpha", 1.0f)};
  if (op == "Sigmoid") return Eltwise{algorithm::eltwise_logistic};
  if (op == "Tanh") return Eltwise{algorithm::eltwise_tanh};
  if (op == "HardSwish") return Eltwise{algorithm::eltwise_hardswish};
  if (op == "Exp") return Eltwise{algorithm::eltwise_exp};
  if (op == "Log") return Eltwise{algorithm::eltwise_log};
  if (op == "Sqrt") return Eltwise{algorithm::eltwise_sqrt};
  if (op == "Abs") return Eltwise{algorithm::eltwise_abs};
  if (op == "Neg") return Eltwise{algorithm::eltwise_linear, -1};
  if (op == "Softplus") return Eltwise{algorithm::eltwise_soft_relu};
  if (op == "Gelu" && n.text("approximate", "none") == "none") return Eltwise{algorithm::eltwise_gelu_erf};
  return std::nullopt;
}

// Clip's bounds are constants: they travel as a blob of two floats, or in attributes up to opset 10.
bool is_clip(const LowerContext& c) { return c.node.is("Clip"); }

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!is_clip(c) && !eltwise_of(c)) return;
  if (c.input_dtype(0) != DType::kFloat32) return;
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_eltwise", .rejected = std::move(why)});
  };
  for (size_t i : {1, 2})
    if (is_clip(c) && c.has_input(i) && !c.is_constant(i)) return reject("bounds are no constants");
  if (element_count(c.output_dims()) == 0) return reject("an empty tensor");
  for (const Layout layout : kAllLayouts) {
    if (!layout_fits(layout, c.output_dims())) continue;
    Candidate candidate{.tactic = "onednn_eltwise", .variant = "", .inplace_input = 0};
    candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
    candidate.inputs[0] = layout;
    candidate.outputs = {layout};
    candidates.push_back(std::move(candidate));
  }
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  if (!is_clip(c)) return {};
  float bounds[2] = {c.node.real("min", -std::numeric_limits<float>::max()),
                     c.node.real("max", std::numeric_limits<float>::max())};
  for (size_t i : {1, 2})
    if (c.has_input(i)) bounds[i - 1] = to_floats(c.constant(i)).at(0);
  bounds[0] = std::min(bounds[0], bounds[1]);  // a minimum above the maximum gives the maximum everywhere
  std::vector<Blob> blobs;
  blobs.push_back(copy_blob(bounds, sizeof bounds));
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) try {
  if (!is_clip(c) && !eltwise_of(c))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  Eltwise e{algorithm::eltwise_clip};
  if (is_clip(c)) {
    const auto* bounds = reinterpret_cast<const float*>(require_blob(blobs, 0, 2 * sizeof(float)).data());
    e.alpha = bounds[0];
    e.beta = bounds[1];
  } else {
    e = *eltwise_of(c);
  }
  const int64_t count = element_count(physical_dims(candidate.outputs[0], c.output_dims()));
  const auto desc = onednn_plain(DType::kFloat32, {count});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::eltwise_forward::primitive_desc pd({dnnl::prop_kind::forward_inference, e.how, desc, e.alpha, e.beta},
                                                 attr, onednn_engine());
  return make_dnnl_kernel(dnnl::eltwise_forward(pd),
                          {{DNNL_ARG_SRC, DnnlArg::kInput, 0, desc},
                           {DNNL_ARG_DST, DnnlArg::kOutput, 0, desc},
                           {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}},
                          blobs, pd.scratchpad_desc().get_size());
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_eltwise() {
  return {"onednn_eltwise", propose, pack, create, [](const Node&, size_t i) { return i > 0; }};  // Clip's bounds
}

}  // namespace slipway
