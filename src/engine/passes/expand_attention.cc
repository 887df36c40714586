// Attention becomes the products, Softmax and masks that it stands for, each of which has fast kernels. Scaling the
// queries is less work than scaling the scores. Heads that share keys lie one behind the other, so they are the rows of
// one product. The causal mask is put in by Where: it hides NaN, which a sum with −∞ does not. What is left alone:
// padding lengths, scores that are an output, masks shorter than the keys, shapes that are not known.
#include <cmath>
#include <limits>

#include "engine/passes/match.h"
#include "engine/passes/passes.h"

namespace slipway {
namespace {

constexpr int64_t kMaxMask = 1 << 22;  // elements of a causal mask

class Expansion {
 public:
  Expansion(Graph& graph, NodeId id) : graph_(graph), id_(id), node_(graph.node(id)) {}

  bool run() {
    if (!fits()) return false;
    q_ = heads_dims(0, "q_num_heads"), k_ = heads_dims(1, "kv_num_heads"), v_ = heads_dims(2, "kv_num_heads");
    if (q_.empty() || k_.empty() || v_.empty() || k_[1] != v_[1] || k_[2] != v_[2] || q_[1] % k_[1] != 0) return false;
    if (!cache_fits(4, k_) || !cache_fits(5, v_)) return false;
    const int64_t past = node_.has_input(4) ? cache_length(4) : 0;
    total_ = past + k_[2];
    if (node_.has_input(4) && cache_length(5) != past) return false;
    if (node_.has_input(3) && !mask_fits()) return false;
    if (is_causal() && q_[2] * total_ > kMaxMask) return false;

    const ValueId keys = behind(4, heads(1, k_)), values = behind(5, heads(2, v_));
    const double usual = 1 / std::sqrt(static_cast<double>(q_[3]));
    const float scale = node_.real("scale", static_cast<float>(usual));
    const ValueId queries = add("Mul", {heads(0, q_), constant("_scale", Tensor::scalar<float>(scale))});
    const ValueId columns = add("Transpose", {keys}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    ValueId scores = apart(add("MatMul", {together(queries, q_[3]), columns}), total_);
    if (const float cap = node_.real("softcap", 0); cap > 0) scores = capped(scores, cap);
    if (node_.has_input(3)) scores = add("Add", {scores, mask()});
    if (is_causal()) scores = add("Where", {seen(past), scores, masked()});
    const ValueId weights = add("Softmax", {scores}, {{"axis", int64_t{-1}}});
    for (const auto& [output, value] : {std::pair{size_t{1}, keys}, std::pair{size_t{2}, values}})
      if (node_.output(output) != kNoValue) graph_.replace_uses(node_.outputs[output], value);
    finish(together(weights, total_), values);
    return true;
  }

 private:
  bool fits() const {
    if (node_.domain != "" || graph_.value(node_.inputs[0]).dtype != DType::kFloat32) return false;
    if (const ValueId scores = node_.output(3);
        scores != kNoValue && (!graph_.value(scores).uses.empty() || graph_.is_output(scores)))
      return false;
    return node_.has_input(4) == node_.has_input(5) && !node_.has_input(6) && node_.output(0) != kNoValue;
  }

  bool is_causal() const { return node_.integer("is_causal", 0) != 0; }

  int64_t cache_length(size_t i) const { return graph_.value(node_.inputs[i]).shape.to_dims()[2]; }
  bool cache_fits(size_t i, const Dims& now) const {
    if (!node_.has_input(i)) return true;
    const Value& cache = graph_.value(node_.inputs[i]);
    if (!cache.shape.is_static() || cache.shape.rank() != 4 || cache.dtype != DType::kFloat32) return false;
    const Dims d = cache.shape.to_dims();
    return d[0] == now[0] && d[1] == now[1] && d[3] == now[3];
  }

  // [batch, heads, length, size]; empty where that is not known or there is nothing.
  Dims heads_dims(size_t i, std::string_view attribute) const {
    const Shape& shape = graph_.value(node_.inputs[i]).shape;
    if (!shape.is_static() || graph_.value(node_.inputs[i]).dtype != DType::kFloat32) return {};
    const Dims d = shape.to_dims();
    if (element_count(d) == 0) return {};
    if (d.size() == 4) return d;
    const int64_t count = node_.integer(attribute, 0);
    if (d.size() != 3 || count < 1 || d[2] % count != 0) return {};
    return {d[0], count, d[1], d[2] / count};
  }

  // From opset 24 on a mask may be shorter than the keys.
  bool mask_fits() const {
    const Value& m = graph_.value(node_.inputs[3]);
    if (!m.shape.is_static() || (m.dtype != DType::kBool && m.dtype != DType::kFloat32)) return false;
    const Dims dims = m.shape.to_dims(), scores = {q_[0], q_[1], q_[2], total_};
    for (size_t i = 1; i <= dims.size(); ++i)
      if (i > 4 || (dims[dims.size() - i] != 1 && dims[dims.size() - i] != scores[4 - i])) return false;
    return graph_.opset() < 24 || (!dims.empty() && dims.back() == total_);
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

  // The cache, then what comes in.
  ValueId behind(size_t past, ValueId now) {
    return node_.has_input(past) ? add("Concat", {node_.inputs[past], now}, {{"axis", int64_t{2}}}) : now;
  }
  // Heads that share keys as rows of one product, and back.
  ValueId together(ValueId value, int64_t size) {
    return q_[1] == k_[1] ? value : reshaped(value, {q_[0], k_[1], q_[1] / k_[1] * q_[2], size});
  }
  ValueId apart(ValueId value, int64_t size) {
    return q_[1] == k_[1] ? value : reshaped(value, {q_[0], q_[1], q_[2], size});
  }

  ValueId capped(ValueId scores, float cap) {
    const ValueId number = constant("_cap", Tensor::scalar<float>(cap));
    return add("Mul", {add("Tanh", {add("Div", {scores, number})}), number});
  }
  ValueId masked() { return constant("_masked", Tensor::scalar<float>(-std::numeric_limits<float>::infinity())); }
  ValueId mask() {
    if (graph_.value(node_.inputs[3]).dtype == DType::kFloat32) return node_.inputs[3];
    return add("Where", {node_.inputs[3], constant("_seen", Tensor::scalar<float>(0)), masked()});
  }
  // Which keys a query sees: those of the cache, its own and those before it.
  ValueId seen(int64_t past) {
    Tensor t(DType::kBool, {q_[2], total_});
    const std::span<bool> flags = t.mutable_values<bool>();
    for (int64_t i = 0; i < q_[2]; ++i)
      for (int64_t j = 0; j < total_; ++j) flags[static_cast<size_t>(i * total_ + j)] = j <= i + past;
    return constant("_causal", std::move(t));
  }

  // The last node stands in the operator's place.
  void finish(ValueId weights, ValueId values) {
    NodeSpec last{.op_type = "MatMul", .inputs = {weights, values}};
    const auto reshape = [&](const char* before, NodeSpec spec, const std::vector<int64_t>& to) {
      const ValueId y = add(before, spec.inputs, spec.attributes);
      last = {.op_type = "Reshape",
              .inputs = {y, constant("_shape", Tensor::of<int64_t>({static_cast<int64_t>(to.size())}, to))}};
    };
    if (q_[1] != k_[1]) reshape("MatMul", last, {q_[0], q_[1], q_[2], v_[3]});
    if (graph_.value(node_.inputs[0]).shape.rank() == 3) {
      const ValueId y = add(last.op_type.c_str(), last.inputs);
      reshape("Transpose", {.inputs = {y}, .attributes = {{"perm", std::vector<int64_t>{0, 2, 1, 3}}}}, {0, 0, -1});
    }
    const NodeId id = graph_.add_node(last, std::vector<std::string>{graph_.value(node_.outputs[0]).name}, id_);
    graph_.rename_node(id, node_.name);
    graph_.replace_uses(node_.outputs[0], graph_.node(id).outputs[0]);
    graph_.erase_node(id_);
  }

  Graph& graph_;
  const NodeId id_;
  const Node node_;
  Dims q_, k_, v_;     ///< [batch, heads, length, size]
  int64_t total_ = 0;  ///< keys, those of the cache among them
};

}  // namespace

bool expand_attention(Graph& graph, const PassContext&) {
  bool changed = false;
  for (NodeId id : graph.topological_order())
    if (graph.node(id).is("Attention") && graph.node(id).inputs.size() >= 3) changed |= Expansion(graph, id).run();
  return changed;
}

}  // namespace slipway
