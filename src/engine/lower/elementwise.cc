// FP32 functions of one tensor by our own kernels, over the flat buffer in any layout. The table in
// kernels/elementwise_functions.h says which operators there are and what their parameters are called; Clip's bounds
// are inputs from opset 11 on.
#include "engine/kernels/elementwise.h"

#include <cstring>

#include "base/error.h"
#include "engine/lower/lower.h"

namespace slipway {
namespace {

// The function with its parameters from the attributes; those of Clip are no bounds where there are none.
Unary function_of(const LowerContext& c) {
  const Node& n = c.node;
  if ((!n.domain.empty() && n.domain != kFusedDomain) || n.outputs.size() != 1 || n.inputs.empty() ||
      c.input_dtype(0) != DType::kFloat32)
    return {};
  const bool by_tanh = n.op_type == "Gelu" && n.text("approximate", "none") == "tanh";
  if (n.op_type == "Gelu" && !by_tanh && n.text("approximate", "none") != "none") return {};
  Unary f = find_unary(by_tanh ? "GeluTanh" : n.op_type);
  for (size_t i = 0; f && i < 2; ++i)
    if (f.row->attributes[i] != nullptr && !(n.is("Clip") && c.graph.opset() >= 11))
      f.parameters[i] = n.real(f.row->attributes[i], f.parameters[i]);
  return f;
}

bool is_bound(const LowerContext& c, size_t i) { return c.node.is("Clip") && c.graph.opset() >= 11 && c.has_input(i); }

class ElementwiseKernel : public Kernel {
 public:
  ElementwiseKernel(const LowerContext& c, Layout layout, Unary function)
      : function_(function), layout_(layout), dims_(c.output_dims()) {
    count_ = element_count(physical_dims(layout, dims_));
    for (size_t i : {1, 2}) bound_at_run_[i - 1] = is_bound(c, i) && !c.is_constant(i);
  }

  void run(const KernelArgs& args) const override {
    Unary function = function_;
    for (size_t i = 0; i < 2; ++i)
      if (bound_at_run_[i]) function.parameters[i] = *static_cast<const float*>(args.inputs[i + 1]);
    auto* y = static_cast<float*>(args.outputs[0]);
    function.run(static_cast<const float*>(args.inputs[0]), y, count_, args.threads);
    clear_padding(layout_, y, dims_);
  }

 private:
  Unary function_;
  Layout layout_;
  Dims dims_;
  int64_t count_;
  bool bound_at_run_[2] = {};
};

std::string why_not(const LowerContext& c, const Unary& function) {
  if (c.node.is("Celu") && !(function.parameters[0] > 0)) return "alpha is not positive";
  if (c.node.op_type == "Swish" && !(function.parameters[0] >= 0x1p-6f && function.parameters[0] <= 0x1p6f))
    return "alpha is outside 1/64 to 64";
  for (size_t i : {1, 2})
    if (is_bound(c, i) && (element_count(c.input_dims(i)) != 1 || c.input_dtype(i) != DType::kFloat32))
      return "a bound is not one number";
  return "";
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  const Unary function = function_of(c);
  if (!function) return;
  if (std::string why = why_not(c, function); !why.empty()) {
    candidates.push_back({.tactic = "elementwise", .rejected = std::move(why)});
    return;
  }
  for (const Layout layout : kAllLayouts) {
    if (!layout_fits(layout, c.output_dims())) continue;
    Candidate candidate{.tactic = "elementwise", .variant = "", .inplace_input = 0};
    candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
    candidate.inputs[0] = layout;
    candidate.outputs = {layout};
    candidates.push_back(std::move(candidate));
  }
}

// Clip's constant bounds, in the order of the inputs.
std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  for (size_t i : {1, 2})
    if (is_bound(c, i) && c.is_constant(i)) blobs.push_back(share_blob(c.constant(i)));
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  Unary function = function_of(c);
  if (!function || !why_not(c, function).empty() || candidate.inputs.at(0) != candidate.outputs.at(0))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  size_t next_blob = 0;
  for (size_t i : {1, 2})
    if (is_bound(c, i) && c.is_constant(i))
      std::memcpy(&function.parameters[i - 1], require_blob(blobs, next_blob++, sizeof(float)).data(), sizeof(float));
  return std::make_unique<ElementwiseKernel>(c, candidate.outputs[0], function);
}

}  // namespace

Tactic elementwise() {
  return {"elementwise", propose, pack, create, [](const Node&, size_t i) { return i > 0; }};  // Clip's bounds
}

}  // namespace slipway
