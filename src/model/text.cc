// The text form of a graph, written. Statements in the order metadata, inputs, captures, constants, nodes
// (topological), outputs; what parse_text() would assume anyway (a subgraph's opsets, a node's own name among its
// origins) is left out. Floats are printed with the fewest digits that read back to the same bits; NaNs other than the
// usual one by code.
//
//   graph "name" ir 8 opset {"": 13} {
//     input %x : f32[N,3,32,32]
//     const %w : f32[2] = {1, 2.5}
//     %y : f32[N,16,32,32] = Conv(%x, %w, _) {kernel_shape = [3, 3]} "layer1/conv"
//     output %y
//   }
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <string>

#include "base/base64.h"
#include "base/error.h"
#include "base/half.h"
#include "model/graph.h"
#include "model/text_syntax.h"

namespace slipway {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (c == '\n')
      out += "\\n";
    else if (u < 0x20 || u >= 0x7f)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  return out + '"';
}

std::string word_or_quoted(std::string_view text) { return is_word(text) ? std::string(text) : quoted(text); }
std::string value_name(std::string_view name) { return "%" + (is_value_name(name) ? std::string(name) : quoted(name)); }

template <typename Float>
std::string number(Float v) {
  using Bits = std::conditional_t<sizeof(Float) == 4, uint32_t, uint64_t>;
  const auto bits = std::bit_cast<Bits>(v);
  if (std::isnan(v) && bits != std::bit_cast<Bits>(std::numeric_limits<Float>::quiet_NaN()))
    return fmt::format("nan:0x{:x}", bits);
  return std::isnan(v) ? "nan" : fmt::format("{}", v);
}

std::string small_number(uint16_t code, float v, uint16_t usual_nan) {
  return std::isnan(v) && code != usual_nan ? fmt::format("nan:0x{:x}", code) : number(v);
}

// Unlike an integer at first sight, as attributes need.
std::string real(float v) {
  std::string text = number(v);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

template <typename T, typename F>
std::string joined(const T& items, F&& print) {
  std::string out;
  for (const auto& item : items) {
    if (!out.empty()) out += ", ";
    out += print(item);
  }
  return out;
}

std::string type_text(DType dtype, const Shape& shape) {
  std::string out(dtype == DType::kUndefined ? "?" : to_string(dtype));
  if (!shape.has_rank()) return out + "*";
  out += '[';
  for (size_t i = 0; i < shape.rank(); ++i) {
    if (i > 0) out += ',';
    const Dim& d = shape[i];
    out += d.is_known() ? std::to_string(d.value()) : d.is_unknown() ? "?" : word_or_quoted(d.symbol());
  }
  return out + ']';
}

std::string elements(const Tensor& t) {
  const auto list = [&](auto print) {
    std::string out;
    for (int64_t i = 0; i < t.elements(); ++i) out += (i > 0 ? ", " : "") + print(static_cast<size_t>(i));
    return out;
  };
  const auto* codes = reinterpret_cast<const uint16_t*>(t.raw());
  switch (t.dtype()) {
    case DType::kString:
      return list([&](size_t i) { return quoted(t.strings()[i]); });
    case DType::kBool:
      return list([&](size_t i) { return std::string(t.raw()[i] == std::byte{0} ? "false" : "true"); });
    case DType::kFloat32:
      return list([&](size_t i) { return number(t.values<float>()[i]); });
    case DType::kFloat64:
      return list([&](size_t i) { return number(t.values<double>()[i]); });
    case DType::kFloat16:
      return list([&](size_t i) { return small_number(codes[i], half_to_float(codes[i]), kHalfNan); });
    case DType::kBfloat16:
      return list([&](size_t i) { return small_number(codes[i], bfloat16_to_float(codes[i]), kBfloat16Nan); });
    case DType::kUint64:
      return list([&](size_t i) { return std::to_string(t.values<uint64_t>()[i]); });
    default:
      const std::vector<int64_t> ints = to_ints(t);
      return list([&](size_t i) { return std::to_string(ints[i]); });
  }
}

class Printer {
 public:
  explicit Printer(const TextOptions& options) : options_(options) {}

  void graph(const Graph& g, const Graph* outer, const std::string& indent) {
    const std::string in = indent + "  ";
    out_ += "graph " + quoted(g.name);
    if (outer == nullptr || g.ir_version != outer->ir_version) out_ += fmt::format(" ir {}", g.ir_version);
    if (outer == nullptr || g.opsets != outer->opsets)
      out_ += " opset {" +
              joined(g.opsets, [](const auto& o) { return fmt::format("{}: {}", quoted(o.first), o.second); }) + "}";
    out_ += " {\n";
    if (!g.doc.empty()) out_ += in + "doc " + quoted(g.doc) + "\n";
    if (!g.producer_name.empty() || !g.producer_version.empty())
      out_ += in + "producer " + quoted(g.producer_name) + " " + quoted(g.producer_version) + "\n";
    for (const auto& [key, value] : g.metadata) out_ += in + "metadata " + quoted(key) + " = " + quoted(value) + "\n";
    for (ValueId id : g.inputs()) out_ += in + "input " + typed(g.value(id)) + "\n";
    for (ValueId id = 0; id < g.value_limit(); ++id)
      if (const Value& v = g.value(id); v.alive && v.capture >= 0)
        out_ += in + fmt::format("capture {} {}\n", v.capture, typed(v));
    for (ValueId id = 0; id < g.value_limit(); ++id)
      if (const Value& v = g.value(id); v.alive && v.is_constant())
        out_ += in + "const " + value_name(v.name) + " : " + type_text(v.dtype, v.shape) + " = " +
                payload(*v.constant) + "\n";
    for (NodeId id : g.topological_order()) node(g, g.node(id), in);
    if (!g.outputs().empty())
      out_ += in + "output " + joined(g.outputs(), [&](ValueId id) { return value_name(g.value(id).name); }) + "\n";
    out_ += indent + "}";
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string typed(const Value& v) {
    if (v.dtype == DType::kUndefined && !v.shape.has_rank()) return value_name(v.name);
    return value_name(v.name) + " : " + type_text(v.dtype, v.shape);
  }

  std::string payload(const Tensor& t) const {
    const bool number_like = bits_of(t.dtype()) > 0 && t.dtype() != DType::kComplex64 &&
                             t.dtype() != DType::kComplex128 && !is_small_float(t.dtype());
    if (t.elements() > options_.inline_elements && options_.elide) return "...";
    if (t.elements() > options_.inline_elements && options_.keep && bits_of(t.dtype()) > 0)
      return "kept " + std::to_string(options_.keep(t));
    if (t.dtype() == DType::kString || (number_like && t.elements() <= options_.inline_elements))
      return "{" + elements(t) + "}";
    return "base64 \"" + base64_encode(std::span(t.raw(), t.bytes())) + "\"";
  }

  std::string tensor(const Tensor& t) const { return type_text(t.dtype(), Shape::of(t.dims())) + " " + payload(t); }

  void node(const Graph& g, const Node& n, const std::string& indent) {
    out_ += indent;
    out_ += n.outputs.empty()
                ? "_"
                : joined(n.outputs, [&](ValueId id) { return id == kNoValue ? "_" : typed(g.value(id)); });
    const bool plain =
        is_word(n.op_type) && n.op_type.find('.') == std::string::npos && (n.domain.empty() || is_word(n.domain));
    out_ += " = ";
    out_ += !plain             ? quoted(n.domain) + "." + quoted(n.op_type)
            : n.domain.empty() ? n.op_type
                               : n.domain + "." + n.op_type;
    out_ +=
        "(" + joined(n.inputs, [&](ValueId id) { return id == kNoValue ? "_" : value_name(g.value(id).name); }) + ")";
    if (!n.captures.empty())
      out_ += " captures (" + joined(n.captures, [&](ValueId id) { return value_name(g.value(id).name); }) + ")";
    if (!n.attributes.empty()) {
      out_ += " {";
      const char* separator = "";
      for (const auto& [name, attribute] : n.attributes) {
        out_ += separator + word_or_quoted(name) + " = ";
        std::visit([&](const auto& v) { write(v, g, indent); }, attribute);
        separator = ", ";
      }
      out_ += "}";
    }
    if (!n.name.empty()) out_ += " " + quoted(n.name);
    const bool usual = n.name.empty() ? n.origins.empty() : n.origins.size() == 1 && n.origins[0] == n.name;
    if (!usual) out_ += " origins [" + joined(n.origins, quoted) + "]";
    out_ += "\n";
  }

  void write(int64_t v, const Graph&, const std::string&) { out_ += std::to_string(v); }
  void write(float v, const Graph&, const std::string&) { out_ += real(v); }
  void write(const std::string& v, const Graph&, const std::string&) { out_ += quoted(v); }
  void write(const Tensor& v, const Graph&, const std::string&) { out_ += tensor(v); }
  void write(const GraphPtr& v, const Graph& outer, const std::string& indent) { graph(*v, &outer, indent); }
  void write(const std::vector<int64_t>& v, const Graph&, const std::string&) {
    list("ints", joined(v, [](int64_t i) { return std::to_string(i); }));
  }
  void write(const std::vector<float>& v, const Graph&, const std::string&) { list("floats", joined(v, real)); }
  void write(const std::vector<std::string>& v, const Graph&, const std::string&) {
    list("strings", joined(v, quoted));
  }
  void write(const std::vector<Tensor>& v, const Graph&, const std::string&) {
    list("tensors", joined(v, [this](const Tensor& t) { return tensor(t); }));
  }
  void write(const std::vector<GraphPtr>& v, const Graph& outer, const std::string& indent) {
    if (v.empty()) return list("graphs", "");
    out_ += "[";
    for (size_t i = 0; i < v.size(); ++i) {
      if (i > 0) out_ += ", ";
      graph(*v[i], &outer, indent);
    }
    out_ += "]";
  }
  void write(DType v, const Graph&, const std::string&) { out_ += fmt::format("type {}", to_string(v)); }
  void list(std::string_view kind, const std::string& items) {
    out_ += items.empty() ? std::string(kind) + "[]" : "[" + items + "]";
  }

  const TextOptions& options_;
  std::string out_;
};

}  // namespace

std::string to_text(const Graph& graph, const TextOptions& options) {
  Printer printer(options);
  printer.graph(graph, nullptr, "");
  return printer.take() + "\n";
}

}  // namespace slipway
