// Raising the opset: a table of the operators whose signature or default changed between opsets 7 and 22, in order of
// version, each with its rewrite (ONNX, docs/Changelog.md). Operators that only gained types or attributes whose
// default keeps the old meaning need nothing.
#include "quantize/ptq/opset.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "model/op.h"

namespace slipway {
namespace {

[[noreturn]] void reject(const Graph& graph, NodeId id, int since) {
  fail(ErrorCode::kUnsupported,
       "A node can't be raised to a later opset; export the model again with a newer opset: {} changed at opset {}",
       graph.node(id).label(), since);
}

ValueId ints_constant(Graph& graph, NodeId id, const char* suffix, const std::vector<int64_t>& values) {
  const std::string name = graph.value(graph.node(id).outputs[0]).name + suffix;
  return graph.add_constant(graph.fresh_name(name), Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values));
}

/// The attribute of that name becomes input `index`; nothing when the node lacks it.
void ints_to_input(Graph& graph, NodeId id, std::string_view attribute, size_t index) {
  if (!graph.node(id).has(attribute)) return;
  const std::vector<int64_t> values = graph.node(id).integers(attribute);
  graph.erase_attribute(id, attribute);
  const ValueId constant = ints_constant(graph, id, "_axes", values);
  std::vector<ValueId> inputs = graph.node(id).inputs;
  inputs.resize(std::max(inputs.size(), index + 1), kNoValue);
  inputs[index] = constant;
  graph.set_inputs(id, std::move(inputs));
}

void floats_to_inputs(Graph& graph, NodeId id, std::initializer_list<std::pair<const char*, size_t>> moves) {
  std::vector<ValueId> inputs = graph.node(id).inputs;
  for (const auto& [attribute, index] : moves) {
    if (!graph.node(id).has(attribute)) continue;
    const std::vector<double> value = {graph.node(id).real(attribute, 0)};
    const DType dtype = graph.value(inputs[0]).dtype;
    const std::string name = graph.value(graph.node(id).outputs[0]).name + "_" + attribute;
    inputs.resize(std::max(inputs.size(), index + 1), kNoValue);
    inputs[index] = graph.add_constant(graph.fresh_name(name),
                                       from_doubles(dtype == DType::kUndefined ? DType::kFloat32 : dtype, {}, value));
    graph.erase_attribute(id, attribute);
  }
  graph.set_inputs(id, std::move(inputs));
}

void clip(Graph& graph, NodeId id) { floats_to_inputs(graph, id, {{"min", 1}, {"max", 2}}); }

void pad(Graph& graph, NodeId id) {
  ints_to_input(graph, id, "pads", 1);
  floats_to_inputs(graph, id, {{"value", 2}});
}

void slice(Graph& graph, NodeId id) {
  ints_to_input(graph, id, "starts", 1);
  ints_to_input(graph, id, "ends", 2);
  ints_to_input(graph, id, "axes", 3);
}

void axes(Graph& graph, NodeId id) { ints_to_input(graph, id, "axes", 1); }
void split(Graph& graph, NodeId id) { ints_to_input(graph, id, "split", 1); }

void split_count(Graph& graph, NodeId id) {
  if (!graph.node(id).has_input(1))
    graph.set_attribute(id, "num_outputs", static_cast<int64_t>(graph.node(id).outputs.size()));
}

void top_k(Graph& graph, NodeId id) {
  const int64_t k = graph.node(id).integer("k", 0);
  graph.set_attribute(id, "k", std::vector<int64_t>{k});
  ints_to_input(graph, id, "k", 1);
}

void dropout(Graph& graph, NodeId id) { graph.erase_attribute(id, "ratio"); }

void batch_normalization(Graph& graph, NodeId id) {
  if (graph.node(id).integer("spatial", 1) != 1) reject(graph, id, 9);
  graph.erase_attribute(id, "spatial");
}

void resize(Graph& graph, NodeId id) {
  const std::vector<ValueId> inputs = graph.node(id).inputs;
  graph.set_inputs(id, {inputs[0], kNoValue, inputs[1]});
  graph.set_attribute(id, "coordinate_transformation_mode", std::string("asymmetric"));
  graph.set_attribute(id, "nearest_mode", std::string("floor"));
}

void upsample_scales(Graph& graph, NodeId id) {
  const std::vector<float> scales = graph.node(id).reals("scales");
  graph.erase_attribute(id, "scales");
  const std::string name = graph.value(graph.node(id).outputs[0]).name + "_scales";
  const ValueId constant =
      graph.add_constant(graph.fresh_name(name), Tensor::of<float>({static_cast<int64_t>(scales.size())}, scales));
  graph.set_inputs(id, {graph.node(id).inputs[0], constant});
}
void upsample(Graph& graph, NodeId id) { graph.set_op(id, "Resize", ""); }
void scatter(Graph& graph, NodeId id) { graph.set_op(id, "ScatterElements", ""); }

/// Before opset 13 all axes from `axis` on count as one.
void softmax(Graph& graph, NodeId id) {
  const int64_t axis = graph.node(id).integer("axis", 1);
  const ValueId x = graph.node(id).inputs[0];
  const Shape& shape = graph.value(x).shape;
  if (shape.has_rank()) {
    const auto rank = static_cast<int64_t>(shape.rank());
    const auto is_one = [](const Dim& d) { return d.is_known() && d.value() == 1; };
    const int64_t from = axis < 0 ? axis + rank : axis;
    if (from >= 0 && from < rank && std::all_of(shape.dims().begin() + from + 1, shape.dims().end(), is_one)) {
      graph.set_attribute(id, "axis", from);
      return;
    }
  }
  const ValueId y = graph.node(id).outputs[0];
  const std::string name = graph.value(y).name;
  const ValueId flat =
      graph.add_node({.op_type = "Flatten", .name = name + "_Flatten", .inputs = {x}, .attributes = {{"axis", axis}}},
                     name + "_flat", id);
  const ValueId dims = graph.add_node({.op_type = "Shape", .name = name + "_Shape", .inputs = {x}}, name + "_dims", id);
  const ValueId lanes = graph.add_node({.op_type = graph.node(id).op_type,
                                        .name = graph.node(id).name,
                                        .inputs = {flat},
                                        .attributes = {{"axis", int64_t{-1}}}},
                                       name + "_lanes", id);
  const ValueId shaped =
      graph.add_node({.op_type = "Reshape", .name = name + "_Reshape", .inputs = {lanes, dims}}, name + "_shaped", id);
  graph.set_type(flat, graph.value(x).dtype, Shape::with_rank(2));
  graph.set_type(dims, DType::kInt64, Shape::with_rank(1));
  graph.set_type(lanes, graph.value(x).dtype, Shape::with_rank(2));
  graph.set_type(shaped, graph.value(y).dtype, graph.value(y).shape);
  graph.replace_uses(y, shaped);
  graph.erase_node(id);
}

struct Change {
  std::string_view op;
  int since;
  void (*rewrite)(Graph&, NodeId);  ///< nullptr: the new version can't express the old one
};

constexpr auto kChanges = std::to_array<Change>({
    {"BatchNormalization", 9, batch_normalization},
    {"Upsample", 9, upsample_scales},
    {"Scan", 9, nullptr},
    {"Slice", 10, slice},
    {"TopK", 10, top_k},
    {"Upsample", 10, upsample},
    {"Clip", 11, clip},
    {"Pad", 11, pad},
    {"Resize", 11, resize},
    {"Scatter", 11, scatter},
    {"Dropout", 12, dropout},
    {"Squeeze", 13, axes},
    {"Unsqueeze", 13, axes},
    {"ReduceSum", 13, axes},
    {"Split", 13, split},
    {"Softmax", 13, softmax},
    {"LogSoftmax", 13, softmax},
    {"Hardmax", 13, softmax},
    {"Split", 18, split_count},
    {"ReduceMax", 18, axes},
    {"ReduceMean", 18, axes},
    {"ReduceMin", 18, axes},
    {"ReduceProd", 18, axes},
    {"ReduceL1", 18, axes},
    {"ReduceL2", 18, axes},
    {"ReduceLogSum", 18, axes},
    {"ReduceLogSumExp", 18, axes},
    {"ReduceSumSquare", 18, axes},
    {"GridSample", 20, nullptr},
    {"DFT", 20, nullptr},
    {"GroupNormalization", 21, nullptr},
});
static_assert(std::is_sorted(kChanges.begin(), kChanges.end(),
                             [](const Change& a, const Change& b) { return a.since < b.since; }));

void raise(Graph& graph, int64_t from, int64_t target) {
  for (const Change& change : kChanges) {
    if (change.since <= from || change.since > target) continue;
    const NodeId limit = graph.node_limit();
    for (NodeId id = 0; id < limit; ++id) {
      if (!graph.node(id).alive || !graph.node(id).is(change.op)) continue;
      if (change.rewrite == nullptr) reject(graph, id, change.since);
      change.rewrite(graph, id);
    }
  }
  for (NodeId id = 0; id < graph.node_limit(); ++id) {
    if (!graph.node(id).alive) continue;
    const Attributes attributes = graph.node(id).attributes;
    for (const auto& [name, value] : attributes) {
      if (const auto* subgraph = std::get_if<GraphPtr>(&value)) {
        auto copy = std::make_shared<Graph>(**subgraph);
        raise(*copy, from, target);
        graph.set_attribute(id, name, std::move(copy));
      }
    }
  }
  graph.opsets[""] = target;
}

}  // namespace

void raise_opset(Graph& graph, int64_t target) {
  if (graph.opset() < target) raise(graph, graph.opset(), target);
}

}  // namespace slipway
