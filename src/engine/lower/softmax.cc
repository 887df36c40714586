// FP32 Softmax and LogSoftmax by our own kernels, row-major or channels last; before opset 13 everything from the axis
// on is one distribution.

#include "base/error.h"
#include "engine/kernels/elementwise.h"
#include "engine/lower/lower.h"

namespace slipway {
namespace {

bool fits(const LowerContext& c, Layout layout) {
  return (c.node.is("Softmax") || c.node.is("LogSoftmax")) && c.input_dtype(0) == DType::kFloat32 &&
         !c.input_dims(0).empty() && layout_fits(layout, c.input_dims(0)) &&
         (layout == Layout::kPlain || (layout == Layout::kNhwc && c.graph.opset() >= 13));
}

class SoftmaxKernel : public Kernel {
 public:
  SoftmaxKernel(const LowerContext& c, Layout layout) : log_(c.node.is("LogSoftmax")) {
    const bool flattens = c.graph.opset() < 13;
    const Dims logical = c.input_dims(0), x = physical_dims(layout, logical);
    const auto rank = static_cast<int64_t>(x.size());
    int64_t axis = c.node.integer("axis", flattens ? 1 : -1);
    if (!flattens || axis != rank) axis = normalize_axis(axis, rank, c.node.label());  // rank: lanes of one
    if (layout == Layout::kNhwc) axis = axis == 0 ? 0 : axis == 1 ? 3 : axis - 1;
    const auto at = static_cast<size_t>(axis), end = flattens ? x.size() : at + 1;
    outer_ = element_count(std::span(x).first(at));
    count_ = element_count(std::span(x).subspan(at, end - at));
    inner_ = element_count(std::span(x).subspan(end));
  }

  void run(const KernelArgs& args) const override {
    softmax(static_cast<const float*>(args.inputs[0]), static_cast<float*>(args.outputs[0]), outer_, count_, inner_,
            log_, args.threads);
  }

 private:
  bool log_;
  int64_t outer_, count_, inner_;
};

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  for (const Layout layout : kAllLayouts)
    if (fits(c, layout))
      candidates.push_back(
          {.tactic = "softmax", .variant = "", .inputs = {layout}, .outputs = {layout}, .inplace_input = 0});
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView>) {
  const Layout layout = candidate.outputs.at(0);
  if (!fits(c, layout) || candidate.inputs.at(0) != layout)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  return std::make_unique<SoftmaxKernel>(c, layout);
}

}  // namespace

Tactic softmax() { return {"softmax", propose, nullptr, create, nullptr}; }

}  // namespace slipway
