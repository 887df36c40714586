// Row independence as a dataflow analysis: an abstract interpretation that goes along with shape inference. The batch's
// size is a symbol (or the number that the model fixes), and each value is independent of the rows, follows from their
// number, holds them along one axis, or is mixed (RowFacts). What an operator does to rows is a trait of it
// (OpSpec::rows); an operator without that rule mixes them.
//
// Invariant: the sizes of an independent value, and of one along the rows in all its other axes, do not depend on the
// rows or their number. So unknown ones get names, and equal names are equal sizes for any number of rows.
#include "model/rows.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "base/error.h"
#include "model/infer.h"
#include "model/ops/row_rules.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

class RowAnalysis {
 public:
  explicit RowAnalysis(const Graph& graph) : graph_(graph), facts_(static_cast<size_t>(graph.value_limit())) {}

  RowIndependence run() {
    if (std::string why = prepare_inputs(); !why.empty()) return {false, std::move(why)};
    infer_shapes_anew(graph_, [this](InferContext& ctx) { visit(ctx); });
    for (ValueId id : graph_.outputs()) {
      const RowFacts& facts = facts_[static_cast<size_t>(id)];
      const std::string& name = graph_.value(id).name;
      if (facts.kind == RowFacts::Kind::kMixed) return {false, facts.why};
      if (facts.kind != RowFacts::Kind::kAlong)
        return {false, fmt::format("output '{}' does not depend on what the rows hold", name)};
      if (facts.axis != 0)
        return {false, fmt::format("output '{}' holds the rows along axis {}, not 0", name, facts.axis)};
      if (facts.block != Extent())
        return {false, fmt::format("output '{}' has several rows for each row of the inputs", name)};
    }
    return {true, ""};
  }

 private:
  // The batch's size goes to axis 0 of every input, a name to every other size that is not known; or why not.
  std::string prepare_inputs() {
    if (graph_.inputs().empty()) return "the model has no input";
    std::set<std::string> symbols;
    Dim fixed;
    for (ValueId id : graph_.inputs()) {
      const Value& v = graph_.value(id);
      if (v.shape.rank() == 0) return fmt::format("input '{}' has no first axis", v.name);
      if (v.shape[0].is_known()) {
        if (fixed.is_known() && fixed != v.shape[0]) return "the inputs' first axes differ in size";
        fixed = v.shape[0];
      }
      for (const Dim& d : v.shape.dims()) symbols.insert(d.symbol());
    }
    prefix_ = "#";
    while (std::any_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return s.starts_with(prefix_); }))
      prefix_ += "#";
    count_ = fixed.is_known() ? fixed : Dim(prefix_ + "rows");
    if (!fixed.is_known()) multiples_.emplace(count_.symbol(), Extent());
    std::set<std::string> batch;
    for (ValueId id : graph_.inputs()) batch.insert(graph_.value(id).shape[0].symbol());
    batch.erase("");
    for (ValueId id : graph_.inputs()) {
      const Value& v = graph_.value(id);
      Shape shape = v.shape;
      for (size_t axis = 1; axis < shape.rank(); ++axis) {
        if (batch.contains(shape[axis].symbol()))
          return fmt::format("input '{}' has the batch's size along axis {} too", v.name, axis);
        if (shape[axis].is_unknown()) shape[axis] = fresh();
      }
      shape[0] = count_;
      graph_.set_type(id, v.dtype, std::move(shape));
      facts_[static_cast<size_t>(id)] = {RowFacts::Kind::kAlong, 0, {}, {}};
    }
    return "";
  }

  void visit(InferContext& ctx) {
    const Node& node = ctx.node;
    std::vector<RowFacts> inputs, outputs(node.outputs.size());
    RowFacts given;  // of everything that the node reads
    for (const auto* list : {&node.inputs, &node.captures})
      for (ValueId id : *list) {
        const RowFacts facts = id == kNoValue ? RowFacts() : facts_[static_cast<size_t>(id)];
        if (list == &node.inputs) inputs.push_back(facts);
        if (facts.kind > given.kind) given = facts;
      }
    name_products(ctx);
    const OpSpec& spec = *find_op(graph_, node);
    RowsContext rows(ctx, std::move(inputs), std::move(outputs), count_, multiples_);
    const bool known = spec.rows != nullptr || spec.has(kElementwise);
    if (spec.has(kNondeterministic)) {
      rows.mixes("it draws random numbers");
    } else if (given.kind == RowFacts::Kind::kMixed || (given.kind == RowFacts::Kind::kCount && !known)) {
      for (RowFacts& facts : rows.results()) facts = given;
    } else if (given.kind != RowFacts::Kind::kIndependent) {
      for (RowFacts& facts : rows.results()) facts.kind = RowFacts::Kind::kCount;
      if (given.kind == RowFacts::Kind::kAlong) rows.mixes("nothing is known of how it treats rows");
      if (known) (spec.rows != nullptr ? spec.rows : rows_by_broadcast)(rows);
    }
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNoValue)
        facts_[static_cast<size_t>(node.outputs[i])] =
            settle(rows, spec, std::move(rows.results()[i]), ctx.results()[i]);
  }

  // Inference does not compute with symbols; the batch's size times others is a size of its own here, for that is how
  // exporters fold axes into it.
  void name_products(InferContext& ctx) {
    const bool reduces = ctx.node.is("ReduceProd");
    if ((!reduces && !ctx.node.is("Mul")) || !ctx.results()[0].dims) return;
    std::vector<Dim>& products = *ctx.results()[0].dims;
    for (size_t i = 0; i < products.size(); ++i) {
      std::optional<Extent> block = Extent();
      int counts = 0;
      for (size_t k = 0; k < (reduces ? 1 : ctx.input_count()); ++k) {
        const std::optional<std::vector<Dim>> factors = contents(ctx, k);
        if (!factors) return;
        for (size_t f = 0; f < factors->size(); ++f) {
          if (!reduces && factors->size() > 1 && f != i) continue;
          const auto it = multiples_.find((*factors)[f].symbol());
          counts += it != multiples_.end();
          if (block) block = it != multiples_.end() ? multiply(*block, it->second) : multiply(*block, (*factors)[f]);
        }
      }
      if (block && counts == 1) products[i] = multiple_of(*block);
    }
  }

  // Holds a rule's claim against what inference found, and names sizes by the invariant above.
  RowFacts settle(RowsContext& rows, const OpSpec& spec, RowFacts facts, ValueFacts& found) {
    if (spec.has(kHasSubgraph)) forget_symbols(found);
    if (found.constant != nullptr && !spec.has(kNondeterministic)) return {};
    if (found.dims &&
        std::none_of(found.dims->begin(), found.dims->end(), [](const Dim& d) { return d.is_unknown(); })) {
      const bool counts = std::any_of(found.dims->begin(), found.dims->end(),
                                      [&](const Dim& d) { return rows.block_in(d) != nullptr; });
      return {counts ? RowFacts::Kind::kCount : RowFacts::Kind::kIndependent, 0, {}, {}};
    }
    if (facts.kind == RowFacts::Kind::kCount || facts.kind == RowFacts::Kind::kMixed) return facts;
    const bool along = facts.kind == RowFacts::Kind::kAlong;
    const auto mixed = [&](std::string_view why) {
      return RowFacts{RowFacts::Kind::kMixed, 0, {}, fmt::format("{}: {}", rows.node().label(), why)};
    };
    if (along && found.shape.rank() <= facts.axis) return mixed("its result's rank is not known");
    for (size_t axis = 0; axis < found.shape.rank(); ++axis) {
      Dim& dim = found.shape[axis];
      const Extent* block = rows.block_in(dim);
      if (!along || axis != facts.axis) {
        if (block != nullptr) return mixed("another axis follows the number of rows");
        if (dim.is_unknown()) dim = fresh();
      } else if (!dim.is_unknown() && !is_multiple(dim, facts.block, block)) {
        return mixed(fmt::format("its result {} has another size than the batch's", to_string(found.shape)));
      } else if (dim.is_unknown() && !count_.is_known()) {
        dim = multiple_of(facts.block);
      }
    }
    return facts;
  }

  // A subgraph may declare symbols that are not the sizes of that name outside.
  static void forget_symbols(ValueFacts& found) {
    found.dims.reset();
    for (size_t axis = 0; axis < found.shape.rank(); ++axis)
      if (found.shape[axis].is_symbol()) found.shape[axis] = Dim();
  }

  bool is_multiple(const Dim& dim, const Extent& block, const Extent* named) const {
    if (!count_.is_known()) return named != nullptr && *named == block;
    return !dim.is_known() || !block.symbols.empty() || dim.value() == block.number * count_.value();
  }

  Dim fresh() { return Dim(prefix_ + std::to_string(++names_)); }

  Dim multiple_of(const Extent& block) {
    for (const auto& [symbol, known] : multiples_)
      if (known == block) return Dim(symbol);
    const Dim dim = fresh();
    multiples_.emplace(dim.symbol(), block);
    return dim;
  }

  Graph graph_;
  std::vector<RowFacts> facts_;  // by ValueId; constants are independent
  std::string prefix_;           // of names that no input uses
  int64_t names_ = 0;
  Dim count_;
  RowsContext::Multiples multiples_;
};

}  // namespace

RowIndependence prove_row_independence(const Graph& graph) { return RowAnalysis(graph).run(); }

Tensor stack_rows(std::span<const Tensor> parts) {
  if (parts.size() == 1) return parts.front();
  Dims dims = parts.front().dims();
  dims.at(0) = 0;
  for (const Tensor& part : parts) {
    SLIPWAY_CHECK(part.dtype() == parts.front().dtype() && part.rank() == parts.front().rank());
    SLIPWAY_CHECK(std::equal(dims.begin() + 1, dims.end(), part.dims().begin() + 1));
    dims[0] += part.dims()[0];
  }
  if (parts.front().dtype() == DType::kString) {
    std::vector<std::string> texts;
    for (const Tensor& part : parts) texts.insert(texts.end(), part.strings().begin(), part.strings().end());
    return Tensor::of_strings(dims, std::move(texts));
  }
  Tensor whole(parts.front().dtype(), dims);
  std::byte* to = whole.mutable_raw();
  for (const Tensor& part : parts) {
    if (part.bytes() > 0) std::memcpy(to, part.raw(), part.bytes());
    to += part.bytes();
  }
  return whole;
}

}  // namespace slipway
