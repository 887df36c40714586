#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/op.h"

namespace slipway {

/// For tests: one operator called without a graph around it.
struct OpCall {
  std::string op;
  int64_t opset = 17;
  Attributes attributes = {};
  size_t outputs = 1;
  std::string domain = {};

  Node node() const {
    Node n;
    n.op_type = op;
    n.domain = domain;
    n.attributes = attributes;
    for (size_t i = 0; i < outputs; ++i) n.outputs.push_back(static_cast<ValueId>(i));
    return n;
  }
  /// An undefined tensor stands for an absent input.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs) const {
    const OpSpec* spec = find_op(domain, op, opset);
    if (spec == nullptr) fail(ErrorCode::kNotFound, "No such operator: {}", op);
    std::vector<const Tensor*> pointers;
    for (const Tensor& t : inputs) pointers.push_back(t.defined() ? &t : nullptr);
    const Node n = node();
    EvalContext ctx(n, opset, pointers);
    spec->eval(ctx);
    return std::move(ctx.results());
  }
  std::vector<ValueFacts> infer(const std::vector<ValueFacts>& inputs) const {
    std::vector<const ValueFacts*> pointers;
    for (const ValueFacts& f : inputs) pointers.push_back(&f);
    const Node n = node();
    InferContext ctx(n, opset, pointers, outputs);
    find_op(domain, op, opset)->infer(ctx);
    return std::move(ctx.results());
  }
};

inline ValueFacts facts(DType dtype, Shape shape) { return {.dtype = dtype, .shape = std::move(shape)}; }

inline void expect_near(const Tensor& got, const Dims& dims, const std::vector<double>& expected, double bound = 1e-6) {
  EXPECT_EQ(got.dims(), dims);
  const std::vector<double> values = to_doubles(got);
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], bound) << "element " << i;
}

/// 1, 2, 3, … in the shape.
inline Tensor counting(Dims dims, DType dtype = DType::kFloat32) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i + 1);
  return from_doubles(dtype, std::move(dims), values);
}

inline Tensor int64s(const std::vector<int64_t>& values) {
  return Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values);
}

}  // namespace slipway
