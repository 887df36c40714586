#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/op.h"

namespace slipway {

/// Rank that no real model exceeds; longer shapes are refused before loops run over them.
inline constexpr size_t kMaxRank = 64;

/// Rejects a sequence or optional as that input of an operator that takes tensors alone.
void require_tensor(const OpSpec& spec, const Node& node, size_t input, DType type);

/// element_count(), refused with kInvalidArgument beyond what this machine's memory could hold: for operators whose
/// output's size comes from their inputs' values.
int64_t bounded_count(std::span<const int64_t> dims);

/// Numpy broadcasting of all present inputs of the node; rejects shapes that don't go together.
Shape broadcast_inputs(const InferContext& ctx);
Dims broadcast_inputs(const EvalContext& ctx);
/// Element strides that walk a tensor of dims `from` along `to`, 0 where it repeats; `from` broadcasts to `to`.
Dims broadcast_strides(const Dims& from, const Dims& to);

/// Output 0 has input 0's type and shape.
void infer_same_as_first(InferContext& ctx);
/// Output 0 has input 0's type and the broadcast shape of all inputs.
void infer_broadcast(InferContext& ctx);
/// The same with bool elements.
void infer_broadcast_bool(InferContext& ctx);

/// What is known of the contents of a 32- or 64-bit integer or bool input of rank ≤ 1, element by element; negative and
/// unknown elements are unknown Dims. nullopt when not even their number is known.
std::optional<std::vector<Dim>> contents(const InferContext& ctx, size_t i);
/// Tells the contents of output `i`, whose type is set already, where that type carries sizes (32- and 64-bit
/// integers); what does not fit it is left unknown.
void set_contents(InferContext& ctx, size_t i, std::vector<Dim> dims);

/// The attribute named `attribute`, or else input `input`; nullopt when neither is there. `known` is false when the
/// input is there but not constant.
struct Axes {
  bool given = false;
  bool known = true;
  std::vector<int64_t> values;
};
Axes axes_of(const InferContext& ctx, std::string_view attribute, size_t input);
Axes axes_of(const EvalContext& ctx, std::string_view attribute, size_t input);
/// Normalised and unique, in the order given; rejects repeats.
std::vector<int64_t> normalize_axes(std::span<const int64_t> axes, int64_t rank, const Node& node);

/// Sum, product and quotient where they follow without arithmetic on symbols, else unknown.
Dim add(const Dim& a, const Dim& b);
Dim multiply(const Dim& a, const Dim& b);
Dim divide(const Dim& a, const Dim& b);

}  // namespace slipway
