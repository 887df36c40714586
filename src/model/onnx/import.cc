// ONNX → Graph. Two passes over a graph's nodes: the first declares every value, so that names resolve in any order;
// the second connects inputs and imports subgraphs. A name that a subgraph does not declare is looked up outward; each
// level that it passes on the way gets a capture. Operators that are compositions of standard ones become these
// (rewrites/). Cycles and arity are verify()'s business, types infer_shapes()'s.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "model/infer.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"
#include "model/onnx/rewrites/rewrite.h"

namespace slipway {
namespace {

constexpr int kStreamBlockBytes = 256 * 1024;
constexpr int kRecursionLimit = 100;  // of protobuf messages inside messages
/// Of a model that imports other domains' operators alone; what passes add to it is written in this one.
constexpr int64_t kAssumedOpset = 17;

Shape shape_of(const onnx::TensorShapeProto& proto, const std::string& name) {
  std::vector<Dim> dims;
  for (const auto& d : proto.dim()) {
    if (d.has_dim_value() && d.dim_value() < -1)
      fail(ErrorCode::kInvalidModel, "A declared dimension is negative; export the model again: {} of '{}'",
           d.dim_value(), name);
    if (d.has_dim_value() && d.dim_value() >= 0)
      dims.emplace_back(d.dim_value());
    else if (d.has_dim_param() && !d.dim_param().empty())
      dims.emplace_back(d.dim_param());
    else
      dims.emplace_back();
  }
  return Shape(std::move(dims));
}

struct DeclaredType {
  DType dtype = DType::kUndefined;
  Shape shape;  ///< of a tensor
};

// A tensor, a sequence of tensors, or an optional one of either; nullopt for what else ONNX has.
std::optional<DType> value_type(const onnx::TypeProto& type, const std::string& where) {
  if (type.value_case() == 0) return DType::kUndefined;
  if (type.has_tensor_type()) return element_type(type.tensor_type().elem_type(), where);
  if (type.has_sequence_type()) {
    const auto& item = type.sequence_type().elem_type();
    if (!item.has_tensor_type()) return std::nullopt;
    return sequence_of(element_type(item.tensor_type().elem_type(), where));
  }
  if (!type.has_optional_type() || type.optional_type().elem_type().has_optional_type()) return std::nullopt;
  const std::optional<DType> inner = value_type(type.optional_type().elem_type(), where);
  return inner ? std::optional(optional_of(*inner)) : std::nullopt;
}

std::optional<DType> value_type(const onnx::ValueInfoProto& info) {
  return value_type(info.type(), "value '" + info.name() + "'");
}

DeclaredType type_of(const onnx::ValueInfoProto& info) {
  const std::optional<DType> dtype = value_type(info);
  if (!dtype)
    fail(ErrorCode::kUnsupported,
         "Of values that are no tensors, only sequences of tensors and optionals are supported; export the model "
         "without maps and sparse tensors: '{}'",
         info.name());
  DeclaredType type{.dtype = *dtype, .shape = {}};
  if (info.type().tensor_type().has_shape()) type.shape = shape_of(info.type().tensor_type().shape(), info.name());
  return type;
}

std::string label_of(const onnx::NodeProto& node) {
  const std::string op = node.domain().empty() ? node.op_type() : node.domain() + "." + node.op_type();
  const std::string& name = !node.name().empty() ? node.name() : node.output_size() > 0 ? node.output(0) : node.name();
  return fmt::format("{} '{}'", op, name);
}

onnx::AttributeProto::AttributeType type_of(const onnx::AttributeProto& a) {
  using A = onnx::AttributeProto;
  if (a.has_type() && a.type() != A::UNDEFINED) return a.type();
  if (a.has_f()) return A::FLOAT;  // old writers leave the type out
  if (a.has_i()) return A::INT;
  if (a.has_s()) return A::STRING;
  if (a.has_t()) return A::TENSOR;
  if (a.has_g()) return A::GRAPH;
  if (a.floats_size() > 0) return A::FLOATS;
  if (a.ints_size() > 0) return A::INTS;
  if (a.strings_size() > 0) return A::STRINGS;
  if (a.tensors_size() > 0) return A::TENSORS;
  if (a.graphs_size() > 0) return A::GRAPHS;
  if (a.has_tp()) return A::TYPE_PROTO;
  return A::UNDEFINED;
}

struct Model {
  ExternalData external;
  int64_t ir_version;
  std::map<std::string, int64_t, std::less<>> opsets;
};

class GraphImporter;

// What the subgraphs of one node read from outside.
struct Captures {
  GraphImporter& outer;
  std::vector<ValueId> ids = {};
  std::unordered_map<std::string, int> index = {};
};

class GraphImporter {
 public:
  GraphImporter(Model& model, Graph& graph, Captures* captures, int depth)
      : model_(model), graph_(graph), captures_(captures), depth_(depth) {
    if (depth > kMaxDepth)
      fail(ErrorCode::kInvalidModel, "Subgraphs are nested deeper than {} levels; export a flatter model: in '{}'",
           kMaxDepth, graph.name);
  }

  void run(onnx::GraphProto& proto) {
    graph_.name = proto.name();
    graph_.ir_version = model_.ir_version;
    graph_.opsets = model_.opsets;
    if (proto.sparse_initializer_size() > 0)
      fail(ErrorCode::kUnsupported, "Sparse initialisers are not supported; save the weights as dense tensors: '{}'",
           proto.sparse_initializer(0).values().name());
    declare_constants_and_inputs(proto);
    std::vector<NodeId> ids;
    for (auto& node : *proto.mutable_node()) ids.push_back(declare(node));
    for (int i = 0; i < proto.node_size(); ++i)
      if (ids[static_cast<size_t>(i)] != kNoNode) connect(ids[static_cast<size_t>(i)], *proto.mutable_node(i));
    for (const auto& info : proto.value_info())
      if (const auto it = names_.find(info.name()); it != names_.end() && value_type(info)) set_type(it->second, info);
    for (const auto& info : proto.output()) {
      const ValueId id = resolve(info.name());
      if (id == kNoValue)
        fail(ErrorCode::kInvalidModel, "A graph output is made by nothing; export the model again: '{}' of graph '{}'",
             info.name(), graph_.name);
      set_type(id, info);
      graph_.add_output(id);
    }
    if (captures_ == nullptr) unzip_maps(graph_);
    rewrite_foreign(graph_);
  }

  ValueId resolve(const std::string& name) {
    if (const auto it = names_.find(name); it != names_.end()) return it->second;
    if (captures_ == nullptr) return kNoValue;
    const ValueId outer = captures_->outer.resolve(name);
    if (outer == kNoValue) return kNoValue;
    const auto [it, fresh] = captures_->index.emplace(name, static_cast<int>(captures_->ids.size()));
    if (fresh) captures_->ids.push_back(outer);
    const Value& value = captures_->outer.graph_.value(outer);
    return names_[name] = graph_.add_capture(name, it->second, value.dtype, value.shape);
  }

 private:
  void add_name(const std::string& name, ValueId id) {
    if (!names_.emplace(name, id).second)
      fail(ErrorCode::kInvalidModel, "Two values of one graph have the same name; export the model again: '{}'", name);
  }

  void set_type(ValueId id, const onnx::ValueInfoProto& info) {
    const Value& value = graph_.value(id);
    if (value.is_constant() || value.is_input || value.capture >= 0 || is_zip_map(graph_.producer(id))) return;
    const DeclaredType type = type_of(info);
    const std::optional<DType> dtype = merge_types(value.dtype, type.dtype);
    if (!dtype)
      fail(ErrorCode::kInvalidModel, "A value is declared with two element types; export the model again: '{}'",
           info.name());
    graph_.set_type(id, *dtype, merge_shapes(value.shape, type.shape, "value '" + info.name() + "'"));
  }

  void declare_constants_and_inputs(onnx::GraphProto& proto) {
    std::unordered_set<std::string> initialised;
    for (const auto& tensor : proto.initializer()) initialised.insert(tensor.name());
    for (const auto& info : proto.input()) {
      if (initialised.contains(info.name())) continue;
      if (info.name().empty())
        fail(ErrorCode::kInvalidModel, "A graph input has no name; export the model again: in graph '{}'", graph_.name);
      DeclaredType type = type_of(info);
      if (type.dtype == DType::kUndefined && captures_ == nullptr)
        fail(ErrorCode::kInvalidModel, "A graph input has no element type; export the model again: '{}'", info.name());
      add_name(info.name(), graph_.add_input(info.name(), type.dtype, std::move(type.shape)));
    }
    for (auto& tensor : *proto.mutable_initializer()) {
      if (tensor.name().empty())
        fail(ErrorCode::kInvalidModel, "An initialiser has no name; export the model again: in graph '{}'",
             graph_.name);
      add_name(tensor.name(), graph_.add_constant(tensor.name(), take_tensor(tensor, model_.external)));
    }
  }

  // The node with its outputs, or a constant.
  NodeId declare(onnx::NodeProto& proto) {
    if (proto.op_type() == "Constant" && canonical_domain(proto.domain()).empty() && proto.output_size() == 1) {
      add_name(proto.output(0), graph_.add_constant(proto.output(0), constant_of(proto)));
      return kNoNode;
    }
    if (proto.domain() == kFusedDomain)
      fail(ErrorCode::kUnsupported,
           "A file can't hold Slipway's internal operators; use the model it was made from: {}", label_of(proto));
    std::vector<std::string> outputs(proto.output().begin(), proto.output().end());
    while (!outputs.empty() && outputs.back().empty()) outputs.pop_back();
    const auto named = std::find_if(outputs.begin(), outputs.end(), [](const auto& o) { return !o.empty(); });
    const std::string& name = !proto.name().empty() || named == outputs.end() ? proto.name() : *named;
    for (const std::string& output : outputs)
      if (!output.empty()) add_name(output, kNoValue);
    const NodeId id = graph_.add_node(
        NodeSpec{.op_type = proto.op_type(), .domain = canonical_domain(proto.domain()), .name = name}, outputs);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (!outputs[i].empty()) names_[outputs[i]] = graph_.node(id).outputs[i];
    return id;
  }

  void connect(NodeId id, onnx::NodeProto& proto) {
    std::vector<ValueId> inputs;
    for (const std::string& name : proto.input()) {
      inputs.push_back(name.empty() ? kNoValue : resolve(name));
      if (!name.empty() && inputs.back() == kNoValue)
        fail(ErrorCode::kInvalidModel, "A node reads a value that nothing makes; export the model again: '{}' at {}",
             name, label_of(proto));
    }
    while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
    graph_.set_inputs(id, std::move(inputs));
    Captures captures{.outer = *this};
    for (auto& attribute : *proto.mutable_attribute()) {
      if (graph_.node(id).has(attribute.name()))
        fail(ErrorCode::kInvalidModel, "A node has one attribute twice; export the model again: '{}' at {}",
             attribute.name(), label_of(proto));
      graph_.set_attribute(id, attribute.name(), attribute_of(attribute, proto, captures));
    }
    graph_.set_captures(id, std::move(captures.ids));
  }

  Attribute attribute_of(onnx::AttributeProto& a, const onnx::NodeProto& node, Captures& captures) {
    using A = onnx::AttributeProto;
    if (!a.ref_attr_name().empty())
      fail(ErrorCode::kInvalidModel,
           "An attribute refers to a function's attribute outside a function; export again: '{}' at {}", a.name(),
           label_of(node));
    switch (type_of(a)) {
      case A::FLOAT:
        return a.f();
      case A::INT:
        return int64_t{a.i()};
      case A::STRING:
        return a.s();
      case A::TENSOR:
        return take_tensor(*a.mutable_t(), model_.external);
      case A::GRAPH:
        return subgraph(*a.mutable_g(), captures);
      case A::FLOATS:
        return std::vector<float>(a.floats().begin(), a.floats().end());
      case A::INTS:
        return std::vector<int64_t>(a.ints().begin(), a.ints().end());
      case A::STRINGS:
        return std::vector<std::string>(a.strings().begin(), a.strings().end());
      case A::TENSORS: {
        std::vector<Tensor> tensors;
        for (auto& t : *a.mutable_tensors()) tensors.push_back(take_tensor(t, model_.external));
        return tensors;
      }
      case A::GRAPHS: {
        std::vector<GraphPtr> graphs;
        for (auto& g : *a.mutable_graphs()) graphs.push_back(subgraph(g, captures));
        return graphs;
      }
      case A::TYPE_PROTO:
        if (const auto type = value_type(a.tp(), label_of(node))) return *type;
        [[fallthrough]];
      default:
        fail(ErrorCode::kUnsupported,
             "An attribute is of a kind that is not supported (sparse tensor or type of a map); export without it: "
             "'{}' at {}",
             a.name(), label_of(node));
    }
  }

  GraphPtr subgraph(onnx::GraphProto& proto, Captures& captures) {
    auto graph = std::make_shared<Graph>();
    GraphImporter(model_, *graph, &captures, depth_ + 1).run(proto);
    return graph;
  }

  Tensor constant_of(onnx::NodeProto& node) {
    if (node.attribute_size() != 1 || node.input_size() != 0)
      fail(ErrorCode::kInvalidModel, "A Constant needs exactly one attribute and no input; export again: {}",
           label_of(node));
    auto& a = *node.mutable_attribute(0);
    Captures none{.outer = *this};
    Attribute value = attribute_of(a, node, none);
    const auto vector = [](const auto& list) { return Dims{static_cast<int64_t>(list.size())}; };
    if (auto* t = std::get_if<Tensor>(&value)) return std::move(*t);
    if (auto* f = std::get_if<float>(&value)) return Tensor::scalar(*f);
    if (auto* i = std::get_if<int64_t>(&value)) return Tensor::scalar(*i);
    if (auto* s = std::get_if<std::string>(&value)) return Tensor::of_strings({}, {*s});
    if (auto* fs = std::get_if<std::vector<float>>(&value)) return Tensor::of(vector(*fs), *fs);
    if (auto* is = std::get_if<std::vector<int64_t>>(&value)) return Tensor::of(vector(*is), *is);
    if (auto* ss = std::get_if<std::vector<std::string>>(&value)) return Tensor::of_strings(vector(*ss), *ss);
    fail(ErrorCode::kInvalidModel, "A Constant holds no tensor; export the model again: {}", label_of(node));
  }

  Model& model_;
  Graph& graph_;
  Captures* captures_;
  int depth_;
  std::unordered_map<std::string, ValueId> names_;
};

void check_versions(const Graph& graph) {
  if (graph.ir_version < kMinIrVersion)
    fail(ErrorCode::kUnsupported, "The file's IR version is older than {}; convert it with onnx.version_converter: {}",
         kMinIrVersion, graph.ir_version);
  const int64_t opset = graph.opset();
  if (graph.opsets.empty())
    fail(ErrorCode::kInvalidModel, "The model imports no version of the ONNX operators; export it again");
  if (!graph.opsets.contains(""))
    fail(ErrorCode::kUnsupported, "The model does not import the standard ONNX operators; export it with them: only {}",
         graph.opsets.begin()->first);
  if (opset < kMinOpset || opset > kMaxOpset)
    fail(ErrorCode::kUnsupported,
         "The model's opset is outside {} to {}; export with opset_version=17 or use onnx.version_converter: opset {}",
         kMinOpset, kMaxOpset, opset);
}

bool has_standard_nodes(const onnx::ModelProto& proto) {
  const auto& nodes = proto.graph().node();
  return std::any_of(nodes.begin(), nodes.end(), [](const auto& n) { return canonical_domain(n.domain()).empty(); });
}

bool parse(google::protobuf::io::ZeroCopyInputStream& stream, onnx::ModelProto& model) {
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetRecursionLimit(kRecursionLimit);
  return model.ParseFromCodedStream(&coded) && coded.ConsumedEntireMessage() && model.has_graph();
}

/// A file's bytes in order for protobuf, which takes no exceptions: an error is kept.
class FileStream : public google::protobuf::io::CopyingInputStream {
 public:
  FileStream(const FileReader& file, Sha256* hash) : file_(file), hash_(hash) {}
  int Read(void* buffer, int size) override {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(static_cast<uint64_t>(size), file_.size() - at_));
    try {
      file_.read(at_, buffer, bytes);
    } catch (const Error&) {
      error_ = std::current_exception();
      return -1;
    }
    if (hash_ != nullptr) hash_->add(buffer, bytes);
    at_ += bytes;
    return static_cast<int>(bytes);
  }
  std::exception_ptr error() const { return error_; }

 private:
  const FileReader& file_;
  Sha256* hash_;
  uint64_t at_ = 0;
  std::exception_ptr error_;
};

[[noreturn]] void reject(std::span<const std::byte> bytes, const std::string& path) {
  reject_other_formats(bytes, path);
  reject_unparsed(bytes, path);
}

void check_size(size_t bytes, const std::string& path) {
  if (bytes > static_cast<size_t>(INT32_MAX))
    fail(ErrorCode::kInvalidModel,
         "An ONNX file can't be larger than 2 GB; save it with onnx.save(…, save_as_external_data=True): {} bytes {}",
         bytes, path);
}

}  // namespace

Graph import_model(onnx::ModelProto& proto, ExternalData external) {
  Graph graph;
  graph.doc = proto.doc_string();
  graph.producer_name = proto.producer_name();
  graph.producer_version = proto.producer_version();
  graph.ir_version = proto.ir_version();
  for (const auto& import : proto.opset_import()) graph.opsets[canonical_domain(import.domain())] = import.version();
  for (const auto& entry : proto.metadata_props()) graph.metadata[entry.key()] = entry.value();
  if (!graph.opsets.empty() && !has_standard_nodes(proto)) graph.opsets.emplace("", kAssumedOpset);
  check_versions(graph);
  inline_functions(proto);
  for (const auto& import : proto.opset_import())
    graph.opsets.emplace(canonical_domain(import.domain()), import.version());
  Model model{std::move(external), graph.ir_version, graph.opsets};
  GraphImporter(model, graph, nullptr, 0).run(*proto.mutable_graph());
  verify(graph);
  infer_shapes(graph);
  return graph;
}

uint64_t read_model(const std::string& path, onnx::ModelProto& proto, Sha256* hash) {
  if (is_folder(path)) reject_folder(path);
  const FileReader file(path);
  check_size(file.size(), path);
  FileStream stream(file, hash);
  google::protobuf::io::CopyingInputStreamAdaptor blocks(&stream, kStreamBlockBytes);
  const bool parsed = parse(blocks, proto);
  if (stream.error()) std::rethrow_exception(stream.error());
  if (!parsed) reject(read_file(path), path);
  return file.size();
}

Graph load_onnx(const std::string& path) {
  onnx::ModelProto model;
  read_model(path, model);
  return import_model(model, ExternalData(parent_folder(path)));
}

Graph parse_onnx(std::span<const std::byte> bytes, const std::string& folder) {
  check_size(bytes.size(), "");
  onnx::ModelProto model;
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  if (!parse(stream, model)) reject(bytes, "");
  return import_model(model, ExternalData(folder));
}

}  // namespace slipway
