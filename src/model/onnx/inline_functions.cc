// Model-local functions become their bodies before the import, so that the rest of the program never meets one. Inside
// a body every name gets the call's prefix; formal inputs and outputs become the actual ones; attribute references take
// the call's attribute or the function's default. Depth, and what the expansion may grow to, are bounded.
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "model/onnx/proto.h"
#include "model/op.h"

namespace slipway {
namespace {

constexpr size_t kMaxExpandedBytes = size_t{256} << 20;
constexpr size_t kMaxExpandedNodes = 200'000;

std::string key_of(const std::string& domain, const std::string& name, const std::string& overload) {
  return canonical_domain(domain) + '\n' + name + '\n' + overload;
}

struct Function {
  const onnx::FunctionProto* proto;
  std::map<std::string, onnx::AttributeProto> defaults;
};

// Names of one lexical level of a body and what they are called at the place of the call.
struct NameScope {
  const NameScope* outer = nullptr;
  std::unordered_map<std::string, std::string> names = {};
  const std::string* find(const std::string& name) const {
    for (const NameScope* scope = this; scope != nullptr; scope = scope->outer)
      if (const auto it = scope->names.find(name); it != scope->names.end()) return &it->second;
    return nullptr;
  }
};

class Inliner {
 public:
  explicit Inliner(onnx::ModelProto& model) : model_(model) {
    for (const auto& import : model.opset_import()) opsets_[canonical_domain(import.domain())] = import.version();
    for (const auto& proto : model.functions()) {
      Function function{.proto = &proto, .defaults = {}};
      for (auto& attribute : default_attributes(proto)) function.defaults[attribute.name()] = attribute;
      if (!functions_.emplace(key_of(proto.domain(), proto.name(), overload_of(proto)), std::move(function)).second)
        fail(ErrorCode::kInvalidModel, "Two functions have one name; export the model again: '{}'", proto.name());
    }
    collect_names(model.graph(), 0);
  }

  void run() {
    expand_graph(*model_.mutable_graph(), 0);
    for (const auto& [domain, version] : opsets_) {
      bool known = false;
      for (const auto& import : model_.opset_import()) known |= canonical_domain(import.domain()) == domain;
      if (known) continue;
      auto* import = model_.add_opset_import();
      import->set_domain(domain);
      import->set_version(version);
    }
  }

 private:
  using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

  static void check_depth(int depth, const std::string& where) {
    if (depth > kMaxDepth)
      fail(ErrorCode::kInvalidModel,
           "Functions or subgraphs are nested deeper than {} levels, or call each other in a circle: at '{}'",
           kMaxDepth, where);
  }

  void collect_names(const onnx::GraphProto& graph, int depth) {
    check_depth(depth, graph.name());
    for (const auto& input : graph.input()) taken_.insert(input.name());
    for (const auto& tensor : graph.initializer()) taken_.insert(tensor.name());
    for (const auto& node : graph.node()) {
      taken_.insert(node.output().begin(), node.output().end());
      for (const auto& attribute : node.attribute()) {
        if (attribute.has_g()) collect_names(attribute.g(), depth + 1);
        for (const auto& g : attribute.graphs()) collect_names(g, depth + 1);
      }
    }
  }

  std::string fresh(const std::string& base) {
    std::string name = base;
    while (!taken_.insert(name).second) name = fmt::format("{}_{}", base, ++serial_);
    return name;
  }

  void expand_graph(onnx::GraphProto& graph, int depth) {
    check_depth(depth, graph.name());
    expand_nodes(*graph.mutable_node(), depth);
  }

  void expand_nodes(Nodes& nodes, int depth) {
    Nodes expanded;
    for (auto& node : nodes) expand_node(std::move(node), expanded, depth);
    nodes.Swap(&expanded);
  }

  void expand_node(onnx::NodeProto node, Nodes& out, int depth) {
    check_depth(depth, node.name());
    const auto it = functions_.find(key_of(node.domain(), node.op_type(), overload_of(node)));
    if (it != functions_.end()) return expand_call(node, it->second, out, depth + 1);
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) expand_graph(*attribute.mutable_g(), depth + 1);
      for (auto& g : *attribute.mutable_graphs()) expand_graph(g, depth + 1);
    }
    *out.Add() = std::move(node);
  }

  void expand_call(const onnx::NodeProto& call, const Function& function, Nodes& out, int depth) {
    const onnx::FunctionProto& proto = *function.proto;
    check_depth(depth, call.name());
    check_opsets(proto);
    if (call.input_size() > proto.input_size() || call.output_size() > proto.output_size())
      fail(ErrorCode::kInvalidModel, "A function is called with too many inputs or outputs; export again: {} '{}'",
           call.op_type(), call.name());
    const std::string prefix = (call.name().empty() ? call.op_type() : call.name()) + "/";
    NameScope scope;
    for (int i = 0; i < proto.input_size(); ++i)
      if (!scope.names.emplace(proto.input(i), i < call.input_size() ? call.input(i) : "").second)
        fail(ErrorCode::kInvalidModel, "A function has two inputs of one name; export the model again: '{}'",
             proto.name());
    std::vector<std::pair<std::string, std::string>> copies;  // outputs that are inputs, or named twice
    for (int i = 0; i < call.output_size(); ++i) {
      if (call.output(i).empty()) continue;
      if (!scope.names.emplace(proto.output(i), call.output(i)).second)
        copies.emplace_back(*scope.find(proto.output(i)), call.output(i));
    }
    std::map<std::string, const onnx::AttributeProto*> actual;
    for (const auto& attribute : call.attribute()) actual[attribute.name()] = &attribute;
    for (const auto& node : proto.node())
      for (const auto& name : node.output()) declare(name, scope, prefix);
    for (const onnx::NodeProto& original : proto.node()) {
      onnx::NodeProto node = original;
      ++expanded_nodes_;
      grow(node.ByteSizeLong());
      rename_node(node, scope, prefix, depth);  // first: subgraphs among the call's attributes keep their names
      resolve_attributes(node, actual, function, depth);
      expand_node(std::move(node), out, depth);
    }
    for (const auto& [from, to] : copies) {
      auto& identity = *out.Add();
      identity.set_op_type("Identity");
      identity.set_name(prefix + to);
      identity.add_input(from);
      identity.add_output(to);
    }
  }

  void grow(size_t bytes) {
    expanded_bytes_ += bytes;
    if (expanded_nodes_ > kMaxExpandedNodes || expanded_bytes_ > kMaxExpandedBytes)
      fail(ErrorCode::kInvalidModel, "The model's functions expand to an absurd size; export it without functions");
  }

  // A body may import other versions than the model only where they mean the same operator.
  void check_opsets(const onnx::FunctionProto& proto) {
    std::map<std::string, int64_t> own;
    for (const auto& import : proto.opset_import()) {
      own[canonical_domain(import.domain())] = import.version();
      opsets_.emplace(canonical_domain(import.domain()), import.version());
    }
    for (const auto& node : proto.node()) {
      const std::string domain = canonical_domain(node.domain());
      const auto version = own.find(domain);
      const int64_t global = opsets_[domain];
      if (version == own.end() || version->second == global) continue;
      if (find_op(domain, node.op_type(), version->second) == find_op(domain, node.op_type(), global)) continue;
      fail(ErrorCode::kUnsupported,
           "A function uses another opset than the model; inline it with onnx.inliner first: {} in '{}' at opset {} "
           "and {}",
           node.op_type(), proto.name(), version->second, global);
    }
  }

  void resolve_attributes(onnx::NodeProto& node, const std::map<std::string, const onnx::AttributeProto*>& actual,
                          const Function& function, int depth) {
    check_depth(depth, node.name());
    google::protobuf::RepeatedPtrField<onnx::AttributeProto> resolved;
    for (auto& attribute : *node.mutable_attribute()) {
      if (!attribute.ref_attr_name().empty()) {
        const std::string name = attribute.name();
        const auto given = actual.find(attribute.ref_attr_name());
        const auto fallback = function.defaults.find(attribute.ref_attr_name());
        if (given == actual.end() && fallback == function.defaults.end()) continue;  // optional and absent
        onnx::AttributeProto value = given != actual.end() ? *given->second : fallback->second;
        grow(value.ByteSizeLong());
        value.set_name(name);
        *resolved.Add() = std::move(value);
        continue;
      }
      if (attribute.has_g()) resolve_graph(*attribute.mutable_g(), actual, function, depth + 1);
      for (auto& g : *attribute.mutable_graphs()) resolve_graph(g, actual, function, depth + 1);
      *resolved.Add() = std::move(attribute);
    }
    node.mutable_attribute()->Swap(&resolved);
  }

  void resolve_graph(onnx::GraphProto& graph, const std::map<std::string, const onnx::AttributeProto*>& actual,
                     const Function& function, int depth) {
    for (auto& node : *graph.mutable_node()) resolve_attributes(node, actual, function, depth);
  }

  void declare(const std::string& name, NameScope& scope, const std::string& prefix) {
    if (!name.empty() && !scope.names.contains(name)) scope.names[name] = fresh(prefix + name);
  }

  void rename_node(onnx::NodeProto& node, NameScope& scope, const std::string& prefix, int depth) {
    check_depth(depth, node.name());
    if (!node.name().empty()) node.set_name(prefix + node.name());
    for (auto& name : *node.mutable_input()) rename(name, scope, prefix);
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) rename_graph(*attribute.mutable_g(), scope, prefix, depth + 1);
      for (auto& g : *attribute.mutable_graphs()) rename_graph(g, scope, prefix, depth + 1);
    }
    for (auto& name : *node.mutable_output()) rename(name, scope, prefix);
  }

  void rename(std::string& name, NameScope& scope, const std::string& prefix) {
    if (name.empty()) return;
    if (const std::string* actual = scope.find(name)) {
      name = *actual;
      return;
    }
    declare(name, scope, prefix);  // made by nothing: under a new name, so that the import says so
    name = scope.names[name];
  }

  void rename_graph(onnx::GraphProto& graph, const NameScope& outer, const std::string& prefix, int depth) {
    check_depth(depth, graph.name());
    NameScope scope{.outer = &outer};
    const auto own = [&](std::string& name) {
      declare(name, scope, prefix);
      if (!name.empty()) name = scope.names[name];
    };
    for (auto& tensor : *graph.mutable_initializer()) own(*tensor.mutable_name());
    for (auto& input : *graph.mutable_input()) own(*input.mutable_name());
    for (const auto& node : graph.node())
      for (const auto& name : node.output()) declare(name, scope, prefix);
    for (auto& node : *graph.mutable_node()) rename_node(node, scope, prefix, depth);
    for (auto& output : *graph.mutable_output()) rename(*output.mutable_name(), scope, prefix);
    graph.clear_value_info();
  }

  onnx::ModelProto& model_;
  std::map<std::string, Function> functions_;
  std::map<std::string, int64_t> opsets_;
  std::unordered_set<std::string> taken_;
  size_t expanded_nodes_ = 0, expanded_bytes_ = 0, serial_ = 0;
};

}  // namespace

void inline_functions(onnx::ModelProto& model) {
  if (model.functions_size() > 0) Inliner(model).run();
}

}  // namespace slipway
