// The operator registry: an explicit list of families (static registrars get dropped by the linker), looked up by
// domain, name and opset.
#include "model/op.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "model/ops/families.h"

namespace slipway {
namespace {

using Index = std::map<std::pair<std::string_view, std::string_view>, std::vector<const OpSpec*>>;

const Index& op_index() {
  static const Index index = [] {
    Index built;
    for (std::span<const OpSpec> family : op_families())
      for (const OpSpec& spec : family) built[{spec.domain, spec.name}].push_back(&spec);
    return built;
  }();
  return index;
}

std::string_view canonical(std::string_view domain) { return domain == "ai.onnx" ? std::string_view() : domain; }

}  // namespace

const ValueFacts& InferContext::input(size_t i) const {
  if (!has_input(i)) reject(fmt::format("input {} is missing", i));
  return *inputs_[i];
}

std::optional<std::vector<int64_t>> InferContext::ints(size_t i) const {
  if (!has_input(i)) return std::nullopt;
  if (input(i).constant != nullptr) return to_ints(*input(i).constant);
  if (!input(i).dims) return std::nullopt;
  std::vector<int64_t> values;
  for (const Dim& d : *input(i).dims) {
    if (!d.is_known()) return std::nullopt;
    values.push_back(d.value());
  }
  return values;
}

std::optional<std::vector<Dim>> InferContext::dims(size_t i) const {
  if (!has_input(i)) return std::nullopt;
  if (input(i).dims) return input(i).dims;
  const auto values = ints(i);
  if (!values) return std::nullopt;
  for (int64_t v : *values)
    if (v < 0) return std::nullopt;
  return std::vector<Dim>(values->begin(), values->end());
}

void InferContext::set_output(size_t i, DType dtype, Shape shape) {
  if (i >= outputs_.size()) return;
  outputs_[i].dtype = dtype;
  outputs_[i].shape = std::move(shape);
}

void InferContext::set_output_dims(size_t i, std::vector<Dim> dims) {
  if (i < outputs_.size()) outputs_[i].dims = std::move(dims);
}

void reject(const Node& node, std::string_view what) {
  fail(ErrorCode::kInvalidModel, "The model is not valid at {}: {}", node.label(), what);
}

void InferContext::reject(std::string_view what) const { slipway::reject(node, what); }

const Tensor& EvalContext::input(size_t i) const {
  if (!has_input(i)) reject(fmt::format("input {} is missing", i));
  return *inputs_[i];
}

void EvalContext::set_output(size_t i, Tensor tensor) {
  if (i < outputs_.size()) outputs_[i] = std::move(tensor);
}

void EvalContext::reject(std::string_view what) const { slipway::reject(node, what); }

const OpSpec* find_op(std::string_view domain, std::string_view name, int64_t opset) {
  const auto it = op_index().find({canonical(domain), name});
  if (it == op_index().end()) return nullptr;
  for (const OpSpec* spec : it->second)
    if (spec->since <= opset && opset <= spec->until) return spec;
  return nullptr;
}

const OpSpec* find_op(const Graph& graph, const Node& node) {
  const int64_t opset = node.domain == kFusedDomain ? 1 : graph.opset(node.domain);
  return find_op(node.domain, node.op_type, opset);
}

const OpSpec& require_op(const Graph& graph, const Node& node) {
  if (const OpSpec* spec = find_op(graph, node)) return *spec;
  fail(ErrorCode::kUnsupported,
       "The operator is not supported; export the model with other operators or an opset of up to 27: {} in domain "
       "'{}' at opset {}",
       node.label(), node.domain.empty() ? "ai.onnx" : node.domain, graph.opset(node.domain));
}

std::vector<const OpSpec*> all_ops() {
  std::vector<const OpSpec*> specs;
  for (std::span<const OpSpec> family : op_families())
    for (const OpSpec& spec : family) specs.push_back(&spec);
  return specs;
}

Cost cost_of(const Graph& graph, const Node& node) {
  const OpSpec* spec = find_op(graph, node);
  std::vector<Dims> inputs, outputs;
  Cost cost;
  const auto collect = [&](const std::vector<ValueId>& ids, std::vector<Dims>& into) {
    for (ValueId id : ids) {
      into.emplace_back();
      if (id == kNoValue) continue;
      if (!graph.value(id).shape.is_static()) return false;
      into.back() = graph.value(id).shape.to_dims();
      cost.bytes += static_cast<double>(bytes_of(graph.value(id).dtype, element_count(into.back())));
    }
    return true;
  };
  if (spec == nullptr || !collect(node.inputs, inputs) || !collect(node.outputs, outputs)) return {};
  if (spec->flops != nullptr)
    cost.flops = spec->flops({node, inputs, outputs});
  else if (spec->has(kElementwise) && !outputs.empty())
    cost.flops = static_cast<double>(element_count(outputs[0]));
  return cost;
}

}  // namespace slipway
