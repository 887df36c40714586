#pragma once
#include <set>
#include <string>
#include <vector>

#include "model/evaluate.h"
#include "model/onnx/onnx.h"
#include "model/onnx/rewrites/rewrite.h"
#include "model/ops/op_testing.h"

namespace slipway {

/// One node of another domain in a file, imported and run. Undefined tensors are absent inputs.
struct ForeignCall {
  std::string op;
  Attributes attributes = {};
  size_t outputs = 1;
  std::set<size_t> read = {0};  ///< outputs that the graph gives
  int64_t opset = 17;
  std::string domain = "com.microsoft";
  size_t first_constant = 1;  ///< this input and all later ones are constants

  Graph imported(const std::vector<Tensor>& inputs) const {
    Graph g;
    g.opsets = {{"", opset}, {"com.microsoft", 1}};
    NodeSpec spec{.op_type = op, .domain = domain, .name = "foreign", .attributes = attributes};
    for (size_t i = 0; i < inputs.size(); ++i)
      spec.inputs.push_back(!inputs[i].defined() ? kNoValue
                            : i >= first_constant
                                ? g.add_constant(fmt::format("c{}", i), inputs[i])
                                : g.add_input(fmt::format("x{}", i), inputs[i].dtype(), Shape::of(inputs[i].dims())));
    std::vector<std::string> names;
    for (size_t i = 0; i < outputs; ++i) names.push_back(read.contains(i) ? fmt::format("y{}", i) : "");
    const NodeId id = g.add_node(std::move(spec), names);
    for (ValueId v : g.node(id).outputs)
      if (v != kNoValue) g.add_output(v);
    return parse_onnx(serialize_onnx(g));
  }
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) const {
    const Graph g = imported(inputs);
    std::vector<Tensor> given;
    for (size_t i = 0; i < std::min(first_constant, inputs.size()); ++i)
      if (inputs[i].defined()) given.push_back(inputs[i]);
    return evaluate(g, given);
  }
};

}  // namespace slipway
