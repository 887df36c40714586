// MaxPool, AveragePool, LpPool and their global forms. The input positions of a window are the same for every plane, so
// they are listed once a window and applied to all N·C planes. Padding never wins a maximum nor adds to a sum.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"
#include "model/ops/window.h"

namespace slipway {
namespace {

// Calls f(output index, plane of the input, plane's number, taps, output position) for every window of every plane.
template <typename F>
void for_each_window(const Window& w, int64_t planes, std::span<const double> x, const F& f) {
  const int64_t in_plane = element_count(w.input), out_plane = element_count(w.output);
  if (planes == 0) return;
  std::vector<Tap> taps;
  Dims at(w.rank(), 0);
  for (int64_t o = 0; o < out_plane; ++o, next_index(at, w.output)) {
    taps_at(w, w.input, at, taps);
    for (int64_t p = 0; p < planes; ++p) f(p * out_plane + o, x.data() + p * in_plane, p, taps, at);
  }
}

struct Pool {
  Window window;
  Dims dims;  ///< of the output
  int64_t planes;
  std::vector<double> x, y;
};

Pool prepare(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  Pool pool{.window = pool_window(ctx.node, x.dims())};
  pool.dims = {x.dims()[0], x.dims()[1]};
  pool.dims.insert(pool.dims.end(), pool.window.output.begin(), pool.window.output.end());
  pool.planes = x.dims()[0] * x.dims()[1];
  pool.y.resize(static_cast<size_t>(bounded_count(pool.dims)));
  pool.x = to_doubles(x);
  return pool;
}

// The index of a position in a plane when the first spatial axis varies fastest.
int64_t column_major(const Dims& dims, int64_t flat) {
  int64_t index = 0;
  for (size_t i = dims.size(), rest = static_cast<size_t>(flat); i-- > 0;) {
    const auto size = static_cast<size_t>(dims[i]);
    index += static_cast<int64_t>(rest % size) * element_count(std::span(dims).first(i));
    rest /= size;
  }
  return index;
}

void eval_max_pool(EvalContext& ctx) {
  Pool pool = prepare(ctx);
  const bool wants_indices = ctx.wants_output(1);
  const bool by_column = ctx.node.integer("storage_order", 0) != 0;
  std::vector<int64_t> indices(wants_indices ? pool.y.size() : 0);
  const int64_t plane = element_count(pool.window.input);
  for_each_window(pool.window, pool.planes, pool.x,
                  [&](int64_t o, const double* x, int64_t p, const std::vector<Tap>& taps, const Dims&) {
                    double best = -std::numeric_limits<double>::infinity();
                    int64_t where = taps.empty() ? 0 : taps[0].source;
                    for (const Tap& tap : taps)
                      if (x[tap.source] > best || (std::isnan(x[tap.source]) && !std::isnan(best))) {
                        best = x[tap.source];
                        where = tap.source;
                      }
                    pool.y[static_cast<size_t>(o)] = best;
                    if (wants_indices)
                      indices[static_cast<size_t>(o)] =
                          p * plane + (by_column ? column_major(pool.window.input, where) : where);
                  });
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), pool.dims, pool.y));
  if (wants_indices) ctx.set_output(1, Tensor::of<int64_t>(pool.dims, indices));
}

// With count_include_pad the padding counts, but not what ceil_mode adds beyond it.
int64_t padded_count(const Window& w, const Dims& at) {
  int64_t count = 1;
  for (size_t i = 0; i < w.rank(); ++i) {
    const int64_t room = w.input[i] + w.pads_begin[i] + w.pads_end[i] - at[i] * w.strides[i];
    count *= std::clamp<int64_t>((room + w.dilations[i] - 1) / w.dilations[i], 0, w.kernel[i]);
  }
  return count;
}

void eval_average_pool(EvalContext& ctx) {
  Pool pool = prepare(ctx);
  const bool include_pad = ctx.node.integer("count_include_pad", 0) != 0;
  for_each_window(pool.window, pool.planes, pool.x,
                  [&](int64_t o, const double* x, int64_t, const std::vector<Tap>& taps, const Dims& at) {
                    double sum = 0;
                    for (const Tap& tap : taps) sum += x[tap.source];
                    const int64_t count =
                        include_pad ? padded_count(pool.window, at) : static_cast<int64_t>(taps.size());
                    pool.y[static_cast<size_t>(o)] = sum / static_cast<double>(std::max<int64_t>(count, 1));
                  });
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), pool.dims, pool.y));
}

double lp_power(const EvalContext& ctx) {
  const auto p = static_cast<double>(ctx.node.integer("p", 2));
  if (p < 1) ctx.reject("p is less than 1");
  return p;
}

void eval_lp_pool(EvalContext& ctx) {
  Pool pool = prepare(ctx);
  const double p = lp_power(ctx);
  for_each_window(pool.window, pool.planes, pool.x,
                  [&](int64_t o, const double* x, int64_t, const std::vector<Tap>& taps, const Dims&) {
                    double sum = 0;
                    for (const Tap& tap : taps) sum += std::pow(std::abs(x[tap.source]), p);
                    pool.y[static_cast<size_t>(o)] = std::pow(sum, 1 / p);
                  });
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), pool.dims, pool.y));
}

// Reduces every plane to one number: f(plane's values), of which there may be none, as for the reductions.
template <typename F>
void reduce_planes(EvalContext& ctx, const F& f) {
  const Tensor& x = ctx.input(0);
  if (x.rank() < 3) ctx.reject(fmt::format("the input has rank {}, less than 3", x.rank()));
  Dims dims(x.dims().size(), 1);
  dims[0] = x.dims()[0];
  dims[1] = x.dims()[1];
  const std::vector<double> values = to_doubles(x);
  std::vector<double> y(static_cast<size_t>(element_count(dims)));
  const size_t plane = y.empty() ? 0 : values.size() / y.size();
  for (size_t i = 0; i < y.size(); ++i) y[i] = f(std::span<const double>(values).subspan(i * plane, plane));
  ctx.set_output(0, from_doubles(x.dtype(), dims, y));
}

void eval_global_average_pool(EvalContext& ctx) {
  reduce_planes(ctx, [](std::span<const double> v) {
    return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
  });
}
void eval_global_max_pool(EvalContext& ctx) {
  reduce_planes(ctx, [](std::span<const double> v) {
    double best = -std::numeric_limits<double>::infinity();
    for (double x : v)
      if (x > best || std::isnan(x)) best = x;
    return best;
  });
}
void eval_global_lp_pool(EvalContext& ctx) {
  const double p = lp_power(ctx);
  reduce_planes(ctx, [p](std::span<const double> v) {
    double sum = 0;
    for (double x : v) sum += std::pow(std::abs(x), p);
    return std::pow(sum, 1 / p);
  });
}

void infer_pool(InferContext& ctx) {
  const WindowAttributes attributes = read_window(ctx.node);
  Shape y = Shape::with_rank(attributes.kernel.size() + 2);
  const Shape& x = ctx.shape(0);
  if (x.has_rank()) {
    if (x.rank() != y.rank()) ctx.reject(fmt::format("the input has rank {}, not {}", x.rank(), y.rank()));
    y[0] = x[0];
    y[1] = x[1];
    const std::vector<Dim> sizes = window_output(ctx.node, attributes, std::span(x.dims()).subspan(2));
    for (size_t i = 0; i < sizes.size(); ++i) y[i + 2] = sizes[i];
  }
  ctx.set_output(0, ctx.dtype(0), y);
  ctx.set_output(1, DType::kInt64, y);
}

void infer_global_pool(InferContext& ctx) {
  Shape y = ctx.shape(0);
  if (y.has_rank() && y.rank() < 3) ctx.reject(fmt::format("the input has rank {}, less than 3", y.rank()));
  for (size_t i = 2; i < y.rank(); ++i) y[i] = 1;
  ctx.set_output(0, ctx.dtype(0), y);
}

double pool_flops(const CostContext& ctx) {
  return static_cast<double>(element_count(ctx.outputs[0])) *
         static_cast<double>(element_count(ctx.node.integers("kernel_shape")));
}
double global_pool_flops(const CostContext& ctx) { return static_cast<double>(element_count(ctx.inputs[0])); }

void rows_of_pool(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext&, size_t axis) { return axis > 1; });
}

// Its indices count through the whole batch.
void rows_of_max_pool(RowsContext& ctx) {
  if (ctx.in.output_count() > 1) return ctx.mixes("its indices count through the whole batch");
  rows_of_pool(ctx);
}

}  // namespace

std::span<const OpSpec> pooling_ops() {
  static constexpr OpSpec kPoolingOps[] = {
      {.name = "MaxPool",
       .min_inputs = 1,
       .max_outputs = 2,
       .infer = infer_pool,
       .eval = eval_max_pool,
       .flops = pool_flops,
       .rows = rows_of_max_pool},
      {.name = "AveragePool",
       .since = 7,
       .min_inputs = 1,
       .infer = infer_pool,
       .eval = eval_average_pool,
       .flops = pool_flops,
       .rows = rows_of_pool},
      {.name = "LpPool",
       .since = 2,
       .min_inputs = 1,
       .infer = infer_pool,
       .eval = eval_lp_pool,
       .flops = pool_flops,
       .rows = rows_of_pool},
      {.name = "GlobalAveragePool",
       .min_inputs = 1,
       .infer = infer_global_pool,
       .eval = eval_global_average_pool,
       .flops = global_pool_flops,
       .rows = rows_of_pool},
      {.name = "GlobalMaxPool",
       .min_inputs = 1,
       .infer = infer_global_pool,
       .eval = eval_global_max_pool,
       .flops = global_pool_flops,
       .rows = rows_of_pool},
      {.name = "GlobalLpPool",
       .since = 2,
       .min_inputs = 1,
       .infer = infer_global_pool,
       .eval = eval_global_lp_pool,
       .flops = global_pool_flops,
       .rows = rows_of_pool},
  };
  return kPoolingOps;
}

}  // namespace slipway
