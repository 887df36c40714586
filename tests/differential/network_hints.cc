// Hints for what networks are made of: convolutions, pools, normalisations, products and recurrent cells.
#include <algorithm>

#include "call_hints_families.h"

namespace slipway {
namespace {

using Ints = std::vector<int64_t>;

int64_t divisor_of(GraphWriter& w, int64_t n) {
  const int64_t d = w.any({1, 2, 3, 4, 8});
  return n > 0 && n % d == 0 ? d : 1;
}

Ints each(Call& c, size_t count, std::initializer_list<int64_t> choices) {
  Ints values(count, c.writer.any(choices));
  if (c.writer.chance(0.3))
    for (int64_t& v : values) v = c.writer.any(choices);
  return values;
}

struct ConvolutionShape {
  Ints kernel;
  int64_t group, results;  ///< output channels
};

ConvolutionShape convolution_attributes(Call& c) {
  const Dims x = c.dims(0);
  const size_t spatial = x.size() - 2;
  const int64_t channels = x[1];
  GraphWriter& w = c.writer;
  ConvolutionShape shape;
  shape.group = w.chance(0.6) ? 1 : w.chance(0.7) ? std::max<int64_t>(channels, 1) : divisor_of(w, channels);
  shape.results = shape.group * (shape.group > 1 ? w.any({1, 1, 1, 2}) : w.any({1, 2, 3, 4, 5, 8, 9, 16, 17, 32}));
  shape.kernel = each(c, spatial, {1, 1, 3, 3, 3, 2, 5});
  for (size_t i = 0; i < spatial; ++i)
    if (x[i + 2] == 1) shape.kernel[i] = 1;
  c.attributes.clear();
  if (shape.group != 1 || w.chance(0.1)) c.attributes["group"] = shape.group;
  if (w.chance(0.5)) c.attributes["kernel_shape"] = shape.kernel;
  if (w.chance(0.4)) c.attributes["strides"] = each(c, spatial, {1, 2, 2, 3});
  if (w.chance(0.15)) c.attributes["dilations"] = each(c, spatial, {1, 2});
  if (w.chance(0.1)) {
    c.attributes["auto_pad"] = w.any(words_for("auto_pad"));
  } else if (w.chance(0.6)) {
    Ints pads(2 * spatial);
    for (size_t i = 0; i < spatial; ++i) pads[i] = pads[i + spatial] = shape.kernel[i] / 2;
    if (w.chance(0.15)) pads[w.random.below(pads.size())] = w.any({0, 1, 2});
    c.attributes["pads"] = pads;
  }
  return shape;
}

Dims conv_weight(const Dims& x, const ConvolutionShape& shape) {
  Dims dims = {shape.results, x[1] / shape.group};
  dims.insert(dims.end(), shape.kernel.begin(), shape.kernel.end());
  return dims;
}

void conv(Call& c) {
  const ConvolutionShape shape = convolution_attributes(c);
  c.inputs.resize(1);
  c.operand(1, c.writer.weight(c.dtype(0), conv_weight(c.dims(0), shape), 0));
  if (c.writer.chance(0.6)) c.operand(2, c.writer.fresh(c.dtype(0), {shape.results}, 0.95));
}

void conv_transpose(Call& c) {
  const ConvolutionShape shape = convolution_attributes(c);
  Dims dims = {c.dims(0)[1], shape.results / shape.group};
  dims.insert(dims.end(), shape.kernel.begin(), shape.kernel.end());
  c.inputs.resize(1);
  if (c.writer.chance(0.2) && c.attributes.contains("strides"))
    c.attributes["output_padding"] = Ints(shape.kernel.size(), 1);
  c.operand(1, c.writer.weight(c.dtype(0), dims, 1));
  if (c.writer.chance(0.5)) c.operand(2, c.writer.fresh(c.dtype(0), {shape.results}, 0.95));
}

Tensor zero_point(Call& c, DType dtype, const Dims& dims = {}) {
  Tensor t = c.writer.random_tensor(dtype, dims);
  return c.writer.chance(0.5) ? Tensor(dtype, dims) : t;
}

DType byte_type(Call& c) { return c.writer.chance(0.5) ? DType::kInt8 : DType::kUint8; }

void conv_integer(Call& c) {
  const ConvolutionShape shape = convolution_attributes(c);
  c.inputs.resize(1);
  const DType weights = byte_type(c);
  c.operand(1, c.writer.fresh(weights, conv_weight(c.dims(0), shape)));
  if (c.writer.chance(0.5)) c.operand(2, c.writer.constant(zero_point(c, c.dtype(0))));
  if (c.writer.chance(0.3)) c.operand(3, c.writer.constant(zero_point(c, weights)));
}

ValueId scale(Call& c, double around, const Dims& dims = {}) {
  std::vector<double> values(static_cast<size_t>(element_count(dims)));
  for (double& v : values) v = around * (0.5 + c.writer.random.uniform());
  return c.writer.constant(from_doubles(DType::kFloat32, dims, values));
}

void qlinear_conv(Call& c) {
  const ConvolutionShape shape = convolution_attributes(c);
  c.inputs.resize(1);
  const Dims channels = c.writer.chance(0.6) ? Dims{shape.results} : Dims{};
  const DType weights = c.writer.chance(0.8) ? DType::kInt8 : c.dtype(0), result = c.dtype(0);
  c.operand(1, scale(c, 0.02));
  c.operand(2, c.writer.constant(zero_point(c, c.dtype(0))));
  c.operand(3, c.writer.constant(c.writer.random_tensor(weights, conv_weight(c.dims(0), shape))));
  c.operand(4, scale(c, 0.01, channels));
  c.operand(5, c.writer.constant(c.writer.chance(0.9) ? Tensor(weights, channels) : zero_point(c, weights, channels)));
  c.operand(6, scale(c, 0.1));
  c.operand(7, c.writer.constant(zero_point(c, result)));
  if (c.writer.chance(0.5)) c.operand(8, c.writer.constant(c.writer.random_tensor(DType::kInt32, {shape.results})));
}

void pool(Call& c) {
  const size_t spatial = c.dims(0).size() - 2;
  const bool dilates = c.has_parameter("dilations") || c.writer.style.opset >= 19;
  const bool ceil = c.attributes.contains("ceil_mode"), pads_count = c.attributes.contains("count_include_pad");
  const auto padding = c.attributes.find("p");
  const int64_t p = padding == c.attributes.end() ? 0 : c.writer.between(1, 3);
  c.attributes.clear();
  const Ints kernel = each(c, spatial, {1, 2, 2, 3, 3});
  c.attributes["kernel_shape"] = kernel;
  if (p > 0) c.attributes["p"] = p;
  if (c.writer.chance(0.6)) c.attributes["strides"] = each(c, spatial, {1, 2, 2, 3});
  if (ceil && c.writer.style.opset >= 10) c.attributes["ceil_mode"] = c.writer.between(0, 1);
  if (pads_count) c.attributes["count_include_pad"] = c.writer.between(0, 1);
  if (dilates && c.writer.chance(0.1)) c.attributes["dilations"] = each(c, spatial, {1, 2});
  if (c.writer.chance(0.1)) {
    c.attributes["auto_pad"] = c.writer.any(words_for("auto_pad"));
  } else if (c.writer.chance(0.5)) {
    Ints pads(2 * spatial);
    for (size_t i = 0; i < pads.size(); ++i) pads[i] = c.writer.between(0, kernel[i % spatial] / 2);
    c.attributes["pads"] = pads;
  }
  if (c.spec.max_outputs > 1 && c.writer.chance(0.1)) c.outputs = 2;
}

ValueId positive(Call& c, const Dims& dims) {
  Tensor t = c.writer.random_tensor(DType::kFloat32, dims);
  for (float& v : t.mutable_values<float>()) v = 0.1f + v * v;
  return c.writer.constant(cast(t, c.dtype(0)));
}

void batch_norm(Call& c) {
  const Dims channels = {c.dims(0).size() > 1 ? c.dims(0)[1] : 1};
  c.inputs.resize(1);
  const auto epsilon = c.attributes.contains("epsilon");
  c.attributes.clear();
  if (epsilon) c.attributes["epsilon"] = 0.01f;
  for (size_t i = 1; i <= 3; ++i) c.operand(i, c.writer.fresh(c.dtype(0), channels, 0.97));
  c.operand(4, positive(c, channels));
}

void channel_norm(Call& c) {
  const int64_t channels = c.dims(0)[1];
  c.inputs.resize(1);
  Dims dims = {channels};
  c.attributes = {{"epsilon", 0.01f}};
  if (c.spec.name == "GroupNormalization") {
    const int64_t groups = divisor_of(c.writer, channels);
    c.attributes["num_groups"] = groups;
    if (c.writer.style.opset < 21) dims = {groups};
  }
  for (size_t i = 1; i <= 2; ++i) c.operand(i, c.writer.fresh(c.dtype(0), dims, 0.95));
}

void layer_norm(Call& c) {
  const int64_t axis = c.writer.between(0, c.rank(0) - 1);
  const Dims dims(c.dims(0).begin() + axis, c.dims(0).end());
  c.attributes = {{"axis", c.writer.chance(0.5) ? axis - c.rank(0) : axis}, {"epsilon", 0.01f}};
  c.inputs.resize(1);
  c.operand(1, c.writer.fresh(c.dtype(0), dims, 0.95));
  if (c.spec.max_inputs > 2 && c.writer.chance(0.7)) c.operand(2, c.writer.fresh(c.dtype(0), dims, 0.95));
  if (c.spec.max_outputs > 1 && c.writer.chance(0.1)) c.outputs = c.spec.max_outputs > 2 ? 3 : 2;
}

void prelu(Call& c) {
  Dims dims = c.dims(0);
  const double kind = c.writer.random.uniform();
  if (kind < 0.5 && dims.size() >= 3) {
    dims.erase(dims.begin());
    for (size_t i = 1; i < dims.size(); ++i) dims[i] = 1;
  } else if (kind < 0.8) {
    dims = {1};
  }
  c.inputs.resize(1);
  c.operand(1, c.writer.fresh(c.dtype(0), dims, 0.95));
}

Dims product_partner(Call& c) {
  const Dims& a = c.dims(0);
  const int64_t k = a.back();
  const double kind = c.writer.random.uniform();
  if (kind < 0.08) return {k};
  Dims b = {k, c.writer.any({1, 2, 3, 4, 5, 8, 16, 17, 33})};
  if (kind > 0.6 && a.size() > 2) {
    Dims batch(a.begin(), a.end() - 2);
    if (c.writer.chance(0.3))
      for (int64_t& d : batch) d = c.writer.chance(0.5) ? 1 : d;
    b.insert(b.begin(), batch.begin(), batch.end());
  }
  return b;
}

void matmul(Call& c) {
  c.inputs.resize(1);
  const Dims dims = product_partner(c);
  c.operand(1, dims.size() == 2 && c.writer.chance(0.75) ? c.writer.weight(c.dtype(0), dims, 1)
                                                         : c.writer.like(c.dtype(0), dims, 0.5));
}

void matmul_integer(Call& c) {
  c.inputs.resize(1);
  const DType other = byte_type(c);
  const Dims dims = product_partner(c);
  c.operand(1, c.writer.fresh(other, dims));
  if (c.writer.chance(0.5)) c.operand(2, c.writer.constant(zero_point(c, c.dtype(0))));
  if (c.writer.chance(0.5)) c.operand(3, c.writer.constant(zero_point(c, other)));
}

void qlinear_matmul(Call& c) {
  c.inputs.resize(1);
  const DType other = byte_type(c), result = byte_type(c);
  const Dims dims = product_partner(c);
  c.operand(1, scale(c, 0.02));
  c.operand(2, c.writer.constant(zero_point(c, c.dtype(0))));
  c.operand(3, c.writer.fresh(other, dims));
  c.operand(4, scale(c, 0.02));
  c.operand(5, c.writer.constant(zero_point(c, other)));
  c.operand(6, scale(c, 0.1));
  c.operand(7, c.writer.constant(zero_point(c, result)));
}

void gemm(Call& c) {
  GraphWriter& w = c.writer;
  const bool trans_a = w.chance(0.15), trans_b = w.chance(0.5);
  const int64_t m = c.dims(0)[trans_a ? 1 : 0], k = c.dims(0)[trans_a ? 0 : 1];
  const int64_t n = w.any({1, 2, 3, 4, 5, 8, 16, 17, 33});
  c.inputs.resize(1);
  c.attributes.clear();
  if (trans_a) c.attributes["transA"] = int64_t{1};
  if (trans_b) c.attributes["transB"] = int64_t{1};
  if (w.chance(0.15)) c.attributes["alpha"] = 0.5f;
  if (w.chance(0.15)) c.attributes["beta"] = w.chance(0.3) ? 0.0f : 2.0f;
  c.operand(1, w.weight(c.dtype(0), trans_b ? Dims{n, k} : Dims{k, n}, trans_b ? 0 : 1));
  const std::vector<Dims> biases = {{n}, {n}, {n}, {1, n}, {m, n}, {m, 1}, {1}, {}};
  if (w.chance(0.75) || w.style.opset < 11) c.operand(2, w.like(c.dtype(0), w.any(biases), 0.15));
}

void einsum(Call& c) {
  struct Row {
    const char* equation;
    int64_t rank;
    std::vector<int> second;  ///< axes of the first operand that the second has; −1 a new one
  };
  static const std::vector<Row> rows = {
      {"ij,jk->ik", 2, {1, -1}},
      {"ij->ji", 2, {}},
      {"ij->i", 2, {}},
      {"ij,ij->ij", 2, {0, 1}},
      {"bij,bjk->bik", 3, {0, 2, -1}},
      {"i,j->ij", 1, {-1}},
      {"...ij->...ji", 3, {}},
      {"bhid,bhjd->bhij", 4, {0, 1, -1, 3}},
      {"bij->b", 3, {}},
      {"i,i", 1, {0}},
      {"bhwc,hkc->bhwk", 4, {1, -1, 3}},
  };
  std::vector<Row> fitting;
  for (const Row& row : rows)
    if (row.rank == c.rank(0)) fitting.push_back(row);
  if (fitting.empty()) return;
  const Row row = c.writer.any(fitting);
  c.attributes["equation"] = std::string(row.equation);
  c.inputs.resize(1);
  if (row.second.empty()) return;
  Dims dims;
  for (const int axis : row.second)
    dims.push_back(axis < 0 ? c.writer.any({1, 2, 3, 5}) : c.dims(0)[static_cast<size_t>(axis)]);
  c.operand(1, c.writer.like(c.dtype(0), dims, 0.4));
}

void recurrent(Call& c) {
  GraphWriter& w = c.writer;
  const int64_t gates = c.spec.name == "LSTM" ? 4 : c.spec.name == "GRU" ? 3 : 1;
  const int64_t hidden = w.any({1, 2, 3, 5, 8});
  const std::vector<std::string> directions = {"forward", "reverse", "bidirectional"};
  const std::string direction = w.any(directions);
  const int64_t n = direction == "bidirectional" ? 2 : 1, length = c.dims(0)[0], batch = c.dims(0)[1];
  const DType dtype = c.dtype(0);
  c.inputs.resize(1);
  c.attributes = {{"hidden_size", hidden}, {"direction", direction}};
  if (gates == 3 && w.chance(0.5)) c.attributes["linear_before_reset"] = int64_t{1};
  c.operand(1, w.fresh(dtype, {n, gates * hidden, c.dims(0)[2]}, 0.9));
  c.operand(2, w.fresh(dtype, {n, gates * hidden, hidden}, 0.9));
  if (w.chance(0.6)) c.operand(3, w.fresh(dtype, {n, 2 * gates * hidden}, 0.9));
  if (w.chance(0.2)) {
    std::vector<int32_t> lengths(static_cast<size_t>(batch));
    for (int32_t& v : lengths) v = static_cast<int32_t>(w.between(std::min<int64_t>(1, length), length));
    c.operand(4, w.constant(Tensor::of<int32_t>({batch}, lengths)));
  }
  if (w.chance(0.3)) c.operand(5, w.fresh(dtype, {n, batch, hidden}, 0.5));
  if (gates == 4 && w.chance(0.3)) c.operand(6, w.fresh(dtype, {n, batch, hidden}, 0.5));
  if (gates == 4 && w.chance(0.1)) c.operand(7, w.fresh(dtype, {n, 3 * hidden}, 0.9));
  c.outputs = static_cast<size_t>(w.between(1, gates == 4 ? 3 : 2));
}

void local_response(Call& c) { c.attributes = {{"size", c.writer.any({1, 3, 5})}}; }

constexpr CallHint kNetwork[] = {
    {"Conv", 3, 5, conv},
    {"ConvTranspose", 3, 4, conv_transpose},
    {"ConvInteger", 3, 4, conv_integer},
    {"QLinearConv", 3, 4, qlinear_conv},
    {"MaxPool", 3, 5, pool},
    {"AveragePool", 3, 5, pool},
    {"LpPool", 3, 5, pool},
    {"GlobalAveragePool", 3, 5, nullptr},
    {"GlobalMaxPool", 3, 5, nullptr},
    {"GlobalLpPool", 3, 5, nullptr},
    {"BatchNormalization", 2, 5, batch_norm},
    {"InstanceNormalization", 3, 5, channel_norm},
    {"GroupNormalization", 3, 5, channel_norm},
    {"LayerNormalization", 1, 4, layer_norm},
    {"RMSNormalization", 1, 4, layer_norm},
    {"LRN", 3, 4, local_response},
    {"MeanVarianceNormalization", 4, 4, nullptr},
    {"PRelu", 1, 5, prelu},
    {"MatMul", 1, 4, matmul},
    {"MatMulInteger", 2, 4, matmul_integer},
    {"QLinearMatMul", 2, 4, qlinear_matmul},
    {"Gemm", 2, 2, gemm},
    {"Einsum", 1, 4, einsum},
    {"RNN", 3, 3, recurrent},
    {"GRU", 3, 3, recurrent},
    {"LSTM", 3, 3, recurrent},
};

}  // namespace

std::span<const CallHint> network_hints() { return kNetwork; }

}  // namespace slipway
