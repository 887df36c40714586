#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/graph.h"

namespace slipway {

/// What is known of a value at inference: its type, its shape, its contents when constant, and, for small integer
/// tensors that hold shapes, its contents with symbols.
struct ValueFacts {
  DType dtype = DType::kUndefined;
  Shape shape;
  std::shared_ptr<const Tensor> constant;
  std::optional<std::vector<Dim>> dims;  ///< contents of an integer tensor of rank ≤ 1, element by element
};

/// Handed to OpSpec::infer. Outputs start with nothing known; setting less than could be known is allowed.
class InferContext {
 public:
  InferContext(const Node& n, int64_t opset_version, std::vector<const ValueFacts*> inputs, size_t outputs)
      : node(n), opset(opset_version), outputs_(outputs), inputs_(std::move(inputs)) {}
  const Node& node;
  const int64_t opset;  ///< version of the node's domain

  size_t input_count() const { return inputs_.size(); }
  bool has_input(size_t i) const { return i < inputs_.size() && inputs_[i] != nullptr; }
  const ValueFacts& input(size_t i) const;  ///< fails with kInvalidModel when absent
  const Shape& shape(size_t i) const { return input(i).shape; }
  DType dtype(size_t i) const { return input(i).dtype; }
  /// The input's contents as ints, when constant.
  std::optional<std::vector<int64_t>> ints(size_t i) const;
  /// The input's contents as dims (constant or symbolic), when known.
  std::optional<std::vector<Dim>> dims(size_t i) const;
  size_t output_count() const { return outputs_.size(); }
  void set_output(size_t i, DType dtype, Shape shape);
  void set_output_dims(size_t i, std::vector<Dim> dims);  ///< contents
  [[noreturn]] void reject(std::string_view what) const;  ///< kInvalidModel with the node's label

  std::vector<ValueFacts>& results() { return outputs_; }
  std::vector<std::vector<ValueFacts>> subgraph_facts;

 private:
  std::vector<ValueFacts> outputs_;
  std::vector<const ValueFacts*> inputs_;
};

/// Handed to OpSpec::eval: concrete tensors in, tensors out. The reference: plain loops, accumulation in double where
/// floats are summed, so that it is the oracle for every kernel.
class EvalContext {
 public:
  using RunSubgraph = std::function<std::vector<Tensor>(const Graph&, std::span<const Tensor> inputs)>;
  EvalContext(const Node& n, int64_t opset_version, std::vector<const Tensor*> inputs)
      : node(n), opset(opset_version), outputs_(n.outputs.size()), inputs_(std::move(inputs)) {}
  const Node& node;
  const int64_t opset;

  size_t input_count() const { return inputs_.size(); }
  bool has_input(size_t i) const { return i < inputs_.size() && inputs_[i] != nullptr; }
  const Tensor& input(size_t i) const;  ///< fails with kInvalidModel when absent
  size_t output_count() const { return outputs_.size(); }
  bool wants_output(size_t i) const { return i < node.outputs.size() && node.outputs[i] != kNoValue; }
  void set_output(size_t i, Tensor tensor);
  [[noreturn]] void reject(std::string_view what) const;

  std::vector<Tensor>& results() { return outputs_; }
  RunSubgraph run_subgraph;  ///< runs a subgraph of this node; captures are bound by the caller

 private:
  std::vector<Tensor> outputs_;
  std::vector<const Tensor*> inputs_;
};

/// Work of one node with concrete shapes.
struct Cost {
  double flops = 0;  ///< multiply and add counted as two
  double bytes = 0;  ///< inputs, weights and outputs touched once
};
struct CostContext {
  const Node& node;
  std::span<const Dims> inputs;  ///< empty Dims where absent
  std::span<const Dims> outputs;
};
/// So many for each element of output 0.
template <int kEach>
double flops_each(const CostContext& ctx) {
  return kEach * static_cast<double>(element_count(ctx.outputs[0]));
}

/// Fails with kInvalidModel and the node's label.
[[noreturn]] void reject(const Node& node, std::string_view what);

enum OpTrait : uint32_t {
  kElementwise = 1,       ///< output i depends on input elements i alone (with broadcasting)
  kCommutative = 2,       ///< the two inputs may be swapped
  kNondeterministic = 4,  ///< random: never folded, never merged
  kViews = 8,             ///< output has the input's bytes under another shape (Reshape, Squeeze, …)
  kMovesOnly = 16,  ///< values are copied, never computed: quantisation parameters pass through (Transpose, Slice, …)
  kHasSubgraph = 32,
  kTakesAny = 64,   ///< inputs may be sequences and optionals; of all others they are tensors
  kWeighted = 128,  ///< multiplies with weights as a rule: what a model's size and work are in
};

class RowsContext;  // model/ops/row_rules.h

/// One operator over a range of opsets.
struct OpSpec {
  std::string_view name;
  int since = 1;                         ///< first opset of this signature
  int until = 1 << 20;                   ///< last opset
  int min_inputs = 0, max_inputs = 1;    ///< max −1: any number
  int min_outputs = 1, max_outputs = 1;  ///< max −1: any number
  void (*infer)(InferContext&) = nullptr;
  void (*eval)(EvalContext&) = nullptr;
  double (*flops)(const CostContext&) = nullptr;  ///< null: one per output element when elementwise, else zero
  /// Where its outputs hold the rows of a batch; null: by broadcasting when elementwise, else nothing is proven.
  void (*rows)(RowsContext&) = nullptr;
  uint32_t traits = 0;
  std::string_view domain = "";
  bool has(OpTrait trait) const { return (traits & trait) != 0; }
};

/// The spec that covers the operator at that opset of its domain; nullptr when there is none.
const OpSpec* find_op(std::string_view domain, std::string_view name, int64_t opset);
/// The same for a node in a graph.
const OpSpec* find_op(const Graph& graph, const Node& node);
/// Fails with kUnsupported naming operator, node, domain and opset.
const OpSpec& require_op(const Graph& graph, const Node& node);
/// Every registered spec, family by family.
std::vector<const OpSpec*> all_ops();

/// Work of a node whose values have static shapes; zero where shapes are unknown.
Cost cost_of(const Graph& graph, const Node& node);

}  // namespace slipway
