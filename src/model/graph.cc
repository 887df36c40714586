// The Graph and its editor. Values and nodes live in vectors and die in place, so ids stay valid; uses are kept in both
// directions; names of values are unique. Topological order is computed on demand (Kahn, ties by sequence).
#include "model/graph.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "base/error.h"

namespace slipway {
namespace {

template <typename T>
T attribute_or(const Node& node, std::string_view name, T fallback) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return fallback;
  if (const T* value = std::get_if<T>(&it->second)) return *value;
  fail(ErrorCode::kInvalidModel, "An attribute has the wrong type: '{}' of {}", name, node.label());
}

void copy_subgraphs(Attributes& attributes) {
  for (auto& [name, attribute] : attributes) {
    if (auto* graph = std::get_if<GraphPtr>(&attribute)) *graph = std::make_shared<Graph>(**graph);
    if (auto* graphs = std::get_if<std::vector<GraphPtr>>(&attribute))
      for (GraphPtr& graph : *graphs) graph = std::make_shared<Graph>(*graph);
  }
}

}  // namespace

int64_t Node::integer(std::string_view attribute, int64_t fallback) const {
  return attribute_or(*this, attribute, fallback);
}
float Node::real(std::string_view attribute, float fallback) const { return attribute_or(*this, attribute, fallback); }
std::string Node::text(std::string_view attribute, std::string_view fallback) const {
  return attribute_or(*this, attribute, std::string(fallback));
}
std::vector<int64_t> Node::integers(std::string_view attribute, std::vector<int64_t> fallback) const {
  return attribute_or(*this, attribute, std::move(fallback));
}
std::vector<float> Node::reals(std::string_view attribute, std::vector<float> fallback) const {
  return attribute_or(*this, attribute, std::move(fallback));
}

const Tensor* Node::tensor(std::string_view attribute) const {
  const auto it = attributes.find(attribute);
  return it == attributes.end() ? nullptr : std::get_if<Tensor>(&it->second);
}

std::string Node::label() const {
  const std::string op = domain.empty() ? op_type : domain + "." + op_type;
  return name.empty() ? fmt::format("{} (unnamed)", op) : fmt::format("{} '{}'", op, name);
}

Graph::Graph(const Graph& other)
    : name(other.name),
      doc(other.doc),
      producer_name(other.producer_name),
      producer_version(other.producer_version),
      ir_version(other.ir_version),
      opsets(other.opsets),
      metadata(other.metadata),
      values_(other.values_),
      nodes_(other.nodes_),
      inputs_(other.inputs_),
      outputs_(other.outputs_),
      names_(other.names_),
      next_sequence_(other.next_sequence_) {
  for (Node& n : nodes_) copy_subgraphs(n.attributes);
}

Graph& Graph::operator=(const Graph& other) { return *this = Graph(other); }

int64_t Graph::opset(std::string_view domain) const {
  const auto it = opsets.find(domain == "ai.onnx" ? "" : domain);
  return it == opsets.end() ? 0 : it->second;
}

size_t Graph::node_count() const {
  return static_cast<size_t>(std::count_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return n.alive; }));
}

ValueId Graph::find(std::string_view value_name) const {
  const auto it = names_.find(std::string(value_name));
  return it == names_.end() ? kNoValue : it->second;
}

std::vector<NodeId> Graph::topological_order() const {
  using Entry = std::pair<int64_t, NodeId>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> ready;
  std::vector<int> waiting(nodes_.size(), 0);
  size_t alive = 0;
  for (NodeId id = 0; id < node_limit(); ++id) {
    const Node& n = node(id);
    if (!n.alive) continue;
    ++alive;
    for (const auto* list : {&n.inputs, &n.captures})
      for (ValueId v : *list)
        if (v != kNoValue && value(v).producer != kNoNode) ++waiting[static_cast<size_t>(id)];
    if (waiting[static_cast<size_t>(id)] == 0) ready.emplace(n.sequence, id);
  }
  std::vector<NodeId> order;
  order.reserve(alive);
  while (!ready.empty()) {
    const NodeId id = ready.top().second;
    ready.pop();
    order.push_back(id);
    for (ValueId v : node(id).outputs) {
      if (v == kNoValue) continue;
      for (const Use& use : value(v).uses)
        if (--waiting[static_cast<size_t>(use.node)] == 0) ready.emplace(node(use.node).sequence, use.node);
    }
  }
  if (order.size() != alive) {
    for (NodeId id = 0; id < node_limit(); ++id)
      if (node(id).alive && waiting[static_cast<size_t>(id)] > 0)
        fail(ErrorCode::kInvalidModel, "The graph has a cycle; export the model again: through {}", node(id).label());
  }
  return order;
}

bool Graph::is_output(ValueId id) const { return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end(); }

NodeId Graph::only_user(ValueId id) const {
  const Value& v = value(id);
  return v.uses.size() == 1 && !is_output(id) ? v.uses[0].node : kNoNode;
}

const Node* Graph::producer(ValueId id) const {
  return id == kNoValue || value(id).producer == kNoNode ? nullptr : &node(value(id).producer);
}

ValueId Graph::add_value(Value v) {
  v.name = fresh_name(v.name);
  const auto id = static_cast<ValueId>(values_.size());
  names_.emplace(v.name, id);
  values_.push_back(std::move(v));
  return id;
}

ValueId Graph::add_input(std::string value_name, DType dtype, Shape shape) {
  Value v;
  v.name = std::move(value_name);
  v.dtype = dtype;
  v.shape = std::move(shape);
  v.is_input = true;
  const ValueId id = add_value(std::move(v));
  inputs_.push_back(id);
  return id;
}

ValueId Graph::add_constant(std::string value_name, Tensor tensor) {
  Value v;
  v.name = std::move(value_name);
  v.dtype = tensor.dtype();
  v.shape = Shape::of(tensor.dims());
  v.constant = std::make_shared<const Tensor>(std::move(tensor));
  return add_value(std::move(v));
}

ValueId Graph::add_capture(std::string value_name, int index, DType dtype, Shape shape) {
  Value v;
  v.name = std::move(value_name);
  v.dtype = dtype;
  v.shape = std::move(shape);
  v.capture = index;
  return add_value(std::move(v));
}

NodeId Graph::add_node(NodeSpec spec, std::span<const std::string> output_names, NodeId like) {
  const NodeId id = node_limit();
  Node n;
  n.op_type = std::move(spec.op_type);
  n.domain = std::move(spec.domain);
  n.name = std::move(spec.name);
  n.attributes = std::move(spec.attributes);
  n.sequence = like == kNoNode ? next_sequence_++ : node(like).sequence;
  if (like != kNoNode)
    n.origins = node(like).origins;
  else if (!n.name.empty())
    n.origins.push_back(n.name);
  nodes_.push_back(std::move(n));
  set_inputs(id, std::move(spec.inputs));
  for (size_t i = 0; i < output_names.size(); ++i) {
    ValueId out = kNoValue;
    if (!output_names[i].empty()) {
      Value v;
      v.name = output_names[i];
      v.producer = id;
      v.producer_output = static_cast<int>(i);
      out = add_value(std::move(v));
    }
    nodes_.back().outputs.push_back(out);
  }
  return id;
}

ValueId Graph::add_node(NodeSpec spec, std::string output_name, NodeId like) {
  const NodeId id = add_node(std::move(spec), std::span<const std::string>(&output_name, 1), like);
  return node(id).outputs[0];
}

void Graph::add_use(ValueId id, Use use) {
  if (id != kNoValue) values_[static_cast<size_t>(id)].uses.push_back(use);
}

void Graph::remove_use(ValueId id, Use use) {
  if (id == kNoValue) return;
  auto& uses = values_[static_cast<size_t>(id)].uses;
  const auto it = std::find(uses.begin(), uses.end(), use);
  SLIPWAY_CHECK(it != uses.end());
  uses.erase(it);
}

void Graph::set_input(NodeId id, size_t index, ValueId v) {
  Node& n = nodes_[static_cast<size_t>(id)];
  const Use use{id, static_cast<int>(index)};
  remove_use(n.inputs[index], use);
  n.inputs[index] = v;
  add_use(v, use);
}

void Graph::set_inputs(NodeId id, std::vector<ValueId> ids) {
  Node& n = nodes_[static_cast<size_t>(id)];
  std::vector<ValueId> captures = n.captures;
  set_captures(id, {});
  for (size_t i = 0; i < n.inputs.size(); ++i) remove_use(n.inputs[i], {id, static_cast<int>(i)});
  n.inputs = std::move(ids);
  for (size_t i = 0; i < n.inputs.size(); ++i) add_use(n.inputs[i], {id, static_cast<int>(i)});
  set_captures(id, std::move(captures));
}

void Graph::set_captures(NodeId id, std::vector<ValueId> ids) {
  Node& n = nodes_[static_cast<size_t>(id)];
  const size_t base = n.inputs.size();
  for (size_t i = 0; i < n.captures.size(); ++i) remove_use(n.captures[i], {id, static_cast<int>(base + i)});
  n.captures = std::move(ids);
  for (size_t i = 0; i < n.captures.size(); ++i) add_use(n.captures[i], {id, static_cast<int>(base + i)});
}

void Graph::set_attribute(NodeId id, std::string_view attribute, Attribute v) {
  nodes_[static_cast<size_t>(id)].attributes.insert_or_assign(std::string(attribute), std::move(v));
}

void Graph::erase_attribute(NodeId id, std::string_view attribute) {
  auto& attributes = nodes_[static_cast<size_t>(id)].attributes;
  if (const auto it = attributes.find(attribute); it != attributes.end()) attributes.erase(it);
}

void Graph::rename_node(NodeId id, std::string new_name) { nodes_[static_cast<size_t>(id)].name = std::move(new_name); }

void Graph::set_op(NodeId id, std::string op_type, std::string domain) {
  nodes_[static_cast<size_t>(id)].op_type = std::move(op_type);
  nodes_[static_cast<size_t>(id)].domain = std::move(domain);
}

void Graph::add_origins(NodeId id, std::span<const std::string> origins) {
  auto& own = nodes_[static_cast<size_t>(id)].origins;
  for (const std::string& origin : origins)
    if (std::find(own.begin(), own.end(), origin) == own.end()) own.push_back(origin);
}

void Graph::set_type(ValueId id, DType dtype, Shape shape) {
  values_[static_cast<size_t>(id)].dtype = dtype;
  values_[static_cast<size_t>(id)].shape = std::move(shape);
}

void Graph::rename(ValueId id, std::string new_name) {
  Value& v = values_[static_cast<size_t>(id)];
  if (v.name == new_name) return;
  names_.erase(v.name);
  v.name = fresh_name(new_name);
  names_.emplace(v.name, id);
}

void Graph::replace_uses(ValueId from, ValueId to) {
  SLIPWAY_CHECK(from != to);
  const std::vector<Use> uses = value(from).uses;
  for (const Use& use : uses) {
    Node& n = nodes_[static_cast<size_t>(use.node)];
    const auto index = static_cast<size_t>(use.input);
    remove_use(from, use);
    (index < n.inputs.size() ? n.inputs[index] : n.captures[index - n.inputs.size()]) = to;
    add_use(to, use);
  }
  if (!is_output(from)) return;
  const std::string output_name = value(from).name;
  rename(from, output_name + "_replaced");
  if (value(to).producer == kNoNode || is_output(to)) {
    const NodeId like = value(from).producer;
    to = add_node({.op_type = "Identity", .name = output_name, .inputs = {to}}, output_name, like);
    set_type(to, value(from).dtype, value(from).shape);
  } else {
    rename(to, output_name);
  }
  std::replace(outputs_.begin(), outputs_.end(), from, to);
}

void Graph::erase_node(NodeId id) {
  Node& n = nodes_[static_cast<size_t>(id)];
  set_inputs(id, {});
  set_captures(id, {});
  for (ValueId out : n.outputs) {
    if (out == kNoValue) continue;
    Value& v = values_[static_cast<size_t>(out)];
    SLIPWAY_CHECK(v.uses.empty() && !is_output(out));
    names_.erase(v.name);
    v = Value{};
    v.alive = false;
  }
  n = Node{};
  n.alive = false;
}

void Graph::erase_value(ValueId id) {
  Value& v = values_[static_cast<size_t>(id)];
  SLIPWAY_CHECK(v.uses.empty() && v.producer == kNoNode && !is_output(id));
  if (v.is_input) std::erase(inputs_, id);
  names_.erase(v.name);
  v = Value{};
  v.alive = false;
}

void Graph::set_constant(ValueId id, Tensor tensor) {
  Value& v = values_[static_cast<size_t>(id)];
  SLIPWAY_CHECK(v.is_constant());
  v.dtype = tensor.dtype();
  v.shape = Shape::of(tensor.dims());
  v.constant = std::make_shared<const Tensor>(std::move(tensor));
}

std::string Graph::fresh_name(std::string_view base) const {
  std::string candidate(base.empty() ? "value" : base);
  for (int i = 1; names_.contains(candidate); ++i) candidate = fmt::format("{}_{}", base.empty() ? "value" : base, i);
  return candidate;
}

}  // namespace slipway
