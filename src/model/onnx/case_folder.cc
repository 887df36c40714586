// Reading ONNX's test cases, and comparing as ONNX's own runner does (numpy's allclose).
#include "model/onnx/case_folder.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr int kFolderDepth = 4;

void collect_cases(const std::string& folder, int depth, std::vector<std::string>& found) {
  if (file_exists(join_path(folder, "model.onnx"))) return found.push_back(folder);
  if (depth == 0) return;
  for (const std::string& name : list_folder(folder))
    if (const std::string path = join_path(folder, name); is_folder(path)) collect_cases(path, depth - 1, found);
}

std::vector<Tensor> load_values(const std::string& folder, std::string_view kind, const Graph& graph,
                                const std::vector<ValueId>& ids) {
  std::vector<Tensor> values;
  for (size_t i = 0;; ++i) {
    const std::string path = join_path(folder, fmt::format("{}_{}.pb", kind, i));
    if (!file_exists(path)) return values;
    values.push_back(load_value_pb(path, i < ids.size() ? graph.value(ids[i]).dtype : DType::kUndefined));
  }
}

void restore_bfloat16(std::vector<Tensor>& tensors, const Graph& graph, const std::vector<ValueId>& ids) {
  for (size_t i = 0; i < std::min(tensors.size(), ids.size()); ++i) {
    if (graph.value(ids[i]).dtype != DType::kBfloat16 || tensors[i].dtype() != DType::kUint16) continue;
    const auto owner = std::make_shared<const Tensor>(tensors[i]);
    tensors[i] = Tensor::view(DType::kBfloat16, owner->dims(), owner->raw(), owner);
  }
}

bool is_close(double actual, double expected, const CaseTolerance& tolerance) {
  if (std::isnan(expected) || std::isnan(actual)) return std::isnan(expected) == std::isnan(actual);
  if (std::isinf(expected) || std::isinf(actual)) return expected == actual;
  return std::fabs(actual - expected) <= tolerance.absolute + tolerance.relative * std::fabs(expected);
}

std::string items_difference(const Tensor& actual, const Tensor& expected, bool values,
                             const CaseTolerance& tolerance) {
  if (actual.items().size() != expected.items().size())
    return fmt::format("{} items instead of {}", actual.items().size(), expected.items().size());
  for (size_t i = 0; i < expected.items().size(); ++i)
    if (std::string text = case_difference(actual.items()[i], expected.items()[i], values, tolerance); !text.empty())
      return fmt::format("item {}: {}", i, text);
  return "";
}

}  // namespace

std::vector<std::string> case_folders(const std::string& folder) {
  std::vector<std::string> found;
  collect_cases(folder, kFolderDepth, found);
  return found;
}

std::vector<CaseData> load_case_data(const std::string& folder, const Graph& graph) {
  std::vector<CaseData> sets;
  for (const std::string& name : list_folder(folder)) {
    if (!name.starts_with("test_data_set_")) continue;
    CaseData& data = sets.emplace_back();
    data.inputs = load_values(join_path(folder, name), "input", graph, graph.inputs());
    data.outputs = load_values(join_path(folder, name), "output", graph, graph.outputs());
    restore_bfloat16(data.inputs, graph, graph.inputs());
    restore_bfloat16(data.outputs, graph, graph.outputs());
  }
  return sets;
}

std::string operator_of_case(const std::string& folder) {
  onnx::ModelProto model;
  read_model(join_path(folder, "model.onnx"), model);
  std::string found;
  for (const auto& node : model.graph().node()) {
    const std::string domain = canonical_domain(node.domain());
    std::string name = domain.empty() ? node.op_type() : domain + "." + node.op_type();
    if (!found.empty() && found != name) return "several";
    found = std::move(name);
  }
  return found.empty() ? "none" : found;
}

bool is_random(const Graph& graph) {
  for (NodeId id : graph.topological_order())
    if (const OpSpec* spec = find_op(graph, graph.node(id)); spec != nullptr && spec->has(kNondeterministic))
      return true;
  return false;
}

std::string case_difference(const Tensor& actual, const Tensor& expected, bool values, const CaseTolerance& tolerance) {
  const bool empty = is_sequence(expected.dtype()) && expected.items().empty();  // a file does not say of what
  if (actual.dtype() != expected.dtype() && !(empty && is_sequence(actual.dtype())))
    return fmt::format("type {} instead of {}", to_string(actual.dtype()), to_string(expected.dtype()));
  if (actual.dims() != expected.dims())
    return fmt::format("shape {} instead of {}", to_string(actual.dims()), to_string(expected.dims()));
  if (is_sequence(expected.dtype())) return items_difference(actual, expected, values, tolerance);
  if (!values) return "";
  if (!is_float(expected.dtype()) && !is_small_float(expected.dtype()))
    return actual.identical(expected) ? "" : "other values";
  const std::vector<double> a = to_doubles(actual), e = to_doubles(expected);
  for (size_t i = 0; i < e.size(); ++i)
    if (!is_close(a[i], e[i], tolerance)) return fmt::format("element {} is {} instead of {}", i, a[i], e[i]);
  return "";
}

}  // namespace slipway
