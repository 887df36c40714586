// THE list of the families of rules, and what rules are written with.
#include "model/onnx/rewrites/rewrite.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "model/op.h"

namespace slipway {
namespace {

using RuleIndex = std::map<std::pair<std::string_view, std::string_view>, const RewriteRule*>;

const RuleIndex& rule_index() {
  static const RuleIndex index = [] {
    RuleIndex built;
    for (const RewriteRule* rule : all_rewrites()) built[{rule->domain, rule->op}] = rule;
    return built;
  }();
  return index;
}

}  // namespace

Rewrite::Rewrite(Graph& graph, NodeId id) : node(graph.node(id)), opset(graph.opset()), graph_(graph), id_(id) {}

ValueId Rewrite::in(size_t i) const { return node.input(i); }

ValueId Rewrite::need(size_t i) const {
  if (!has(i)) reject(fmt::format("input {} is missing", i));
  return node.inputs[i];
}

const Tensor& Rewrite::known(size_t i) const {
  const Tensor* t = constant(need(i));
  if (t == nullptr) unsupported(fmt::format("its input {} is no constant", i));
  return *t;
}

int64_t Rewrite::rank(ValueId id) const {
  constexpr int kMostSteps = 32;  // a file's nodes may go in a circle
  for (int steps = 0; id != kNoValue && steps < kMostSteps; ++steps, id = graph_.producer(id)->input(0)) {
    if (graph_.value(id).shape.has_rank()) return static_cast<int64_t>(graph_.value(id).shape.rank());
    const Node* from = graph_.producer(id);
    if (from == nullptr) break;
    if (from->is("Transpose") && from->has("perm")) return static_cast<int64_t>(from->integers("perm").size());
    const Tensor* shape = from->is("Reshape") ? constant(from->input(1)) : nullptr;
    if (shape != nullptr) return shape->elements();
    if (!from->is("Cast") && !from->is("Identity") && !from->is("Softmax")) break;
  }
  return -1;
}

ValueId Rewrite::add(std::string_view op, std::vector<ValueId> inputs, Attributes attributes) {
  return add_several(op, std::move(inputs), 1, std::move(attributes))[0];
}

std::vector<ValueId> Rewrite::add_several(std::string_view op, std::vector<ValueId> inputs, size_t outputs,
                                          Attributes attributes) {
  while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
  const auto named = std::find_if(node.outputs.begin(), node.outputs.end(), [](ValueId v) { return v != kNoValue; });
  const std::string base = named == node.outputs.end() ? node.name : graph_.value(*named).name;
  const std::vector<std::string> names(outputs, fmt::format("{}_{}", base, op));
  const NodeId made = graph_.add_node(
      {.op_type = std::string(op), .name = node.name, .inputs = std::move(inputs), .attributes = std::move(attributes)},
      names, id_);
  return graph_.node(made).outputs;
}

ValueId Rewrite::tensor(Tensor value) { return graph_.add_constant("rewritten", std::move(value)); }

ValueId Rewrite::integers(std::vector<int64_t> values) {
  return tensor(Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values));
}

ValueId Rewrite::cast_like(ValueId x, ValueId like) {
  const DType dtype = graph_.value(like).dtype;
  if (!is_float(dtype) && opset >= 15) return add("CastLike", {x, like});
  return add("Cast", {x}, {{"to", static_cast<int64_t>(is_float(dtype) ? dtype : DType::kFloat32)}});
}

ValueId Rewrite::number(double value, ValueId like) {
  const DType dtype = graph_.value(like).dtype;
  const Tensor scalar = Tensor::scalar(static_cast<float>(value));
  if (!is_float(dtype) && opset >= 15) return cast_like(tensor(scalar), like);
  return tensor(is_float(dtype) ? cast(scalar, dtype) : scalar);
}

ValueId Rewrite::clip(ValueId x, float low, float high) {
  if (opset < 11) return add("Clip", {x}, {{"min", low}, {"max", high}});
  return add("Clip", {x, number(static_cast<double>(low), x), number(static_cast<double>(high), x)});
}

std::vector<ValueId> Rewrite::split(ValueId x, int64_t axis, const std::vector<int64_t>& sizes) {
  if (opset < 13) return add_several("Split", {x}, sizes.size(), {{"axis", axis}, {"split", sizes}});
  return add_several("Split", {x, integers(sizes)}, sizes.size(), {{"axis", axis}});
}

ValueId Rewrite::reduce_sum(ValueId x, int64_t axis) {
  if (opset < 13) return add("ReduceSum", {x}, {{"axes", std::vector<int64_t>{axis}}, {"keepdims", int64_t{0}}});
  return add("ReduceSum", {x, integers({axis})}, {{"keepdims", int64_t{0}}});
}

ValueId Rewrite::swap_last_two(ValueId x) {
  const int64_t known_rank = rank(x);
  if (known_rank < 0) {
    if (opset < 12) unsupported("the rank of what it transposes is not declared");
    return add("Einsum", {x}, {{"equation", std::string("...ij->...ji")}});
  }
  if (known_rank < 2) reject(fmt::format("it transposes a value of rank {}", known_rank));
  std::vector<int64_t> perm(static_cast<size_t>(known_rank));
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return transpose(x, std::move(perm));
}

ValueId Rewrite::size_along(ValueId x, int64_t axis) {
  return add("Gather", {add("Shape", {x}), integers({axis})}, {{"axis", int64_t{0}}});
}

ValueId Rewrite::numbers_below(ValueId size) {
  const ValueId end = add("Reshape", {size, integers({})});
  return add("Range", {tensor(Tensor::scalar<int64_t>(0)), end, tensor(Tensor::scalar<int64_t>(1))});
}

ValueId Rewrite::dequantize(ValueId codes, ValueId scale, ValueId zero_point, int64_t axis) {
  if (opset < 10) unsupported("it needs opset 10 or later of the standard operators");
  const Tensor* scales = constant(scale);
  if (scales == nullptr || scales->elements() == 1 || opset < 13)
    return add("DequantizeLinear", {codes, scale, zero_point});
  return add("DequantizeLinear", {codes, scale, zero_point}, {{"axis", axis}});
}

ValueId Rewrite::quantize(ValueId x, ValueId scale, ValueId zero_point) {
  return add("QuantizeLinear", {x, scale, zero_point});
}

Attributes Rewrite::attributes_without(std::initializer_list<std::string_view> names) const {
  Attributes kept = node.attributes;
  for (std::string_view name : names)
    if (const auto it = kept.find(name); it != kept.end()) kept.erase(it);
  return kept;
}

void Rewrite::reject(std::string_view what) const { slipway::reject(node, what); }

void Rewrite::unsupported(std::string_view what) const {
  fail(ErrorCode::kUnsupported, "This form of the operator is not supported; export the model without it: {}: {}",
       node.label(), what);
}

void Rewrite::finish(const std::vector<ValueId>& results) {
  std::vector<std::pair<ValueId, std::string>> names;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId old = node.outputs[i];
    if (old == kNoValue) continue;
    if (i >= results.size() || results[i] == kNoValue) unsupported(fmt::format("its output {} is read", i));
    const Value before = graph_.value(old);
    const bool is_output = graph_.is_output(old);
    graph_.replace_uses(old, results[i]);
    if (graph_.value(results[i]).producer == kNoNode) continue;
    if (graph_.value(results[i]).dtype == DType::kUndefined && !graph_.value(results[i]).shape.has_rank())
      graph_.set_type(results[i], before.dtype, before.shape);
    if (!is_output) names.emplace_back(results[i], before.name);
  }
  graph_.erase_node(id_);
  for (const auto& [id, name] : names) graph_.rename(id, name);
}

std::vector<const RewriteRule*> all_rewrites() {
  std::vector<const RewriteRule*> rules;
  for (const auto family : {quantized_rewrites(), fused_rewrites(), transformer_rewrites(), early_rewrites()})
    for (const RewriteRule& rule : family) rules.push_back(&rule);
  return rules;
}

void rewrite_foreign(Graph& graph) {
  for (NodeId id = 0, limit = graph.node_limit(); id < limit; ++id) {
    const Node& node = graph.node(id);
    const auto it = rule_index().find({node.domain, node.op_type});
    if (it == rule_index().end() || graph.opset() > it->second->until) continue;
    Rewrite rewrite(graph, id);
    it->second->apply(rewrite);
  }
}

}  // namespace slipway
