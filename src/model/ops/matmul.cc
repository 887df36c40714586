// MatMul, Gemm, MatMulInteger, QLinearMatMul. All are batched row-major products; floats accumulate in double, integers
// modulo 2^64, whose low bits are ONNX's wrapping result. Operands of rank 1 count as one row (left) or column (right).
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "model/ops/expand.h"
#include "model/ops/families.h"
#include "model/ops/quantization.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

// c += a · b for [m,k] · [k,n].
template <typename T>
void multiply(const T* a, const T* b, T* c, int64_t m, int64_t k, int64_t n) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t l = 0; l < k; ++l) {
      const T factor = a[i * k + l];
      const T* row = b + l * n;
      T* out = c + i * n;
      for (int64_t j = 0; j < n; ++j) out[j] += factor * row[j];
    }
}

// Sizes of a batched product and, for each batch of the result, which matrix of a and b it takes.
struct Product {
  int64_t m, k, n;
  Dims dims;  ///< of the result
  std::vector<int64_t> a_batches, b_batches;
};

Dims broadcast_batches(const Node& node, std::span<const int64_t> a, std::span<const int64_t> b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1, db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      fail(ErrorCode::kInvalidModel, "The batch dimensions of a product do not go together at {}: {} and {}",
           node.label(), da, db);
    out[out.size() - 1 - i] = da == 1 ? db : da;
  }
  return out;
}

std::vector<int64_t> batch_indices(const Node& node, const Dims& own, const Dims& all) {
  std::vector<int64_t> indices(static_cast<size_t>(element_count(own)));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return expand(node, own, indices, all);
}

Product product_of(const Node& node, Dims a, Dims b) {
  if (a.empty() || b.empty()) fail(ErrorCode::kInvalidModel, "An operand is a scalar at {}", node.label());
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  Product p{.m = a[a.size() - 2], .k = a.back(), .n = b.back()};
  if (b[b.size() - 2] != p.k)
    fail(ErrorCode::kInvalidModel, "The inner dimensions of a product differ at {}: {} and {}", node.label(), p.k,
         b[b.size() - 2]);
  a.resize(a.size() - 2);
  b.resize(b.size() - 2);
  p.dims = broadcast_batches(node, a, b);
  p.a_batches = batch_indices(node, a, p.dims);
  p.b_batches = batch_indices(node, b, p.dims);
  if (!row) p.dims.push_back(p.m);
  if (!column) p.dims.push_back(p.n);
  return p;
}

template <typename T>
std::vector<T> run(const Product& p, const std::vector<T>& a, const std::vector<T>& b) {
  std::vector<T> y(static_cast<size_t>(bounded_count(p.dims)));
  for (size_t i = 0; i < p.a_batches.size(); ++i)
    multiply(a.data() + p.a_batches[i] * p.m * p.k, b.data() + p.b_batches[i] * p.k * p.n,
             y.data() + static_cast<int64_t>(i) * p.m * p.n, p.m, p.k, p.n);
  return y;
}

std::vector<uint64_t> wrapped(const Tensor& t) {
  const std::vector<int64_t> values = to_ints(t);
  return {values.begin(), values.end()};
}

Tensor from_wrapped(DType dtype, Dims dims, const std::vector<uint64_t>& values) {
  return cast(Tensor::of<int64_t>(std::move(dims), std::vector<int64_t>(values.begin(), values.end())), dtype);
}

void eval_matmul(EvalContext& ctx) {
  const Tensor &a = ctx.input(0), &b = ctx.input(1);
  const Product p = product_of(ctx.node, a.dims(), b.dims());
  if (is_integer(a.dtype()))
    ctx.set_output(0, from_wrapped(a.dtype(), p.dims, run(p, wrapped(a), wrapped(b))));
  else
    ctx.set_output(0, from_doubles(a.dtype(), p.dims, run(p, to_doubles(a), to_doubles(b))));
}

// A quantisation parameter of a product's operand as one value an element of it. ONNX allows a scalar, one a row of the
// left or a column of the right operand ([M] or [N]), and shapes that broadcast ([…,M,1], […,1,N]).
template <typename T>
std::vector<T> per_element(const EvalContext& ctx, const Tensor& parameter, const std::vector<T>& values,
                           const Dims& operand, bool left) {
  Dims dims = parameter.dims();
  if (parameter.elements() == 1) return std::vector<T>(static_cast<size_t>(element_count(operand)), values[0]);
  if (left && dims.size() == 1 && operand.size() > 1) dims.push_back(1);
  return expand(ctx.node, dims, values, operand);
}

std::vector<uint64_t> centred_operand(const EvalContext& ctx, size_t index, size_t zero_index, bool left) {
  const Tensor& x = ctx.input(index);
  std::vector<uint64_t> values = wrapped(x);
  if (!ctx.has_input(zero_index)) return values;
  const Tensor& zero = ctx.input(zero_index);
  const std::vector<int64_t> zeros = per_element(ctx, zero, to_ints(zero), x.dims(), left);
  for (size_t i = 0; i < values.size(); ++i) values[i] -= static_cast<uint64_t>(zeros[i]);
  return values;
}

void eval_matmul_integer(EvalContext& ctx) {
  const Product p = product_of(ctx.node, ctx.input(0).dims(), ctx.input(1).dims());
  const auto sums = run(p, centred_operand(ctx, 0, 2, true), centred_operand(ctx, 1, 3, false));
  ctx.set_output(0, from_wrapped(DType::kInt32, p.dims, sums));
}

// A scale of the left operand as one value a row, of the right one as one value a column, of the result.
std::vector<double> result_scale(const EvalContext& ctx, size_t index, const Dims& result, bool left) {
  const Tensor& scale = ctx.input(index);
  return per_element(ctx, scale, to_doubles(scale), result, left);
}

// Inputs: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero.
void eval_qlinear_matmul(EvalContext& ctx) {
  const Product p = product_of(ctx.node, ctx.input(0).dims(), ctx.input(3).dims());
  const auto sums = run(p, centred_operand(ctx, 0, 2, true), centred_operand(ctx, 3, 5, false));
  const std::vector<double> a = result_scale(ctx, 1, p.dims, true), b = result_scale(ctx, 4, p.dims, false);
  const std::vector<double> out = result_scale(ctx, 6, p.dims, true);
  const Tensor& y_zero = ctx.input(7);
  const std::vector<int64_t> zeros = per_element(ctx, y_zero, to_ints(y_zero), p.dims, true);
  std::vector<double> y(sums.size());
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = saturating_round(static_cast<int32_t>(sums[i]) * (a[i] * b[i] / out[i]), zeros[i],
                            integer_range(y_zero.dtype()));
  ctx.set_output(0, from_doubles(y_zero.dtype(), p.dims, y));
}

std::vector<double> transposed(const std::vector<double>& x, int64_t rows, int64_t columns) {
  std::vector<double> y(x.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      y[static_cast<size_t>(j * rows + i)] = x[static_cast<size_t>(i * columns + j)];
  return y;
}

void eval_gemm(EvalContext& ctx) {
  Dims a_dims = ctx.input(0).dims(), b_dims = ctx.input(1).dims();
  if (a_dims.size() != 2 || b_dims.size() != 2) ctx.reject("an operand is no matrix");
  std::vector<double> a = to_doubles(ctx.input(0)), b = to_doubles(ctx.input(1));
  const auto transpose = [&](const char* flag, std::vector<double>& x, Dims& dims) {
    if (ctx.node.integer(flag, 0) == 0) return;
    x = transposed(x, dims[0], dims[1]);
    std::swap(dims[0], dims[1]);
  };
  transpose("transA", a, a_dims);
  transpose("transB", b, b_dims);
  const Product p = product_of(ctx.node, a_dims, b_dims);
  std::vector<double> y = run(p, a, b);
  const double alpha = ctx.node.real("alpha", 1), beta = ctx.node.real("beta", 1);
  std::vector<double> c(y.size());
  if (ctx.has_input(2)) c = expand(ctx.node, ctx.input(2).dims(), to_doubles(ctx.input(2)), p.dims);
  for (size_t i = 0; i < y.size(); ++i) y[i] = alpha * y[i] + beta * c[i];
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), p.dims, y));
}

void require_equal(const InferContext& ctx, const Dim& a, const Dim& b) {
  if (a.is_known() && b.is_known() && a != b)
    ctx.reject(fmt::format("the inner dimensions of the product differ: {} and {}", a.value(), b.value()));
}

// What two broadcast dimensions make; a symbol against a number other than 1 can only be that number.
Dim broadcast(const InferContext& ctx, const Dim& a, const Dim& b) {
  if (a.same_as(b)) return a;
  if (a.is_known() && a.value() == 1) return b;
  if (b.is_known() && b.value() == 1) return a;
  if (a.is_known() && b.is_known())
    ctx.reject(fmt::format("the batch dimensions do not go together: {} and {}", a.value(), b.value()));
  return a.is_known() ? a : b.is_known() ? b : Dim();
}

void infer_product(InferContext& ctx, size_t b_index, DType dtype) {
  const Shape &a = ctx.shape(0), &b = ctx.shape(b_index);
  if (!a.has_rank() || !b.has_rank()) return ctx.set_output(0, dtype, Shape());
  if (a.rank() == 0 || b.rank() == 0) ctx.reject("an operand is a scalar");
  const size_t a_batch = a.rank() - std::min<size_t>(a.rank(), 2), b_batch = b.rank() - std::min<size_t>(b.rank(), 2);
  require_equal(ctx, a[a.rank() - 1], b[b_batch]);
  std::vector<Dim> dims(std::max(a_batch, b_batch), Dim(1));
  for (size_t i = 0; i < dims.size(); ++i) {
    const size_t from_end = dims.size() - i;
    dims[i] = broadcast(ctx, from_end <= a_batch ? a[a_batch - from_end] : Dim(1),
                        from_end <= b_batch ? b[b_batch - from_end] : Dim(1));
  }
  if (a.rank() > 1) dims.push_back(a[a.rank() - 2]);
  if (b.rank() > 1) dims.push_back(b[b.rank() - 1]);
  ctx.set_output(0, dtype, Shape(std::move(dims)));
}

void infer_matmul(InferContext& ctx) { infer_product(ctx, 1, ctx.dtype(0)); }
void infer_matmul_integer(InferContext& ctx) { infer_product(ctx, 1, DType::kInt32); }
void infer_qlinear_matmul(InferContext& ctx) { infer_product(ctx, 3, ctx.dtype(7)); }

void infer_gemm(InferContext& ctx) {
  const Shape &a = ctx.shape(0), &b = ctx.shape(1);
  if ((a.has_rank() && a.rank() != 2) || (b.has_rank() && b.rank() != 2)) ctx.reject("an operand is no matrix");
  const size_t trans_a = ctx.node.integer("transA", 0) != 0, trans_b = ctx.node.integer("transB", 0) != 0;
  if (a.has_rank() && b.has_rank()) require_equal(ctx, a[1 - trans_a], b[trans_b]);
  Shape y = Shape::with_rank(2);
  if (a.has_rank()) y[0] = a[trans_a];
  if (b.has_rank()) y[1] = b[1 - trans_b];
  ctx.set_output(0, ctx.dtype(0), y);
}

double product_flops(const CostContext& ctx) {
  const Dims& a = ctx.inputs[0];
  return a.empty() ? 0.0 : 2.0 * static_cast<double>(element_count(ctx.outputs[0])) * static_cast<double>(a.back());
}
double gemm_flops(const CostContext& ctx) {
  const Dims& a = ctx.inputs[0];
  const double inner = static_cast<double>(a[ctx.node.integer("transA", 0) != 0 ? 0 : 1]);
  return 2.0 * static_cast<double>(element_count(ctx.outputs[0])) * inner;
}

void rows_of_gemm(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const bool trans_a = ctx.node().integer("transA", 0) != 0, trans_b = ctx.node().integer("transB", 0) != 0;
  if (ctx.is_along(0) == ctx.is_along(1)) return ctx.mixes("it multiplies each row with all the others");
  const size_t side = ctx.is_along(0) ? 0 : 1;
  const RowFacts& product = ctx.rows(side);
  if (product.axis != (side == 0 ? trans_a : !trans_b)) return ctx.mixes("it sums over the rows");
  if (!ctx.is_independent(1 - side)) return ctx.mixes("its other operand depends on the number of rows");
  const bool adds_rows =
      ctx.is_along(2) && ctx.rank(2) - ctx.rows(2).axis == 2 - side && ctx.rows(2).block == product.block;
  if (!adds_rows && !ctx.repeats(2, 2 - side)) return ctx.mixes("what it adds is not the same for every row");
  ctx.set_along(side, product.block);
}

// Whether the parameters from input `first` to `last`, one a row of the left operand, are one number each.
bool are_numbers(const RowsContext& ctx, size_t first, size_t last) {
  for (size_t i = first; i <= last; ++i) {
    if (!ctx.in.has_input(i)) continue;
    const Shape& shape = ctx.in.shape(i);
    if (!shape.has_rank()) return false;
    for (const Dim& d : shape.dims())
      if (d != Dim(1)) return false;
  }
  return true;
}

// `b` is the right operand; the others are parameters.
void rows_of_quantized_product(RowsContext& ctx, size_t b, bool plain_parameters) {
  if (!ctx.any_along()) return;
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (i != b && !ctx.is_independent(i)) return ctx.mixes("its quantisation follows from the rows or their number");
  if (!plain_parameters) return ctx.mixes("its quantisation may not be the same for every row");
  rows_of_product(ctx, 0, b);
}

void rows_of_matmul_integer(RowsContext& ctx) {
  const bool per_column = ctx.in.has_input(3) && ctx.rank(3) == 1 && !ctx.is_along(1);
  rows_of_quantized_product(ctx, 1, are_numbers(ctx, 2, 2) && (per_column || are_numbers(ctx, 3, 3)));
}

void rows_of_qlinear_matmul(RowsContext& ctx) {
  const bool per_column = ctx.rank(4) <= 1 && ctx.rank(5) <= 1 && !ctx.is_along(3);
  rows_of_quantized_product(ctx, 3,
                            are_numbers(ctx, 1, 2) && are_numbers(ctx, 6, 7) && (per_column || are_numbers(ctx, 4, 5)));
}

// Gauss's elimination with the largest pivot of each column.
double determinant(std::span<double> m, size_t n) {
  double product = 1;
  for (size_t column = 0; column < n; ++column) {
    size_t pivot = column;
    for (size_t row = column + 1; row < n; ++row)
      if (std::fabs(m[row * n + column]) > std::fabs(m[pivot * n + column])) pivot = row;
    if (m[pivot * n + column] == 0) return 0;
    if (pivot != column) product = -product;
    for (size_t k = 0; k < n && pivot != column; ++k) std::swap(m[pivot * n + k], m[column * n + k]);
    product *= m[column * n + column];
    for (size_t row = column + 1; row < n; ++row) {
      const double factor = m[row * n + column] / m[column * n + column];
      for (size_t k = column; k < n; ++k) m[row * n + k] -= factor * m[column * n + k];
    }
  }
  return product;
}

void eval_det(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Dims& d = x.dims();
  if (d.size() < 2 || d[d.size() - 1] != d[d.size() - 2])
    ctx.reject(fmt::format("{} holds no square matrices", to_string(d)));
  const Dims dims(d.begin(), d.end() - 2);
  const auto n = static_cast<size_t>(d.back());
  std::vector<double> values = to_doubles(x), y(static_cast<size_t>(element_count(dims)));
  for (size_t i = 0; i < y.size(); ++i) y[i] = determinant(std::span(values).subspan(i * n * n, n * n), n);
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void infer_det(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  if (x.has_rank() && x.rank() < 2) ctx.reject(fmt::format("{} holds no square matrices", to_string(x)));
  ctx.set_output(0, ctx.dtype(0), x.has_rank() ? Shape({x.dims().begin(), x.dims().end() - 2}) : Shape());
}

double det_flops(const CostContext& ctx) {
  const Dims& x = ctx.inputs[0];
  return x.empty() ? 0 : static_cast<double>(x.back()) * static_cast<double>(element_count(x)) * 2 / 3;
}

}  // namespace

std::span<const OpSpec> matmul_ops() {
  static constexpr OpSpec kMatmulOps[] = {
      {.name = "MatMul",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_matmul,
       .eval = eval_matmul,
       .flops = product_flops,
       .rows = [](RowsContext& ctx) { rows_of_product(ctx, 0, 1); },
       .traits = kWeighted},
      {.name = "Gemm",
       .since = 7,
       .min_inputs = 2,
       .max_inputs = 3,
       .infer = infer_gemm,
       .eval = eval_gemm,
       .flops = gemm_flops,
       .rows = rows_of_gemm,
       .traits = kWeighted},
      {.name = "Det", .since = 11, .min_inputs = 1, .infer = infer_det, .eval = eval_det, .flops = det_flops},
      {.name = "MatMulInteger",
       .since = 10,
       .min_inputs = 2,
       .max_inputs = 4,
       .infer = infer_matmul_integer,
       .eval = eval_matmul_integer,
       .flops = product_flops,
       .rows = rows_of_matmul_integer,
       .traits = kWeighted},
      {.name = "QLinearMatMul",
       .since = 10,
       .min_inputs = 8,
       .max_inputs = 8,
       .infer = infer_qlinear_matmul,
       .eval = eval_qlinear_matmul,
       .flops = product_flops,
       .rows = rows_of_qlinear_matmul,
       .traits = kWeighted},
  };
  return kMatmulOps;
}

}  // namespace slipway
