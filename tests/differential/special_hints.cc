// Hints for quantisers, resizing, generators, and the operators with subgraphs, whose bodies are random graphs
// themselves.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "call_hints_families.h"
#include "random_graph.h"

namespace slipway {
namespace {

void quantize(Call& c) {
  GraphWriter& w = c.writer;
  float most = 0;
  for (const float v : to_floats(w.tensor(c.inputs[0])))
    if (std::isfinite(v)) most = std::max(most, std::min(std::fabs(v), 1e6f));
  std::vector<DType> types = {DType::kUint8, DType::kUint8, DType::kInt8, DType::kInt8};
  if (w.style.opset >= 21) types.insert(types.end(), {DType::kInt16, DType::kUint16});
  const DType dtype = w.any(types);
  const bool each = w.style.opset >= 13 && c.rank(0) > 0 && w.chance(0.2);
  const int64_t axis = each ? w.between(0, c.rank(0) - 1) : 0;
  const Dims dims = each ? Dims{c.dims(0)[static_cast<size_t>(axis)]} : Dims{};
  std::vector<double> scales(static_cast<size_t>(element_count(dims)));
  for (double& s : scales) s = std::max(most, 0.1f) / 127.0 * (0.5 + w.random.uniform());
  c.inputs.resize(1);
  c.attributes.clear();
  if (each) c.attributes["axis"] = axis;
  c.operand(1, w.constant(from_doubles(DType::kFloat32, dims, scales)));
  if (dtype != DType::kUint8 || w.chance(0.8))
    c.operand(2, w.constant(w.chance(0.4) ? Tensor(dtype, dims) : w.random_tensor(dtype, dims)));
}

void dequantize(Call& c) {
  GraphWriter& w = c.writer;
  const bool each = w.style.opset >= 13 && c.rank(0) > 0 && w.chance(0.2);
  const int64_t axis = each ? w.between(0, c.rank(0) - 1) : 0;
  const Dims dims = each ? Dims{c.dims(0)[static_cast<size_t>(axis)]} : Dims{};
  std::vector<double> scales(static_cast<size_t>(element_count(dims)));
  for (double& s : scales) s = 0.002 + 0.05 * w.random.uniform();
  const DType dtype = c.dtype(0);
  c.inputs.resize(1);
  c.attributes.clear();
  if (each) c.attributes["axis"] = axis;
  c.operand(1, w.constant(from_doubles(DType::kFloat32, dims, scales)));
  if (dtype != DType::kInt32 && w.chance(0.7))
    c.operand(2, w.constant(w.chance(0.4) ? Tensor(dtype, dims) : w.random_tensor(dtype, dims)));
}

std::vector<float> some_scales(Call& c) {
  std::vector<float> scales;
  const float whole = static_cast<float>(c.writer.any({1, 2, 2, 3}));
  for (int64_t i = 0; i < c.rank(0); ++i)
    scales.push_back(i < 2 && c.writer.chance(0.93) ? 1.0f
                     : c.writer.chance(0.7)         ? whole
                     : c.writer.chance(0.5)         ? 0.5f
                                                    : 1.6f);
  return scales;
}

void resize(Call& c) {
  GraphWriter& w = c.writer;
  const std::vector<float> scales = some_scales(c);
  const Dims rank = {static_cast<int64_t>(scales.size())};
  c.inputs.resize(1);
  const std::vector<std::string> modes = {"nearest", "nearest", "linear", "linear", "cubic"};
  c.attributes["mode"] = w.any(modes);
  for (const char* name : {"exclude_outside", "extrapolation_value", "cubic_coeff_a", "axes", "antialias"})
    c.attributes.erase(name);
  if (w.style.opset < 11) {
    for (const char* name : {"coordinate_transformation_mode", "nearest_mode"}) c.attributes.erase(name);
    c.operand(1, w.constant(Tensor::of<float>(rank, scales)));
    return;
  }
  if (w.style.opset < 13 || w.chance(0.2)) c.operand(1, w.constant(Tensor(DType::kFloat32, {0})));
  if (w.chance(0.7)) return c.operand(2, w.constant(Tensor::of<float>(rank, scales)));
  std::vector<int64_t> sizes = c.dims(0);
  for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = static_cast<int64_t>(static_cast<float>(sizes[i]) * scales[i]);
  if (w.style.opset < 13) c.operand(2, w.constant(Tensor(DType::kFloat32, {0})));
  c.operand(3, w.constant_ints(sizes));
}

void upsample(Call& c) {
  const std::vector<float> scales = some_scales(c);
  c.inputs.resize(1);
  c.attributes = {{"mode", std::string(c.writer.chance(0.5) ? "nearest" : "linear")}};
  if (c.has_parameter("scales")) {
    c.attributes["scales"] = scales;
    return;
  }
  c.operand(1, c.writer.constant(Tensor::of<float>({static_cast<int64_t>(scales.size())}, scales)));
}

void grid_sample(Call& c) {
  c.inputs.resize(1);
  c.operand(1, c.writer.fresh(c.dtype(0), {c.dims(0)[0], c.writer.between(1, 5), c.writer.between(1, 5), 2}, 0.4));
  const std::vector<std::string> modes = c.writer.style.opset >= 20
                                             ? std::vector<std::string>{"linear", "nearest", "cubic"}
                                             : std::vector<std::string>{"bilinear", "nearest", "bicubic"};
  c.attributes["mode"] = c.writer.any(modes);
}

void suppress(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t boxes = w.between(1, 6);
  c.inputs.clear();
  c.operand(0, w.fresh(DType::kFloat32, {1, boxes, 4}, 0.3));
  c.operand(1, w.fresh(DType::kFloat32, {1, w.between(1, 3), boxes}, 0.3));
  c.operand(2, w.constant_ints({w.between(0, 3)}));
  if (w.chance(0.5)) c.operand(3, w.constant(Tensor::of<float>({1}, {0.5f})));
  if (w.chance(0.3)) c.operand(4, w.constant(Tensor::of<float>({1}, {0.1f})));
}

void range(Call& c) {
  GraphWriter& w = c.writer;
  const std::vector<DType> types = {DType::kInt64, DType::kInt64, DType::kInt32, DType::kFloat32};
  const DType dtype = w.any(types);
  const double start = static_cast<double>(w.between(-3, 3)), step = static_cast<double>(w.any({1, 1, 2, -1}));
  const double limit = start + step * static_cast<double>(w.between(0, 8));
  c.inputs.clear();
  for (const double v : {start, limit, step})
    c.inputs.push_back(w.constant(from_doubles(dtype, {}, std::vector<double>{v})));
}

void constant_node(Call& c) {
  c.attributes = {{"value", c.writer.random_tensor(c.writer.chance(0.8) ? DType::kFloat32 : DType::kInt64,
                                                   c.writer.random_dims(c.writer.any({0, 1, 2, 4})))}};
}

void constant_of_shape(Call& c) {
  c.inputs.clear();
  c.attributes.clear();
  if (c.writer.chance(0.7))
    c.attributes["value"] = c.writer.random_tensor(c.writer.chance(0.7) ? DType::kFloat32 : DType::kInt64, {1});
  c.operand(0, c.writer.constant_ints(c.writer.random_dims(c.writer.any({1, 2, 3}))));
}

void window(Call& c) {
  c.inputs = {c.writer.constant(Tensor::scalar<int64_t>(c.writer.between(1, 12)))};
  c.attributes.erase("output_datatype");
}

void shift(Call& c) { c.attributes = {{"direction", std::string(c.writer.chance(0.5) ? "LEFT" : "RIGHT")}}; }

void modulo(Call& c) {
  c.attributes.clear();
  if (is_float(c.dtype(0)) || c.writer.chance(0.2)) c.attributes["fmod"] = int64_t{1};
}

// A subgraph under construction with some values of the enclosing graph captured.
struct Body {
  GraphWriter writer;
  Body(Call& c, std::vector<ValueId> captured) : writer(c.writer.random.next(), style_for(c)) {
    for (const ValueId id : captured) {
      const auto at = std::find(c.captures.begin(), c.captures.end(), id);
      const auto index = static_cast<int>(at - c.captures.begin());
      if (at == c.captures.end()) c.captures.push_back(id);
      writer.capture(index, c.writer.tensor(id));
    }
  }
  static GraphWriter::Style style_for(Call& c) {
    GraphWriter::Style style = c.writer.style;
    style.prefix += fmt::format("b{}_", c.writer.random.below(1000000));
    style.is_body = true;
    style.free_batch = false;
    style.special = 0;
    return style;
  }
  ValueId value_like(const Tensor& t, ValueId fallback) {
    for (size_t i = writer.pool().size(); i-- > 0;) {
      const ValueId id = writer.pool()[i];
      const Tensor& found = writer.tensor(id);
      if (writer.graph.value(id).producer != kNoNode && found.dtype() == t.dtype() && found.dims() == t.dims())
        return id;
    }
    return writer.apply("Identity", {fallback});
  }
  void grow() {
    static const std::vector<std::string_view> simple = {"Add", "Mul",     "Relu", "Neg", "Sub",
                                                         "Abs", "Sigmoid", "Max",  "Conv"};
    for (int64_t n = writer.between(1, 4); n > 0; --n) {
      if (writer.chance(0.7))
        writer.add(writer.any(simple));
      else
        add_some_node(writer);
    }
  }
  /// The body as an attribute; left out, so that the call is refused, where an output could not be made.
  void finish(Call& c, const char* attribute) {
    const std::vector<ValueId>& outputs = writer.graph.outputs();
    if (std::find(outputs.begin(), outputs.end(), kNoValue) != outputs.end()) return;
    erase_unused(writer.graph, true);
    c.attributes[attribute] = std::make_shared<Graph>(std::move(writer.graph));
  }
};

// Values of the enclosing graph, constants now and then.
std::vector<ValueId> some_captures(Call& c) {
  std::vector<ValueId> ids;
  for (int64_t n = c.writer.between(0, 2); n > 0 && !c.writer.pool().empty(); --n) {
    const ValueId id =
        c.writer.chance(0.3)
            ? c.writer.constant(c.writer.random_tensor(DType::kFloat32, c.writer.random_dims(c.writer.any({0, 1, 2}))))
            : c.writer.any(c.writer.pool());
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

void branch(Call& c) {
  if (c.writer.pool().empty()) return;
  const ValueId target = c.writer.any(c.writer.pool());
  c.inputs = {c.writer.given(Tensor::scalar<bool>(c.writer.chance(0.5)), 0.6)};
  c.attributes.clear();
  for (const char* name : {"then_branch", "else_branch"}) {
    std::vector<ValueId> captured = some_captures(c);
    if (std::find(captured.begin(), captured.end(), target) == captured.end())
      captured.insert(captured.begin(), target);
    std::swap(*captured.begin(), *std::find(captured.begin(), captured.end(), target));
    Body body(c, captured);
    const ValueId local = body.writer.pool().front();
    body.grow();
    body.writer.graph.add_output(body.value_like(c.writer.tensor(target), local));
    body.finish(c, name);
  }
}

void loop(Call& c) {
  if (c.writer.pool().empty()) return;
  GraphWriter& w = c.writer;
  const ValueId state = w.any(w.pool());
  const bool counted = w.style.opset < 9 || w.chance(0.85), asked = !counted || w.chance(0.5);
  c.attributes.clear();
  c.inputs = {counted ? w.constant(Tensor::scalar<int64_t>(w.between(0, 4))) : kNoValue,
              asked ? w.constant(Tensor::scalar<bool>(true)) : kNoValue, state};
  Body body(c, some_captures(c));
  const ValueId trip = body.writer.input(Tensor::scalar<int64_t>(0)),
                go = body.writer.input(Tensor::scalar<bool>(true));
  const ValueId carried = body.writer.input(w.tensor(state));
  body.grow();
  const ValueId next = body.value_like(w.tensor(state), carried);
  const bool ends = w.style.opset >= 9 && (!counted || w.chance(0.2));
  const ValueId again =
      ends ? body.writer.apply("Less", {trip, body.writer.constant(Tensor::scalar<int64_t>(w.between(0, 3)))})
           : body.writer.apply("Identity", {go});
  const ValueId scanned = w.chance(0.4) ? body.writer.apply("Identity", {next}) : kNoValue;
  body.writer.graph.add_output(again);
  body.writer.graph.add_output(next);
  if (scanned != kNoValue) body.writer.graph.add_output(scanned);
  c.outputs = scanned != kNoValue ? 2 : 1;
  body.finish(c, "body");
}

void scan(Call& c) {
  GraphWriter& w = c.writer;
  const ValueId sequence = w.from_pool({DType::kFloat32}, 1, 4);
  if (sequence == kNoValue || w.tensor(sequence).dims()[0] == 0) return;
  Dims dims = w.tensor(sequence).dims();
  dims.erase(dims.begin());
  Tensor slice(DType::kFloat32, dims);
  const bool has_state = w.chance(0.7);
  c.attributes = {{"num_scan_inputs", int64_t{1}}};
  if (w.chance(0.2)) c.attributes["scan_input_directions"] = std::vector<int64_t>{1};
  c.inputs.clear();
  const std::vector<ValueId> captured = some_captures(c);
  ValueId state = kNoValue;
  if (has_state) c.inputs.push_back(state = w.like(DType::kFloat32, dims));
  c.inputs.push_back(sequence);
  Body body(c, captured);
  ValueId carried = kNoValue;
  if (has_state) carried = body.writer.input(w.tensor(state));
  const ValueId part = body.writer.input(slice);
  body.grow();
  if (has_state) body.writer.graph.add_output(body.value_like(slice, carried));
  body.writer.graph.add_output(body.writer.apply("Identity", {body.value_like(slice, part)}));
  c.outputs = has_state ? 2 : 1;
  body.finish(c, "body");
}

constexpr CallHint kSpecial[] = {
    {"QuantizeLinear", 0, 5, quantize},
    {"DequantizeLinear", 0, 5, dequantize},
    {"Resize", 1, 4, resize},
    {"Upsample", 2, 4, upsample},
    {"GridSample", 4, 4, grid_sample},
    {"NonMaxSuppression", 0, 5, suppress},
    {"Range", 0, 0, range},
    {"Constant", 0, 0, constant_node},
    {"ConstantOfShape", 0, 1, constant_of_shape},
    {"HannWindow", 0, 0, window},
    {"HammingWindow", 0, 0, window},
    {"BlackmanWindow", 0, 0, window},
    {"BitShift", 0, 5, shift},
    {"Mod", 0, 5, modulo},
    {"If", 0, 5, branch},
    {"Loop", 0, 5, loop},
    {"Scan", 0, 5, scan},
};

}  // namespace

std::span<const CallHint> special_hints() { return kSpecial; }

}  // namespace slipway
