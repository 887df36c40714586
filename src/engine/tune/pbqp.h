#pragma once
#include <span>
#include <vector>

namespace slipway {

/// A partitioned boolean quadratic problem: pick one alternative a node so that the sum of node costs and of edge costs
/// (a matrix over the pair of alternatives) is smallest. Infinity forbids.
class Pbqp {
 public:
  /// Returns the node's index.
  int add_node(std::vector<double> costs);
  /// Row-major, alternatives of `a` by alternatives of `b`; added to an edge that exists already.
  void add_edge(int a, int b, std::vector<double> costs);
  /// One alternative a node. Exact while nodes of degree ≤ 2 can be eliminated (trees, series-parallel graphs), by the
  /// cheapest local choice where not. Anderson & Gregg, "Optimal DNN primitive selection with partitioned boolean
  /// quadratic programming", CGO 2018; reductions after Scholz & Eckstein, LCTES 2002.
  std::vector<int> solve() const;
  double cost_of(std::span<const int> choice) const;

 private:
  struct Edge {
    int a, b;
    std::vector<double> costs;
  };
  std::vector<std::vector<double>> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace slipway
