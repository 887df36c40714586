// Operators of the internal domain "slipway": what passes fuse into and the engine lowers. Reference evaluation only.
//
// Float: Conv and Gemm with bias, residual (Conv) and activation; computed by the ONNX operator's reference, then
// residual, then activation. `alpha` and `beta` are the activation's.
// Integer: exact int32 sums, then one requantisation in single precision, multiplications and additions rounded apart,
// identical to every kernel:
//   f = float(acc) · multiplier[channel]
//   with mid_multiplier: q = clamp(rne(f) + mid_zero_point, mid_lo, mid_hi), f = float(q − mid_zero_point) ·
//   mid_multiplier with a residual:     f = f + float(r − residual_zero_point) · residual_multiplier y = clamp(rne(f) +
//   y_zero_point, y_lo, y_hi) in y_dtype, or clamp(f, f_lo, f_hi) when that is f32
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/op.h"
#include "model/ops/convolution.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"

namespace slipway {
namespace {

constexpr int64_t kStandardOpset = 13;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Node standard_node(const Node& node, std::string_view op, size_t inputs) {
  Node standard = node;
  standard.op_type = op;
  standard.domain.clear();
  standard.inputs.resize(std::min(inputs, standard.inputs.size()));
  return standard;
}

// Infers as the ONNX operator of that name would, its inputs taken to be of type f32.
std::vector<ValueFacts> infer_as(InferContext& ctx, std::string_view op, size_t inputs, const Attributes& extra = {}) {
  Node node = standard_node(ctx.node, op, inputs);
  for (const auto& [name, attribute] : extra) node.attributes.insert_or_assign(name, attribute);
  std::vector<ValueFacts> facts(std::min(inputs, ctx.input_count()));
  std::vector<const ValueFacts*> refs(facts.size(), nullptr);
  for (size_t i = 0; i < facts.size(); ++i) {
    if (!ctx.has_input(i)) continue;
    facts[i] = {DType::kFloat32, ctx.shape(i), nullptr, std::nullopt};
    refs[i] = &facts[i];
  }
  InferContext standard(node, kStandardOpset, std::move(refs), 1);
  find_op("", op, kStandardOpset)->infer(standard);
  return standard.results();
}

Tensor eval_as(EvalContext& ctx, std::string_view op, std::vector<const Tensor*> inputs) {
  Node node = standard_node(ctx.node, op, inputs.size());
  if (op == "Gemm") {  // these two are the activation's
    node.attributes.erase("alpha");
    node.attributes.erase("beta");
  }
  EvalContext standard(node, kStandardOpset, std::move(inputs));
  find_op("", op, kStandardOpset)->eval(standard);
  return std::move(standard.results()[0]);
}

const Tensor* optional_input(const EvalContext& ctx, size_t i) { return ctx.has_input(i) ? &ctx.input(i) : nullptr; }

// The activations that a fused operator may carry in its attributes `activation`, `alpha` and `beta`.
using Activation = double (*)(double x, double alpha, double beta);
Activation activation_named(std::string_view name) {
  struct Row {
    std::string_view name;
    Activation of;
  };
  static constexpr Row kRows[] = {
      {"Relu", [](double x, double, double) { return std::max(x, 0.0); }},
      {"Clip", [](double x, double alpha, double beta) { return std::min(std::max(x, alpha), beta); }},
      {"LeakyRelu", [](double x, double alpha, double) { return x < 0 ? alpha * x : x; }},
      {"Tanh", [](double x, double, double) { return std::tanh(x); }},
      {"HardSwish", [](double x, double, double) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }},
      {"HardSigmoid",
       [](double x, double alpha, double beta) { return std::min(std::max(alpha * x + beta, 0.0), 1.0); }},
      {"SiLU", [](double x, double, double) { return x / (1 + std::exp(-x)); }},
  };
  for (const Row& row : kRows)
    if (row.name == name) return row.of;
  return nullptr;
}

void apply_activation(EvalContext& ctx, Tensor& y) {
  const std::string name = ctx.node.text("activation", "");
  if (name.empty()) return;
  const Activation activation = activation_named(name);
  if (activation == nullptr) ctx.reject("the activation is unknown: " + name);
  const float alpha = ctx.node.real("alpha", 0), beta = ctx.node.real("beta", 0);
  for (float& v : y.mutable_values<float>()) v = static_cast<float>(activation(v, alpha, beta));
}

void infer_fused_conv(InferContext& ctx) {
  const auto facts = infer_as(ctx, "Conv", 3);
  ctx.set_output(0, DType::kFloat32, facts[0].shape);
}

void eval_fused_conv(EvalContext& ctx) {
  Tensor y = eval_as(ctx, "Conv", {&ctx.input(0), &ctx.input(1), optional_input(ctx, 2)});
  if (ctx.has_input(3)) {
    if (ctx.input(3).dims() != y.dims()) ctx.reject("the residual's shape is not the output's");
    const std::span<const float> r = ctx.input(3).values<float>();
    const std::span<float> v = y.mutable_values<float>();
    for (size_t i = 0; i < v.size(); ++i) v[i] += r[i];
  }
  apply_activation(ctx, y);
  ctx.set_output(0, std::move(y));
}

// The output shape of a · b with b a matrix and a's leading dimensions kept.
Shape product_shape(InferContext& ctx, bool b_rows_are_columns) {
  const Shape &a = ctx.shape(0), &b = ctx.shape(1);
  if (!a.has_rank()) return {};
  if (a.rank() < 2) ctx.reject("the left side has less than two dimensions");
  if (b.has_rank() && b.rank() != 2) ctx.reject("the right side is not a matrix");
  std::vector<Dim> dims = a.dims();
  if (ctx.node.integer("transA", 0) != 0) {
    if (dims.size() != 2) ctx.reject("transA needs a matrix");
    std::swap(dims[0], dims[1]);
  }
  dims.back() = b.has_rank() ? b[b_rows_are_columns ? 0 : 1] : Dim();
  return Shape(std::move(dims));
}

void infer_fused_gemm(InferContext& ctx) {
  ctx.set_output(0, DType::kFloat32, product_shape(ctx, ctx.node.integer("transB", 0) != 0));
}

void eval_fused_gemm(EvalContext& ctx) {
  const Tensor& a = ctx.input(0);
  if (a.rank() < 2) ctx.reject("the left side has less than two dimensions");
  Dims dims = a.dims();
  const int64_t depth = dims.back();
  const Tensor rows = a.rank() == 2 ? a : a.reshaped({element_count(std::span(dims).first(dims.size() - 1)), depth});
  Tensor y = eval_as(ctx, "Gemm", {&rows, &ctx.input(1), optional_input(ctx, 2)});
  apply_activation(ctx, y);
  if (a.rank() > 2) {
    dims.back() = y.dims()[1];
    y = y.reshaped(dims);
  }
  ctx.set_output(0, std::move(y));
}

DType output_dtype(const Node& node) {
  const DType dtype = parse_dtype(node.text("y_dtype", ""));
  if (dtype != DType::kInt8 && dtype != DType::kUint8 && dtype != DType::kFloat32)
    fail(ErrorCode::kInvalidModel, "The model is not valid at {}: y_dtype must be i8, u8 or f32", node.label());
  return dtype;
}

int32_t int_of(const Node& node, std::string_view name, int32_t fallback = 0) {
  return static_cast<int32_t>(std::clamp<int64_t>(node.integer(name, fallback), INT32_MIN, INT32_MAX));
}

// clamp(rne(f) + zero_point, lo, hi) without overflow whatever f.
int32_t quantize(float f, int32_t zero_point, int32_t lo, int32_t hi) {
  const float rounded = std::nearbyint(f);
  if (!(rounded > static_cast<float>(lo - zero_point))) return lo;
  if (rounded > static_cast<float>(hi - zero_point)) return hi;
  return static_cast<int32_t>(rounded) + zero_point;
}

/// The attributes that say how an accumulator becomes an output, and the output itself.
class Epilogue {
 public:
  Epilogue(EvalContext& ctx, Dims dims) : y(output_dtype(ctx.node), std::move(dims)) {
    const Node& node = ctx.node;
    const bool is_signed = y.dtype() == DType::kInt8;
    has_mid_ = node.has("mid_multiplier");
    mid_multiplier_ = node.real("mid_multiplier", 1.0f);
    mid_zero_point_ = int_of(node, "mid_zero_point");
    mid_lo_ = int_of(node, "mid_lo", -128);
    mid_hi_ = int_of(node, "mid_hi", 255);
    zero_point_ = int_of(node, "y_zero_point");
    lo_ = int_of(node, "y_lo", is_signed ? -128 : 0);
    hi_ = int_of(node, "y_hi", is_signed ? 127 : 255);
    f_lo_ = node.real("f_lo", -kInfinity);
    f_hi_ = node.real("f_hi", kInfinity);
    if (lo_ < (is_signed ? -128 : 0) || hi_ > (is_signed ? 127 : 255) || lo_ > hi_)
      ctx.reject("y_lo and y_hi are outside y_dtype");
  }

  float through_middle(float f) const {
    if (!has_mid_) return f;
    const int32_t q = quantize(f, mid_zero_point_, mid_lo_, mid_hi_);
    return static_cast<float>(q - mid_zero_point_) * mid_multiplier_;
  }

  void store(int64_t i, float f) {
    if (y.dtype() == DType::kFloat32)
      y.mutable_values<float>()[static_cast<size_t>(i)] = std::min(std::max(f, f_lo_), f_hi_);
    else
      y.mutable_raw()[i] = static_cast<std::byte>(quantize(f, zero_point_, lo_, hi_));
  }

  Tensor y;

 private:
  bool has_mid_;
  float mid_multiplier_, f_lo_, f_hi_;
  int32_t mid_zero_point_, mid_lo_, mid_hi_, zero_point_, lo_, hi_;
};

// An 8-bit tensor's elements less a zero point.
std::vector<int32_t> less_zero_point(const Tensor& tensor, int32_t zero_point) {
  std::vector<int32_t> values(static_cast<size_t>(tensor.elements()));
  const bool is_signed = tensor.dtype() == DType::kInt8;
  if (!is_signed && tensor.dtype() != DType::kUint8)
    fail(ErrorCode::kInvalidModel, "An integer operator's operand must be i8 or u8, not {}", to_string(tensor.dtype()));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto byte = static_cast<uint8_t>(tensor.raw()[i]);
    values[i] = (is_signed ? static_cast<int32_t>(static_cast<int8_t>(byte)) : static_cast<int32_t>(byte)) - zero_point;
  }
  return values;
}

std::vector<float> multipliers(const EvalContext& ctx, int64_t channels) {
  std::vector<float> values = ctx.node.reals("multiplier");
  if (static_cast<int64_t>(values.size()) != channels) ctx.reject("multiplier must have one entry a channel");
  return values;
}

std::vector<float> addends(const EvalContext& ctx, int64_t channels) {
  std::vector<float> values = ctx.node.reals("addend");
  if (values.empty()) values.assign(static_cast<size_t>(channels), 0.0f);
  if (static_cast<int64_t>(values.size()) != channels) ctx.reject("addend must have one entry a channel");
  return values;
}

std::vector<int32_t> bias_of(const EvalContext& ctx, int64_t channels) {
  if (!ctx.has_input(2)) return std::vector<int32_t>(static_cast<size_t>(channels), 0);
  if (ctx.input(2).elements() != channels) ctx.reject("the bias must have one entry a channel");
  const std::span<const int32_t> values = ctx.input(2).values<int32_t>();
  return {values.begin(), values.end()};
}

// Window geometry widened to three spatial axes.
struct Axes3 {
  int64_t input[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, output[3] = {1, 1, 1}, stride[3] = {1, 1, 1},
          dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};

  Axes3(const EvalContext& ctx, const Window& w) {
    if (w.rank() > 3) ctx.reject("more than three spatial axes");
    for (size_t i = 0; i < w.rank(); ++i) {
      const size_t at = 3 - w.rank() + i;
      input[at] = w.input[i];
      kernel[at] = w.kernel[i];
      output[at] = w.output[i];
      stride[at] = w.strides[i];
      dilation[at] = w.dilations[i];
      pad[at] = w.pads_begin[i];
    }
  }
  int64_t outputs() const { return output[0] * output[1] * output[2]; }
  int64_t inputs() const { return input[0] * input[1] * input[2]; }
  int64_t kernels() const { return kernel[0] * kernel[1] * kernel[2]; }

  // Calls f(input offset, kernel offset) for every position of output window o that lies inside the input.
  template <typename F>
  void visit(int64_t o, F&& f) const {
    const int64_t at[3] = {o / (output[1] * output[2]), o / output[2] % output[1], o % output[2]};
    for (int64_t k = 0; k < kernels(); ++k) {
      const int64_t tap[3] = {k / (kernel[1] * kernel[2]), k / kernel[2] % kernel[1], k % kernel[2]};
      int64_t offset = 0;
      bool inside = true;
      for (int i = 0; i < 3; ++i) {
        const int64_t position = at[i] * stride[i] - pad[i] + tap[i] * dilation[i];
        inside &= position >= 0 && position < input[i];
        offset = offset * input[i] + position;
      }
      if (inside) f(offset, k);
    }
  }
};

void infer_qconv(InferContext& ctx) {
  const auto facts = infer_as(ctx, "Conv", 3);
  ctx.set_output(0, output_dtype(ctx.node), facts[0].shape);
}

void eval_qconv(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  if (w.dtype() != DType::kInt8) ctx.reject("the weights must be i8");
  const ConvGeometry geometry = conv_geometry(ctx.node, x.dims(), w.dims());
  const std::vector<float> multiplier = multipliers(ctx, geometry.out_channels),
                           addend = addends(ctx, geometry.out_channels);
  const std::vector<int32_t> bias = bias_of(ctx, geometry.out_channels);
  const std::vector<uint32_t> modular_bias(bias.begin(), bias.end());
  const int64_t zero_points[] = {int_of(ctx.node, "x_zero_point")}, no_zero_point[] = {0};
  const std::vector<uint32_t> sums =
      convolve<uint32_t>(geometry, centred(x, zero_points, 1), centred(w, no_zero_point, 1), modular_bias);
  Epilogue epilogue(ctx, geometry.output());
  std::vector<int32_t> residual;
  if (ctx.has_input(3)) {
    if (ctx.input(3).dims() != epilogue.y.dims()) ctx.reject("the residual's shape is not the output's");
    residual = less_zero_point(ctx.input(3), int_of(ctx.node, "residual_zero_point"));
  }
  const float residual_multiplier = ctx.node.real("residual_multiplier", 1.0f);
  const size_t pixels = sums.empty() ? 1 : sums.size() / static_cast<size_t>(geometry.batch * geometry.out_channels);
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto acc = static_cast<float>(static_cast<int32_t>(sums[i]));
    const size_t channel = i / pixels % multiplier.size();
    const float product = acc * multiplier[channel];
    float f = epilogue.through_middle(product + addend[channel]);
    if (!residual.empty()) {
      const float r = static_cast<float>(residual[i]) * residual_multiplier;
      f = f + r;
    }
    epilogue.store(static_cast<int64_t>(i), f);
  }
  ctx.set_output(0, std::move(epilogue.y));
}

void infer_qgemm(InferContext& ctx) { ctx.set_output(0, output_dtype(ctx.node), product_shape(ctx, true)); }

void eval_qgemm(EvalContext& ctx) {
  const Tensor &a = ctx.input(0), &w = ctx.input(1);
  if (w.dtype() != DType::kInt8 || w.rank() != 2) ctx.reject("the weights must be an i8 matrix");
  if (a.rank() < 2 || a.dims().back() != w.dims()[1]) ctx.reject("the inner dimensions differ");
  const int64_t columns = w.dims()[0], depth = w.dims()[1];
  Dims dims = a.dims();
  dims.back() = columns;
  const std::vector<float> multiplier = multipliers(ctx, columns), addend = addends(ctx, columns);
  const std::vector<int32_t> bias = bias_of(ctx, columns), as = less_zero_point(a, int_of(ctx.node, "x_zero_point")),
                             ws = less_zero_point(w, 0);
  Epilogue epilogue(ctx, dims);
  const int64_t rows = element_count(std::span(dims).first(dims.size() - 1));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t n = 0; n < columns; ++n) {
      int64_t acc = bias[static_cast<size_t>(n)];
      for (int64_t k = 0; k < depth; ++k)
        acc += as[static_cast<size_t>(row * depth + k)] * ws[static_cast<size_t>(n * depth + k)];
      const float product = static_cast<float>(static_cast<int32_t>(acc)) * multiplier[static_cast<size_t>(n)];
      epilogue.store(row * columns + n, epilogue.through_middle(product + addend[static_cast<size_t>(n)]));
    }
  ctx.set_output(0, std::move(epilogue.y));
}

void infer_qadd(InferContext& ctx) {
  ctx.set_output(0, output_dtype(ctx.node), merge_shapes(ctx.shape(0), ctx.shape(1), ctx.node.label()));
}

void eval_qadd(EvalContext& ctx) {
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  if (a.dims() != b.dims()) ctx.reject("the shapes differ");
  const std::vector<int32_t> as = less_zero_point(a, int_of(ctx.node, "a_zero_point")),
                             bs = less_zero_point(b, int_of(ctx.node, "b_zero_point"));
  const float a_multiplier = ctx.node.real("a_multiplier", 1.0f), b_multiplier = ctx.node.real("b_multiplier", 1.0f);
  Epilogue epilogue(ctx, a.dims());
  for (size_t i = 0; i < as.size(); ++i) {
    const float left = static_cast<float>(as[i]) * a_multiplier, right = static_cast<float>(bs[i]) * b_multiplier;
    epilogue.store(static_cast<int64_t>(i), left + right);
  }
  ctx.set_output(0, std::move(epilogue.y));
}

void infer_qpool(InferContext& ctx) {
  const bool global = ctx.node.integer("global", 0) != 0;
  const auto facts = infer_as(ctx, global ? "GlobalAveragePool" : "AveragePool", 1);
  ctx.set_output(0, output_dtype(ctx.node), facts[0].shape);
}

void eval_qpool(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() < 3) ctx.reject("the input has no spatial axes");
  Node node = ctx.node;
  if (node.integer("global", 0) != 0)
    node.attributes.insert_or_assign("kernel_shape", Dims(x.dims().begin() + 2, x.dims().end()));
  const Window window = pool_window(node, x.dims());
  const Axes3 axes(ctx, window);
  const float multiplier = node.real("multiplier", 1.0f);
  const bool count_pads = node.integer("count_include_pad", 0) != 0;
  const std::vector<int32_t> xs = less_zero_point(x, int_of(node, "x_zero_point"));
  Dims dims{x.dims()[0], x.dims()[1]};
  dims.insert(dims.end(), window.output.begin(), window.output.end());
  Epilogue epilogue(ctx, dims);
  for (int64_t plane = 0; plane < dims[0] * dims[1]; ++plane)
    for (int64_t o = 0; o < axes.outputs(); ++o) {
      int64_t sum = 0, inside = 0;
      axes.visit(o, [&](int64_t offset, int64_t) {
        sum += xs[static_cast<size_t>(plane * axes.inputs() + offset)];
        ++inside;
      });
      const int64_t count = count_pads ? axes.kernels() : inside;
      const float factor = multiplier / static_cast<float>(count);
      epilogue.store(plane * axes.outputs() + o, static_cast<float>(static_cast<int32_t>(sum)) * factor);
    }
  ctx.set_output(0, std::move(epilogue.y));
}

void infer_lookup(InferContext& ctx) { ctx.set_output(0, ctx.dtype(1), ctx.shape(0)); }

void eval_lookup(EvalContext& ctx) {
  const Tensor &x = ctx.input(0), &table = ctx.input(1);
  if (table.elements() != 256 || bits_of(table.dtype()) != 8) ctx.reject("the table must have 256 entries of 8 bits");
  const std::vector<int32_t> codes = less_zero_point(x, x.dtype() == DType::kInt8 ? -128 : 0);
  Tensor y(table.dtype(), x.dims());
  std::byte* out = y.mutable_raw();
  for (size_t i = 0; i < codes.size(); ++i) out[i] = table.raw()[codes[i]];
  ctx.set_output(0, std::move(y));
}

// Two per multiplication and addition: elements of the output times the depth of a dot product.
double fused_conv_flops(const CostContext& ctx) {
  const Dims& w = ctx.inputs[1];
  double depth = 1;
  for (size_t i = 1; i < w.size(); ++i) depth *= static_cast<double>(w[i]);
  return 2.0 * depth * static_cast<double>(element_count(ctx.outputs[0]));
}

double fused_gemm_flops(const CostContext& ctx) {
  return 2.0 * static_cast<double>(ctx.inputs[0].back()) * static_cast<double>(element_count(ctx.outputs[0]));
}

double fused_pool_flops(const CostContext& ctx) { return static_cast<double>(element_count(ctx.inputs[0])); }

// Weights and bias are shared; the residual, input 3, goes with the rows.
void rows_of_conv(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const RowFacts &x = ctx.rows(0), &residual = ctx.rows(3);
  if (!ctx.is_along(0) || x.axis != 0 || !ctx.is_independent(1) || !ctx.is_independent(2))
    return ctx.mixes("it convolves the rows with each other");
  const bool adds_rows = ctx.is_along(3) && residual.axis == 0 && residual.block == x.block;
  if (!adds_rows && !ctx.repeats(3, ctx.rank(0))) return ctx.mixes("what it adds is not the same for every row");
  ctx.set_along(0, x.block);
}

void rows_of_fused_gemm(RowsContext& ctx) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  const bool transposed = ctx.node().integer("transA", 0) != 0;
  if (x->axis + 1 == ctx.rank(0) ? !transposed : transposed) return ctx.mixes("it sums over the rows");
  if (!ctx.repeats(2, 2)) return ctx.mixes("what it adds is not the same for every row");
  ctx.set_along(transposed ? 0 : x->axis, x->block);
}

constexpr OpSpec kFused[] = {
    {.name = "Conv",
     .min_inputs = 2,
     .max_inputs = 4,
     .infer = infer_fused_conv,
     .eval = eval_fused_conv,
     .flops = fused_conv_flops,
     .rows = rows_of_conv,
     .traits = kWeighted,
     .domain = kFusedDomain},
    {.name = "Gemm",
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_fused_gemm,
     .eval = eval_fused_gemm,
     .flops = fused_gemm_flops,
     .rows = rows_of_fused_gemm,
     .traits = kWeighted,
     .domain = kFusedDomain},
    {.name = "QConv",
     .min_inputs = 2,
     .max_inputs = 4,
     .infer = infer_qconv,
     .eval = eval_qconv,
     .flops = fused_conv_flops,
     .rows = rows_of_conv,
     .traits = kWeighted,
     .domain = kFusedDomain},
    {.name = "QGemm",
     .min_inputs = 2,
     .max_inputs = 3,
     .infer = infer_qgemm,
     .eval = eval_qgemm,
     .flops = fused_gemm_flops,
     .rows = rows_of_fused_gemm,
     .traits = kWeighted,
     .domain = kFusedDomain},
    {.name = "QAdd",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_qadd,
     .eval = eval_qadd,
     .traits = kElementwise,
     .domain = kFusedDomain},
    {.name = "QAveragePool",
     .min_inputs = 1,
     .max_inputs = 1,
     .infer = infer_qpool,
     .eval = eval_qpool,
     .flops = fused_pool_flops,
     .rows = rows_first_axis,
     .domain = kFusedDomain},
    {.name = "QLookup",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_lookup,
     .eval = eval_lookup,
     .rows = rows_stay,
     .domain = kFusedDomain},
};

}  // namespace

std::span<const OpSpec> fused_ops() { return kFused; }

}  // namespace slipway
