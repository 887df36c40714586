// Rules of shape inference that many operators share. Symbols are compared, never computed with: what would need
// arithmetic on a symbol becomes unknown, except where the symbol drops out.
#include "model/ops/shape_rules.h"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace slipway {
namespace {

Dim broadcast_dim(const InferContext& ctx, const Dim& a, const Dim& b) {
  if (a == Dim(1)) return b;
  if (b == Dim(1) || a.same_as(b)) return a;
  if (a.is_known() && b.is_known())
    ctx.reject(fmt::format("its inputs' shapes do not broadcast: {} against {}", a.value(), b.value()));
  if (a.is_known()) return a;
  return b.is_known() ? b : Dim();
}

bool carries_sizes(DType dtype) { return dtype == DType::kInt64 || dtype == DType::kInt32; }

}  // namespace

void require_tensor(const OpSpec& spec, const Node& node, size_t input, DType type) {
  if (!spec.has(kTakesAny) && !is_tensor(type))
    reject(node, fmt::format("it takes tensors, and input {} is {}", input, to_string(type)));
}

int64_t bounded_count(std::span<const int64_t> dims) {
  const int64_t count = element_count(dims);
  static const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  if (count > memory / 32)
    fail(ErrorCode::kInvalidArgument, "A tensor would not fit into memory; use smaller inputs or another model: {}",
         to_string(dims));
  return count;
}

Shape broadcast_inputs(const InferContext& ctx) {
  std::vector<Dim> out;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has_input(i)) continue;
    const Shape& shape = ctx.shape(i);
    if (!shape.has_rank()) return Shape();
    if (shape.rank() > out.size()) out.insert(out.begin(), shape.rank() - out.size(), Dim(1));
    const size_t skip = out.size() - shape.rank();
    for (size_t axis = 0; axis < shape.rank(); ++axis)
      out[skip + axis] = broadcast_dim(ctx, out[skip + axis], shape[axis]);
  }
  return Shape(std::move(out));
}

Dims broadcast_inputs(const EvalContext& ctx) {
  Dims out;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has_input(i)) continue;
    const Dims& dims = ctx.input(i).dims();
    if (dims.size() > out.size()) out.insert(out.begin(), dims.size() - out.size(), 1);
    const size_t skip = out.size() - dims.size();
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      int64_t& d = out[skip + axis];
      if (d != dims[axis] && d != 1 && dims[axis] != 1)
        ctx.reject(fmt::format("its inputs' shapes do not broadcast: {} against {}", d, dims[axis]));
      if (d == 1) d = dims[axis];
    }
  }
  bounded_count(out);
  return out;
}

Dims broadcast_strides(const Dims& from, const Dims& to) {
  const Dims own = strides_of(from);
  Dims strides(to.size(), 0);
  const size_t skip = to.size() - from.size();
  for (size_t axis = 0; axis < from.size(); ++axis)
    if (from[axis] != 1) strides[skip + axis] = own[axis];
  return strides;
}

void infer_same_as_first(InferContext& ctx) { ctx.set_output(0, ctx.dtype(0), ctx.shape(0)); }

void infer_broadcast(InferContext& ctx) { ctx.set_output(0, ctx.dtype(0), broadcast_inputs(ctx)); }

void infer_broadcast_bool(InferContext& ctx) { ctx.set_output(0, DType::kBool, broadcast_inputs(ctx)); }

std::optional<std::vector<Dim>> contents(const InferContext& ctx, size_t i) {
  const ValueFacts& facts = ctx.input(i);
  if (!carries_sizes(facts.dtype) && facts.dtype != DType::kBool) return std::nullopt;
  if (facts.constant != nullptr) {
    std::vector<Dim> dims;
    if (facts.constant->rank() > 1) return std::nullopt;
    for (int64_t v : to_ints(*facts.constant)) dims.push_back(v < 0 ? Dim() : Dim(v));
    return dims;
  }
  if (facts.dims) return facts.dims;
  constexpr int64_t kMaxLength = 64;
  if (!facts.shape.is_static() || facts.shape.rank() > 1) return std::nullopt;
  const int64_t length = facts.shape.rank() == 0 ? 1 : facts.shape[0].value();
  if (length > kMaxLength) return std::nullopt;
  return std::vector<Dim>(static_cast<size_t>(length));
}

void set_contents(InferContext& ctx, size_t i, std::vector<Dim> dims) {
  if (i >= ctx.output_count() || !carries_sizes(ctx.results()[i].dtype)) return;
  if (ctx.results()[i].dtype == DType::kInt32)
    for (Dim& d : dims)
      if (d.value() > std::numeric_limits<int32_t>::max()) d = Dim();
  ctx.set_output_dims(i, std::move(dims));
}

Axes axes_of(const InferContext& ctx, std::string_view attribute, size_t input) {
  if (ctx.node.has(attribute)) return {true, true, ctx.node.integers(attribute)};
  if (!ctx.has_input(input)) return {};
  const auto values = ctx.ints(input);
  return {true, values.has_value(), values.value_or(std::vector<int64_t>())};
}

Axes axes_of(const EvalContext& ctx, std::string_view attribute, size_t input) {
  if (ctx.node.has(attribute)) return {true, true, ctx.node.integers(attribute)};
  if (!ctx.has_input(input)) return {};
  return {true, true, to_ints(ctx.input(input))};
}

std::vector<int64_t> normalize_axes(std::span<const int64_t> axes, int64_t rank, const Node& node) {
  if (static_cast<int64_t>(axes.size()) > rank)
    fail(ErrorCode::kInvalidModel, "There are more axes than dimensions at {}: {}", node.label(), axes.size());
  std::vector<int64_t> normal;
  for (int64_t axis : axes) {
    normal.push_back(normalize_axis(axis, rank, node.label()));
    if (std::count(normal.begin(), normal.end(), normal.back()) > 1)
      fail(ErrorCode::kInvalidModel, "An axis is named twice at {}: {}", node.label(), axis);
  }
  return normal;
}

Dim add(const Dim& a, const Dim& b) {
  if (a == Dim(0)) return b;
  if (b == Dim(0)) return a;
  int64_t sum = 0;
  if (!a.is_known() || !b.is_known() || __builtin_add_overflow(a.value(), b.value(), &sum)) return Dim();
  return Dim(sum);
}

Dim multiply(const Dim& a, const Dim& b) {
  if (a == Dim(1)) return b;
  if (b == Dim(1)) return a;
  if (a == Dim(0) || b == Dim(0)) return Dim(0);
  if (!a.is_known() || !b.is_known()) return Dim();
  int64_t product = 0;
  return __builtin_mul_overflow(a.value(), b.value(), &product) ? Dim() : Dim(product);
}

Dim divide(const Dim& a, const Dim& b) {
  if (b == Dim(1)) return a;
  if (a.same_as(b) && a != Dim(0)) return Dim(1);
  return a.is_known() && b.is_known() && b.value() > 0 ? Dim(a.value() / b.value()) : Dim();
}

}  // namespace slipway
