#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/attribute.h"
#include "model/dtype.h"
#include "model/shape.h"
#include "model/tensor.h"

namespace slipway {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNoValue = -1;
inline constexpr NodeId kNoNode = -1;

/// The internal domain of fused operators; everything in it is lowered away or exported as standard ONNX.
inline constexpr std::string_view kFusedDomain = "slipway";

struct Use {
  NodeId node;
  int input;  ///< index into Node::inputs, or inputs.size() + i for captures[i]
  bool operator==(const Use&) const = default;
};

/// A tensor that flows: a graph input, a constant (initialiser), a capture from the enclosing graph, or a node's
/// output.
struct Value {
  std::string name;
  DType dtype = DType::kUndefined;
  Shape shape;
  NodeId producer = kNoNode;
  int producer_output = 0;
  std::vector<Use> uses;
  std::shared_ptr<const Tensor> constant;  ///< set for constants
  bool is_input = false;
  int capture = -1;  ///< index into the enclosing node's captures, in a subgraph
  bool alive = true;
  bool is_constant() const { return constant != nullptr; }
};

struct Node {
  std::string op_type;
  std::string domain;  ///< "" is ai.onnx
  std::string name;
  std::vector<ValueId> inputs;    ///< kNoValue where an optional input is absent
  std::vector<ValueId> outputs;   ///< kNoValue where an optional output is absent
  std::vector<ValueId> captures;  ///< values of this graph that the node's subgraphs read
  Attributes attributes;
  std::vector<std::string> origins;  ///< names of the original nodes that this one stands for (itself included)
  int64_t sequence = 0;              ///< ties in topological order
  bool alive = true;

  bool is(std::string_view op) const { return op_type == op && domain.empty(); }
  bool is_fused(std::string_view op) const { return op_type == op && domain == kFusedDomain; }
  bool has_input(size_t i) const { return i < inputs.size() && inputs[i] != kNoValue; }
  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
  bool has(std::string_view attribute) const { return attributes.find(attribute) != attributes.end(); }
  /// Attribute values; the fallback when absent. Fail with kInvalidModel when the attribute has another type.
  int64_t integer(std::string_view attribute, int64_t fallback) const;
  float real(std::string_view attribute, float fallback) const;
  std::string text(std::string_view attribute, std::string_view fallback) const;
  std::vector<int64_t> integers(std::string_view attribute, std::vector<int64_t> fallback = {}) const;
  std::vector<float> reals(std::string_view attribute, std::vector<float> fallback = {}) const;
  const Tensor* tensor(std::string_view attribute) const;  ///< nullptr when absent
  /// "Conv 'layer1/conv' (output 'x12')" for messages.
  std::string label() const;
};

/// Graphs inside graphs, as deep as they are inferred and evaluated.
inline constexpr int kMaxSubgraphDepth = 32;

struct NodeSpec {
  std::string op_type;
  std::string domain;
  std::string name;
  std::vector<ValueId> inputs;
  Attributes attributes;
};

/// A model: values and nodes in SSA form with ONNX operator semantics. All edits go through the methods below, which
/// keep uses, names and topology right; ids, and references to values and nodes, stay valid until erased. A value,
/// copied deeply.
class Graph {
 public:
  std::string name;
  std::string doc;
  std::string producer_name, producer_version;
  int64_t ir_version = 8;
  std::map<std::string, int64_t, std::less<>> opsets;        ///< domain → version; "" is ai.onnx
  std::map<std::string, std::string, std::less<>> metadata;  ///< ONNX metadata_props

  Graph() = default;
  Graph(const Graph& other);  ///< subgraphs are copied too
  Graph& operator=(const Graph& other);
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;

  int64_t opset(std::string_view domain = "") const;  ///< 0 when the model does not import it

  // Reading.
  const Value& value(ValueId id) const { return values_[static_cast<size_t>(id)]; }
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  ValueId value_limit() const { return static_cast<ValueId>(values_.size()); }  ///< ids are below; some are dead
  NodeId node_limit() const { return static_cast<NodeId>(nodes_.size()); }
  size_t node_count() const;
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  ValueId find(std::string_view value_name) const;  ///< kNoValue when there is none
  /// Alive nodes, producers before users, ties by sequence. Fails with kInvalidModel on a cycle.
  std::vector<NodeId> topological_order() const;
  bool is_output(ValueId id) const;
  /// The only node that reads the value, when there is exactly one use and it is no graph output; kNoNode otherwise.
  NodeId only_user(ValueId id) const;
  /// The node that makes the value; nullptr for inputs, constants and kNoValue.
  const Node* producer(ValueId id) const;
  const Tensor* constant(ValueId id) const { return id == kNoValue ? nullptr : value(id).constant.get(); }

  // Editing.
  ValueId add_input(std::string value_name, DType dtype, Shape shape);
  ValueId add_constant(std::string value_name, Tensor tensor);
  /// In a subgraph: a value that stands for captures[index] of the enclosing node.
  ValueId add_capture(std::string value_name, int index, DType dtype, Shape shape);
  /// A node with fresh outputs of these names ("" leaves an optional output out; a taken name gets a suffix).
  /// `like` gives the place in ties of topological order and, with its origins, provenance.
  NodeId add_node(NodeSpec spec, std::span<const std::string> output_names, NodeId like = kNoNode);
  /// The same with one output; returns the value.
  ValueId add_node(NodeSpec spec, std::string output_name, NodeId like = kNoNode);
  void add_output(ValueId id) { outputs_.push_back(id); }
  void set_output(size_t index, ValueId id) { outputs_[index] = id; }
  void clear_outputs() { outputs_.clear(); }
  void set_input(NodeId node, size_t index, ValueId id);
  void set_inputs(NodeId node, std::vector<ValueId> ids);
  void set_captures(NodeId node, std::vector<ValueId> ids);
  void set_attribute(NodeId node, std::string_view attribute, Attribute value);
  void erase_attribute(NodeId node, std::string_view attribute);
  void rename_node(NodeId node, std::string new_name);
  void set_op(NodeId node, std::string op_type, std::string domain);
  void add_origins(NodeId node, std::span<const std::string> origins);
  void set_type(ValueId id, DType dtype, Shape shape);
  void rename(ValueId id, std::string new_name);  ///< a taken name gets a suffix
  /// Every use of `from`, graph outputs included, reads `to` instead. A graph output keeps its name: `to` takes it over
  /// when it is a node's output and not itself a graph output; otherwise an Identity node is put between.
  void replace_uses(ValueId from, ValueId to);
  /// Fails an invariant unless no value of the node is used.
  void erase_node(NodeId node);
  /// An input or constant without uses.
  void erase_value(ValueId id);
  void set_constant(ValueId id, Tensor tensor);  ///< replaces a constant's tensor, type and shape
  /// `base`, or `base_1`, `base_2`, … : the first that no value has.
  std::string fresh_name(std::string_view base) const;

 private:
  ValueId add_value(Value value);
  void add_use(ValueId id, Use use);
  void remove_use(ValueId id, Use use);

  std::deque<Value> values_;  // deques: what is added moves nothing
  std::deque<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_;
  std::unordered_map<std::string, ValueId> names_;
  int64_t next_sequence_ = 0;
};

/// Checks the graph against its rules (ids, uses, names, arity, acyclicity, subgraph captures; with `ops`, that every
/// operator is known with its arity). Fails with kInvalidModel naming the place. Runs after every pass in checked
/// builds.
void verify(const Graph& graph, bool ops = true);

/// The text form (text.cc shows it). A space stands between a value's name and the colon of its type, since names such
/// as x:0 are common. Constants above `inline_elements` are written as base64, or as "..." when `elide` is set (then it
/// does not parse back).
struct TextOptions {
  int64_t inline_elements = 16;
  bool elide = false;
  /// Set: takes such constants, and gives the number that is written in their place.
  std::function<int64_t(const Tensor&)> keep = {};
};
std::string to_text(const Graph& graph, const TextOptions& options = {});
/// Gives back the tensor of that type and shape which TextOptions::keep took.
using KeptTensors = std::function<Tensor(int64_t number, DType dtype, const Dims& dims)>;
/// Parses the text form; fails with kInvalidModel, naming the line.
Graph parse_text(std::string_view text, const KeptTensors& kept = {});

}  // namespace slipway
