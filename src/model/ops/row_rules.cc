// Rules that many operators share for where the rows of a batch lie. Each claims only what holds for every number of
// rows and all contents: the output's part for a row follows from that row's parts of the inputs alone.
#include "model/ops/row_rules.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/ops/shape_rules.h"

namespace slipway {

std::optional<Extent> multiply(const Extent& a, const Dim& b) {
  if (b.is_symbol()) return multiply(a, Extent{1, {b.symbol()}});
  return b.is_known() && b.value() > 0 ? multiply(a, Extent{b.value(), {}}) : std::nullopt;
}

std::optional<Extent> multiply(const Extent& a, const Extent& b) {
  Extent product;
  if (__builtin_mul_overflow(a.number, b.number, &product.number)) return std::nullopt;
  std::merge(a.symbols.begin(), a.symbols.end(), b.symbols.begin(), b.symbols.end(),
             std::back_inserter(product.symbols));
  return product;
}

std::optional<Extent> divide(const Extent& a, const Extent& b) {
  if (a.number % b.number != 0) return std::nullopt;
  if (!std::includes(a.symbols.begin(), a.symbols.end(), b.symbols.begin(), b.symbols.end())) return std::nullopt;
  Extent quotient{a.number / b.number, {}};
  std::set_difference(a.symbols.begin(), a.symbols.end(), b.symbols.begin(), b.symbols.end(),
                      std::back_inserter(quotient.symbols));
  return quotient;
}

const RowFacts& RowsContext::rows(size_t i) const {
  static const RowFacts kAbsent;
  return i < inputs_.size() ? inputs_[i] : kAbsent;
}

bool RowsContext::any_along() const {
  return std::any_of(inputs_.begin(), inputs_.end(),
                     [](const RowFacts& f) { return f.kind == RowFacts::Kind::kAlong; });
}

const Extent* RowsContext::block_in(const Dim& dim) const {
  const auto it = dim.is_symbol() ? multiples_.find(dim.symbol()) : multiples_.end();
  return it == multiples_.end() ? nullptr : &it->second;
}

const RowFacts* RowsContext::only_first() {
  for (size_t i = 1; i < inputs_.size(); ++i) {
    if (is_independent(i)) continue;
    if (any_along()) mixes(fmt::format("its input {} depends on {}", i, is_along(i) ? "the rows" : "their number"));
    return nullptr;
  }
  return is_along(0) ? &inputs_[0] : nullptr;
}

bool RowsContext::repeats(size_t i, size_t from_right) const {
  if (!is_independent(i)) return false;
  if (!in.has_input(i)) return true;
  const ValueFacts& facts = in.input(i);
  if (!facts.shape.has_rank()) return false;
  if (facts.shape.rank() < from_right) return true;
  const size_t axis = facts.shape.rank() - from_right;
  if (facts.shape[axis] == Dim(1)) return true;
  if (!count_.is_known()) return false;  // that many places are for one number of rows
  if (facts.constant == nullptr || facts.constant->dtype() == DType::kString || bits_of(facts.constant->dtype()) < 8)
    return false;
  const Tensor& t = *facts.constant;
  const size_t slice = bytes_of(t.dtype(), element_count(std::span(t.dims()).subspan(axis + 1)));
  const auto places = static_cast<size_t>(t.dims()[axis]);
  for (size_t at = 0; at + slice <= t.bytes() && slice > 0; at += slice)
    if (std::memcmp(t.raw() + at, t.raw() + at / (slice * places) * slice * places, slice) != 0) return false;
  return true;
}

void RowsContext::name_size(size_t axis, const Extent& size) {
  Dim& dim = in.results()[0].shape[axis];
  if (size.symbols.empty()) dim = Dim(size.number);
  if (size.symbols.size() == 1 && size.number == 1) dim = Dim(size.symbols[0]);
}

void RowsContext::set(size_t output, RowFacts facts) {
  if (output < outputs_.size()) outputs_[output] = std::move(facts);
}

void RowsContext::set_along(size_t axis, const Extent& block) {
  for (RowFacts& output : outputs_) output = {RowFacts::Kind::kAlong, axis, block, {}};
}

void RowsContext::mixes(std::string_view why) {
  for (RowFacts& output : outputs_)
    output = {RowFacts::Kind::kMixed, 0, {}, fmt::format("{}: {}", node().label(), why)};
}

void rows_by_broadcast(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  size_t from_right = 0;
  Extent block;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.is_along(i)) continue;
    const size_t own = ctx.rank(i) - ctx.rows(i).axis;
    if (from_right != 0 && (own != from_right || ctx.rows(i).block != block))
      return ctx.mixes("it combines each row with all the others, for its inputs hold the rows along different axes");
    from_right = own;
    block = ctx.rows(i).block;
  }
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (!ctx.is_along(i) && !ctx.repeats(i, from_right))
      return ctx.mixes(ctx.is_independent(i) ? fmt::format("its input {} is not the same for every row", i)
                                             : fmt::format("its input {} depends on the number of rows", i));
  for (size_t i = 0; i < ctx.results().size(); ++i)
    if (!ctx.output(i).has_rank() || ctx.output(i).rank() < from_right)
      return ctx.mixes("its result's rank is not known");
  ctx.set_along(ctx.output().rank() - from_right, block);
}

void rows_stay(RowsContext& ctx) {
  if (const RowFacts* x = ctx.only_first()) ctx.set_along(x->axis, x->block);
}

void rows_first_axis(RowsContext& ctx) {
  rows_unless(ctx, [](const RowsContext&, size_t axis) { return axis != 0; });
}

void rows_unless(RowsContext& ctx, bool (*goes_along)(const RowsContext& ctx, size_t axis)) {
  const RowFacts* x = ctx.only_first();
  if (x == nullptr) return;
  if (goes_along(ctx, x->axis)) return ctx.mixes(fmt::format("it works along axis {}, which holds the rows", x->axis));
  ctx.set_along(x->axis, x->block);
}

// Row-major order keeps the rows whole where the axes before them hold as many places as before and what stands behind
// divides a row: [n,T,C] as [n·T,C] has T places of axis 0 a row.
void rows_reshaped(RowsContext& ctx) {
  if (!ctx.is_along(0)) {
    if (ctx.any_along()) ctx.mixes("its shape depends on what the rows hold");
    return;
  }
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (ctx.is_along(i)) return ctx.mixes("its shape depends on what the rows hold");
  const RowFacts& x = ctx.rows(0);
  const std::vector<Dim>&from = ctx.in.shape(0).dims(), &to = ctx.output().dims();
  if (!ctx.output().has_rank()) return ctx.mixes("its result's rank is not known");
  std::optional<Extent> before = Extent(), row = x.block;
  for (size_t i = 0; i < from.size(); ++i) {
    std::optional<Extent>& part = i < x.axis ? before : row;
    if (i != x.axis && part) part = multiply(*part, from[i]);
  }
  std::optional<Extent> skipped = Extent();
  for (size_t j = 0; j < to.size() && before && row && skipped; skipped = multiply(*skipped, to[j++])) {
    if (*skipped != *before) continue;
    std::optional<Extent> behind = Extent();
    size_t unknown = 0, hole = 0;
    bool fixed = true;
    for (size_t i = j + 1; i < to.size(); ++i) {
      fixed &= ctx.block_in(to[i]) == nullptr;
      if (to[i].is_unknown())
        ++unknown, hole = i;
      else if (behind)
        behind = multiply(*behind, to[i]);
    }
    if (!fixed || !behind) continue;
    const Extent* named = ctx.block_in(to[j]);
    const std::optional<Extent> block = named != nullptr ? *named : unknown == 0 ? divide(*row, *behind) : std::nullopt;
    if (!block) continue;
    bool fits = to[j].is_unknown();
    const std::optional<Extent> part = multiply(*block, *behind);
    if (named != nullptr) fits = unknown == 1 || part == row;
    if (to[j].is_known() && ctx.count().is_known())
      fits = block->symbols.empty() && block->number * ctx.count().value() == to[j].value();
    if (!fits) continue;
    if (unknown == 1 && part)
      if (const std::optional<Extent> rest = divide(*row, *part)) ctx.name_size(hole, *rest);
    return ctx.set_along(j, *block);
  }
  ctx.mixes(
      fmt::format("from {} to {} it does not keep rows whole", to_string(ctx.in.shape(0)), to_string(ctx.output())));
}

bool sizes_are_fixed(const RowsContext& ctx, size_t axis) {
  const Shape& shape = ctx.output();
  const auto asked = contents(ctx.in, ctx.input_count() - 1);
  if (!asked || asked->size() > shape.rank()) return false;
  for (size_t i = 0; i < asked->size(); ++i) {
    const bool follows = (*asked)[i].is_unknown() || ctx.block_in((*asked)[i]) != nullptr;
    const size_t place = shape.rank() - asked->size() + i;
    if (follows && place != axis && !shape[place].is_known()) return false;
  }
  return true;
}

void rows_filled(RowsContext& ctx) {
  if (ctx.any_along()) return ctx.mixes("its shape depends on what the rows hold");
  const Shape& shape = ctx.output();
  for (size_t axis = 0; axis < shape.rank(); ++axis)
    if (const Extent* block = ctx.block_in(shape[axis]); block != nullptr && sizes_are_fixed(ctx, axis))
      return ctx.set_along(axis, *block);
}

void rows_of_product(RowsContext& ctx, size_t a, size_t b) {
  if (!ctx.any_along()) return;
  const size_t ranks[] = {ctx.rank(a), ctx.rank(b)};
  const size_t operands[] = {a, b};
  if (!ctx.in.shape(a).has_rank() || !ctx.in.shape(b).has_rank() || !ctx.output().has_rank())
    return ctx.mixes("an operand's rank is not known");
  const size_t rank = ctx.output().rank();
  std::optional<size_t> place;
  Extent block;
  for (const size_t side : {0, 1}) {
    if (!ctx.is_along(operands[side])) continue;
    const size_t from_right = ranks[side] - ctx.rows(operands[side]).axis;
    const bool is_leading = from_right > 2;
    const bool is_free = ranks[side] > 1 && from_right == (side == 0 ? 2u : 1u);  // a's rows, b's columns
    const size_t other = operands[1 - side];
    const bool both = ctx.is_along(other);
    if (!is_leading && (!is_free || both))
      return ctx.mixes("it sums over the rows, or multiplies each with all others");
    if (is_leading && !both && !ctx.repeats(other, from_right))
      return ctx.mixes("its other operand is not the same for every row");
    if (!ctx.is_along(other) && !ctx.is_independent(other))
      return ctx.mixes("its other operand depends on the number of rows");
    // A vector on the other side takes its axis out of the result.
    const size_t lost = is_leading || is_free ? (side == 0 ? ranks[1] == 1 : ranks[0] == 1 && from_right > 1) : 0;
    const size_t axis = rank + lost - from_right;
    if (place && (*place != axis || block != ctx.rows(operands[side]).block))
      return ctx.mixes("it multiplies each row with all the others");
    place = axis;
    block = ctx.rows(operands[side]).block;
  }
  ctx.set_along(*place, block);
}

}  // namespace slipway
