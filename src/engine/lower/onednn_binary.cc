// FP32 Add, Sub, Mul, Div, Max and Min of two tensors through oneDNN's binary, with numpy broadcasting.
#include <optional>

#include "base/error.h"
#include "engine/lower/onednn.h"

namespace slipway {
namespace {

using dnnl::algorithm;

std::optional<algorithm> binary_of(const Node& n) {
  if (!n.domain.empty()) return std::nullopt;
  if (n.op_type == "Add") return algorithm::binary_add;
  if (n.op_type == "Sub") return algorithm::binary_sub;
  if (n.op_type == "Mul") return algorithm::binary_mul;
  if (n.op_type == "Div") return algorithm::binary_div;
  if (n.op_type == "Max") return algorithm::binary_max;
  if (n.op_type == "Min") return algorithm::binary_min;
  return std::nullopt;
}

Dims widened(Dims dims, size_t rank) {
  while (dims.size() < std::max<size_t>(rank, 1)) dims.insert(dims.begin(), 1);
  return dims;
}

// An operand in the candidate's layout; what broadcasts along every axis but the channels lies the same in all of them.
dnnl::memory::desc operand_desc(const LowerContext& c, const Candidate& candidate, size_t i) {
  return onednn_desc(candidate.inputs[i], DType::kFloat32, widened(c.input_dims(i), c.output_dims().size()));
}

using PrimitiveDesc = dnnl::binary::primitive_desc;

template <typename Visit>
PrimitiveDesc describe(const LowerContext& c, const Candidate& candidate, const Visit& visit) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::binary::desc desc(*binary_of(c.node), operand_desc(c, candidate, 0), operand_desc(c, candidate, 1),
                                onednn_desc(candidate.outputs[0], DType::kFloat32, widened(c.output_dims(), 1)));
  return visit_implementations<dnnl::binary>(desc, attr, visit);
}

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!binary_of(c.node) || c.node.inputs.size() != 2 || c.input_dtype(0) != DType::kFloat32) return;
  const Dims y = c.output_dims();
  const auto reject = [&](std::string why) {
    candidates.push_back({.tactic = "onednn_binary", .rejected = std::move(why)});
  };
  if (y.size() > 6 || element_count(y) == 0) return reject("rank above 6 or empty");
  for (const Layout layout : kAllLayouts) {
    if (!layout_fits(layout, y)) continue;
    Candidate candidate{.tactic = "onednn_binary", .variant = ""};
    candidate.outputs = {layout};
    bool fits = true;
    for (size_t i : {0, 1}) {
      const bool whole = c.input_dims(i) == y;
      const bool moved = c.input_dims(i).size() == 4;
      if (c.is_constant(i) || !moved)
        candidate.inputs.push_back(Layout::kPlain);
      else
        candidate.inputs.push_back(layout);
      // A small operand that is not per channel, or a whole one in another layout, is left to the plain layout.
      if (layout != Layout::kPlain && !whole && element_count(c.input_dims(i)) != 1 &&
          !(moved && c.input_dims(i)[1] == y[1] && c.input_dims(i)[0] == 1 && c.input_dims(i)[2] == 1 &&
            c.input_dims(i)[3] == 1))
        fits = false;
      if (layout != Layout::kPlain && whole && c.is_constant(i)) fits = false;
    }
    if (!fits) continue;
    if (c.input_dims(0) == y && !c.is_constant(0)) candidate.inplace_input = 0;
    try {
      const PrimitiveDesc pd = describe(c, candidate, [](PrimitiveDesc&) { return true; });
      if (std::string(pd.impl_info_str()).starts_with("ref")) continue;
      candidate.variant = pd.impl_info_str();
      candidates.push_back(std::move(candidate));
    } catch (const dnnl::error&) {
    }
  }
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  for (size_t i : {0, 1})
    if (c.is_constant(i)) blobs.push_back(copy_blob(c.constant(i).raw(), c.constant(i).bytes()));
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) try {
  if (!binary_of(c.node))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  const PrimitiveDesc pd =
      require_found(describe(c, candidate, is_variant<PrimitiveDesc>(candidate.variant)), candidate.variant);
  int next_blob = 0;
  std::vector<DnnlArg> args;
  for (size_t i : {0, 1}) {
    const int id = i == 0 ? DNNL_ARG_SRC_0 : DNNL_ARG_SRC_1;
    const bool constant = c.is_constant(i);
    args.push_back({id, constant ? DnnlArg::kBlob : DnnlArg::kInput, constant ? next_blob++ : static_cast<int>(i),
                    operand_desc(c, candidate, i)});
  }
  args.push_back({DNNL_ARG_DST, DnnlArg::kOutput, 0, pd.dst_desc()});
  args.push_back({DNNL_ARG_SCRATCHPAD, DnnlArg::kScratchpad, 0, pd.scratchpad_desc()});
  return make_dnnl_kernel(dnnl::binary(pd), std::move(args), blobs, pd.scratchpad_desc().get_size());
} catch (const dnnl::error& error) {
  fail_onednn(error, c.node);
}

}  // namespace

Tactic onednn_binary() {
  return {"onednn_binary", propose, pack, create, [](const Node&, size_t) { return true; }};
}

}  // namespace slipway
