// Attention becomes the products, Softmax and masks that it stands for, each of which has fast kernels. Scaling the
// queries is less work than scaling the scores. What is left alone: a cache, padding lengths, capped scores, the causal
// mask (it hides NaN, a sum with −∞ does not), heads that share keys, further outputs, shapes that are not known.
#include <cmath>
#include <limits>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

class Expansion {
 public:
  Expansion(Graph& graph, NodeId id) : graph_(graph), id_(id), node_(graph.node(id)) {}

  bool run() {
    if (!fits()) return false;
    const Dims q = heads_dims(0, "q_num_heads"), k = heads_dims(1, "kv_num_heads"), v = heads_dims(2, "kv_num_heads");
    if (q.empty() || k.empty() || v.empty() || q[1] != k[1] || element_count(q) == 0 || element_count(v) == 0 ||
        element_count(k) == 0)
      return false;
    if (node_.has_input(3) && !mask_fits(q, k[2])) return false;

    const double usual = 1 / std::sqrt(static_cast<double>(q[3]));
    const float scale = node_.real("scale", static_cast<float>(usual));
    const ValueId queries = add("Mul", {heads(0, q), constant("_scale", Tensor::scalar<float>(scale))});
    const ValueId keys = add("Transpose", {heads(1, k)}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    ValueId scores = add("MatMul", {queries, keys});
    if (node_.has_input(3)) scores = add("Add", {scores, mask()});
    const ValueId weights = add("Softmax", {scores}, {{"axis", int64_t{-1}}});
    finish(weights, heads(2, v));
    return true;
  }

 private:
  bool fits() const {
    if (node_.domain != "" || graph_.value(node_.inputs[0]).dtype != DType::kFloat32) return false;
    for (size_t i = 1; i < node_.outputs.size(); ++i)
      if (const ValueId out = node_.outputs[i];
          out != kNoValue && (!graph_.value(out).uses.empty() || graph_.is_output(out)))
        return false;
    for (size_t i : {4, 5, 6})
      if (node_.has_input(i)) return false;
    return node_.integer("is_causal", 0) == 0 && !(node_.real("softcap", 0) > 0) && node_.output(0) != kNoValue;
  }

  // [batch, heads, length, size]; empty where that is not known.
  Dims heads_dims(size_t i, std::string_view attribute) const {
    const Shape& shape = graph_.value(node_.inputs[i]).shape;
    if (!shape.is_static() || graph_.value(node_.inputs[i]).dtype != DType::kFloat32) return {};
    const Dims d = shape.to_dims();
    if (d.size() == 4) return d;
    const int64_t count = node_.integer(attribute, 0);
    if (d.size() != 3 || count < 1 || d[2] % count != 0) return {};
    return {d[0], count, d[1], d[2] / count};
  }

  // From opset 24 on a mask may be shorter than the keys.
  bool mask_fits(const Dims& q, int64_t total) const {
    const Value& m = graph_.value(node_.inputs[3]);
    if (!m.shape.is_static() || (m.dtype != DType::kBool && m.dtype != DType::kFloat32)) return false;
    const Dims dims = m.shape.to_dims(), scores = {q[0], q[1], q[2], total};
    for (size_t i = 1; i <= dims.size(); ++i)
      if (i > 4 || (dims[dims.size() - i] != 1 && dims[dims.size() - i] != scores[4 - i])) return false;
    return graph_.opset() < 24 || (!dims.empty() && dims.back() == total);
  }

  ValueId add(const char* op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return graph_.add_node(
        NodeSpec{.op_type = op, .name = node_.name, .inputs = std::move(inputs), .attributes = std::move(attributes)},
        graph_.value(node_.outputs[0]).name + "_" + op, id_);
  }
  ValueId constant(const char* suffix, Tensor tensor) {
    return graph_.add_constant(graph_.value(node_.outputs[0]).name + suffix, std::move(tensor));
  }
  ValueId reshaped(ValueId v, const std::vector<int64_t>& to) {
    return add("Reshape", {v, constant("_shape", Tensor::of<int64_t>({static_cast<int64_t>(to.size())}, to))});
  }

  ValueId heads(size_t i, const Dims& d) {
    if (graph_.value(node_.inputs[i]).shape.rank() == 4) return node_.inputs[i];
    const ValueId split = reshaped(node_.inputs[i], {d[0], d[2], d[1], d[3]});
    return add("Transpose", {split}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  }

  ValueId mask() {
    if (graph_.value(node_.inputs[3]).dtype == DType::kFloat32) return node_.inputs[3];
    constexpr float kMasked = -std::numeric_limits<float>::infinity();
    return add("Where", {node_.inputs[3], constant("_seen", Tensor::scalar<float>(0)),
                         constant("_masked", Tensor::scalar<float>(kMasked))});
  }

  // The last node stands in the operator's place.
  void finish(ValueId weights, ValueId values) {
    NodeSpec last{.op_type = "MatMul", .inputs = {weights, values}};
    if (graph_.value(node_.inputs[0]).shape.rank() == 3) {
      const ValueId y = add("MatMul", {weights, values});
      const ValueId turned = add("Transpose", {y}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
      const std::vector<int64_t> to = {0, 0, -1};
      last = {.op_type = "Reshape", .inputs = {turned, constant("_shape", Tensor::of<int64_t>({3}, to))}};
    }
    const NodeId id = graph_.add_node(last, std::vector<std::string>{graph_.value(node_.outputs[0]).name}, id_);
    graph_.rename_node(id, node_.name);
    graph_.replace_uses(node_.outputs[0], graph_.node(id).outputs[0]);
    graph_.erase_node(id_);
  }

  Graph& graph_;
  const NodeId id_;
  const Node node_;
};

}  // namespace

bool expand_attention(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).is("Attention") && graph.node(id).inputs.size() >= 3) changed |= Expansion(graph, id).run();
  return changed;
}

}  // namespace slipway
