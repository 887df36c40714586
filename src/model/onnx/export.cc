// Graph → standard ONNX. Constants become initialisers with raw data, nodes are written in topological order, and a
// subgraph reads its captures by the name they have outside; an inner value whose name is taken outside gets a suffix,
// because ONNX forbids shadowing. So does a node whose name an earlier node of its graph has, which ONNX Runtime
// refuses; and what is no UTF-8, which protobuf's other languages refuse, becomes U+FFFD. Element types and opset
// decide the lowest IR version that may be written.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

constexpr size_t kMaxFileBytes = INT32_MAX;  // protobuf's limit
constexpr int64_t kLowestIrVersion = 4;      // initialisers need not be inputs

// ONNX's version table: the IR version released with each opset.
int64_t ir_version_for(int64_t opset) {
  return opset >= 25   ? 13
         : opset >= 24 ? 12
         : opset >= 23 ? 11
         : opset >= 21 ? 10
         : opset >= 19 ? 9
         : opset >= 15 ? 8
         : opset >= 12 ? 7
         : opset >= 11 ? 6
         : opset >= 10 ? 5
                       : kLowestIrVersion;
}

int64_t ir_version_for(DType dtype) {
  return dtype >= DType::kUint2          ? 13
         : dtype >= DType::kFloat8E8M0   ? 12
         : dtype >= DType::kFloat4E2M1   ? 11
         : dtype >= DType::kUint4        ? 10
         : dtype >= DType::kFloat8E4M3FN ? 9
                                         : kLowestIrVersion;
}

// The length of the UTF-8 sequence that the text begins with (RFC 3629, section 4); 0 when it begins with none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) -> int { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const int first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < length; ++i) {
    const int low = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const int high = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(i) < low || byte(i) > high) return 0;
  }
  return length;
}

std::string utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text.substr(at));
    out += length == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(at, length);
    at += std::max<size_t>(length, 1);
  }
  return out;
}

class GraphExporter {
 public:
  GraphExporter(const Graph& graph, const GraphExporter* outer, const Node* at, int depth)
      : graph_(graph), outer_(outer), depth_(depth), names_(static_cast<size_t>(graph.value_limit())) {
    if (depth > kMaxDepth)
      fail(ErrorCode::kUnsupported, "Subgraphs are nested deeper than {} levels: in '{}'", kMaxDepth, graph.name);
    for (ValueId id = 0; id < graph.value_limit(); ++id) {
      const Value& v = graph.value(id);
      if (!v.alive) continue;
      std::string& name = names_[static_cast<size_t>(id)];
      name = v.capture >= 0 ? outer->name_of(at->captures[static_cast<size_t>(v.capture)]) : free_name(v.name);
      own_.insert(name);
    }
    for (NodeId id = 0; id < graph.node_limit(); ++id)
      if (graph.node(id).alive) node_names_.emplace(utf8(graph.node(id).name), -1);
  }

  void run(onnx::GraphProto& proto) {
    proto.set_name(graph_.name.empty() ? "graph" : utf8(graph_.name));
    for (ValueId id : graph_.inputs()) write_info(id, *proto.add_input());
    for (ValueId id = 0; id < graph_.value_limit(); ++id)
      if (const Value& v = graph_.value(id); v.alive && v.is_constant()) {
        note(v.dtype);
        to_proto(*v.constant, name_of(id), *proto.add_initializer());
      }
    for (NodeId id : graph_.topological_order()) write_node(graph_.node(id), *proto.add_node());
    for (ValueId id : graph_.outputs()) write_info(id, *proto.add_output());
  }

  int64_t ir_version() const { return ir_version_; }

 private:
  const std::string& name_of(ValueId id) const { return names_[static_cast<size_t>(id)]; }

  bool taken_outside(const std::string& name) const {
    for (const GraphExporter* g = outer_; g != nullptr; g = g->outer_)
      if (g->own_.contains(name)) return true;
    return false;
  }

  // A value's name, with a suffix where it is taken.
  std::string free_name(const std::string& name) const {
    const std::string base = utf8(name);
    std::string candidate = base;
    for (int i = 1; taken_outside(candidate) || own_.contains(candidate) ||
                    (candidate != name && graph_.find(candidate) != kNoValue);
         ++i)
      candidate = fmt::format("{}_{}", base, i);
    return candidate;
  }

  // A node's name; the second of a name gets a suffix, and so on.
  std::string own_name(const std::string& name) {
    const std::string base = utf8(name);
    int& last = node_names_.at(base);
    if (++last == 0) return base;
    std::string candidate = fmt::format("{}_{}", base, last);
    while (!node_names_.emplace(candidate, 0).second) candidate = fmt::format("{}_{}", base, ++last);
    return candidate;
  }

  void note(DType dtype) { ir_version_ = std::max(ir_version_, ir_version_for(dtype)); }

  void write_type(DType dtype, onnx::TypeProto& type) {
    if (is_optional(dtype)) return write_type(present_of(dtype), *type.mutable_optional_type()->mutable_elem_type());
    if (is_sequence(dtype)) return write_type(element_of(dtype), *type.mutable_sequence_type()->mutable_elem_type());
    note(dtype);
    type.mutable_tensor_type()->set_elem_type(static_cast<int>(dtype));
  }

  void write_info(ValueId id, onnx::ValueInfoProto& info) {
    const Value& v = graph_.value(id);
    info.set_name(name_of(id));
    write_type(v.dtype, *info.mutable_type());
    if (!v.shape.has_rank() || !is_tensor(v.dtype)) return;
    auto& shape = *info.mutable_type()->mutable_tensor_type()->mutable_shape();
    for (const Dim& d : v.shape.dims()) {
      auto& dim = *shape.add_dim();
      if (d.is_known()) dim.set_dim_value(d.value());
      if (d.is_symbol()) dim.set_dim_param(utf8(d.symbol()));
    }
  }

  void write_node(const Node& n, onnx::NodeProto& proto) {
    if (n.domain == kFusedDomain)
      fail(ErrorCode::kUnsupported,
           "A fused operator can't be written as ONNX; save the graph before fusion, or build a plan: {}", n.label());
    proto.set_op_type(n.op_type);
    if (!n.domain.empty()) proto.set_domain(n.domain);
    if (!n.name.empty()) proto.set_name(own_name(n.name));
    for (ValueId id : n.inputs) proto.add_input(id == kNoValue ? "" : name_of(id));
    for (ValueId id : n.outputs) proto.add_output(id == kNoValue ? "" : name_of(id));
    for (const auto& [name, attribute] : n.attributes) {
      auto& a = *proto.add_attribute();
      a.set_name(utf8(name));
      std::visit([&](const auto& v) { write(v, n, a); }, attribute);
    }
  }

  using A = onnx::AttributeProto;
  void write(int64_t v, const Node&, A& a) {
    a.set_type(A::INT);
    a.set_i(v);
  }
  void write(float v, const Node&, A& a) {
    a.set_type(A::FLOAT);
    a.set_f(v);
  }
  void write(const std::string& v, const Node&, A& a) {
    a.set_type(A::STRING);
    a.set_s(v);
  }
  void write(DType v, const Node&, A& a) {
    a.set_type(A::TYPE_PROTO);
    write_type(v, *a.mutable_tp());
  }
  void write(const Tensor& v, const Node&, A& a) {
    a.set_type(A::TENSOR);
    note(v.dtype());
    to_proto(v, "", *a.mutable_t());
  }
  void write(const GraphPtr& v, const Node& n, A& a) {
    a.set_type(A::GRAPH);
    write_graph(*v, n, *a.mutable_g());
  }
  void write(const std::vector<int64_t>& v, const Node&, A& a) {
    a.set_type(A::INTS);
    a.mutable_ints()->Add(v.begin(), v.end());
  }
  void write(const std::vector<float>& v, const Node&, A& a) {
    a.set_type(A::FLOATS);
    a.mutable_floats()->Add(v.begin(), v.end());
  }
  void write(const std::vector<std::string>& v, const Node&, A& a) {
    a.set_type(A::STRINGS);
    for (const std::string& s : v) a.add_strings(s);
  }
  void write(const std::vector<Tensor>& v, const Node&, A& a) {
    a.set_type(A::TENSORS);
    for (const Tensor& t : v) {
      note(t.dtype());
      to_proto(t, "", *a.add_tensors());
    }
  }
  void write(const std::vector<GraphPtr>& v, const Node& n, A& a) {
    a.set_type(A::GRAPHS);
    for (const GraphPtr& g : v) write_graph(*g, n, *a.add_graphs());
  }

  void write_graph(const Graph& graph, const Node& at, onnx::GraphProto& proto) {
    GraphExporter inner(graph, this, &at, depth_ + 1);
    inner.run(proto);
    ir_version_ = std::max(ir_version_, inner.ir_version_);
  }

  const Graph& graph_;
  const GraphExporter* outer_;
  int depth_;
  std::vector<std::string> names_;
  std::unordered_set<std::string> own_;
  std::unordered_map<std::string, int> node_names_;  ///< each with the last suffix given; −1 before it is written
  int64_t ir_version_ = kLowestIrVersion;
};

}  // namespace

std::vector<std::byte> serialize_onnx(const Graph& graph) {
  size_t constant_bytes = 0;
  for (ValueId id = 0; id < graph.value_limit(); ++id)
    if (const Tensor* t = graph.constant(id)) constant_bytes += t->bytes();
  if (constant_bytes > kMaxFileBytes)
    fail(ErrorCode::kUnsupported, "A model above 2 GB can't be written as one ONNX file; quantise it first: {} bytes",
         constant_bytes);
  verify(graph, false);
  onnx::ModelProto model;
  model.set_producer_name("slipway");
  model.set_producer_version(SLIPWAY_VERSION);
  if (!graph.doc.empty()) model.set_doc_string(utf8(graph.doc));
  GraphExporter exporter(graph, nullptr, nullptr, 0);
  exporter.run(*model.mutable_graph());
  model.set_ir_version(std::max({graph.ir_version, exporter.ir_version(), ir_version_for(graph.opset())}));
  for (const auto& [domain, version] : graph.opsets) {
    if (domain == kFusedDomain) continue;
    auto* import = model.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  for (const auto& [key, value] : graph.metadata) {
    auto* entry = model.add_metadata_props();
    entry->set_key(utf8(key));
    entry->set_value(utf8(value));
  }
  const size_t bytes = model.ByteSizeLong();
  if (bytes > kMaxFileBytes)
    fail(ErrorCode::kUnsupported, "A model above 2 GB can't be written as one ONNX file; quantise it first: {} bytes",
         bytes);
  std::vector<std::byte> out(bytes);
  model.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data()));
  return out;
}

void save_onnx(const Graph& graph, const std::string& path) { write_file(path, serialize_onnx(graph)); }

}  // namespace slipway
