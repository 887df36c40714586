// The table of operators that gradients flow through. Each row's function follows the ONNX operator's specification;
// libtorch's own operation carries the gradient.
#include "train/operators.h"

#include <string_view>

#include "base/error.h"

namespace slipway {
namespace {

std::vector<at::Tensor> relu(const OpCall& call) { return {at::relu(call.inputs[0])}; }

struct Row {
  std::string_view op;
  OpFunction function;
};
constexpr Row kOperators[] = {
    {"Relu", relu},
};

}  // namespace

std::vector<int64_t> OpCall::ints(size_t i) const {
  const at::Tensor dense = inputs[i].to(at::kLong).contiguous();
  return {dense.data_ptr<int64_t>(), dense.data_ptr<int64_t>() + dense.numel()};
}

OpFunction find_operator(const Node& node) {
  if (!node.domain.empty()) return nullptr;
  for (const Row& row : kOperators)
    if (row.op == node.op_type) return row.function;
  return nullptr;
}

}  // namespace slipway
