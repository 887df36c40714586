#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/op.h"

namespace slipway {

/// A product of sizes: a number and symbols, sorted, none of which depends on the number of rows.
struct Extent {
  int64_t number = 1;
  std::vector<std::string> symbols;
  bool operator==(const Extent&) const = default;
};
/// nullopt where the product is too large or a dimension is unknown or 0.
std::optional<Extent> multiply(const Extent& a, const Dim& b);
std::optional<Extent> multiply(const Extent& a, const Extent& b);
/// nullopt unless `b` divides `a`.
std::optional<Extent> divide(const Extent& a, const Extent& b);

/// What a value has to do with the rows of a batch.
struct RowFacts {
  enum class Kind {
    kIndependent,  ///< nothing: the same whatever the rows hold and however many they are
    kCount,        ///< follows from the number of rows alone
    kAlong,        ///< one part for each row along `axis`, which follows from that row alone; all other sizes are fixed
    kMixed,        ///< not proven to be any of these
  };
  Kind kind = Kind::kIndependent;
  size_t axis = 0;
  Extent block = {};  ///< consecutive places of the axis that belong to one row
  std::string why;    ///< of kMixed: the first node that mixed them, and how
};

/// Handed to OpSpec::rows when no input is mixed and at least one is not independent. Outputs start as kMixed when an
/// input lies along the rows, else as kCount; a rule says more where it can prove it.
class RowsContext {
 public:
  /// Symbols that stand for the batch's size times a block.
  using Multiples = std::map<std::string, Extent, std::less<>>;

  /// `count` is the batch's size: a number, or a symbol.
  RowsContext(InferContext& inference, std::vector<RowFacts> inputs, std::vector<RowFacts> outputs, Dim count,
              const Multiples& multiples)
      : in(inference),
        inputs_(std::move(inputs)),
        outputs_(std::move(outputs)),
        count_(std::move(count)),
        multiples_(multiples) {}
  InferContext& in;  ///< the node, and what is known of its inputs
  const Node& node() const { return in.node; }

  size_t input_count() const { return inputs_.size(); }
  const RowFacts& rows(size_t i) const;  ///< independent when absent
  bool is_along(size_t i) const { return rows(i).kind == RowFacts::Kind::kAlong; }
  bool is_independent(size_t i) const { return rows(i).kind == RowFacts::Kind::kIndependent; }
  bool any_along() const;
  const Shape& output(size_t i = 0) const { return in.results()[i].shape; }
  size_t rank(size_t i) const { return in.shape(i).rank(); }
  /// The block whose multiple by the batch's free size `dim` is; nullptr where that size is no part of it.
  const Extent* block_in(const Dim& dim) const;
  const Dim& count() const { return count_; }

  /// The rows of input 0 when all other inputs are independent; otherwise says why not, and is nullptr.
  const RowFacts* only_first();
  /// Whether input `i` holds the same at every place of the axis that is `from_right` axes from its right end (1: the
  /// last), broadcast included.
  bool repeats(size_t i, size_t from_right) const;

  /// Says what inference could not tell of output 0's axis, where one dimension can say it.
  void name_size(size_t axis, const Extent& size);
  void set(size_t output, RowFacts facts);
  /// Every output along that axis.
  void set_along(size_t axis, const Extent& block);
  /// Every output kMixed; `why` completes "Reduce 'x': …".
  void mixes(std::string_view why);

  std::vector<RowFacts>& results() { return outputs_; }

 private:
  std::vector<RowFacts> inputs_, outputs_;
  Dim count_;
  const Multiples& multiples_;
};

/// Rows along one axis, counted from the right, in all inputs that have them; the others repeat along it.
void rows_by_broadcast(RowsContext& ctx);
/// Input 0's rows stay where they are, in every output; nothing else may depend on the rows.
void rows_stay(RowsContext& ctx);
/// The same for an operator that works within each slice along axis 0.
void rows_first_axis(RowsContext& ctx);
/// The same, given whether the operator's own work goes along the axis of the rows.
void rows_unless(RowsContext& ctx, bool (*goes_along)(const RowsContext& ctx, size_t axis));
/// The same elements in the same order under another shape.
void rows_reshaped(RowsContext& ctx);
/// Whether the result's sizes besides that of `axis` are free of the number of rows, given that the last input asks for
/// them.
bool sizes_are_fixed(const RowsContext& ctx, size_t axis);
/// An output that repeats what does not depend on the rows as often as a shape operand says: along the one axis that
/// has the batch's size.
void rows_filled(RowsContext& ctx);
/// Product of input `a` and input `b` as matrices, leading axes broadcast.
void rows_of_product(RowsContext& ctx, size_t a, size_t b);

}  // namespace slipway
