// ONNX Runtime's quantised operators (com.microsoft), as its quantiser writes them in the format QOperator: each is the
// float operator between DequantizeLinear and QuantizeLinear, or MatMulInteger with the scales behind it. Where its own
// kernels round differently on the way, results differ by one step of the output's scale at most.
#include "base/error.h"
#include "model/onnx/rewrites/rewrite.h"

namespace slipway {
namespace {

void quantized_pair(Rewrite& r, std::string_view op) {
  const ValueId a = r.dequantize(r.need(0), r.need(1), r.in(2)), b = r.dequantize(r.need(3), r.need(4), r.in(5));
  r.finish({r.quantize(r.add(op, {a, b}), r.need(6), r.in(7))});
}
void quantized_add(Rewrite& r) { quantized_pair(r, "Add"); }
void quantized_multiply(Rewrite& r) { quantized_pair(r, "Mul"); }

// Of one operand, whose parameters are inputs 1 and 2; those of the result are 3 and 4.
void quantized_unary(Rewrite& r, std::string_view op, Attributes attributes) {
  const ValueId x = r.dequantize(r.need(0), r.need(1), r.in(2));
  r.finish({r.quantize(r.add(op, {x}, std::move(attributes)), r.need(3), r.in(4))});
}

void quantized_leaky_relu(Rewrite& r) { quantized_unary(r, "LeakyRelu", r.node.attributes); }
void quantized_sigmoid(Rewrite& r) { quantized_unary(r, "Sigmoid", {}); }

// The node says of which opset's Softmax it is; both mean the same along the last axis.
void quantized_softmax(Rewrite& r) {
  const bool late = r.node.integer("opset", 13) >= 13;
  const int64_t axis = r.node.integer("axis", late ? -1 : 1);
  if (late != (r.opset >= 13) && axis != -1)
    r.unsupported(fmt::format("it is a Softmax of another opset than the model's, along axis {}", axis));
  quantized_unary(r, "Softmax", {{"axis", axis}});
}

// Of channels that come last, the layout is changed for the pool and back.
void quantized_pool(Rewrite& r, std::string_view op, int64_t spatial_axes) {
  Attributes attributes = r.attributes_without({"channels_last"});
  if (!r.is_set("channels_last")) return quantized_unary(r, op, std::move(attributes));
  if (spatial_axes < 1 || spatial_axes > 3) r.unsupported("its channels come last, of an input of undeclared rank");
  const auto axes = static_cast<size_t>(spatial_axes);
  std::vector<int64_t> forth = {0, static_cast<int64_t>(axes) + 1}, back = {0};
  for (size_t i = 0; i < axes; ++i) {
    forth.push_back(static_cast<int64_t>(i) + 1);
    back.push_back(static_cast<int64_t>(i) + 2);
  }
  back.push_back(1);
  const ValueId x = r.transpose(r.dequantize(r.need(0), r.need(1), r.in(2)), forth);
  const ValueId y = r.transpose(r.add(op, {x}, std::move(attributes)), back);
  r.finish({r.quantize(y, r.need(3), r.in(4))});
}

void quantized_average_pool(Rewrite& r) {
  quantized_pool(r, "AveragePool", static_cast<int64_t>(r.node.integers("kernel_shape").size()));
}
void quantized_global_average_pool(Rewrite& r) { quantized_pool(r, "GlobalAveragePool", r.rank(r.need(0)) - 2); }

void quantized_concat(Rewrite& r) {
  std::vector<ValueId> parts;
  for (size_t i = 2; i < r.node.inputs.size(); i += 3)
    parts.push_back(r.dequantize(r.need(i), r.need(i + 1), r.in(i + 2)));
  r.finish({r.quantize(r.add("Concat", parts, r.node.attributes), r.need(0), r.in(1))});
}

// C holds sums: its scale is the product of the others' and alpha.
void quantized_gemm(Rewrite& r) {
  const ValueId a = r.dequantize(r.need(0), r.need(1), r.in(2));
  const ValueId b = r.dequantize(r.need(3), r.need(4), r.in(5), r.is_set("transB") ? 0 : 1);
  ValueId c = kNoValue;
  if (r.has(6)) {
    const std::vector<float> left = to_floats(r.known(1));
    std::vector<float> scales = to_floats(r.known(4));
    if (left.size() != 1) r.reject("the scale of A is not one number");
    for (float& s : scales) s *= left[0] * r.node.real("alpha", 1.0f);
    const auto count = static_cast<int64_t>(scales.size());
    const ValueId scale = r.tensor(Tensor::of<float>(count == 1 ? Dims{} : Dims{count}, scales));
    if (count == 1 || r.rank(r.in(6)) == 1)
      c = r.dequantize(r.in(6), scale, kNoValue, 0);
    else
      c = r.add("Mul", {r.add("Cast", {r.in(6)}, {{"to", int64_t{1}}}), scale});
  }
  const ValueId y = r.add("Gemm", {a, b, c}, r.node.attributes);
  r.finish({r.has(7) ? r.quantize(y, r.in(7), r.in(8)) : y});
}

// The same but for its domain.
void quantize_linear(Rewrite& r) {
  r.finish({r.add("QuantizeLinear", {r.need(0), r.need(1), r.in(2)}, r.node.attributes)});
}
void dequantize_linear(Rewrite& r) {
  r.finish({r.add("DequantizeLinear", {r.need(0), r.need(1), r.in(2)}, r.node.attributes)});
}

ValueId scaled_product(Rewrite& r, std::vector<ValueId> operands, ValueId scale, ValueId bias) {
  const ValueId sums = r.add("MatMulInteger", std::move(operands));
  const ValueId y = r.add("Mul", {r.add("Cast", {sums}, {{"to", int64_t{1}}}), scale});
  return bias == kNoValue ? y : r.add("Add", {y, bias});
}

void integer_product_to_float(Rewrite& r) {
  const ValueId scale = r.add("Mul", {r.need(2), r.need(3)});
  r.finish({scaled_product(r, {r.need(0), r.need(1), r.in(4), r.in(5)}, scale, r.in(6))});
}

void dynamic_product(Rewrite& r) {
  const std::vector<ValueId> a = r.add_several("DynamicQuantizeLinear", {r.need(0)}, 3);
  const ValueId scale = r.add("Mul", {a[1], r.need(2)});
  r.finish({scaled_product(r, {a[0], r.need(1), a[2], r.in(3)}, scale, r.in(4))});
}

/// A code of 2, 4 or 8 bits; the first ones of a byte are its lowest.
int64_t code_at(std::span<const uint8_t> bytes, size_t i, size_t bits) {
  return (bytes[i * bits / 8] >> (i * bits % 8)) & ((1 << bits) - 1);
}

// Weights [N, blocks, bytes], a scale and a zero point for each block: as a matrix [K, N] for MatMul.
void product_with_packed_weights(Rewrite& r) {
  const int64_t n = r.node.integer("N", 0), k = r.node.integer("K", 0), block = r.node.integer("block_size", 0);
  const auto bits = static_cast<size_t>(r.node.integer("bits", 4));
  if (n < 1 || k < 1 || block < 1 || (bits != 2 && bits != 4 && bits != 8))
    r.reject(fmt::format("N {}, K {}, block_size {} or bits {} make no matrix", n, k, block, bits));
  if (r.has(4) || r.is_set("weight_prepacked")) r.unsupported("its weights are reordered");
  const int64_t blocks = k / block + (k % block != 0);
  const Tensor &packed = r.known(1), &scale = r.known(2);
  element_count(Dims{n, blocks, block});  // refuses what is absurd
  const auto groups = static_cast<size_t>(n * blocks), width = static_cast<size_t>(block);
  const std::vector<double> scales = to_doubles(scale);
  if (packed.dtype() != DType::kUint8 || block * static_cast<int64_t>(bits) % 8 != 0 ||
      packed.bytes() != groups * width * bits / 8 || scales.size() != groups)
    r.reject(fmt::format("weights {} and scales {} are not {} × {} blocks of {}", to_string(packed.dims()),
                         to_string(scale.dims()), n, blocks, block));
  std::vector<double> zeros(groups, static_cast<double>(1 << (bits - 1)));
  if (r.has(3)) {
    const Tensor& given = r.known(3);
    const size_t row_bytes = (static_cast<size_t>(blocks) * bits + 7) / 8;
    const bool is_packed = given.dtype() == DType::kUint8 && given.bytes() == static_cast<size_t>(n) * row_bytes;
    if (!is_packed && given.elements() != static_cast<int64_t>(groups))
      r.reject(fmt::format("zero points {} are not one a block", to_string(given.dims())));
    if (!is_packed) zeros = to_doubles(given);
    for (size_t g = 0; is_packed && g < groups; ++g)
      zeros[g] =
          static_cast<double>(code_at(given.values<uint8_t>().subspan(g / static_cast<size_t>(blocks) * row_bytes),
                                      g % static_cast<size_t>(blocks), bits));
  }
  const auto codes = packed.values<uint8_t>();
  Tensor weights(DType::kFloat32, {k, n});
  const auto out = weights.mutable_values<float>();
  for (size_t row = 0; row < static_cast<size_t>(n); ++row)
    for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
      const size_t group = row * static_cast<size_t>(blocks) + i / width;
      const auto code = static_cast<double>(code_at(codes, group * width + i % width, bits));
      out[i * static_cast<size_t>(n) + row] = static_cast<float>((code - zeros[group]) * scales[group]);
    }
  const ValueId y = r.add("MatMul", {r.need(0), r.tensor(cast(weights, scale.dtype()))});
  r.finish({r.has(5) ? r.add("Add", {y, r.in(5)}) : y});
}

// [D, rows, 4·H] with a scale for each direction, or each column of it, as LSTM's float weights [D, 4·H, rows].
ValueId gate_weights(Rewrite& r, size_t codes, size_t scale, size_t zero_point) {
  const Tensor& w = r.known(codes);
  if (w.rank() != 3) r.reject(fmt::format("weights {} are not [D, rows, 4·H]", to_string(w.dims())));
  const std::vector<double> scales = to_doubles(r.known(scale)), zeros = to_doubles(r.known(zero_point));
  std::vector<double> values = to_doubles(w);
  const auto directions = static_cast<size_t>(w.dims()[0]), columns = static_cast<size_t>(w.dims()[2]);
  const bool each = scales.size() == directions * columns;
  if ((!each && scales.size() != directions) || zeros.size() != scales.size())
    r.reject(
        fmt::format("{} scales and {} zero points for weights {}", scales.size(), zeros.size(), to_string(w.dims())));
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t direction = i / (values.size() / directions);
    const size_t at = each ? direction * columns + i % columns : direction;
    values[i] = (values[i] - zeros[at]) * scales[at];
  }
  return r.transpose(r.tensor(from_doubles(DType::kFloat32, w.dims(), values)), {0, 2, 1});
}

// The weights are quantised, and stay so near; what ONNX Runtime also rounds at each step, its inputs, stays float.
void dynamic_lstm(Rewrite& r) {
  const ValueId w = gate_weights(r, 1, 8, 9), recurrence = gate_weights(r, 2, 10, 11);
  r.finish(r.add_several("LSTM", {r.need(0), w, recurrence, r.in(3), r.in(4), r.in(5), r.in(6), r.in(7)}, 3,
                         r.node.attributes));
}

constexpr RewriteRule kQuantizedRules[] = {
    {"QLinearAdd", quantized_add},
    {"QLinearMul", quantized_multiply},
    {"QLinearConcat", quantized_concat},
    {"QLinearAveragePool", quantized_average_pool},
    {"QLinearGlobalAveragePool", quantized_global_average_pool},
    {"QLinearLeakyRelu", quantized_leaky_relu},
    {"QLinearSigmoid", quantized_sigmoid},
    {"QLinearSoftmax", quantized_softmax},
    {"QGemm", quantized_gemm},
    {"QuantizeLinear", quantize_linear},
    {"DequantizeLinear", dequantize_linear},
    {"MatMulIntegerToFloat", integer_product_to_float},
    {"DynamicQuantizeMatMul", dynamic_product},
    {"MatMulNBits", product_with_packed_weights},
    {"DynamicQuantizeLSTM", dynamic_lstm},
};

}  // namespace

std::span<const RewriteRule> quantized_rewrites() { return kQuantizedRules; }

}  // namespace slipway
