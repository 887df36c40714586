// Delta debugging on graphs (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002), greedy:
// an edit that keeps the failure is kept, and the rounds end when none does. Large cuts come first.
#include "reduce.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "random_graph.h"

namespace slipway {
namespace {

class Reduction {
 public:
  Reduction(SmallCase failing, const StillFails& still_fails, int tries)
      : best_(std::move(failing)), still_fails_(still_fails), tries_(tries) {}

  SmallCase run() {
    for (bool smaller = true; smaller && tries_ > 0;) {
      smaller = false;
      smaller |= fewer_outputs();
      smaller |= cut_values();
      smaller |= bypass_nodes();
      smaller |= without_operands();
      smaller |= without_attributes();
      smaller |= without_symbols();
      smaller |= inputs_as_constants();
      smaller |= shrink_sizes();
      smaller |= simple_contents();
    }
    return std::move(best_);
  }

 private:
  bool take(SmallCase candidate) {
    if (tries_-- <= 0) return false;
    try {
      tidy(candidate);
      if (!still_fails_(candidate)) return false;
    } catch (const Error&) {
      return false;
    }
    best_ = std::move(candidate);
    return true;
  }

  // Without what nothing reads, inferred anew.
  static void tidy(SmallCase& c) {
    for (bool erased = true; erased;) {
      erased = false;
      for (NodeId id = 0; id < c.graph.node_limit(); ++id) {
        const Node& node = c.graph.node(id);
        if (!node.alive) continue;
        const bool read = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) {
          return v != kNoValue && (!c.graph.value(v).uses.empty() || c.graph.is_output(v));
        });
        if (!read) {
          c.graph.erase_node(id);
          erased = true;
        }
      }
    }
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      const ValueId id = c.graph.inputs()[i];
      if (!c.graph.value(id).uses.empty() || c.graph.is_output(id)) inputs.push_back(c.inputs[i]);
    }
    c.inputs = std::move(inputs);
    erase_unused(c.graph, false);
    for (ValueId id = 0; id < c.graph.value_limit(); ++id)
      if (c.graph.value(id).alive && c.graph.value(id).producer != kNoNode)
        c.graph.set_type(id, DType::kUndefined, Shape());
    verify(c.graph);
    infer_shapes(c.graph);
  }

  bool fewer_outputs() {
    const std::vector<ValueId> outputs = best_.graph.outputs();
    if (outputs.size() < 2) return false;
    for (const ValueId id : outputs) {
      SmallCase c = best_;
      c.graph.clear_outputs();
      c.graph.add_output(id);
      if (take(std::move(c))) return true;
    }
    for (const ValueId id : outputs) {
      SmallCase c = best_;
      c.graph.clear_outputs();
      for (const ValueId other : outputs)
        if (other != id) c.graph.add_output(other);
      if (take(std::move(c))) return true;
    }
    return false;
  }

  // A computed value becomes an output, an input or a constant; what made it goes.
  bool cut_values() {
    std::vector<Tensor> values(static_cast<size_t>(best_.graph.value_limit()));
    evaluate(best_.graph, best_.inputs, [&](ValueId id, const Tensor& t) { values[static_cast<size_t>(id)] = t; });
    std::vector<NodeId> order = best_.graph.topological_order();
    for (size_t n = order.size(); n-- > 0;)
      for (const bool as_input : {true, false}) {
        SmallCase c = best_;
        const Node node = c.graph.node(order[n]);
        bool cut = false;
        for (const ValueId id : node.outputs) {
          if (id == kNoValue || c.graph.value(id).uses.empty()) continue;
          const Tensor& t = values[static_cast<size_t>(id)];
          const std::string name = c.graph.value(id).name;
          const bool was_output = c.graph.is_output(id);
          ValueId stand_in;
          if (as_input) {
            stand_in = c.graph.add_input(name + "_in", t.dtype(), Shape::of(t.dims()));
            c.inputs.push_back(t);
          } else {
            stand_in = c.graph.add_constant(name + "_in", t);
          }
          const std::vector<Use> uses = c.graph.value(id).uses;
          for (const Use& use : uses) replace(c.graph, use, stand_in);
          if (was_output && c.graph.outputs().size() > 1) drop_output(c.graph, id);
          cut = true;
        }
        if (cut && take(std::move(c))) return true;
      }
    return false;
  }

  static void drop_output(Graph& graph, ValueId id) {
    const std::vector<ValueId> outputs = graph.outputs();
    graph.clear_outputs();
    for (const ValueId other : outputs)
      if (other != id) graph.add_output(other);
  }

  static void replace(Graph& graph, const Use& use, ValueId by) {
    const Node& node = graph.node(use.node);
    const auto at = static_cast<size_t>(use.input);
    if (at < node.inputs.size()) return graph.set_input(use.node, at, by);
    std::vector<ValueId> captures = node.captures;
    captures[at - node.inputs.size()] = by;
    graph.set_captures(use.node, captures);
  }

  bool bypass_nodes() {
    for (const NodeId id : best_.graph.topological_order()) {
      const Node node = best_.graph.node(id);
      for (const ValueId in : node.inputs) {
        if (in == kNoValue || node.outputs.empty() || node.outputs[0] == kNoValue) continue;
        const Value &a = best_.graph.value(in), &b = best_.graph.value(node.outputs[0]);
        if (a.dtype != b.dtype || (a.producer == kNoNode && best_.graph.is_output(node.outputs[0]))) continue;
        SmallCase c = best_;
        c.graph.replace_uses(node.outputs[0], in);
        if (take(std::move(c))) return true;
      }
    }
    return false;
  }

  bool without_operands() {
    for (const NodeId id : best_.graph.topological_order())
      for (size_t i = best_.graph.node(id).inputs.size(); i-- > 1;) {
        if (best_.graph.node(id).inputs[i] == kNoValue) continue;
        SmallCase c = best_;
        std::vector<ValueId> inputs = c.graph.node(id).inputs;
        inputs[i] = kNoValue;
        while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
        c.graph.set_inputs(id, inputs);
        if (take(std::move(c))) return true;
      }
    return false;
  }

  bool without_attributes() {
    for (const NodeId id : best_.graph.topological_order())
      for (const auto& [name, value] : Attributes(best_.graph.node(id).attributes)) {
        SmallCase c = best_;
        c.graph.erase_attribute(id, name);
        if (take(std::move(c))) return true;
      }
    return false;
  }

  bool without_symbols() {
    SmallCase c = best_;
    bool any = false;
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      const ValueId id = c.graph.inputs()[i];
      any |= !c.graph.value(id).shape.is_static();
      c.graph.set_type(id, c.inputs[i].dtype(), Shape::of(c.inputs[i].dims()));
    }
    return any && take(std::move(c));
  }

  bool inputs_as_constants() {
    if (best_.inputs.size() < 2) return false;
    for (size_t i = 0; i < best_.inputs.size(); ++i) {
      SmallCase c = best_;
      const ValueId id = c.graph.inputs()[i];
      if (c.graph.is_output(id)) continue;
      c.graph.replace_uses(id, c.graph.add_constant(c.graph.value(id).name + "_c", c.inputs[i]));
      if (take(std::move(c))) return true;
    }
    return false;
  }

  static Tensor sliced(const Tensor& t, int64_t from, int64_t to) {
    Dims dims = t.dims();
    for (int64_t& d : dims)
      if (d == from) d = to;
    const std::vector<double> values = to_doubles(t);
    std::vector<double> some;
    const Dims strides = strides_of(t.dims()), own = strides_of(dims);
    for (int64_t i = 0; i < element_count(dims); ++i) {
      int64_t at = 0;
      for (size_t axis = 0; axis < dims.size(); ++axis) at += i / own[axis] % dims[axis] * strides[axis];
      some.push_back(values[static_cast<size_t>(at)]);
    }
    return from_doubles(t.dtype(), dims, some);
  }

  // Every dimension of one size gets a smaller one, in inputs and constants alike.
  bool shrink_sizes() {
    std::set<int64_t, std::greater<>> sizes;
    const auto collect = [&](const Tensor& t) { sizes.insert(t.dims().begin(), t.dims().end()); };
    for (const Tensor& t : best_.inputs) collect(t);
    for (ValueId id = 0; id < best_.graph.value_limit(); ++id)
      if (best_.graph.value(id).alive && best_.graph.value(id).is_constant()) collect(*best_.graph.value(id).constant);
    for (const int64_t from : sizes)
      for (const int64_t to : std::set<int64_t>{1, 2, from / 2, from - 1}) {
        if (to < 1 || to >= from) continue;
        SmallCase c = best_;
        for (size_t i = 0; i < c.inputs.size(); ++i) {
          c.inputs[i] = sliced(c.inputs[i], from, to);
          const ValueId id = c.graph.inputs()[i];
          Shape shape = c.graph.value(id).shape;
          for (size_t axis = 0; axis < shape.rank(); ++axis)
            if (shape[axis] == Dim(from)) shape[axis] = Dim(to);
          c.graph.set_type(id, c.graph.value(id).dtype, shape);
        }
        for (ValueId id = 0; id < c.graph.value_limit(); ++id)
          if (c.graph.value(id).alive && c.graph.value(id).is_constant())
            c.graph.set_constant(id, sliced(*c.graph.value(id).constant, from, to));
        if (take(std::move(c))) return true;
      }
    return false;
  }

  static bool is_simple(const Tensor& t) {
    const std::vector<double> values = to_doubles(t);
    return std::all_of(values.begin(), values.end(), [](double v) { return v == 0 || v == 1; });
  }

  bool simple_contents() {
    for (const double fill : {1.0, 0.0})
      for (size_t i = 0; i < best_.inputs.size() + static_cast<size_t>(best_.graph.value_limit()); ++i) {
        SmallCase c = best_;
        const auto simple = [&](const Tensor& t) {
          return from_doubles(t.dtype(), t.dims(), std::vector<double>(static_cast<size_t>(t.elements()), fill));
        };
        if (i < c.inputs.size()) {
          if (is_simple(c.inputs[i])) continue;
          c.inputs[i] = simple(c.inputs[i]);
        } else {
          const auto id = static_cast<ValueId>(i - c.inputs.size());
          const Value& v = c.graph.value(id);
          if (!v.alive || !v.is_constant() || is_simple(*v.constant)) continue;
          c.graph.set_constant(id, simple(*v.constant));
        }
        if (take(std::move(c))) return true;
      }
    return false;
  }

  SmallCase best_;
  const StillFails& still_fails_;
  int tries_;
};

}  // namespace

SmallCase reduce(SmallCase failing, const StillFails& still_fails, int tries) {
  return Reduction(std::move(failing), still_fails, tries).run();
}

}  // namespace slipway
