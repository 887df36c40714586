// FP32 functions of two tensors with numpy broadcasting by our own kernels, in every layout. An operand is walked with
// strides over the output's memory, 0 where it repeats; constants are brought into the candidate's layout while
// packing.
#include "engine/kernels/elementwise.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "engine/lower/lower.h"

namespace slipway {
namespace {

const BinaryRow* function_of(const LowerContext& c) {
  const Node& n = c.node;
  if (!n.domain.empty() || n.inputs.size() != 2 || n.outputs.size() != 1) return nullptr;
  if (!n.has_input(1) || c.input_dtype(0) != DType::kFloat32 || c.input_dtype(1) != DType::kFloat32) return nullptr;
  return find_binary(n.op_type == "Sum" ? "Add" : n.op_type);
}

// With as many axes as the output.
Dims widened(Dims dims, size_t rank) {
  dims.insert(dims.begin(), rank - std::min(rank, dims.size()), 1);
  return dims;
}

bool broadcasts(const Dims& from, const Dims& to) {
  const Dims wide = widened(from, to.size());
  return from.size() <= to.size() &&
         std::equal(wide.begin(), wide.end(), to.begin(), [](int64_t a, int64_t b) { return a == b || a == 1; });
}

// The strides of an operand in that layout along the axes of the output's memory.
Dims strides_along(Layout layout, const Dims& operand, const Dims& y) {
  const Dims dims = widened(operand, y.size());
  Dims strides = strides_of(physical_dims(layout, dims));
  static constexpr std::array<size_t, 5> kNhwc = {0, 2, 3, 1, 0}, kOther = {0, 1, 2, 3, 1};
  for (size_t i = 0; i < strides.size(); ++i) {
    const size_t axis = layout == Layout::kPlain ? i : layout == Layout::kNhwc ? kNhwc[i] : kOther[i];
    if (dims[axis] == 1) strides[i] = 0;
  }
  return strides;
}

// Whether an operand of fewer axes, which is row-major, has the same bytes as it would have in that layout.
bool lies_alike(Layout layout, const Dims& operand, const Dims& y) {
  const Dims d = widened(operand, y.size());
  if (element_count(d) == 1) return true;
  if (layout == Layout::kNhwc) return d[1] == 1 || d[2] * d[3] == 1;
  return d[2] * d[3] == 1 && physical_dims(layout, d)[4] * physical_dims(layout, d)[1] == d[1];
}

std::optional<Candidate> candidate_in(Layout layout, const LowerContext& c) {
  const Dims y = c.output_dims();
  if (!layout_fits(layout, y)) return std::nullopt;
  Candidate candidate{.tactic = "binary", .variant = "", .inputs = {}, .outputs = {layout}};
  for (size_t i : {0, 1}) {
    const Dims dims = c.input_dims(i);
    if (!broadcasts(dims, y)) return std::nullopt;
    const bool moves = !c.is_constant(i) && dims.size() == y.size();
    if (layout != Layout::kPlain && !c.is_constant(i) && !moves && !lies_alike(layout, dims, y)) return std::nullopt;
    candidate.inputs.push_back(moves ? layout : Layout::kPlain);
    if (dims == y && !c.is_constant(i) && candidate.inplace_input < 0) candidate.inplace_input = static_cast<int>(i);
  }
  return candidate;
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (function_of(c) == nullptr) return;
  for (const Layout layout : kAllLayouts)
    if (auto candidate = candidate_in(layout, c)) candidates.push_back(std::move(*candidate));
}

std::vector<Blob> pack(const LowerContext& c, const Candidate& candidate) {
  std::vector<Blob> blobs;
  const size_t rank = c.output_dims().size();
  for (size_t i : {0, 1}) {
    if (!c.is_constant(i)) continue;
    const Dims dims = widened(c.input_dims(i), rank);
    const size_t bytes = layout_bytes(candidate.outputs[0], DType::kFloat32, dims);
    AlignedBytes packed = allocate_aligned(bytes);
    if (bytes > 0)
      convert_layout(Layout::kPlain, c.constant(i).raw(), candidate.outputs[0], packed.get(), DType::kFloat32, dims, 1);
    blobs.push_back({std::move(packed), bytes});
  }
  return blobs;
}

class BinaryKernel : public Kernel {
 public:
  BinaryKernel(const LowerContext& c, Layout layout, const BinaryRow& row, std::span<const BlobView> blobs)
      : loops_(row, physical_dims(layout, c.output_dims()), strides_along(layout, c.input_dims(0), c.output_dims()),
               strides_along(layout, c.input_dims(1), c.output_dims())),
        layout_(layout),
        dims_(c.output_dims()) {
    size_t next_blob = 0;
    for (size_t i : {0, 1}) {
      if (!c.is_constant(i)) continue;
      const size_t bytes = layout_bytes(layout, DType::kFloat32, widened(c.input_dims(i), dims_.size()));
      constants_[i] = require_blob(blobs, next_blob++, bytes).data();
    }
  }

  void run(const KernelArgs& args) const override {
    const auto operand = [&](size_t i) {
      return static_cast<const float*>(constants_[i] != nullptr ? constants_[i] : args.inputs[i]);
    };
    auto* y = static_cast<float*>(args.outputs[0]);
    loops_.run(operand(0), operand(1), y, args.threads);
    clear_padding(layout_, y, dims_);
  }

 private:
  BinaryLoops loops_;
  Layout layout_;
  Dims dims_;
  const void* constants_[2] = {nullptr, nullptr};
};

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  const BinaryRow* row = function_of(c);
  const auto expected = candidate_in(candidate.outputs.at(0), c);
  if (row == nullptr || !expected || expected->inputs != candidate.inputs)
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  return std::make_unique<BinaryKernel>(c, candidate.outputs[0], *row, blobs);
}

}  // namespace

Tactic binary() {
  return {"binary", propose, pack, create, [](const Node&, size_t) { return true; }};
}

}  // namespace slipway
