#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "model/graph.h"

namespace slipway {

// What the passes share: reading patterns, and rewriting a node in place.

/// The node that makes the value when it is that ONNX operator; nullptr otherwise.
const Node* made_by(const Graph& graph, ValueId value, std::string_view op);

/// The value of a constant with one element, as float.
std::optional<float> scalar(const Graph& graph, ValueId value);

/// A constant's elements as integers; nothing when the value is absent or not constant.
std::optional<std::vector<int64_t>> constant_ints(const Graph& graph, ValueId value);

/// Integers that an operator takes as an attribute in early opsets and as an input later ("axes", "pads", …): empty
/// when absent, nothing when not constant.
std::optional<std::vector<int64_t>> integers_of(const Graph& graph, const Node& node, std::string_view attribute,
                                                size_t input);

/// Both ranks known and every dimension the same number or symbol.
bool same_shape(const Graph& graph, ValueId a, ValueId b);
/// The same shape and element type.
bool same_type(const Graph& graph, ValueId a, ValueId b);

/// A Transpose's perm when it is given and a permutation; empty otherwise.
std::vector<int64_t> perm_of(const Node& transpose);

struct Bounds {
  float lo, hi;
};
inline constexpr Bounds kEverything{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
/// The bounds of a Relu or a Clip with constant bounds, lo ≤ hi; nothing for other nodes.
std::optional<Bounds> bounds_of(const Graph& graph, const Node& node);

/// Whether nothing but these nodes and `last` reads what they make, and none of it is a graph output: then they go when
/// `last` stands for them all.
bool read_only_within(const Graph& graph, const std::vector<NodeId>& nodes, NodeId last);

/// Turns the node into another operator in place: its outputs, their names and its place stay; the name changes when
/// the spec has one. Producers that lose their last use are erased and live on in the node's origins.
void rewrite(Graph& graph, NodeId node, NodeSpec spec);

/// Erases the node and then its producers as long as nothing uses them.
void erase_unused(Graph& graph, NodeId node);

/// Lets all readers of the node's first output read `with` and erases the node. False, and nothing done, when only an
/// Identity could take the node's place (a graph output that is an input, a constant or another output).
bool bypass(Graph& graph, NodeId node, ValueId with);

}  // namespace slipway
