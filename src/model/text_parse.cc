// The text form of a graph, read: a recursive-descent parser over hand-made tokens. Newlines mean nothing, # starts a
// comment. Values are declared before use. Nesting is bounded, and a tensor's data is compared with its shape before
// memory is taken.
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <unordered_set>

#include "base/base64.h"
#include "base/error.h"
#include "base/half.h"
#include "model/graph.h"
#include "model/text_lexer.h"
#include "model/text_syntax.h"

namespace slipway {
namespace {

constexpr int kMaxTextDepth = 24;
constexpr size_t kMaxRank = 64;

class Parser {
 public:
  Parser(std::string_view text, const KeptTensors& kept) : lexer_(text), kept_(kept) {}

  Graph whole() {
    Graph g = graph(nullptr, 0);
    if (lexer_.peek().kind != Kind::kEnd) lexer_.reject("one graph is expected");
    return g;
  }

 private:
  bool is(std::string_view text) const {
    const Token& t = lexer_.peek();
    return (t.kind == Kind::kPunctuation || t.kind == Kind::kWord) && t.text == text;
  }
  bool accept(std::string_view text) {
    if (!is(text)) return false;
    lexer_.take();
    return true;
  }
  void expect(std::string_view text) {
    if (!accept(text)) lexer_.reject(fmt::format("'{}' is expected", text));
  }
  std::string take(Kind kind, std::string_view what) {
    if (lexer_.peek().kind != kind) lexer_.reject(fmt::format("{} is expected", what));
    return lexer_.take().text;
  }
  std::string string() { return take(Kind::kString, "a string"); }
  std::string word_or_string() {
    return lexer_.peek().kind == Kind::kString ? lexer_.take().text : take(Kind::kWord, "a name");
  }

  template <typename T>
  T integer() {
    if (lexer_.peek().kind != Kind::kNumber) lexer_.reject("a number is expected");
    const std::string& text = lexer_.peek().text;
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) lexer_.reject("an integer in range is expected");
    lexer_.take();
    return value;
  }

  // A float, or the bits of a NaN written as nan:0x….
  template <typename Float, typename Bits>
  Bits real_bits(Bits usual_nan, Bits (*encode)(Float)) {
    if (accept("nan")) {
      if (!accept(":")) return usual_nan;
      const std::string text = take(Kind::kNumber, "the code of a NaN");
      Bits bits{};
      const char* end = text.data() + text.size();
      if (!text.starts_with("0x") || std::from_chars(text.data() + 2, end, bits, 16).ptr != end)
        lexer_.reject("the code of a NaN before this is wrong");
      return bits;
    }
    if (accept("inf")) return encode(std::numeric_limits<Float>::infinity());
    if (lexer_.peek().kind != Kind::kNumber) lexer_.reject("a number is expected");
    const std::string& text = lexer_.peek().text;
    Float value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) lexer_.reject("a number in range is expected");
    lexer_.take();
    return encode(value);
  }
  uint32_t float_bits() {
    return real_bits<float, uint32_t>(0x7fc00000u, [](float f) { return std::bit_cast<uint32_t>(f); });
  }

  template <typename F>
  void list(std::string_view close, F&& item) {
    if (accept(close)) return;
    do item();
    while (accept(","));
    expect(close);
  }

  struct Type {
    DType dtype = DType::kUndefined;
    Shape shape;
  };

  DType dtype() {
    const DType named = parse_dtype(lexer_.peek().kind == Kind::kWord ? lexer_.peek().text : "");
    if (named == DType::kUndefined) lexer_.reject("an element type is expected");
    lexer_.take();
    return named;
  }

  Type type() {
    Type t;
    if (!accept("?")) t.dtype = dtype();
    if (accept("*")) return t;
    if (!is_tensor(t.dtype)) lexer_.reject("a sequence or optional before this has no shape but *");
    expect("[");
    std::vector<Dim> dims;
    list("]", [&] {
      if (dims.size() >= kMaxRank) lexer_.reject("the rank is absurd");
      if (lexer_.peek().kind == Kind::kNumber) {
        const auto size = integer<int64_t>();
        if (size < 0) lexer_.reject("a dimension before this is negative");
        dims.emplace_back(size);
      } else if (accept("?")) {
        dims.emplace_back();
      } else {
        dims.emplace_back(word_or_string());
      }
    });
    t.shape = Shape(std::move(dims));
    return t;
  }

  template <typename T, typename F>
  Tensor numbers(DType dtype, Dims dims, F&& next) {
    std::vector<T> values;
    list("}", [&] { values.push_back(next()); });
    if (static_cast<int64_t>(values.size()) != element_count(dims))
      lexer_.reject(fmt::format("a tensor {} before this has {} elements", slipway::to_string(dims), values.size()));
    Tensor t(dtype, std::move(dims));
    if (!values.empty()) std::copy_n(reinterpret_cast<const std::byte*>(values.data()), t.bytes(), t.mutable_raw());
    return t;
  }

  template <typename T>
  Tensor integers(DType dtype, Dims dims) {
    return numbers<T>(dtype, std::move(dims), [this] { return integer<T>(); });
  }

  Tensor packed(DType dtype, Dims dims) {
    const int64_t count = int64_t{1} << bits_of(dtype);
    const int64_t low = dtype == DType::kInt4 || dtype == DType::kInt2 ? -count / 2 : 0;
    const Tensor wide = numbers<int64_t>(DType::kInt64, std::move(dims), [&] {
      const auto v = integer<int64_t>();
      if (v < low || v >= low + count)
        lexer_.reject(fmt::format("a {}-bit integer before this is out of range", bits_of(dtype)));
      return v;
    });
    return cast(wide, dtype);
  }

  bool boolean() {
    if (accept("true")) return true;
    expect("false");
    return false;
  }

  Tensor braced(DType dtype, Dims dims) {
    switch (dtype) {
      case DType::kFloat32:
        return numbers<uint32_t>(dtype, std::move(dims), [this] { return float_bits(); });
      case DType::kFloat64:
        return numbers<uint64_t>(dtype, std::move(dims), [this] {
          return real_bits<double, uint64_t>(0x7ff8000000000000u, [](double d) { return std::bit_cast<uint64_t>(d); });
        });
      case DType::kFloat16:
        return numbers<uint16_t>(dtype, std::move(dims),
                                 [this] { return real_bits<float, uint16_t>(kHalfNan, float_to_half); });
      case DType::kBfloat16:
        return numbers<uint16_t>(dtype, std::move(dims),
                                 [this] { return real_bits<float, uint16_t>(kBfloat16Nan, float_to_bfloat16); });
      case DType::kBool:
        return numbers<uint8_t>(dtype, std::move(dims), [this] { return static_cast<uint8_t>(boolean()); });
      case DType::kUint8:
        return integers<uint8_t>(dtype, std::move(dims));
      case DType::kInt8:
        return integers<int8_t>(dtype, std::move(dims));
      case DType::kUint16:
        return integers<uint16_t>(dtype, std::move(dims));
      case DType::kInt16:
        return integers<int16_t>(dtype, std::move(dims));
      case DType::kUint32:
        return integers<uint32_t>(dtype, std::move(dims));
      case DType::kInt32:
        return integers<int32_t>(dtype, std::move(dims));
      case DType::kUint64:
        return integers<uint64_t>(dtype, std::move(dims));
      case DType::kInt64:
        return integers<int64_t>(dtype, std::move(dims));
      case DType::kUint4:
      case DType::kInt4:
      case DType::kUint2:
      case DType::kInt2:
        return packed(dtype, std::move(dims));
      case DType::kString: {
        std::vector<std::string> strings;
        list("}", [&] { strings.push_back(string()); });
        if (static_cast<int64_t>(strings.size()) != element_count(dims))
          lexer_.reject("the number of strings before this differs from the shape");
        return Tensor::of_strings(std::move(dims), std::move(strings));
      }
      default:
        lexer_.reject("base64 is expected for this element type");
    }
  }

  Tensor from_base64(DType dtype, Dims dims) {
    const auto bytes = base64_decode(string());
    if (!bytes) lexer_.reject("the base64 before this is damaged");
    if (dtype == DType::kString || bytes->size() != bytes_of(dtype, element_count(dims)))
      lexer_.reject("the length of the base64 before this differs from the shape");
    Tensor t(dtype, std::move(dims));
    std::byte* out = t.mutable_raw();
    std::copy(bytes->begin(), bytes->end(), out);
    if (dtype == DType::kBool)
      std::transform(out, out + bytes->size(), out, [](std::byte b) { return std::min(b, std::byte{1}); });
    return t;
  }

  Tensor payload(const Type& t) {
    if (t.dtype == DType::kUndefined || !t.shape.is_static()) lexer_.reject("a tensor before this needs a full type");
    Dims dims = t.shape.to_dims();
    element_count(dims);
    if (accept("base64")) return from_base64(t.dtype, std::move(dims));
    if (accept("kept")) {
      if (!kept_) lexer_.reject("the tensor before this is kept elsewhere");
      return kept_(integer<int64_t>(), t.dtype, dims);
    }
    if (is(".")) lexer_.reject("the tensor was left out when this was written");
    expect("{");
    return braced(t.dtype, std::move(dims));
  }

  Attribute attribute(const Graph& outer, int depth) {
    const Token& t = lexer_.peek();
    if (t.kind == Kind::kString) return string();
    if (is("graph")) return std::make_shared<Graph>(graph(&outer, depth + 1));
    if (is("nan") || is("inf")) return std::bit_cast<float>(float_bits());
    if (t.kind == Kind::kNumber) return number();
    if (accept("[")) return attribute_list(outer, depth);
    if (accept("type")) return dtype();
    if (accept("ints")) return empty<std::vector<int64_t>>();
    if (accept("floats")) return empty<std::vector<float>>();
    if (accept("strings")) return empty<std::vector<std::string>>();
    if (accept("tensors")) return empty<std::vector<Tensor>>();
    if (accept("graphs")) return empty<std::vector<GraphPtr>>();
    return payload(type());
  }

  template <typename T>
  Attribute empty() {
    expect("[");
    expect("]");
    return T{};
  }

  Attribute number() {
    if (lexer_.peek().text.find_first_not_of("-0123456789") == std::string::npos) return integer<int64_t>();
    return std::bit_cast<float>(float_bits());
  }

  // The first element decides the kind; integers among floats count as floats.
  Attribute attribute_list(const Graph& outer, int depth) {
    std::vector<Attribute> items;
    list("]", [&] { items.push_back(attribute(outer, depth)); });
    if (items.empty()) lexer_.reject("an empty list before this needs its kind, as ints[]");
    bool any_float = false;
    for (const Attribute& item : items) any_float |= std::holds_alternative<float>(item);
    if (any_float)
      for (Attribute& item : items)
        if (const auto* i = std::get_if<int64_t>(&item)) item = static_cast<float>(*i);
    return std::visit(
        [&]<typename T>(const T&) -> Attribute {
          if constexpr (std::is_constructible_v<Attribute, std::vector<T>>) {
            std::vector<T> values;
            for (Attribute& item : items) {
              if (!std::holds_alternative<T>(item)) lexer_.reject("a list before this mixes kinds");
              values.push_back(std::move(std::get<T>(item)));
            }
            return values;
          } else {
            lexer_.reject("a list before this holds lists");
          }
        },
        Attribute(items[0]));
  }

  ValueId value(const Graph& g) {
    if (accept("_")) return kNoValue;
    if (lexer_.peek().kind != Kind::kValue) lexer_.reject("a value (%name) is expected");
    const ValueId id = g.find(lexer_.peek().text);
    if (id == kNoValue) lexer_.reject("a value is used before it is declared");
    lexer_.take();
    return id;
  }

  std::string new_name(const Graph& g) {
    if (lexer_.peek().kind != Kind::kValue) lexer_.reject("a value (%name) is expected");
    if (g.find(lexer_.peek().text) != kNoValue) lexer_.reject("a value is declared twice");
    return lexer_.take().text;
  }

  Type optional_type() { return accept(":") ? type() : Type{}; }

  Graph graph(const Graph* outer, int depth) {
    if (depth > kMaxTextDepth) lexer_.reject("graphs are nested too deeply");
    expect("graph");
    Graph g;
    g.name = string();
    g.opsets = outer ? outer->opsets : std::map<std::string, int64_t, std::less<>>{{"", 17}};
    if (outer) g.ir_version = outer->ir_version;
    if (accept("ir")) g.ir_version = integer<int64_t>();
    if (accept("opset")) {
      g.opsets.clear();
      expect("{");
      list("}", [&] {
        const std::string domain = string();
        expect(":");
        g.opsets[domain] = integer<int64_t>();
      });
    }
    expect("{");
    while (!accept("}")) statement(g, depth);
    return g;
  }

  void statement(Graph& g, int depth) {
    if (accept("doc")) {
      g.doc = string();
    } else if (accept("producer")) {
      g.producer_name = string();
      g.producer_version = string();
    } else if (accept("metadata")) {
      const std::string key = string();
      expect("=");
      g.metadata[key] = string();
    } else if (accept("input")) {
      const std::string name = new_name(g);
      Type t = optional_type();
      g.add_input(name, t.dtype, std::move(t.shape));
    } else if (accept("capture")) {
      const int index = integer<int>();
      if (index < 0) lexer_.reject("a capture's index before this is negative");
      const std::string name = new_name(g);
      Type t = optional_type();
      g.add_capture(name, index, t.dtype, std::move(t.shape));
    } else if (accept("const")) {
      const std::string name = new_name(g);
      expect(":");
      const Type t = type();
      expect("=");
      g.add_constant(name, payload(t));
    } else if (accept("output")) {
      do {
        const ValueId id = value(g);
        if (id == kNoValue) lexer_.reject("a graph output before this is absent");
        g.add_output(id);
      } while (accept(","));
    } else {
      node(g, depth);
    }
  }

  void node(Graph& g, int depth) {
    std::vector<std::string> names;
    std::unordered_set<std::string> own;
    std::vector<Type> types;
    do {
      names.push_back(accept("_") ? "" : new_name(g));
      types.push_back(optional_type());
      if (!names.back().empty() && !own.insert(names.back()).second)
        lexer_.reject("a value before this is declared twice");
    } while (accept(","));
    if (names.size() == 1 && names[0].empty()) names.clear();
    expect("=");
    NodeSpec spec;
    if (lexer_.peek().kind == Kind::kString) {
      spec.domain = string();
      expect(".");
      spec.op_type = string();
    } else {
      spec.op_type = take(Kind::kWord, "an operator");
      if (const size_t dot = spec.op_type.rfind('.'); dot != std::string::npos) {
        spec.domain = spec.op_type.substr(0, dot);
        spec.op_type.erase(0, dot + 1);
      }
    }
    expect("(");
    list(")", [&] { spec.inputs.push_back(value(g)); });
    std::vector<ValueId> captures;
    if (accept("captures")) {
      expect("(");
      list(")", [&] {
        captures.push_back(value(g));
        if (captures.back() == kNoValue) lexer_.reject("a captured value before this is absent");
      });
    }
    if (accept("{"))
      list("}", [&] {
        const std::string name = word_or_string();
        expect("=");
        if (!spec.attributes.emplace(name, attribute(g, depth)).second)
          lexer_.reject("an attribute before this is given twice");
      });
    const std::string name = lexer_.peek().kind == Kind::kString ? string() : "";
    std::optional<std::vector<std::string>> origins;
    if (accept("origins")) {
      expect("[");
      origins.emplace();
      list("]", [&] { origins->push_back(string()); });
    }
    if (!origins) spec.name = name;
    const NodeId id = g.add_node(std::move(spec), names);
    if (origins) {
      g.add_origins(id, *origins);
      g.rename_node(id, name);
    }
    g.set_captures(id, std::move(captures));
    for (size_t i = 0; i < names.size(); ++i)
      if (!names[i].empty()) g.set_type(g.node(id).outputs[i], types[i].dtype, std::move(types[i].shape));
  }

  Lexer lexer_;
  const KeptTensors& kept_;
};

}  // namespace

Graph parse_text(std::string_view text, const KeptTensors& kept) { return Parser(text, kept).whole(); }

}  // namespace slipway
