// The step that changes a value's layout: no node proposes it; the plan inserts it between steps that disagree.
#include "base/error.h"
#include "engine/lower/lower.h"

namespace slipway {
namespace {

class LayoutKernel : public Kernel {
 public:
  LayoutKernel(const LowerContext& c, const Candidate& candidate)
      : from_(candidate.inputs.at(0)), to_(candidate.outputs.at(0)), dtype_(c.output_dtype()), dims_(c.output_dims()) {
    if (!layout_fits(from_, dims_) || !layout_fits(to_, dims_) || c.input_dims(0) != dims_ ||
        c.input_dtype(0) != dtype_)
      fail(ErrorCode::kInvalidModel, "A plan's change of layout does not fit its value; build the plan again: {}",
           to_string(dims_));
  }
  void run(const KernelArgs& args) const override {
    convert_layout(from_, args.inputs[0], to_, args.outputs[0], dtype_, dims_, args.threads);
  }

 private:
  Layout from_, to_;
  DType dtype_;
  Dims dims_;
};

void propose(const LowerContext&, std::vector<Candidate>&) {}

std::unique_ptr<Kernel> create(const LowerContext& c, const Candidate& candidate, std::span<const BlobView>) {
  return std::make_unique<LayoutKernel>(c, candidate);
}

}  // namespace

Tactic layout_change() { return {"layout", propose, nullptr, create, nullptr}; }

}  // namespace slipway
