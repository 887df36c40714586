// Reading QDQ patterns. A quantiser is monotone, so bounds move through it: Q(clip(v, lo, hi)) = clamp(Q(v), Q(lo),
// Q(hi)) exactly. Sums are proven to fit int32 for every input, with the bias where it is given as codes in the scale
// of the products x·w; else the bias is added in floats, after the sums.
#include "engine/passes/quantized.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace slipway {
namespace {

constexpr float kUnbounded = std::numeric_limits<float>::infinity();

bool is_byte(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kUint8; }

bool is_small_integer(DType dtype) { return is_byte(dtype) || dtype == DType::kInt4 || dtype == DType::kUint4; }

// The constant bias: as codes where it is a dequantised int32 in the products' own scale, else in reals.
struct Bias {
  std::vector<double> reals;
  std::vector<int64_t> codes;
};

bool is_row(const Tensor& t, size_t channels) {
  const auto count = static_cast<int64_t>(channels);
  return t.elements() == 1 || (t.elements() == count && t.dims().back() == count);
}

bool spread(std::vector<double>& values, size_t channels) {
  if (values.size() == 1) values.assign(channels, values[0]);
  return values.size() == channels;
}

std::optional<Bias> read_bias(const Graph& graph, ValueId value, const std::vector<double>& products) {
  const size_t channels = products.size();
  Bias bias;
  if (value == kNoValue) return bias;
  if (const Tensor* reals = graph.constant(value)) {
    if (reals->dtype() != DType::kFloat32 || !is_row(*reals, channels)) return std::nullopt;
    bias.reals = to_doubles(*reals);
    return spread(bias.reals, channels) ? std::optional(bias) : std::nullopt;
  }
  const Node* dequantize = made_by(graph, value, "DequantizeLinear");
  if (dequantize == nullptr) return std::nullopt;
  const Tensor *codes = graph.constant(dequantize->input(0)), *scale = graph.constant(dequantize->input(1)),
               *zero_point = graph.constant(dequantize->input(2));
  if (codes == nullptr || scale == nullptr || codes->dtype() != DType::kInt32 || !is_row(*codes, channels))
    return std::nullopt;
  if (dequantize->has_input(2)) {
    if (zero_point == nullptr) return std::nullopt;
    for (int64_t z : to_ints(*zero_point))
      if (z != 0) return std::nullopt;
  }
  std::vector<double> scales = to_doubles(*scale);
  bias.codes = to_ints(*codes);
  if (!spread(scales, channels) || bias.codes.size() != channels) return std::nullopt;
  bool exact = true;
  for (size_t c = 0; c < channels; ++c) {
    bias.reals.push_back(static_cast<double>(bias.codes[c]) * scales[c]);
    exact &= std::abs(scales[c] - products[c]) <= 1e-5 * products[c];
  }
  if (!exact) bias.codes.clear();
  return bias;
}

// Whether b + Σ x·w stays within int32 for all x in [x_lo, x_hi].
bool fits(std::span<const int8_t> weights, double b, double x_lo, double x_hi) {
  double least = b, most = b;
  for (int8_t w : weights) {
    least += w * (w > 0 ? x_lo : x_hi);
    most += w * (w > 0 ? x_hi : x_lo);
  }
  return least >= std::numeric_limits<int32_t>::min() && most <= std::numeric_limits<int32_t>::max();
}

// Whether every channel's sum does; `codes` may be empty.
bool all_fit(const Tensor& weights, const std::vector<int64_t>& codes, size_t channels, const Quantization& x) {
  const size_t depth = channels == 0 ? 0 : static_cast<size_t>(weights.elements()) / channels;
  for (size_t c = 0; c < channels; ++c)
    if (!fits(weights.values<int8_t>().subspan(c * depth, depth), codes.empty() ? 0 : static_cast<double>(codes[c]),
              x.lowest() - x.zero_point, x.highest() - x.zero_point))
      return false;
  return true;
}

// Combines the bounds of Relu and Clip nodes that follow, one after the other.
NodeId take_bounds(const Graph& graph, NodeId at, Bounds& bounds) {
  while (true) {
    const NodeId next = graph.only_user(graph.node(at).outputs[0]);
    if (next == kNoNode || graph.node(next).inputs[0] != graph.node(at).outputs[0]) return at;
    const auto more = bounds_of(graph, graph.node(next));
    if (!more) return at;
    bounds = {std::clamp(bounds.lo, more->lo, more->hi), std::clamp(bounds.hi, more->lo, more->hi)};
    at = next;
  }
}

bool is_free(const Bounds& bounds) { return bounds.lo == -kUnbounded && bounds.hi == kUnbounded; }

// Whether the codes come from a convolution that stands after `position`, still in floats.
bool made_later(const Graph& graph, ValueId codes, size_t position, const Positions& positions) {
  const Node* node = made_by(graph, codes, "QuantizeLinear");
  while (node != nullptr && (node->is("QuantizeLinear") || bounds_of(graph, *node))) {
    const NodeId id = graph.value(node->inputs[0]).producer;
    node = graph.producer(node->inputs[0]);
    if (node == nullptr || !node->is("Conv")) continue;
    const auto it = positions.find(id);
    return it != positions.end() && it->second > position;
  }
  return false;
}

// The other operand when the value's only user adds a quantised tensor of the same shape to it.
std::optional<QuantizedValue> added(const Graph& graph, ValueId value) {
  const NodeId id = graph.only_user(value);
  if (id == kNoNode || !graph.node(id).is("Add")) return std::nullopt;
  const Node& add = graph.node(id);
  const ValueId other = add.inputs[0] == value ? add.inputs[1] : add.inputs[0];
  if (!same_type(graph, value, other)) return std::nullopt;
  return dequantized(graph, other);
}

}  // namespace

int32_t Quantization::code(float real) const {
  const float rounded = std::nearbyint(real / scale);
  if (!(rounded > static_cast<float>(lowest() - zero_point))) return lowest();
  if (rounded >= static_cast<float>(highest() - zero_point)) return highest();
  return static_cast<int32_t>(rounded) + zero_point;
}

std::optional<Quantization> quantization_of(const Graph& graph, const Node& node) {
  const bool quantizes = node.is("QuantizeLinear");
  if ((!quantizes && !node.is("DequantizeLinear")) || node.integer("block_size", 0) != 0) return std::nullopt;
  const Value &codes = graph.value(quantizes ? node.outputs[0] : node.inputs[0]),
              &reals = graph.value(quantizes ? node.inputs[0] : node.outputs[0]);
  const auto scale = scalar(graph, node.input(1));
  if (!is_byte(codes.dtype) || reals.dtype != DType::kFloat32 || !scale || !(*scale > 0) || !std::isfinite(*scale))
    return std::nullopt;
  Quantization q{*scale, 0, codes.dtype};
  if (node.has_input(2)) {
    const auto zero_point = constant_ints(graph, node.inputs[2]);
    if (!zero_point || zero_point->size() != 1) return std::nullopt;
    q.zero_point = static_cast<int32_t>((*zero_point)[0]);
  }
  return q;
}

std::optional<QuantizedValue> dequantized(const Graph& graph, ValueId value) {
  const Node* node = made_by(graph, value, "DequantizeLinear");
  if (node == nullptr || graph.constant(node->inputs[0]) != nullptr) return std::nullopt;
  const auto q = quantization_of(graph, *node);
  return q ? std::optional(QuantizedValue{node->inputs[0], *q}) : std::nullopt;
}

std::optional<QuantizedWeights> quantized_weights(const Graph& graph, ValueId value, int64_t axis) {
  const Node* node = made_by(graph, value, "DequantizeLinear");
  if (node == nullptr || node->integer("block_size", 0) != 0) return std::nullopt;
  const Tensor *codes = graph.constant(node->input(0)), *scale = graph.constant(node->input(1));
  if (codes == nullptr || scale == nullptr || !is_small_integer(codes->dtype()) || codes->rank() <= axis)
    return std::nullopt;
  const int64_t channels = codes->dims()[static_cast<size_t>(axis)];
  const int64_t given = node->integer("axis", 1), own = given < 0 ? given + codes->rank() : given;
  QuantizedWeights weights{.scales = to_doubles(*scale)};
  if (weights.scales.size() != 1 && own != axis) return std::nullopt;
  if (!spread(weights.scales, static_cast<size_t>(channels))) return std::nullopt;
  for (double s : weights.scales)
    if (!(s > 0) || !std::isfinite(s)) return std::nullopt;
  std::vector<double> zero_points(1, 0.0);
  if (node->has_input(2)) {
    const auto given_points = constant_ints(graph, node->inputs[2]);
    if (!given_points) return std::nullopt;
    zero_points.assign(given_points->begin(), given_points->end());
  }
  if (!spread(zero_points, static_cast<size_t>(channels))) return std::nullopt;
  const bool shifted = std::any_of(zero_points.begin(), zero_points.end(), [](double z) { return z != 0; });
  if (codes->dtype() == DType::kInt8 && !shifted) {
    weights.codes = *codes;
    weights.constant = node->inputs[0];
    return weights;
  }
  weights.codes = Tensor(DType::kInt8, codes->dims());
  const std::span<int8_t> to = weights.codes.mutable_values<int8_t>();
  const std::vector<int64_t> from = to_ints(*codes);
  const int64_t inner = strides_of(codes->dims())[static_cast<size_t>(axis)];
  for (size_t i = 0; i < from.size(); ++i) {
    const auto channel = static_cast<size_t>(static_cast<int64_t>(i) / inner % channels);
    const int64_t v = from[i] - static_cast<int64_t>(zero_points[channel]);
    if (v < -128 || v > 127) return std::nullopt;
    to[i] = static_cast<int8_t>(v);
  }
  return weights;
}

std::optional<IntegerLinear> integer_linear(Graph& graph, const QuantizedWeights& rows, ValueId bias_value,
                                            const Quantization& x, const std::string& base) {
  IntegerLinear linear;
  for (double s : rows.scales) linear.products.push_back(static_cast<double>(x.scale) * s);
  const size_t channels = rows.scales.size();
  auto bias = read_bias(graph, bias_value, linear.products);
  if (!bias) return std::nullopt;
  if (!all_fit(rows.codes, bias->codes, channels, x)) {
    bias->codes.clear();
    if (!all_fit(rows.codes, bias->codes, channels, x)) return std::nullopt;
  }
  if (std::any_of(bias->reals.begin(), bias->reals.end(), [](double b) { return !std::isfinite(b); }))
    return std::nullopt;
  linear.weights = rows.constant != kNoValue ? rows.constant : graph.add_constant(base + "_codes", rows.codes);
  if (bias->codes.empty()) {
    linear.addend = std::move(bias->reals);
    return linear;
  }
  const std::vector<int32_t> codes(bias->codes.begin(), bias->codes.end());
  linear.bias = graph.add_constant(base + "_bias_codes", Tensor::of<int32_t>({static_cast<int64_t>(channels)}, codes));
  return linear;
}

Positions positions_of(const std::vector<NodeId>& order) {
  Positions positions;
  for (size_t i = 0; i < order.size(); ++i) positions.emplace(order[i], i);
  return positions;
}

Tail follow(const Graph& graph, NodeId linear, const Positions* positions) {
  Tail tail{.bounds = kEverything, .mid_bounds = kEverything};
  tail.last = take_bounds(graph, linear, tail.bounds);
  const auto quantizer = [&](NodeId at) -> NodeId {
    const NodeId id = graph.only_user(graph.node(at).outputs[0]);
    return id != kNoNode && graph.node(id).is("QuantizeLinear") && quantization_of(graph, graph.node(id)) ? id
                                                                                                          : kNoNode;
  };
  const auto residual_at = [&](ValueId value) {
    const auto residual = positions == nullptr ? std::nullopt : added(graph, value);
    return residual && !made_later(graph, residual->codes, positions->at(linear), *positions) ? residual : std::nullopt;
  };
  const NodeId first = quantizer(tail.last);
  if (first == kNoNode) {
    if (is_free(tail.bounds)) tail.residual = residual_at(graph.node(tail.last).outputs[0]);
    if (!tail.residual) return tail;
    tail.last = take_bounds(graph, graph.only_user(graph.node(tail.last).outputs[0]), tail.bounds);
  } else {
    const Quantization q = *quantization_of(graph, graph.node(first));
    const NodeId back = graph.only_user(graph.node(first).outputs[0]);
    const bool returns =
        back != kNoNode && graph.node(back).is("DequantizeLinear") && quantization_of(graph, graph.node(back)) == q;
    if (returns) tail.residual = residual_at(graph.node(back).outputs[0]);
    if (!tail.residual) {
      tail.last = first;
      tail.y = q;
      return tail;
    }
    tail.mid = q;
    tail.mid_bounds = std::exchange(tail.bounds, kEverything);
    tail.last = take_bounds(graph, graph.only_user(graph.node(back).outputs[0]), tail.bounds);
  }
  if (const NodeId second = quantizer(tail.last); second != kNoNode) {
    tail.y = quantization_of(graph, graph.node(second));
    tail.last = second;
  }
  return tail;
}

void set_output_attributes(Attributes& attributes, const Quantization& y, const Bounds& bounds) {
  attributes.insert_or_assign("y_dtype", std::string(to_string(y.dtype)));
  attributes.insert_or_assign("y_zero_point", int64_t{y.zero_point});
  attributes.insert_or_assign("y_lo", int64_t{y.code(bounds.lo)});
  attributes.insert_or_assign("y_hi", int64_t{y.code(bounds.hi)});
}

Attributes epilogue_attributes(const Tail& tail, const Quantization& x, const IntegerLinear& linear) {
  Attributes attributes{{"x_zero_point", int64_t{x.zero_point}}};
  const double y_scale = tail.y ? static_cast<double>(tail.y->scale) : 1.0;
  const double first_scale = tail.mid ? static_cast<double>(tail.mid->scale) : y_scale;
  std::vector<float> multiplier, addend;
  for (double p : linear.products) multiplier.push_back(static_cast<float>(p / first_scale));
  for (double a : linear.addend) addend.push_back(static_cast<float>(a / first_scale));
  attributes.insert_or_assign("multiplier", std::move(multiplier));
  if (!addend.empty()) attributes.insert_or_assign("addend", std::move(addend));
  if (tail.mid) {
    attributes.insert_or_assign("mid_multiplier", static_cast<float>(first_scale / y_scale));
    attributes.insert_or_assign("mid_zero_point", int64_t{tail.mid->zero_point});
    attributes.insert_or_assign("mid_lo", int64_t{tail.mid->code(tail.mid_bounds.lo)});
    attributes.insert_or_assign("mid_hi", int64_t{tail.mid->code(tail.mid_bounds.hi)});
  }
  if (tail.residual) {
    const Quantization& r = tail.residual->quantization;
    attributes.insert_or_assign("residual_multiplier", static_cast<float>(static_cast<double>(r.scale) / y_scale));
    attributes.insert_or_assign("residual_zero_point", int64_t{r.zero_point});
  }
  if (tail.y) {
    set_output_attributes(attributes, *tail.y, tail.bounds);
    return attributes;
  }
  attributes.insert_or_assign("y_dtype", std::string("f32"));
  if (tail.bounds.lo != -kUnbounded) attributes.insert_or_assign("f_lo", tail.bounds.lo);
  if (tail.bounds.hi != kUnbounded) attributes.insert_or_assign("f_hi", tail.bounds.hi);
  return attributes;
}

}  // namespace slipway
