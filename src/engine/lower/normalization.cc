// FP32 normalisations over whole rows by our own kernel, row-major: LayerNormalization and RMSNormalization over the
// axes from theirs on, InstanceNormalization over each channel's plane. Scale and bias that are constants are repeated
// to a row's length while packing.
#include "engine/kernels/normalization.h"

#include <algorithm>

#include "base/error.h"
#include "engine/lower/lower.h"
#include "model/ops/expand.h"

namespace slipway {
namespace {

bool is_layer(const Node& n) {
  return n.is("LayerNormalization") || n.is("RMSNormalization") || n.is("SimplifiedLayerNormalization");
}

bool is_known(const LowerContext& c) {
  if (!is_layer(c.node) && !c.node.is("InstanceNormalization")) return false;
  for (size_t i = 0; i < c.node.inputs.size(); ++i)
    if (c.has_input(i) ? c.input_dtype(i) != DType::kFloat32 : i < 2) return false;
  return true;
}

size_t first_axis(const LowerContext& c) {
  if (!is_layer(c.node)) return 2;
  return static_cast<size_t>(
      normalize_axis(c.node.integer("axis", -1), static_cast<int64_t>(c.input_dims(0).size()), c.node.label()));
}

// The axes that are normalised together.
Dims row_dims(const LowerContext& c) {
  const Dims x = c.input_dims(0);
  return Dims(x.begin() + static_cast<std::ptrdiff_t>(first_axis(c)), x.end());
}

// Empty where scale or bias is the same for each row: repeated to its length, if a constant, else of its length or one
// number.
std::string why_not_row(const LowerContext& c, size_t i) {
  const Dims operand = c.input_dims(i), row = row_dims(c);
  const size_t extra = operand.size() - std::min(operand.size(), row.size());
  if (std::any_of(operand.begin(), operand.begin() + static_cast<std::ptrdiff_t>(extra),
                  [](int64_t d) { return d != 1; }))
    return fmt::format("input {} differs between rows", i);
  const int64_t elements = element_count(operand);
  if (!c.is_constant(i) && elements != 1 && elements != element_count(row))
    return fmt::format("input {} is read at run time and broadcasts along the row", i);
  return "";
}

std::string why_not(const LowerContext& c) {
  for (size_t i = 1; i < c.node.outputs.size(); ++i)
    if (c.node.outputs[i] != kNoValue) return "its statistics are outputs";
  for (size_t i = 1; is_layer(c.node) && i < c.node.inputs.size(); ++i)
    if (c.has_input(i))
      if (std::string why = why_not_row(c, i); !why.empty()) return why;
  return "";
}

RowNormalization rows_of(const LowerContext& c) {
  const Dims x = c.input_dims(0), row = row_dims(c);
  RowNormalization rows{.rows = element_count(std::span(x).first(first_axis(c))),
                        .count = element_count(row),
                        .epsilon = static_cast<double>(c.node.real("epsilon", 1e-5f)),
                        .centre = c.node.is("LayerNormalization") || !is_layer(c.node)};
  if (!is_layer(c.node)) rows.channels = x[1];
  const auto is_whole = [&](size_t i) { return c.is_constant(i) || element_count(c.input_dims(i)) != 1; };
  rows.whole_scale = is_whole(1);
  rows.whole_bias = c.has_input(2) && is_whole(2);
  return rows;
}

class NormalizationKernel : public Kernel {
 public:
  NormalizationKernel(const LowerContext& c, std::span<const BlobView> blobs) : rows_(rows_of(c)) {
    const auto elements = static_cast<size_t>(rows_.channels > 0 ? rows_.channels : rows_.count);
    size_t next_blob = 0;
    for (size_t i : {1, 2})
      if (c.is_constant(i)) constants_[i - 1] = require_blob(blobs, next_blob++, elements * sizeof(float)).data();
    has_bias_ = c.has_input(2);
  }

  void run(const KernelArgs& args) const override {
    const auto operand = [&](size_t i) {
      return static_cast<const float*>(constants_[i - 1] != nullptr ? constants_[i - 1] : args.inputs[i]);
    };
    rows_.run(static_cast<const float*>(args.inputs[0]), operand(1), has_bias_ ? operand(2) : nullptr,
              static_cast<float*>(args.outputs[0]), args.threads);
  }

 private:
  RowNormalization rows_;
  const void* constants_[2] = {nullptr, nullptr};
  bool has_bias_;
};

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  if (!is_known(c)) return;
  if (std::string why = why_not(c); !why.empty()) {
    candidates.push_back({.tactic = "normalization", .rejected = std::move(why)});
    return;
  }
  candidates.push_back({.tactic = "normalization",
                        .variant = "",
                        .inputs = std::vector<Layout>(c.node.inputs.size(), Layout::kPlain),
                        .outputs = std::vector<Layout>(c.node.outputs.size(), Layout::kPlain),
                        .inplace_input = 0});
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  const Dims row = is_layer(c.node) ? row_dims(c) : Dims{c.input_dims(0)[1]};
  for (size_t i : {1, 2}) {
    if (!c.is_constant(i)) continue;
    Dims dims = c.input_dims(i);
    if (dims.size() > row.size()) dims.erase(dims.begin(), dims.end() - static_cast<std::ptrdiff_t>(row.size()));
    const std::vector<float> repeated = expand(c.node, dims, to_floats(c.constant(i)), row);
    blobs.push_back(copy_blob(repeated.data(), repeated.size() * sizeof(float)));
  }
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView> blobs) {
  const auto is_plain = [](Layout l) { return l == Layout::kPlain; };
  if (!is_known(c) || !why_not(c).empty() || !std::all_of(candidate.inputs.begin(), candidate.inputs.end(), is_plain) ||
      !std::all_of(candidate.outputs.begin(), candidate.outputs.end(), is_plain))
    fail(ErrorCode::kInvalidModel, "A plan's tactic does not fit its operator: {}", c.node.label());
  return std::make_unique<NormalizationKernel>(c, blobs);
}

}  // namespace

Tactic normalization() {
  return {"normalization", propose, pack, create, [](const Node&, size_t i) { return i > 0; }};
}

}  // namespace slipway
