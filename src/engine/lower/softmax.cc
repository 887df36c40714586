// FP32 Softmax and LogSoftmax by our own kernels, row-major or channels last; before opset 13 everything from the axis
// on is one distribution. The internal domain's Softmax, with its scale and mask, is row-major; a constant mask is kept
// as it is.
#include "base/error.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/masked_softmax.h"
#include "engine/lower/lower.h"

namespace slipway {
namespace {

bool is_masked(const Node& node) { return node.is_fused("Softmax"); }

bool is_mask(const LowerContext& c, DType dtype) { return c.has_input(1) && c.input_dtype(1) == dtype; }

bool fits(const LowerContext& c, Layout layout) {
  if (!is_masked(c.node) && !c.node.is("Softmax") && !c.node.is("LogSoftmax")) return false;
  if (c.input_dtype(0) != DType::kFloat32 || c.input_dims(0).empty() || !layout_fits(layout, c.input_dims(0)))
    return false;
  if (layout == Layout::kPlain)
    return !is_masked(c.node) || !c.has_input(1) || is_mask(c, DType::kFloat32) || is_mask(c, DType::kBool);
  return layout == Layout::kNhwc && !is_masked(c.node) && c.graph.opset() >= 13;
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

class MaskedSoftmaxKernel : public Kernel {
 public:
  MaskedSoftmaxKernel(const LowerContext& c, std::span<const BlobView> blobs) {
    softmax_.dims = c.input_dims(0);
    if (c.has_input(1)) softmax_.mask_dims = c.input_dims(1);
    softmax_.adds = is_mask(c, DType::kFloat32);
    softmax_.selects = is_mask(c, DType::kBool);
    softmax_.keeps = c.node.integer("keeps", 1) != 0;
    softmax_.scale = c.node.real("scale", 1);
    softmax_.fill = c.node.real("fill", 0);
    softmax_.guard = c.node.integer("guard", 0) != 0;
    if (!c.is_constant(1)) return;
    const auto elements = static_cast<size_t>(element_count(softmax_.mask_dims));
    mask_ = require_blob(blobs, 0, elements * (softmax_.adds ? sizeof(float) : 1)).data();
  }

  void run(const KernelArgs& args) const override {
    const bool reads = (softmax_.adds || softmax_.selects) && mask_ == nullptr;
    const void* mask = reads ? args.inputs[1] : mask_;
    softmax_.run(static_cast<const float*>(args.inputs[0]), mask, static_cast<float*>(args.outputs[0]), args.threads);
  }

 private:
  MaskedSoftmax softmax_;
  const void* mask_ = nullptr;
};

// The mask must not be wider than what it is put on.
std::string why_not(const LowerContext& c) {
  if (!is_masked(c.node) || !c.has_input(1)) return "";
  const Dims x = c.input_dims(0), mask = c.input_dims(1);
  for (size_t i = 1; i <= mask.size(); ++i)
    if (i > x.size() || (mask[mask.size() - i] != 1 && mask[mask.size() - i] != x[x.size() - i]))
      return "the mask does not broadcast to the scores";
  return "";
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  for (const Layout layout : kAllLayouts) {
    if (!fits(c, layout)) continue;
    Candidate candidate{.tactic = "softmax", .variant = "", .outputs = {layout}, .inplace_input = 0};
    candidate.inputs.assign(c.node.inputs.size(), layout);
    candidate.rejected = why_not(c);
    candidates.push_back(std::move(candidate));
  }
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  if (c.is_constant(1)) blobs.push_back(share_blob(c.constant(1)));
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  const Layout layout = candidate.outputs.at(0);
  if (!fits(c, layout) || !why_not(c).empty() || candidate.inputs != std::vector(c.node.inputs.size(), layout))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  if (is_masked(c.node)) return std::make_unique<MaskedSoftmaxKernel>(c, blobs);
  return std::make_unique<SoftmaxKernel>(c, layout);
}

}  // namespace

Tactic softmax() {
  return {"softmax", propose, pack, create, [](const Node& node, size_t i) { return i == 1 && is_masked(node); }};
}

}  // namespace slipway
