// Operators that choose among values: TopK, NonZero, Unique, NonMaxSuppression. Ties go to the lower index.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/layout.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

// The input's numbers as double or, where integers, int64 (unsigned 64-bit ones with the top bit flipped, which keeps
// their order), handed to f.
template <typename F>
void with_ordered(const Tensor& x, F&& f) {
  if (!is_integer(x.dtype()) && x.dtype() != DType::kBool) return f(to_doubles(x));
  std::vector<int64_t> values = to_ints(x);
  if (x.dtype() == DType::kUint64)
    for (int64_t& v : values) v ^= std::numeric_limits<int64_t>::min();
  f(values);
}

template <typename Context>
int64_t axis_of(const Context& ctx, int64_t fallback, int64_t rank) {
  return normalize_axis(ctx.node.integer("axis", fallback), rank, ctx.node.label());
}

void infer_top_k(InferContext& ctx) {
  Shape shape = ctx.shape(0);
  if (shape.has_rank()) {
    const auto axis = static_cast<size_t>(axis_of(ctx, -1, static_cast<int64_t>(shape.rank())));
    std::optional<std::vector<Dim>> k;
    if (!ctx.has_input(1))
      k = std::vector<Dim>{Dim(ctx.node.integer("k", -1))};
    else if (ctx.dtype(1) == DType::kInt64)
      k = contents(ctx, 1);
    shape[axis] = k && k->size() == 1 ? (*k)[0] : Dim();
  }
  ctx.set_output(0, ctx.dtype(0), shape);
  ctx.set_output(1, DType::kInt64, shape);
}

void eval_top_k(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto axis = static_cast<size_t>(axis_of(ctx, -1, x.rank()));
  const std::vector<int64_t> given =
      ctx.has_input(1) ? to_ints(ctx.input(1)) : std::vector<int64_t>{ctx.node.integer("k", -1)};
  Dims dims = x.dims();
  const int64_t size = dims[axis];
  if (given.size() != 1 || given[0] < 0 || given[0] > size) ctx.reject("its k lies outside the axis");
  const int64_t k = given[0];
  dims[axis] = k;
  const bool largest = ctx.node.integer("largest", 1) != 0;
  const int64_t outer = element_count(std::span(dims).first(axis));
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
  std::vector<int64_t> sources(static_cast<size_t>(element_count(dims))), indices(sources.size());
  with_ordered(x, [&](const auto& values) {
    std::vector<int64_t> order(static_cast<size_t>(size));
    for (int64_t line = 0; line < outer * inner; ++line) {
      const int64_t base = line / inner * size * inner + line % inner;
      const auto value = [&](int64_t i) { return values[static_cast<size_t>(base + i * inner)]; };
      std::iota(order.begin(), order.end(), 0);
      const auto before = [&](int64_t a, int64_t b) {
        const auto va = value(a), vb = value(b);
        if (va != vb && va == va && vb == vb) return largest ? va > vb : va < vb;
        if ((va != va) != (vb != vb)) return largest == (va != va);  // NaN counts as the largest
        return a < b;
      };
      std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
      for (int64_t i = 0; i < k; ++i) {
        const auto to = static_cast<size_t>((line / inner * k + i) * inner + line % inner);
        indices[to] = order[static_cast<size_t>(i)];
        sources[to] = base + indices[to] * inner;
      }
    }
  });
  ctx.set_output(0, pick(x, dims, sources));
  ctx.set_output(1, Tensor::of<int64_t>(dims, indices));
}

void infer_non_zero(InferContext& ctx) {
  const Shape& from = ctx.shape(0);
  const Dim rank = from.has_rank() ? Dim(std::max<int64_t>(1, static_cast<int64_t>(from.rank()))) : Dim();
  ctx.set_output(0, DType::kInt64, Shape({rank, Dim()}));
}

void eval_non_zero(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::vector<double> values = to_doubles(x);
  const Dims dims = x.rank() == 0 ? Dims{1} : x.dims();
  const Dims strides = strides_of(dims);
  std::vector<int64_t> hits, rows;
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] != 0) hits.push_back(static_cast<int64_t>(i));
  for (size_t axis = 0; axis < dims.size(); ++axis)
    for (int64_t hit : hits) rows.push_back(hit / strides[axis] % dims[axis]);
  ctx.set_output(0, Tensor::of<int64_t>({static_cast<int64_t>(dims.size()), static_cast<int64_t>(hits.size())}, rows));
}

void infer_unique(InferContext& ctx) {
  Shape shape = Shape::with_rank(1);
  if (ctx.node.has("axis")) {
    shape = ctx.shape(0);
    if (shape.has_rank()) shape[static_cast<size_t>(axis_of(ctx, 0, static_cast<int64_t>(shape.rank())))] = Dim();
  }
  ctx.set_output(0, ctx.dtype(0), shape);
  for (size_t i = 1; i < ctx.output_count(); ++i) ctx.set_output(i, DType::kInt64, Shape::with_rank(1));
}

void eval_unique(EvalContext& ctx) {
  const Tensor x = ctx.node.has("axis") ? ctx.input(0) : ctx.input(0).reshaped({ctx.input(0).elements()});
  const auto axis = static_cast<size_t>(axis_of(ctx, 0, x.rank()));
  Dims dims = x.dims();
  const int64_t size = dims[axis];
  const int64_t outer = element_count(std::span(dims).first(axis));
  const int64_t inner = element_count(std::span(dims).subspan(axis + 1));
  std::vector<int64_t> first, inverse(static_cast<size_t>(size)), counts;
  with_ordered(x, [&](const auto& values) {
    const auto compare = [&](int64_t a, int64_t b) {
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t k = 0; k < inner; ++k) {
          const auto va = values[static_cast<size_t>((o * size + a) * inner + k)];
          const auto vb = values[static_cast<size_t>((o * size + b) * inner + k)];
          if (va != va || vb != vb) {  // NaN is the largest, and one value
            if (va == va || vb == vb) return va == va ? -1 : 1;
          } else if (va != vb) {
            return va < vb ? -1 : 1;
          }
        }
      return 0;
    };
    std::vector<int64_t> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
    std::vector<int64_t> group(static_cast<size_t>(size));  // of each element, the groups sorted by value
    for (size_t i = 0; i < order.size(); ++i) {
      if (i == 0 || compare(order[i - 1], order[i]) != 0) {
        first.push_back(order[i]);
        counts.push_back(0);
      }
      ++counts.back();
      group[static_cast<size_t>(order[i])] = static_cast<int64_t>(first.size()) - 1;
    }
    std::vector<int64_t> rank(first.size());
    std::iota(rank.begin(), rank.end(), 0);
    if (ctx.node.integer("sorted", 1) == 0) {
      std::vector<int64_t> by_place = rank;
      const auto at = [&](int64_t g) { return first[static_cast<size_t>(g)]; };
      std::sort(by_place.begin(), by_place.end(), [&](int64_t a, int64_t b) { return at(a) < at(b); });
      const std::vector<int64_t> old_first = first, old_counts = counts;
      for (size_t i = 0; i < by_place.size(); ++i) {
        const auto from = static_cast<size_t>(by_place[i]);
        rank[from] = static_cast<int64_t>(i);
        first[i] = old_first[from];
        counts[i] = old_counts[from];
      }
    }
    for (size_t i = 0; i < inverse.size(); ++i) inverse[i] = rank[static_cast<size_t>(group[i])];
  });
  dims[axis] = static_cast<int64_t>(first.size());
  std::vector<int64_t> sources;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t at : first)
      for (int64_t k = 0; k < inner; ++k) sources.push_back((o * size + at) * inner + k);
  ctx.set_output(0, pick(x, dims, sources));
  const std::vector<int64_t>* rest[] = {&first, &inverse, &counts};
  for (size_t i = 0; i < 3; ++i)
    ctx.set_output(i + 1, Tensor::of<int64_t>({static_cast<int64_t>(rest[i]->size())}, *rest[i]));
}

struct Box {
  double top, left, bottom, right;
  double area() const { return (bottom - top) * (right - left); }
};

double overlap(const Box& a, const Box& b) {
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  if (height <= 0 || width <= 0) return 0;
  const double common = height * width;
  return common / (a.area() + b.area() - common);
}

double number(const EvalContext& ctx, size_t input, double fallback) {
  if (!ctx.has_input(input)) return fallback;
  const std::vector<double> values = to_doubles(ctx.input(input));
  if (values.size() > 1) ctx.reject(fmt::format("input {} is not one number", input));
  return values.empty() ? fallback : values[0];
}

void infer_non_max_suppression(InferContext& ctx) { ctx.set_output(0, DType::kInt64, Shape({Dim(), Dim(3)})); }

void eval_non_max_suppression(EvalContext& ctx) {
  const Tensor &boxes = ctx.input(0), &scores = ctx.input(1);
  if (boxes.rank() != 3 || scores.rank() != 3 || boxes.dims()[2] != 4 || boxes.dims()[0] != scores.dims()[0] ||
      boxes.dims()[1] != scores.dims()[2])
    ctx.reject("its boxes are not [batch, boxes, 4] or its scores not [batch, classes, boxes]");
  const int64_t batches = boxes.dims()[0], count = boxes.dims()[1], classes = scores.dims()[1];
  const auto most = static_cast<size_t>(std::clamp(number(ctx, 2, 0), 0.0, static_cast<double>(count)));
  const double most_overlap = number(ctx, 3, 0), least_score = number(ctx, 4, -HUGE_VAL);
  const std::vector<double> corners = to_doubles(boxes), score = to_doubles(scores);
  const bool centred = ctx.node.integer("center_point_box", 0) != 0;
  std::vector<Box> all;
  for (size_t i = 0; i < corners.size(); i += 4) {
    const double *p = corners.data() + i, x = p[0], y = p[1], w = p[2], h = p[3];
    all.push_back(centred ? Box{y - h / 2, x - w / 2, y + h / 2, x + w / 2}
                          : Box{std::min(x, w), std::min(y, h), std::max(x, w), std::max(y, h)});
  }
  std::vector<int64_t> chosen;
  for (int64_t batch = 0; batch < batches; ++batch)
    for (int64_t c = 0; c < classes; ++c) {
      const double* of_class = score.data() + (batch * classes + c) * count;
      const Box* of_batch = all.data() + batch * count;
      std::vector<int64_t> order;
      for (int64_t i = 0; i < count; ++i)
        if (of_class[i] > least_score) order.push_back(i);
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return of_class[a] > of_class[b]; });
      std::vector<int64_t> kept;
      for (int64_t i : order) {
        if (kept.size() >= most) break;
        const auto covers = [&](int64_t k) { return overlap(of_batch[k], of_batch[i]) > most_overlap; };
        if (std::any_of(kept.begin(), kept.end(), covers)) continue;
        kept.push_back(i);
        chosen.insert(chosen.end(), {batch, c, i});
      }
    }
  ctx.set_output(0, Tensor::of<int64_t>({static_cast<int64_t>(chosen.size()) / 3, 3}, chosen));
}

bool is_sorted_axis(const RowsContext& ctx, size_t axis) {
  return axis_of(ctx.in, -1, static_cast<int64_t>(ctx.rank(0))) == static_cast<int64_t>(axis);
}

constexpr OpSpec kSelectionOps[] = {
    {.name = "TopK",
     .min_inputs = 1,
     .max_inputs = 2,
     .min_outputs = 2,
     .max_outputs = 2,
     .infer = infer_top_k,
     .eval = eval_top_k,
     .rows = [](RowsContext& ctx) { rows_unless(ctx, is_sorted_axis); }},
    {.name = "NonZero", .since = 9, .min_inputs = 1, .infer = infer_non_zero, .eval = eval_non_zero},
    {.name = "Unique", .since = 11, .min_inputs = 1, .max_outputs = 4, .infer = infer_unique, .eval = eval_unique},
    {.name = "NonMaxSuppression",
     .since = 10,
     .min_inputs = 2,
     .max_inputs = 5,
     .infer = infer_non_max_suppression,
     .eval = eval_non_max_suppression},
};

}  // namespace

std::span<const OpSpec> selection_ops() { return kSelectionOps; }

}  // namespace slipway
