// FP32 Softmax and LogSoftmax through oneDNN; before opset 13 everything from the axis on is one distribution.
#include "base/error.h"
#include "engine/lower/onednn.h"

namespace slipway {
namespace {

struct Problem {
  Dims dims;
  int axis;
};

Problem problem(const LowerContext& c) {
  const Dims x = c.input_dims(0);
  const auto rank = static_cast<int64_t>(x.size());
  const bool flattens = c.graph.opset() < 13;
  const int64_t axis = normalize_axis(c.node.integer("axis", flattens ? 1 : -1), rank, c.node.label());
  if (!flattens) return {x, static_cast<int>(axis)};
  const int64_t rows = element_count(std::span(x).first(static_cast<size_t>(axis)));
  return {{rows, element_count(x) / std::max<int64_t>(rows, 1)}, 1};
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!c.node.is("Softmax") && !c.node.is("LogSoftmax")) return;
  const Dims x = c.input_dims(0);
  if (c.input_dtype(0) != DType::kFloat32 || x.empty() || x.size() > 6 || element_count(x) == 0) return;
  candidates.push_back({.tactic = "onednn_softmax",
                        .variant = "",
                        .inputs = {Layout::kPlain},
                        .outputs = {Layout::kPlain},
                        .inplace_input = 0});
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate&, std::span<const BlobView> blobs) try {
  if ((!c.node.is("Softmax") && !c.node.is("LogSoftmax")))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const Problem p = problem(c);
  const auto desc = onednn_plain(DType::kFloat32, p.dims);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto how = c.node.is("Softmax") ? dnnl::algorithm::softmax_accurate : dnnl::algorithm::softmax_log;
  const dnnl::softmax_v2_forward::primitive_desc pd({dnnl::prop_kind::forward_inference, how, desc, desc, p.axis}, attr,
                                                    onednn_engine());
  return make_dnnl_kernel(dnnl::softmax_v2_forward(pd),
                          {{DNNL_ARG_SRC, DnnlArg::kInput, 0, desc},
                           {DNNL_ARG_DST, DnnlArg::kOutput, 0, desc},
                           {DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()}},
                          blobs, pd.scratchpad_desc().get_size());
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_softmax() { return {"onednn_softmax", propose, nullptr, create, nullptr}; }

}  // namespace slipway
