#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/graph.h"

namespace slipway {

// Operators that files have beside the standard ones, and that are compositions of these: the importer replaces them,
// so that every pass, kernel and proof knows them. An operator's rule is a row of its family's table; THE list of
// families is in rewrite.cc.

/// One node on its way to others, while the types and shapes of most values are not known yet.
class Rewrite {
 public:
  Rewrite(Graph& graph, NodeId id);
  const Node node;
  const int64_t opset;  ///< of the standard operators

  bool has(size_t i) const { return node.has_input(i); }
  ValueId in(size_t i) const;    ///< kNoValue when absent
  ValueId need(size_t i) const;  ///< rejects the node when absent
  bool wants(size_t output) const { return node.output(output) != kNoValue; }
  const Tensor* constant(ValueId id) const { return graph_.constant(id); }
  /// Rejects the node unless the input is constant.
  const Tensor& known(size_t i) const;
  /// As far as it is declared, or follows from the nodes before that keep or set it; −1 otherwise.
  int64_t rank(ValueId id) const;
  void declare(ValueId id, DType dtype, Shape shape) { graph_.set_type(id, dtype, std::move(shape)); }

  /// A standard operator with one output; of its inputs those at the end may be kNoValue.
  ValueId add(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {});
  std::vector<ValueId> add_several(std::string_view op, std::vector<ValueId> inputs, size_t outputs,
                                   Attributes attributes = {});
  ValueId tensor(Tensor value);
  ValueId integers(std::vector<int64_t> values);  ///< i64, [n]
  /// Cast to the type of `like`; where this is not known by a CastLike, or in early opsets as f32.
  ValueId cast_like(ValueId x, ValueId like);
  /// A number of that type.
  ValueId number(double value, ValueId like);

  // Where the standard operators' form depends on the opset.
  ValueId clip(ValueId x, float low, float high);
  std::vector<ValueId> split(ValueId x, int64_t axis, const std::vector<int64_t>& sizes);
  ValueId reduce_sum(ValueId x, int64_t axis);  ///< without the axis
  ValueId reshape(ValueId x, std::vector<int64_t> dims) { return add("Reshape", {x, integers(std::move(dims))}); }
  ValueId transpose(ValueId x, std::vector<int64_t> perm) { return add("Transpose", {x}, {{"perm", std::move(perm)}}); }
  ValueId swap_last_two(ValueId x);
  ValueId size_along(ValueId x, int64_t axis);  ///< one element of the shape, i64, [1]
  ValueId numbers_below(ValueId size);          ///< 0, 1, 2, … up to a size [1]: i64, [n]
  ValueId joined(std::vector<ValueId> parts, int64_t axis) { return add("Concat", std::move(parts), {{"axis", axis}}); }
  /// (codes − zero point) · scale; `axis` is that of a scale with several elements.
  ValueId dequantize(ValueId codes, ValueId scale, ValueId zero_point, int64_t axis = 1);
  ValueId quantize(ValueId x, ValueId scale, ValueId zero_point);

  /// The node's attributes but those named.
  Attributes attributes_without(std::initializer_list<std::string_view> names) const;
  /// Whether the node has this attribute and it is not 0.
  bool is_set(std::string_view attribute) const { return node.integer(attribute, 0) != 0; }
  [[noreturn]] void reject(std::string_view what) const;       ///< kInvalidModel
  [[noreturn]] void unsupported(std::string_view what) const;  ///< kUnsupported

  /// These are the node's outputs from now on, under its outputs' names; the node is gone.
  void finish(const std::vector<ValueId>& results);

 private:
  Graph& graph_;
  const NodeId id_;
};

/// A table's row. Rules fail with kInvalidModel and kUnsupported, naming the node.
struct RewriteRule {
  std::string_view op;
  void (*apply)(Rewrite&);
  std::string_view domain = "com.microsoft";
  int64_t until = 1 << 20;  ///< the last opset of the standard operators at which this is no standard operator
};

// One function a family, in its file.
std::span<const RewriteRule> quantized_rewrites();
std::span<const RewriteRule> fused_rewrites();
std::span<const RewriteRule> transformer_rewrites();
std::span<const RewriteRule> early_rewrites();

/// Every rule.
std::vector<const RewriteRule*> all_rewrites();
/// Replaces every node of this graph (not of its subgraphs) that has a rule.
void rewrite_foreign(Graph& graph);

/// Whether the node makes maps (zip_map.cc).
bool is_zip_map(const Node* node);
/// Takes the maps that a model gives apart: into values, under the map's name, and keys, as a further output.
void unzip_maps(Graph& graph);

}  // namespace slipway
