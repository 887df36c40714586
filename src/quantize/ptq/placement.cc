// Where to quantise (the rules of explicit quantisation in TensorRT's developer guide, "Q/DQ placement"):
// every weighted operator with constant weights wants its input quantised. From there the wish moves up:
//  - through operators that only move values (and MaxPool, Concat), whose inputs join the output's group: one scale;
//  - through average pooling, whose input is then wanted too, with a scale of its own;
//  - through a residual Add (under an optional Relu or Clip): its branches are wanted, except a convolution's result
//    that nothing else reads: the Add fuses into that convolution, so nothing may stand between;
//  - nowhere else: a Conv's result is quantised after its activation, where a wish meets it, never in between.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false, in <regex> under sanitizers

#include "quantize/ptq/placement.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <utility>

#include "base/error.h"
#include "model/op.h"
#include "quantize/ptq/weights.h"

namespace slipway {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

class Excluded {
 public:
  Excluded(const Graph& graph, const QuantizeOptions& options) : graph_(graph), names_(options.exclude) {
    for (const std::string& pattern : options.exclude_regex) {
      try {
        patterns_.emplace_back(pattern, std::regex::ECMAScript);
      } catch (const std::regex_error& error) {
        fail(ErrorCode::kInvalidArgument, "A regular expression of excluded nodes is malformed; correct it: '{}': {}",
             pattern, error.what());
      }
    }
    for (const std::string& name : names_) {
      bool found = false;
      for (NodeId id = 0; id < graph.node_limit() && !found; ++id)
        found = graph.node(id).alive && matches_name(graph.node(id), name);
      if (!found)
        fail(ErrorCode::kInvalidArgument,
             "No node has a name that is to be excluded; `slipway inspect MODEL --text` lists the names: '{}'", name);
    }
  }

  bool operator()(const Node& node) const {
    for (const std::string& name : names_)
      if (matches_name(node, name)) return true;
    for (const std::regex& pattern : patterns_)
      if (std::regex_match(node.name, pattern) || std::regex_match(output_name(node), pattern)) return true;
    return false;
  }

 private:
  std::string output_name(const Node& node) const {
    return node.output(0) == kNoValue ? "" : graph_.value(node.output(0)).name;
  }
  bool matches_name(const Node& node, std::string_view name) const {
    return node.name == name || output_name(node) == name || contains(node.origins, name);
  }

  const Graph& graph_;
  const std::vector<std::string>& names_;
  std::vector<std::regex> patterns_;
};

class Placer {
 public:
  Placer(const Graph& graph, const QuantizeOptions& options)
      : graph_(graph),
        ops_(options.op_types.empty() ? default_quantized_ops() : options.op_types),
        both_add_inputs_(options.quantize_both_add_inputs),
        wide_(options.activation_bits > 8),
        unsigned_(options.profile == QuantizeProfile::kCpu),
        excluded_(graph, options),
        order_(graph.topological_order()) {}

  Placement run() {
    for (const NodeId id : order_) {
      std::string reason = why_not_weighted(graph_.node(id));
      if (reason.empty()) weighted_.insert(id);
      reasons_[id] = std::move(reason);
    }
    for (const NodeId id : order_)
      if (weighted_.contains(id)) want(graph_.node(id).inputs[0]);
    while (!worklist_.empty()) {
      const ValueId value = worklist_.back();
      worklist_.pop_back();
      move_up(value);
    }
    return result();
  }

 private:
  bool is_selected(const Node& node) const { return contains(ops_, node.op_type) && !excluded_(node); }
  bool is_quantizable(ValueId id) const {
    return id != kNoValue && !graph_.value(id).is_constant() && graph_.value(id).dtype == DType::kFloat32;
  }

  /// Empty when the node's weights can be INT8; "" is never a reason.
  std::string why_not_weighted(const Node& node) const {
    if (!node.domain.empty()) return "operator of another domain";
    const bool is_conv = node.op_type == "Conv" || node.op_type == "ConvTranspose";
    const bool is_gemm = node.op_type == "Gemm", is_matmul = node.op_type == "MatMul";
    if (excluded_(node)) return "excluded";
    if (!is_conv && !is_gemm && !is_matmul) {
      const OpSpec* spec = find_op(graph_, node);
      const bool follows = contains(default_quantized_ops(), node.op_type) || node.is("Relu") || node.is("Clip") ||
                           (spec != nullptr && spec->has(kMovesOnly));
      return follows ? "its result is not needed in integers" : "no integer form";
    }
    if (!contains(ops_, node.op_type)) return "operator type not selected";
    const Tensor* weight = graph_.constant(node.input(1));
    if (weight == nullptr) return "its weights are computed";
    if (weight->dtype() != DType::kFloat32 || !is_quantizable(node.input(0))) return "not float32";
    if (weight->elements() == 0) return "no weights";
    if (is_conv ? weight->rank() < 3 : weight->rank() != 2) return "weights of an unusual rank";
    if (node.has_input(2) && graph_.constant(node.input(2)) == nullptr) return "its bias is computed";
    if (is_gemm && (node.integer("transA", 0) != 0 || node.real("alpha", 1) != 1 || node.real("beta", 1) != 1))
      return "Gemm with transA, alpha or beta";
    const int64_t channels = weight->dims()[static_cast<size_t>(weight_axis(node))];
    const int64_t depth = weight->elements() / std::max<int64_t>(1, channels);
    // The largest product of codes times the depth must leave half of INT32 to the bias.
    const int64_t product = int64_t{127} * (unsigned_ ? 255 : 128);
    if (!wide_ && depth > (int64_t{1} << 30) / product) return "sums too long for 32 bits";
    return "";
  }

  void want(ValueId id) {
    if (!is_quantizable(id) || !wanted_.insert(id).second) return;
    parent_[id] = id;
    worklist_.push_back(id);
  }
  ValueId leader(ValueId id) const {
    while (parent_.at(id) != id) id = parent_.at(id);
    return id;
  }
  void join(ValueId a, ValueId b) {
    const ValueId x = leader(a), y = leader(b);
    parent_[std::max(x, y)] = std::min(x, y);
  }

  /// The float inputs of a node that only moves values, or empty when it isn't such a node or can't be looked through.
  std::vector<ValueId> moved_inputs(const Node& node) const {
    if (excluded_(node) || !node.domain.empty() || node.outputs.size() != 1) return {};
    const OpSpec* spec = find_op(graph_, node);
    const bool chosen = node.op_type == "MaxPool" || node.op_type == "Concat";
    if (chosen ? !contains(ops_, node.op_type) : spec == nullptr || !spec->has(kMovesOnly)) return {};
    if (node.op_type == "Resize" && node.text("mode", "nearest") != "nearest") return {};
    std::vector<ValueId> inputs;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue || graph_.value(id).dtype != DType::kFloat32) continue;
      if (node.op_type == "Resize" && i > 0) continue;  // roi, scales
      if (node.op_type == "Pad" && i == 2) {
        const Tensor* fill = graph_.constant(id);
        if (fill == nullptr || to_doubles(*fill) != std::vector<double>{0.0}) return {};
        continue;
      }
      if (!is_quantizable(id)) return {};
      inputs.push_back(id);
    }
    if (node.op_type == "Pad" && node.real("value", 0) != 0) return {};
    return inputs;
  }

  void move_up(ValueId id) {
    const Node* node = graph_.producer(id);
    if (node == nullptr) return;
    if (const auto inputs = moved_inputs(*node); !inputs.empty()) {
      for (const ValueId input : inputs) {
        want(input);
        join(id, input);
      }
      moved_.insert(id);
      mark(id);
      return;
    }
    if ((node->is("AveragePool") || node->is("GlobalAveragePool")) && is_selected(*node)) {
      want(node->inputs[0]);
      mark(id);
      return;
    }
    ValueId activation = kNoValue;
    if (node->is("Relu") || node->is("Clip")) {
      const ValueId below = node->inputs[0];
      if (graph_.only_user(below) == kNoNode) return;
      node = graph_.producer(below);
      if (node != nullptr && weighted_.contains(graph_.value(below).producer)) mark(id);
      activation = std::exchange(id, below);
    }
    if (node == nullptr || !node->is("Add") || !is_selected(*node)) return;
    const ValueId a = node->inputs[0], b = node->inputs[1];
    if (!is_quantizable(a) || !is_quantizable(b)) return;
    if (!(graph_.value(a).shape == graph_.value(b).shape) || !graph_.value(a).shape.has_rank()) return;
    const ValueId fused = both_add_inputs_ ? kNoValue : fused_branch(a, b);
    for (const ValueId branch : {a, b})
      if (branch != fused) want(branch);
    mark(id);
    if (activation != kNoValue) mark(activation);
  }

  /// The branch whose convolution computes the Add: of two, the one that is computed last.
  ValueId fused_branch(ValueId a, ValueId b) const {
    ValueId best = kNoValue;
    size_t best_place = 0;
    for (const ValueId id : {a, b}) {
      const NodeId producer = graph_.value(id).producer;
      if (a == b || producer == kNoNode || !weighted_.contains(producer) || !graph_.node(producer).is("Conv") ||
          graph_.only_user(id) == kNoNode)
        continue;
      const auto place = static_cast<size_t>(std::find(order_.begin(), order_.end(), producer) - order_.begin());
      if (best == kNoValue || place > best_place) {
        best = id;
        best_place = place;
      }
    }
    return best;
  }

  void mark(ValueId made_by_quantized_node) { reasons_[graph_.value(made_by_quantized_node).producer] = ""; }

  Placement result() const {
    Placement placement;
    std::map<ValueId, size_t> group_of;
    const auto place = [&](ValueId id) {
      if (!wanted_.contains(id)) return;
      const auto [it, is_new] = group_of.emplace(leader(id), placement.groups.size());
      if (is_new) placement.groups.emplace_back();
      Placement::Group& group = placement.groups[it->second];
      group.members.push_back(id);
      if (!moved_.contains(id)) group.sources.push_back(id);
    };
    for (const ValueId id : graph_.inputs()) place(id);
    for (const NodeId id : order_) {
      for (const ValueId output : graph_.node(id).outputs)
        if (output != kNoValue) place(output);
      if (weighted_.contains(id)) placement.weighted.push_back(id);
      const std::string& reason = reasons_.at(id);
      placement.decisions.push_back({id, reason.empty(), reason});
    }
    return placement;
  }

  const Graph& graph_;
  const std::vector<std::string>& ops_;
  const bool both_add_inputs_, wide_, unsigned_;
  const Excluded excluded_;
  const std::vector<NodeId> order_;
  std::set<NodeId> weighted_;
  std::map<NodeId, std::string> reasons_;
  std::set<ValueId> wanted_, moved_;
  std::map<ValueId, ValueId> parent_;
  std::vector<ValueId> worklist_;
};

}  // namespace

const std::vector<std::string>& default_quantized_ops() {
  static const std::vector<std::string> ops = {"Conv",    "Gemm",  "MatMul", "Add", "AveragePool", "GlobalAveragePool",
                                               "MaxPool", "Concat"};
  return ops;
}

Placement place_quantizers(const Graph& graph, const QuantizeOptions& options) { return Placer(graph, options).run(); }

}  // namespace slipway
