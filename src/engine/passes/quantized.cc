// Reading QDQ patterns. A quantiser is monotone, so bounds move through it: Q(clip(v, lo, hi)) = clamp(Q(v), Q(lo),
// Q(hi)) exactly. The bias is brought to the scale of the products x·w; sums are proven to fit int32 for every input.
// Where they do not because a channel is all bias (a quantiser chose its scale so that the bias just fits, ONNX Runtime
// for one), weights and bias are halved until they do: rounding the weights moves the result by less than bias / 2^13.
// A bias that was given in reals is rounded to steps of that scale only where the result's own steps are much larger;
// else it is added in floats, after the sums.
#include "engine/passes/quantized.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace slipway {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool is_byte(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kUint8; }

bool is_small_integer(DType dtype) { return is_byte(dtype) || dtype == DType::kInt4 || dtype == DType::kUint4; }

// The constant bias in reals, and as codes with their scales when it is a dequantised int32.
struct Bias {
  std::vector<double> reals;
  bool exact = false;  ///< codes below are in the products' own scale
  std::vector<int64_t> codes;
};

constexpr double kShareOfStep = 1.0 / 16;   // by which rounding a bias may move a result that is rounded anyway
constexpr double kFloatAccuracy = 0x1p-22;  // and one that is not, relative to the bias

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
  if (value == kNoValue) return Bias{std::vector<double>(channels, 0.0), true, std::vector<int64_t>(channels, 0)};
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
  bias.exact = true;
  for (size_t c = 0; c < channels; ++c) {
    bias.reals.push_back(static_cast<double>(bias.codes[c]) * scales[c]);
    bias.exact &= std::abs(scales[c] - products[c]) <= 1e-5 * products[c];
  }
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

struct IntegerSums {
  Tensor weights;
  std::vector<int32_t> bias;
  std::vector<double> products;
  bool halved = false;
};

// Nothing when a sum could leave int32, or a bias in reals would be noticed to have been rounded.
std::optional<IntegerSums> integer_sums(const Tensor& weights, const std::vector<double>& products, const Bias& bias,
                                        const Quantization& x, double step) {
  const size_t channels = products.size();
  IntegerSums sums{weights, std::vector<int32_t>(channels), products};
  const size_t depth = channels == 0 ? 0 : static_cast<size_t>(weights.elements()) / channels;
  const double x_lo = x.lowest() - x.zero_point, x_hi = x.highest() - x.zero_point;
  for (size_t c = 0; c < channels; ++c) {
    double& product = sums.products[c];
    double b = bias.exact ? static_cast<double>(bias.codes[c]) : std::nearbyint(bias.reals[c] / product);
    double moved = 0;
    while (!fits(sums.weights.values<int8_t>().subspan(c * depth, depth), b, x_lo, x_hi)) {
      if (std::abs(b) <= static_cast<double>(depth) * 0x1p20 || !std::isfinite(b)) return std::nullopt;
      for (int8_t& w : sums.weights.mutable_values<int8_t>().subspan(c * depth, depth))
        w = static_cast<int8_t>(std::nearbyint(static_cast<double>(w) / 2));
      b = std::nearbyint(b / 2);
      product *= 2;
      moved = std::abs(bias.reals[c]) * 0x1p-13;
      sums.halved = true;
    }
    sums.bias[c] = static_cast<int32_t>(b);
    if (bias.exact) continue;
    moved += std::abs(b * product - bias.reals[c]);
    if (!(moved <= (step > 0 ? kShareOfStep * step : kFloatAccuracy * std::abs(bias.reals[c])))) return std::nullopt;
  }
  return sums;
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

bool is_free(const Bounds& bounds) { return bounds.lo == -kInfinity && bounds.hi == kInfinity; }

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
                                            const Quantization& x, double step, const std::string& base) {
  IntegerLinear linear;
  for (double s : rows.scales) linear.products.push_back(static_cast<double>(x.scale) * s);
  const auto bias = read_bias(graph, bias_value, linear.products);
  if (!bias) return std::nullopt;
  const size_t channels = rows.scales.size();
  auto sums = integer_sums(rows.codes, linear.products, *bias, x, step);
  if (!sums && !bias->exact) {
    const Bias none{std::vector<double>(channels, 0.0), true, std::vector<int64_t>(channels, 0)};
    sums = integer_sums(rows.codes, linear.products, none, x, step);
    linear.addend.assign(bias->reals.begin(), bias->reals.end());
    bias_value = kNoValue;
  }
  if (!sums) return std::nullopt;
  linear.products = sums->products;
  linear.weights =
      rows.constant != kNoValue && !sums->halved ? rows.constant : graph.add_constant(base + "_codes", sums->weights);
  if (bias_value != kNoValue)
    linear.bias =
        graph.add_constant(base + "_bias_codes", Tensor::of<int32_t>({static_cast<int64_t>(channels)}, sums->bias));
  return linear;
}

void add_in_floats(Graph& graph, NodeId end, NodeSpec integer, const std::vector<float>& addend, size_t axes_after) {
  const std::string name = graph.value(graph.node(end).outputs[0]).name;
  const Shape shape = graph.value(graph.node(end).outputs[0]).shape;
  Dims dims(axes_after + 1, 1);
  dims[0] = static_cast<int64_t>(addend.size());
  const ValueId row = graph.add_constant(name + "_bias", Tensor::of<float>(dims, addend));
  const ValueId products = graph.add_node(std::move(integer), name + "_products", end);
  graph.set_type(products, DType::kFloat32, shape);
  rewrite(graph, end, {.op_type = "Add", .inputs = {products, row}});
}

double first_step(const Tail& tail) {
  const auto& first = tail.mid ? tail.mid : tail.y;
  return first ? static_cast<double>(first->scale) : 0.0;
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

Attributes epilogue_attributes(const Tail& tail, const Quantization& x, const std::vector<double>& products) {
  Attributes attributes{{"x_zero_point", int64_t{x.zero_point}}};
  const double y_scale = tail.y ? static_cast<double>(tail.y->scale) : 1.0;
  const double first_scale = tail.mid ? static_cast<double>(tail.mid->scale) : y_scale;
  std::vector<float> multiplier;
  for (double p : products) multiplier.push_back(static_cast<float>(p / first_scale));
  attributes.insert_or_assign("multiplier", std::move(multiplier));
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
  if (tail.bounds.lo != -kInfinity) attributes.insert_or_assign("f_lo", tail.bounds.lo);
  if (tail.bounds.hi != kInfinity) attributes.insert_or_assign("f_hi", tail.bounds.hi);
  return attributes;
}

}  // namespace slipway
