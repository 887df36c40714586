// FP32 MatMul and Gemm through oneDNN's matmul: constant weights packed as it likes, bias and activation fused.
#include "base/error.h"
#include "engine/lower/onednn.h"

namespace slipway {
namespace {

bool is_gemm(const Node& node) { return node.is("Gemm") || node.is_fused("Gemm"); }

// oneDNN wants equal ranks: [..., M, K] x [..., K, N]; Gemm's transposes become strides.
struct Operands {
  Dims a, b, y;
  dnnl::memory::desc a_desc, b_desc, y_desc, bias_desc;
  bool has_bias = false;
};

// One matrix for each arrangement in memory, as onednn_images has one image: the stride of a size of 1 follows from
// what stands behind it, not from a transpose.
dnnl::memory::desc matrix(const Dims& dims, Dims strides) {
  for (size_t i = dims.size(); i-- > 0;)
    if (dims[i] == 1) strides[i] = i + 1 < dims.size() ? dims[i + 1] * strides[i + 1] : 1;
  return {dims, dnnl::memory::data_type::f32, strides};
}

Operands operands(const LowerContext& c) {
  Operands o;
  o.a = c.input_dims(0);
  o.b = c.input_dims(1);
  o.y = c.output_dims();
  Dims a_strides = strides_of(o.a), b_strides = strides_of(o.b);
  if (is_gemm(c.node)) {
    if (c.node.integer("transA", 0)) std::swap(o.a[0], o.a[1]), std::swap(a_strides[0], a_strides[1]);
    if (c.node.integer("transB", 0)) std::swap(o.b[0], o.b[1]), std::swap(b_strides[0], b_strides[1]);
  }
  if (o.a.size() > o.b.size() && o.b.size() == 2) {  // rows of all batches at once
    const int64_t k = o.a.back();
    const int64_t rows = element_count(o.a) / std::max<int64_t>(k, 1);
    o.a = {rows, k};
    a_strides = {k, 1};
    o.y = {rows, o.b[1]};
  }
  const size_t rank = o.y.size();
  const auto widen = [rank](Dims& dims, Dims& strides) {
    while (dims.size() < rank) {
      strides.insert(strides.begin(), dims[0] * strides[0]);
      dims.insert(dims.begin(), 1);
    }
  };
  widen(o.a, a_strides);
  widen(o.b, b_strides);
  o.a_desc = matrix(o.a, a_strides);
  o.b_desc = matrix(o.b, b_strides);
  o.y_desc = onednn_plain(DType::kFloat32, o.y);
  if (c.has_input(2)) {
    Dims bias = c.input_dims(2);
    while (bias.size() < rank) bias.insert(bias.begin(), 1);
    o.bias_desc = onednn_plain(DType::kFloat32, bias);
    o.has_bias = true;
  }
  return o;
}

using PrimitiveDesc = dnnl::matmul::primitive_desc;

dnnl::memory::desc weights_to_ask_for(const Operands& o, bool packed) {
  return packed ? dnnl::memory::desc(o.b, dnnl::memory::data_type::f32, dnnl::memory::format_tag::any) : o.b_desc;
}

template <typename Visit>
PrimitiveDesc describe(const LowerContext& c, const Operands& o, const dnnl::memory::desc& b, bool activated,
                       const Visit& visit) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops ops;
  if (activated && c.node.is_fused("Gemm")) append_activation(c.node, ops);
  attr.set_post_ops(ops);
  const dnnl::matmul::desc desc(o.a_desc, b, o.bias_desc, o.y_desc);  // an empty bias is none
  return visit_implementations<dnnl::matmul>(desc, attr, visit);
}

bool is_packed(const Candidate& candidate) { return candidate.variant.ends_with("|packed"); }

std::string variant_of(const PrimitiveDesc& pd, bool packed) {
  return onednn_variant(pd.impl_info_str(), pd.weights_desc()) + (packed ? "|packed" : "|plain");
}

PrimitiveDesc find(const LowerContext& c, const Operands& o, const Candidate& candidate) {
  const bool packed = is_packed(candidate);
  return require_found(describe(c, o, weights_to_ask_for(o, packed), true,
                                [&](const PrimitiveDesc& pd) { return variant_of(pd, packed) == candidate.variant; }),
                       candidate.variant);
}

bool has_activation(const Node& node) { return node.is_fused("Gemm") && node.has("activation"); }

// The same without the activation, on the same packed weights; empty when there is none.
PrimitiveDesc without_activation(const LowerContext& c, const Operands& o, const PrimitiveDesc& pd) try {
  const auto visit = [&](const auto& wanted) { return describe(c, o, pd.weights_desc(), false, wanted); };
  const PrimitiveDesc same =
      visit([&](const PrimitiveDesc& other) { return variant_of(other, true) == variant_of(pd, true); });
  if (same) return same;
  return visit([](const PrimitiveDesc& other) { return !std::string(other.impl_info_str()).starts_with("ref"); });
} catch (const dnnl::error&) {
  return {};
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!is_gemm(c.node) && !c.node.is("MatMul")) return;
  if (c.input_dtype(0) != DType::kFloat32) return;
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_matmul", .rejected = std::move(why)});
  };
  if (c.input_dims(0).size() < 2 || c.input_dims(1).size() < 2) return reject("a vector operand");
  if (c.node.real("alpha", 1) != 1 && !c.node.is_fused("Gemm")) return reject("alpha is not 1");
  if (c.has_input(2) && c.node.real("beta", 1) != 1 && !c.node.is_fused("Gemm")) return reject("beta is not 1");
  dnnl::post_ops probe;
  if (c.node.is_fused("Gemm") && !append_activation(c.node, probe)) return reject("oneDNN has no such activation");
  if (element_count(c.input_dims(0)) == 0 || element_count(c.input_dims(1)) == 0) return reject("an empty operand");
  const Operands o = operands(c);
  for (const bool packed : {true, false}) {
    if (packed && !c.is_constant(1)) continue;
    try {
      describe(c, o, weights_to_ask_for(o, packed), true, [&](PrimitiveDesc& pd) {
        const std::string name = pd.impl_info_str();
        if (name.starts_with("ref")) return false;
        Candidate candidate{.tactic = "onednn_matmul", .variant = variant_of(pd, packed)};
        candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
        candidate.outputs = {Layout::kPlain};
        candidate.loses_special = has_activation(c.node);
        if (candidate.loses_special && !without_activation(c, o, pd))
          candidate.rejected = "its activation loses NaN, and without it there is none for the same packed weights";
        candidates.push_back(std::move(candidate));
        return false;
      });
    } catch (const dnnl::error&) {
    }
  }
}

std::vector<Blob> pack(const LowerContext& c, const Candidate& candidate) try {
  const Operands o = operands(c);
  const PrimitiveDesc pd = find(c, o, candidate);
  std::vector<Blob> blobs;
  if (c.is_constant(0)) blobs.push_back(share_blob(c.constant(0)));
  if (c.is_constant(1)) blobs.push_back(reorder_blob(c.constant(1).raw(), o.b_desc, pd.weights_desc()));
  if (o.has_bias && c.is_constant(2)) blobs.push_back(share_blob(c.constant(2)));
  return blobs;
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) try {
  if ((!is_gemm(c.node) && !c.node.is("MatMul")) || c.input_dims(0).size() < 2 || c.input_dims(1).size() < 2)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const Operands o = operands(c);
  const PrimitiveDesc pd = find(c, o, candidate);
  int next_blob = 0;
  const auto operand = [&](int id, size_t input, const dnnl::memory::desc& desc) {
    const bool constant = c.is_constant(input);
    return DnnlArg{id, constant ? DnnlArg::kBlob : DnnlArg::kInput, constant ? next_blob++ : static_cast<int>(input),
                   desc};
  };
  std::vector<DnnlArg> args;
  args.push_back(operand(DNNL_ARG_SRC, 0, o.a_desc));
  args.push_back(operand(DNNL_ARG_WEIGHTS, 1, pd.weights_desc()));
  if (o.has_bias) args.push_back(operand(DNNL_ARG_BIAS, 2, o.bias_desc));
  args.push_back({DNNL_ARG_DST, DnnlArg::kOutput, 0, o.y_desc});
  args.push_back({DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()});
  Faithful faithful{.layout = Layout::kPlain, .dims = c.output_dims()};
  if (has_activation(c.node)) {
    const PrimitiveDesc plain = require_found(without_activation(c, o, pd), candidate.variant);
    leave_activation_to<dnnl::matmul>(plain, c.node, faithful);
  }
  return make_dnnl_kernel(dnnl::matmul(pd), std::move(args), blobs, pd.scratchpad_desc().get_size(), -1,
                          std::move(faithful));
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_matmul() {
  return {"onednn_matmul", propose, pack, create, [](const Node&, size_t) { return true; }};
}

}  // namespace slipway
