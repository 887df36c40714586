#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "model/graph.h"
#include "model/op.h"
#include "signature.h"

namespace slipway {

class GraphWriter;

/// A node being proposed: hints (call_hints.h) replace what the generic recipe chose.
struct Call {
  GraphWriter& writer;
  const OpSpec& spec;
  Signature signature;
  std::vector<ValueId> inputs = {};
  std::vector<ValueId> captures = {};
  Attributes attributes = {};
  size_t outputs = 1;

  const Dims& dims(size_t i) const;
  DType dtype(size_t i) const;
  int64_t rank(size_t i) const { return static_cast<int64_t>(dims(i).size()); }
  bool has_parameter(std::string_view name) const;
  /// The operand `i`, operands before it that are not there yet absent.
  void operand(size_t i, ValueId id);
  /// Integers that are an attribute in some opsets and operand `i` in others.
  void ints(std::string_view name, size_t i, std::vector<int64_t> values);
};

/// A graph under construction, with the concrete value of everything in it: a proposed node is taken when inference and
/// the reference take it.
class GraphWriter {
 public:
  /// What a graph is about, drawn once.
  struct Style {
    int64_t opset = 17;
    int64_t batch = 1;
    bool free_batch = false;
    bool quantised = false;
    double special = 0;             ///< chance of NaN, ±infinity, −0, denormal and huge elements
    bool only_nan = false;          ///< of these only NaN, so that nothing else is excused by what is huge
    DType dtype = DType::kFloat32;  ///< of most values
    bool is_body = false;           ///< a subgraph: its inputs are fixed
    std::string prefix = "";        ///< of every name
  };

  GraphWriter(uint64_t seed, const Style& style);

  Random random;
  Graph graph;
  const Style style;

  bool chance(double p) { return random.uniform() < p; }
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
  }
  template <typename T>
  const T& any(const std::vector<T>& list) {
    return list[random.below(list.size())];
  }
  int64_t any(std::initializer_list<int64_t> list) { return *(list.begin() + random.below(list.size())); }

  const Tensor& tensor(ValueId id) const { return tensors_[static_cast<size_t>(id)]; }
  const std::vector<ValueId>& pool() const { return pool_; }
  Tensor random_tensor(DType dtype, const Dims& dims);
  Dims random_dims(int64_t rank);
  ValueId constant(Tensor t);
  ValueId constant_ints(const std::vector<int64_t>& values);
  ValueId input(Tensor t);
  ValueId capture(int index, const Tensor& t);
  /// A constant by this chance and in a subgraph, else an input.
  ValueId given(Tensor t, double constant_chance = 0.75);
  /// The same with random contents, or a constant that is there already.
  ValueId fresh(DType dtype, const Dims& dims, double constant_chance = 0.7);
  /// A constant that may have DequantizeLinear between in a quantised graph, scales one a channel or one.
  ValueId weight(DType dtype, const Dims& dims, int64_t channel_axis);
  /// A value of these dims from the pool or a fresh one.
  ValueId like(DType dtype, const Dims& dims, double pool_chance = 0.5);
  /// The newest value that fits, or an older one; kNoValue when there is none.
  ValueId from_pool(const std::vector<DType>& types, int64_t min_rank, int64_t max_rank);
  void publish(ValueId id) { pool_.push_back(id); }

  /// Adds the node when inference and the reference take it and it is small enough; its outputs join the pool.
  bool accept(const Call& call);
  /// Adds exactly this node; its first result, or kNoValue when it was not taken.
  ValueId apply(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {});
  /// Proposes nodes of the operator, up to `attempts` times; false when none was taken.
  bool add(std::string_view op, int attempts = 4);
  /// Operands and attributes by signature and chance, then by the operator's hint.
  Call propose(const OpSpec& spec);
  /// Quantises a float value and dequantises it again; the pool holds the result.
  ValueId quantise(ValueId id);

 private:
  void set_tensor(ValueId id, Tensor t);
  ValueId choose_operand(const Call& call, const Signature::Operand& operand, DType bound, size_t i);

  std::vector<Tensor> tensors_;  ///< by ValueId
  std::vector<ValueId> pool_;    ///< inputs and nodes' outputs, oldest first
  int names_ = 0;
};

}  // namespace slipway
