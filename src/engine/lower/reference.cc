// The last candidate of every operator: its reference evaluation, row-major. It allocates; everything else does not.
#include <cstring>

#include "base/error.h"
#include "engine/lower/lower.h"
#include "model/evaluate.h"
#include "model/op.h"

namespace slipway {
namespace {

class ReferenceKernel : public Kernel {
 public:
  ReferenceKernel(const LowerContext& c, std::span<const BlobView> blobs) : graph_(c.graph) {
    std::vector<ValueId> operands = c.node.inputs;
    operands.insert(operands.end(), c.node.captures.begin(), c.node.captures.end());
    size_t next_blob = 0;
    for (size_t i = 0; i < operands.size(); ++i) {
      if (operands[i] == kNoValue) continue;
      const Value& v = graph_.value(operands[i]);
      const Dims dims = v.shape.to_dims();
      Operand operand{i, c.is_constant(i), {}};
      if (operand.constant) {
        const BlobView blob = require_blob(blobs, next_blob++, bytes_of(v.dtype, element_count(dims)));
        operand.tensor = Tensor::view(v.dtype, dims, blob.data(), nullptr);
      }
      inputs_.push_back(std::move(operand));
    }
    for (size_t i = 0; i < c.node.outputs.size(); ++i)
      if (c.node.outputs[i] != kNoValue) outputs_.push_back(i);
  }

  void run(const KernelArgs& args) const override {
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs()[i]);
      inputs.push_back(inputs_[i].constant
                           ? inputs_[i].tensor
                           : Tensor::view(v.dtype, v.shape.to_dims(), args.inputs[inputs_[i].index], nullptr));
    }
    const std::vector<Tensor> results = evaluate(graph_, inputs);
    for (size_t i = 0; i < results.size(); ++i) {
      const Value& v = graph_.value(graph_.outputs()[i]);
      if (results[i].dtype() != v.dtype || Shape::of(results[i].dims()) != v.shape)
        fail(ErrorCode::kInvalidModel,
             "A step makes another shape than its plan says; build it again: '{}' {} instead of {}", v.name,
             to_string(results[i].dims()), to_string(v.shape));
      if (results[i].bytes() > 0) std::memcpy(args.outputs[outputs_[i]], results[i].raw(), results[i].bytes());
    }
  }

 private:
  struct Operand {
    size_t index;  ///< among the node's inputs and captures
    bool constant;
    Tensor tensor;
  };
  Graph graph_;  ///< one node; its graph inputs are the node's present inputs and captures
  std::vector<Operand> inputs_;
  std::vector<size_t> outputs_;
};

void propose(const LowerContext& c, std::vector<Candidate>& candidates) {
  Candidate candidate{.tactic = "reference", .variant = ""};
  if (const OpSpec* spec = find_op(c.graph, c.node); spec == nullptr || spec->eval == nullptr) {
    candidate.rejected = "the operator has no reference evaluation";
  } else {
    candidate.inputs.assign(c.node.inputs.size(), Layout::kPlain);
    candidate.outputs.assign(c.node.outputs.size(), Layout::kPlain);
  }
  candidates.push_back(std::move(candidate));
}

std::vector<Blob> pack(const LowerContext& c, const Candidate&) {
  std::vector<Blob> blobs;
  std::vector<ValueId> operands = c.node.inputs;
  operands.insert(operands.end(), c.node.captures.begin(), c.node.captures.end());
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!c.is_constant(i)) continue;
    const Tensor& t = *c.graph.constant(operands[i]);
    if (t.dtype() == DType::kString)
      fail(ErrorCode::kUnsupported, "Strings can't be packed into a plan: {}", c.node.label());
    blobs.push_back(share_blob(t));
  }
  return blobs;
}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate&, std::span<const BlobView> blobs) {
  return std::make_unique<ReferenceKernel>(c, blobs);
}

}  // namespace

Tactic reference() {
  return {"reference", propose, pack, create, [](const Node&, size_t) { return true; }};
}

}  // namespace slipway
