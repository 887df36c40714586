// Operators that make tensors from parameters: constants, ranges, identity matrices, windows, random numbers.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

Tensor constant_of(const Node& node) {
  if (const Tensor* value = node.tensor("value")) return *value;
  if (node.has("value_float")) return Tensor::scalar(node.real("value_float", 0));
  if (node.has("value_int")) return Tensor::scalar(node.integer("value_int", 0));
  if (node.has("value_string")) return Tensor::of_strings({}, {node.text("value_string", "")});
  if (node.has("value_floats")) {
    const std::vector<float> values = node.reals("value_floats");
    return Tensor::of<float>({static_cast<int64_t>(values.size())}, values);
  }
  if (node.has("value_ints")) {
    const std::vector<int64_t> values = node.integers("value_ints");
    return Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values);
  }
  const auto it = node.attributes.find("value_strings");
  if (it != node.attributes.end())
    if (const auto* values = std::get_if<std::vector<std::string>>(&it->second))
      return Tensor::of_strings({static_cast<int64_t>(values->size())}, *values);
  fail(ErrorCode::kUnsupported, "A constant has no value that is supported (sparse ones are not): {}", node.label());
}

void infer_constant(InferContext& ctx) {
  const Tensor value = constant_of(ctx.node);
  ctx.set_output(0, value.dtype(), Shape::of(value.dims()));
}

void eval_constant(EvalContext& ctx) { ctx.set_output(0, constant_of(ctx.node)); }

DType fill_type(const Node& node) {
  const Tensor* value = node.tensor("value");
  return value == nullptr ? DType::kFloat32 : value->dtype();
}

void infer_constant_of_shape(InferContext& ctx) {
  const auto dims = contents(ctx, 0);
  if (dims && dims->size() > kMaxRank) ctx.reject("its shape is absurdly long");
  ctx.set_output(0, fill_type(ctx.node), dims ? Shape(*dims) : Shape());
}

void eval_constant_of_shape(EvalContext& ctx) {
  const Dims dims = to_ints(ctx.input(0));
  if (dims.size() > kMaxRank) ctx.reject("its shape is absurdly long");
  bounded_count(dims);
  Tensor y(fill_type(ctx.node), dims);
  if (const Tensor* value = ctx.node.tensor("value")) {
    if (value->elements() != 1) ctx.reject("its value is not one element");
    const double number = to_doubles(*value)[0];
    if (is_integer(value->dtype()))
      y = cast(Tensor::of<int64_t>(dims, std::vector<int64_t>(static_cast<size_t>(y.elements()), to_ints(*value)[0])),
               value->dtype());
    else
      y = from_doubles(value->dtype(), dims, std::vector<double>(static_cast<size_t>(y.elements()), number));
  }
  ctx.set_output(0, std::move(y));
}

// How many steps of `delta` lie between start and limit.
template <typename Context>
int64_t range_count(const Context& ctx, const Tensor& start, const Tensor& limit, const Tensor& delta) {
  for (const Tensor* t : {&start, &limit, &delta})
    if (t->elements() != 1 || t->dtype() != start.dtype()) ctx.reject("it takes three numbers of one type");
  constexpr double kMost = 281474976710656.0;
  if (is_integer(start.dtype())) {
    const int64_t from = to_ints(start)[0], to = to_ints(limit)[0], step = to_ints(delta)[0];
    if (step == 0) ctx.reject("its delta is 0");
    if (step > 0 ? from >= to : from <= to) return 0;
    const auto a = static_cast<uint64_t>(step > 0 ? from : to), b = static_cast<uint64_t>(step > 0 ? to : from);
    const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : uint64_t{0} - static_cast<uint64_t>(step);
    const uint64_t count = (b - a - 1) / stride + 1;
    if (static_cast<double>(count) > kMost) ctx.reject("it is absurdly long");
    return static_cast<int64_t>(count);
  }
  const double step = to_doubles(delta)[0];
  const double count = std::ceil((to_doubles(limit)[0] - to_doubles(start)[0]) / step);
  if (step == 0 || !(count <= kMost)) ctx.reject("its delta is 0, or it is absurdly long");
  return count > 0 ? static_cast<int64_t>(count) : 0;
}

void infer_range(InferContext& ctx) {
  ctx.set_output(0, ctx.dtype(0), Shape::with_rank(1));
  const auto &start = ctx.input(0).constant, &limit = ctx.input(1).constant, &delta = ctx.input(2).constant;
  if (start != nullptr && limit != nullptr && delta != nullptr)
    return ctx.set_output(0, ctx.dtype(0), Shape({Dim(range_count(ctx, *start, *limit, *delta))}));
  const auto from = contents(ctx, 0), to = contents(ctx, 1), step = contents(ctx, 2);
  const auto is = [](const auto& dims, int64_t v) { return dims && dims->size() == 1 && (*dims)[0] == Dim(v); };
  if (is(from, 0) && is(step, 1) && to && to->size() == 1) ctx.set_output(0, ctx.dtype(0), Shape({(*to)[0]}));
}

void eval_range(EvalContext& ctx) {
  const Tensor &start = ctx.input(0), &delta = ctx.input(2);
  const int64_t count = range_count(ctx, start, ctx.input(1), delta);
  bounded_count(std::array{count});
  Tensor wide(is_integer(start.dtype()) ? DType::kInt64 : DType::kFloat64, {count});
  if (is_integer(start.dtype())) {
    auto at = static_cast<uint64_t>(to_ints(start)[0]);
    for (int64_t& v : wide.mutable_values<int64_t>()) {
      v = static_cast<int64_t>(at);
      at += static_cast<uint64_t>(to_ints(delta)[0]);
    }
  } else {
    const double from = to_doubles(start)[0], step = to_doubles(delta)[0];
    double i = 0;
    for (double& v : wide.mutable_values<double>()) v = from + step * i++;
  }
  ctx.set_output(0, cast(wide, start.dtype()));
}

template <typename Context>
DType type_attribute(const Context& ctx, std::string_view attribute, DType fallback) {
  const int64_t code = ctx.node.integer(attribute, static_cast<int64_t>(fallback));
  if (code <= 0 || code >= kDTypeCount)
    ctx.reject(fmt::format("attribute '{}' names no element type: {}", attribute, code));
  return static_cast<DType>(code);
}

void infer_eye_like(InferContext& ctx) { ctx.set_output(0, type_attribute(ctx, "dtype", ctx.dtype(0)), ctx.shape(0)); }

void eval_eye_like(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 2) ctx.reject("it takes a matrix");
  const int64_t rows = x.dims()[0], columns = x.dims()[1], k = ctx.node.integer("k", 0);
  Tensor y(DType::kInt64, x.dims());
  const auto to = y.mutable_values<int64_t>();
  for (int64_t row = 0; row < rows; ++row)
    if (k >= -row && k < columns - row) to[static_cast<size_t>(row * columns + row + k)] = 1;
  ctx.set_output(0, cast(y, type_attribute(ctx, "dtype", x.dtype())));
}

// Generalised cosine windows: a0 - a1 cos(2πi/N) + a2 cos(4πi/N).
struct WindowShape {
  double a0, a1, a2;
};
constexpr WindowShape kHann = {0.5, 0.5, 0.0};
constexpr WindowShape kHamming = {25.0 / 46.0, 21.0 / 46.0, 0.0};
constexpr WindowShape kBlackman = {0.42, 0.5, 0.08};

void infer_window(InferContext& ctx) {
  const auto size = contents(ctx, 0);
  ctx.set_output(0, type_attribute(ctx, "output_datatype", DType::kFloat32),
                 size && size->size() == 1 ? Shape({(*size)[0]}) : Shape::with_rank(1));
}

template <const WindowShape& kWindow>
void eval_window(EvalContext& ctx) {
  const std::vector<int64_t> sizes = to_ints(ctx.input(0));
  if (sizes.size() != 1) ctx.reject("its size is not one number");
  bounded_count(sizes);
  Tensor wide(DType::kFloat64, {sizes[0]});
  const double period = static_cast<double>(sizes[0]) - (ctx.node.integer("periodic", 1) != 0 ? 0.0 : 1.0);
  const double turn = 2 * 3.14159265358979323846 / std::max(period, 1.0);
  double i = 0;
  for (double& v : wide.mutable_values<double>()) {
    v = kWindow.a0 - kWindow.a1 * std::cos(turn * i) + kWindow.a2 * std::cos(2 * turn * i);
    ++i;
  }
  ctx.set_output(0, cast(wide, type_attribute(ctx, "output_datatype", DType::kFloat32)));
}

bool is_like(const Node& node) { return node.op_type.ends_with("Like"); }

void infer_random(InferContext& ctx) {
  if (is_like(ctx.node)) return ctx.set_output(0, type_attribute(ctx, "dtype", ctx.dtype(0)), ctx.shape(0));
  const std::vector<int64_t> dims = ctx.node.integers("shape");
  element_count(dims);
  ctx.set_output(0, type_attribute(ctx, "dtype", DType::kFloat32), Shape::of(dims));
}

// Nodes without a seed differ from each other, yet repeat from run to run.
Random random_of(const Node& node) {
  return Random(node.has("seed") ? std::bit_cast<uint32_t>(node.real("seed", 0))
                                 : static_cast<uint64_t>(node.sequence));
}

void eval_random(EvalContext& ctx) {
  const Dims dims = is_like(ctx.node) ? ctx.input(0).dims() : Dims(ctx.node.integers("shape"));
  const DType dtype = type_attribute(ctx, "dtype", is_like(ctx.node) ? ctx.input(0).dtype() : DType::kFloat32);
  bounded_count(dims);
  Tensor wide(DType::kFloat64, dims);
  Random random = random_of(ctx.node);
  const bool normal = ctx.node.op_type.starts_with("RandomNormal");
  const double mean = ctx.node.real("mean", 0.0f), scale = ctx.node.real("scale", 1.0f);
  const double low = ctx.node.real("low", 0.0f), high = ctx.node.real("high", 1.0f);
  for (double& v : wide.mutable_values<double>())
    v = normal ? mean + scale * random.normal() : low + (high - low) * random.uniform();
  ctx.set_output(0, cast(wide, dtype));
}

void infer_bernoulli(InferContext& ctx) { ctx.set_output(0, type_attribute(ctx, "dtype", ctx.dtype(0)), ctx.shape(0)); }

void eval_bernoulli(EvalContext& ctx) {
  std::vector<double> values = to_doubles(ctx.input(0));
  Random random = random_of(ctx.node);
  for (double& v : values) v = random.uniform() < v ? 1.0 : 0.0;
  ctx.set_output(0, from_doubles(type_attribute(ctx, "dtype", ctx.input(0).dtype()), ctx.input(0).dims(), values));
}

template <typename Context>
int64_t sample_size(const Context& ctx) {
  const int64_t size = ctx.node.integer("sample_size", 1);
  if (size < 1) ctx.reject(fmt::format("sample_size is {}", size));
  return size;
}

// Each row holds the logarithms of its classes' weights.
void eval_multinomial(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 2 || x.dims()[1] < 1) ctx.reject(fmt::format("{} holds no rows of classes", to_string(x.dims())));
  const DType dtype = type_attribute(ctx, "dtype", DType::kInt32);
  if (dtype != DType::kInt32 && dtype != DType::kInt64) ctx.reject("its dtype is neither i32 nor i64");
  const Dims dims = {x.dims()[0], sample_size(ctx)};
  std::vector<int64_t> chosen;
  chosen.reserve(static_cast<size_t>(bounded_count(dims)));
  const std::vector<double> values = to_doubles(x);
  const auto classes = static_cast<size_t>(x.dims()[1]);
  std::vector<double> sums(classes);
  Random random = random_of(ctx.node);
  for (size_t start = 0; start < values.size(); start += classes) {
    const double most = *std::max_element(values.begin() + static_cast<std::ptrdiff_t>(start),
                                          values.begin() + static_cast<std::ptrdiff_t>(start + classes));
    double total = 0;
    for (size_t c = 0; c < classes; ++c) sums[c] = total += std::exp(values[start + c] - most);
    for (int64_t i = 0; i < dims[1]; ++i) {
      const auto at = std::upper_bound(sums.begin(), sums.end() - 1, random.uniform() * total);
      chosen.push_back(at - sums.begin());
    }
  }
  ctx.set_output(0, cast(Tensor::of<int64_t>(dims, chosen), dtype));
}

void infer_multinomial(InferContext& ctx) {
  const Shape& x = ctx.shape(0);
  ctx.set_output(0, type_attribute(ctx, "dtype", DType::kInt32),
                 Shape({x.rank() == 2 ? x[0] : Dim(), Dim(sample_size(ctx))}));
}

constexpr OpSpec random_op(std::string_view name, int inputs) {
  return {.name = name,
          .min_inputs = inputs,
          .max_inputs = inputs,
          .infer = infer_random,
          .eval = eval_random,
          .traits = kNondeterministic};
}

constexpr OpSpec window_op(std::string_view name, void (*eval)(EvalContext&)) {
  return {.name = name, .since = 17, .min_inputs = 1, .infer = infer_window, .eval = eval};
}

constexpr OpSpec kGeneratorOps[] = {
    {.name = "Constant", .max_inputs = 0, .infer = infer_constant, .eval = eval_constant},
    {.name = "ConstantOfShape",
     .since = 9,
     .min_inputs = 1,
     .infer = infer_constant_of_shape,
     .eval = eval_constant_of_shape,
     .rows = rows_filled},
    {.name = "Range", .since = 11, .min_inputs = 3, .max_inputs = 3, .infer = infer_range, .eval = eval_range},
    {.name = "EyeLike", .since = 9, .min_inputs = 1, .infer = infer_eye_like, .eval = eval_eye_like},
    window_op("HannWindow", eval_window<kHann>),
    window_op("HammingWindow", eval_window<kHamming>),
    window_op("BlackmanWindow", eval_window<kBlackman>),
    random_op("RandomNormal", 0),
    random_op("RandomUniform", 0),
    random_op("RandomNormalLike", 1),
    random_op("RandomUniformLike", 1),
    {.name = "Bernoulli",
     .since = 15,
     .min_inputs = 1,
     .infer = infer_bernoulli,
     .eval = eval_bernoulli,
     .traits = kNondeterministic},
    {.name = "Multinomial",
     .since = 7,
     .min_inputs = 1,
     .infer = infer_multinomial,
     .eval = eval_multinomial,
     .traits = kNondeterministic},
};

}  // namespace

std::span<const OpSpec> generator_ops() { return kGeneratorOps; }

}  // namespace slipway
