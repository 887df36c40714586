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
  /// By input, the axis of the rows, −1 where it has none.
  RowAnalysis(const Graph& graph, std::vector<int> axes)
      : graph_(graph), axes_(std::move(axes)), facts_(static_cast<size_t>(graph.value_limit())) {}

  RowIndependence run() {
    if (std::string why = prepare_inputs(); !why.empty()) return {false, std::move(why)};
    infer_shapes_anew(graph_, [this](InferContext& ctx) { visit(ctx); });
    const bool first = std::all_of(axes_.begin(), axes_.end(), [](int axis) { return axis == 0; });
    RowIndependence found{true};
    found.inputs = axes_;
    for (ValueId id : graph_.outputs()) {
      const RowFacts& facts = facts_[static_cast<size_t>(id)];
      const std::string& name = graph_.value(id).name;
      if (facts.kind == RowFacts::Kind::kMixed) return {false, facts.why};
      if (facts.kind == RowFacts::Kind::kIndependent && !first) {
        found.outputs.push_back(-1);
        continue;
      }
      if (facts.kind != RowFacts::Kind::kAlong)
        return {false, fmt::format("output '{}' does not depend on what the rows hold", name)};
      if (facts.axis != 0 && first)
        return {false, fmt::format("output '{}' holds the rows along axis {}, not 0", name, facts.axis)};
      if (facts.block != Extent())
        return {false, fmt::format("output '{}' has several rows for each row of the inputs", name)};
      found.outputs.push_back(static_cast<int>(facts.axis));
    }
    if (std::all_of(found.outputs.begin(), found.outputs.end(), [](int axis) { return axis < 0; }))
      return {false, "no output depends on what the rows hold"};
    return found;
  }

 private:
  /// A branch of a node of `outer`, with what it captures as its inputs.
  RowAnalysis(const Graph& branch, const Node& node, const RowAnalysis& outer)
      : graph_(branch),
        prefix_(outer.prefix_),
        names_(outer.names_),
        count_(outer.count_),
        multiples_(outer.multiples_) {
    if (graph_.opsets.empty()) graph_.opsets = outer.graph_.opsets;
    for (ValueId id = 0; id < branch.value_limit(); ++id) {
      const Value v = graph_.value(id);
      if (!v.alive || v.capture < 0) continue;
      const ValueId captured = node.captures[static_cast<size_t>(v.capture)];
      const Value& given = outer.graph_.value(captured);
      const ValueId input = given.is_constant() ? graph_.add_constant(v.name, *given.constant)
                                                : graph_.add_input(v.name, given.dtype, given.shape);
      graph_.replace_uses(id, input);
      facts_.resize(static_cast<size_t>(graph_.value_limit()));
      facts_[static_cast<size_t>(input)] = outer.facts_[static_cast<size_t>(captured)];
    }
    facts_.resize(static_cast<size_t>(graph_.value_limit()));
  }

  // Whichever branch it is, all rows take the same: both must hold their rows in the same way.
  void through_branches(RowsContext& rows) {
    std::optional<std::vector<RowFacts>> results;
    for (const char* name : {"else_branch", "then_branch"}) {
      std::vector<RowFacts> own;
      try {
        RowAnalysis branch(*std::get<GraphPtr>(rows.node().attributes.at(name)), rows.node(), *this);
        infer_shapes_anew(branch.graph_, [&branch](InferContext& ctx) { branch.visit(ctx); });
        names_ = branch.names_;
        for (ValueId id : branch.graph_.outputs()) own.push_back(branch.facts_[static_cast<size_t>(id)]);
      } catch (const Error&) {
        return rows.mixes("a branch makes no sense for its shapes");
      }
      for (size_t i = 0; results && i < own.size(); ++i)
        if (RowFacts& other = results->at(i);
            own[i].kind != other.kind || own[i].axis != other.axis || own[i].block != other.block) {
          other = own[i].kind == RowFacts::Kind::kMixed ? own[i] : other;
          if (other.kind == RowFacts::Kind::kMixed) continue;
          other = {RowFacts::Kind::kMixed,
                   0,
                   {},
                   fmt::format("{}: its branches hold the rows in different ways", rows.node().label())};
        }
      if (!results) results = std::move(own);
    }
    for (size_t i = 0; i < rows.results().size() && i < results->size(); ++i) rows.results()[i] = results->at(i);
  }

  // The batch's size goes to the rows' axis of every input, a name to every other size that is not known; or why not.
  std::string prepare_inputs() {
    if (graph_.inputs().empty()) return "the model has no input";
    std::set<std::string> symbols, batch;
    Dim fixed;
    for (size_t i = 0; i < axes_.size(); ++i) {
      const Value& v = graph_.value(graph_.inputs()[i]);
      for (const Dim& d : v.shape.dims()) symbols.insert(d.symbol());
      if (axes_[i] < 0) continue;
      if (v.shape.rank() == 0) return fmt::format("input '{}' has no first axis", v.name);
      const Dim& rows = v.shape[static_cast<size_t>(axes_[i])];
      batch.insert(rows.symbol());
      if (!rows.is_known()) continue;
      if (fixed.is_known() && fixed != rows) return "the inputs' first axes differ in size";
      fixed = rows;
    }
    prefix_ = "#";
    while (std::any_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return s.starts_with(prefix_); }))
      prefix_ += "#";
    count_ = fixed.is_known() ? fixed : Dim(prefix_ + "rows");
    if (!fixed.is_known()) multiples_.emplace(count_.symbol(), Extent());
    batch.erase("");
    for (size_t i = 0; i < axes_.size(); ++i) {
      const ValueId id = graph_.inputs()[i];
      const Value& v = graph_.value(id);
      Shape shape = v.shape;
      if (!shape.has_rank()) return fmt::format("input '{}' has any number of axes", v.name);
      for (size_t axis = 0; axis < shape.rank(); ++axis) {
        if (static_cast<int>(axis) == axes_[i]) {
          shape[axis] = count_;
          facts_[static_cast<size_t>(id)] = {RowFacts::Kind::kAlong, axis, {}, {}};
          continue;
        }
        if (batch.contains(shape[axis].symbol()))
          return fmt::format("input '{}' has the batch's size along axis {} too", v.name, axis);
        if (shape[axis].is_unknown()) shape[axis] = fresh();
      }
      graph_.set_type(id, v.dtype, std::move(shape));
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
    } else if (given.kind == RowFacts::Kind::kAlong && node.is("If") && rows.is_independent(0)) {
      through_branches(rows);
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
  const std::vector<int> axes_;  // none for a branch
  std::vector<RowFacts> facts_;  // by ValueId; constants are independent
  std::string prefix_;           // of names that no input uses
  int64_t names_ = 0;
  Dim count_;
  RowsContext::Multiples multiples_;
};

/// Axes that may be those of the rows, by input: where each free size's name stands, then the first unnamed ones. An
/// input that has other free sizes alone is no part of a batch (the edges of a graph go with its nodes).
std::vector<std::vector<int>> batch_axes(const Graph& graph) {
  std::vector<std::vector<int>> all;
  std::set<std::string> names;
  const auto add = [&](const auto& is_batch) {
    std::vector<int> axes;
    for (const ValueId id : graph.inputs()) {
      const Shape& shape = graph.value(id).shape;
      int found = -1;
      for (size_t axis = 0; shape.has_rank() && axis < shape.rank() && found < 0; ++axis)
        if (is_batch(shape[axis])) found = static_cast<int>(axis);
      if (found < 0 && !shape.is_static()) return;
      axes.push_back(found);
    }
    if (std::any_of(axes.begin(), axes.end(), [](int axis) { return axis >= 0; })) all.push_back(std::move(axes));
  };
  for (const ValueId id : graph.inputs())
    for (const Dim& named : graph.value(id).shape.dims())
      if (named.is_symbol() && names.insert(named.symbol()).second) add([&](const Dim& d) { return d == named; });
  add([](const Dim& d) { return d.is_unknown(); });
  return all;
}

}  // namespace

bool RowIndependence::along_first() const {
  const auto is_first = [](int axis) { return axis == 0; };
  return proven && std::all_of(inputs.begin(), inputs.end(), is_first) &&
         std::all_of(outputs.begin(), outputs.end(), is_first);
}

RowIndependence prove_row_independence(const Graph& graph) {
  return RowAnalysis(graph, std::vector<int>(graph.inputs().size(), 0)).run();
}

RowIndependence find_row_independence(const Graph& graph) {
  RowIndependence said = prove_row_independence(graph);
  const auto is_free = [&](ValueId id) {
    const Shape& shape = graph.value(id).shape;
    return shape.rank() > 0 && !shape[0].is_known();
  };
  const bool first = std::all_of(graph.inputs().begin(), graph.inputs().end(), is_free);
  if (said.proven && first) return said;
  const std::vector<std::vector<int>> candidates = batch_axes(graph);
  for (size_t i = 0; i < candidates.size(); ++i) {
    RowIndependence found = RowAnalysis(graph, candidates[i]).run();
    if (found.proven) return found;
    if (i == 0 && !first && !said.proven) said = std::move(found);
  }
  return said;
}

Tensor stack_rows(std::span<const Tensor> parts, size_t axis) {
  if (parts.size() == 1) return parts.front();
  Dims dims = parts.front().dims();
  const int64_t outer = element_count({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)});
  dims.at(axis) = 0;
  for (const Tensor& part : parts) {
    SLIPWAY_CHECK(part.dtype() == parts.front().dtype() && part.rank() == parts.front().rank());
    for (size_t i = 0; i < dims.size(); ++i) SLIPWAY_CHECK(i == axis || dims[i] == part.dims()[i]);
    dims[axis] += part.dims()[axis];
  }
  if (parts.front().dtype() == DType::kString) {
    std::vector<std::string> texts;
    for (int64_t i = 0; i < outer && element_count(dims) > 0; ++i)
      for (const Tensor& part : parts) {
        const std::ptrdiff_t count = part.elements() / outer;
        const auto from = part.strings().begin() + i * count;
        texts.insert(texts.end(), from, from + count);
      }
    return Tensor::of_strings(dims, std::move(texts));
  }
  Tensor whole(parts.front().dtype(), dims);
  std::byte* to = whole.mutable_raw();
  for (int64_t i = 0; i < outer && whole.bytes() > 0; ++i)
    for (const Tensor& part : parts) {
      const size_t bytes = part.bytes() / static_cast<size_t>(outer);
      if (bytes > 0) std::memcpy(to, part.raw() + static_cast<size_t>(i) * bytes, bytes);
      to += bytes;
    }
  return whole;
}

}  // namespace slipway
