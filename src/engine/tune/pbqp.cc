// Reductions: a node of degree 1 folds into its neighbour, of degree 2 into an edge between its neighbours; where all
// have more, the one of highest degree takes the alternative that is cheapest with its neighbours' best answers.
// Choices are then read back in reverse order.
#include "engine/tune/pbqp.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "base/error.h"

namespace slipway {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Matrix {
  size_t rows, columns;
  std::vector<double> at;
  double operator()(size_t r, size_t c) const { return at[r * columns + c]; }
  Matrix transposed() const {
    Matrix t{columns, rows, std::vector<double>(at.size())};
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c) t.at[c * rows + r] = at[r * columns + c];
    return t;
  }
};

class Solver {
 public:
  explicit Solver(std::vector<std::vector<double>> costs) : costs_(std::move(costs)), neighbours_(costs_.size()) {}

  void connect(int a, int b, const Matrix& m) {
    auto [it, fresh] = neighbours_[static_cast<size_t>(a)].try_emplace(b, m);
    if (!fresh)
      for (size_t i = 0; i < m.at.size(); ++i) it->second.at[i] += m.at[i];
    neighbours_[static_cast<size_t>(b)].insert_or_assign(a, it->second.transposed());
  }

  std::vector<int> solve() {
    std::vector<int> choice(costs_.size(), -1);
    std::vector<bool> gone(costs_.size(), false);
    struct Step {
      int node;
      std::map<int, Matrix> links;
    };
    std::vector<Step> steps;
    for (size_t left = costs_.size(); left > 0; --left) {
      int node = -1;
      for (size_t i = 0; i < costs_.size(); ++i)
        if (!gone[i] && (node < 0 || degree(static_cast<int>(i)) < degree(node))) node = static_cast<int>(i);
      if (degree(node) > 2) node = settle_heaviest(gone);
      steps.push_back({node, neighbours_[static_cast<size_t>(node)]});
      fold(node);
      gone[static_cast<size_t>(node)] = true;
    }
    for (size_t s = steps.size(); s-- > 0;) {
      const Step& step = steps[s];
      std::vector<double> total = costs_[static_cast<size_t>(step.node)];
      for (const auto& [other, m] : step.links)
        for (size_t i = 0; i < total.size(); ++i)
          total[i] += m(i, static_cast<size_t>(choice[static_cast<size_t>(other)]));
      choice[static_cast<size_t>(step.node)] =
          static_cast<int>(std::min_element(total.begin(), total.end()) - total.begin());
    }
    return choice;
  }

 private:
  size_t degree(int node) const { return neighbours_[static_cast<size_t>(node)].size(); }

  // Fixes the alternative of the node of highest degree by forbidding the others; its edges then become node costs.
  int settle_heaviest(const std::vector<bool>& gone) {
    int node = -1;
    for (size_t i = 0; i < costs_.size(); ++i)
      if (!gone[i] && (node < 0 || degree(static_cast<int>(i)) > degree(node))) node = static_cast<int>(i);
    auto& costs = costs_[static_cast<size_t>(node)];
    size_t best = 0;
    double best_cost = kInfinity;
    for (size_t i = 0; i < costs.size(); ++i) {
      double cost = costs[i];
      for (const auto& [other, m] : neighbours_[static_cast<size_t>(node)]) {
        double least = kInfinity;
        for (size_t j = 0; j < m.columns; ++j) least = std::min(least, m(i, j) + costs_[static_cast<size_t>(other)][j]);
        cost += least;
      }
      if (cost < best_cost) best_cost = cost, best = i;
    }
    for (size_t i = 0; i < costs.size(); ++i)
      if (i != best) costs[i] = kInfinity;
    for (const auto& [other, m] : neighbours_[static_cast<size_t>(node)])
      for (size_t j = 0; j < m.columns; ++j) costs_[static_cast<size_t>(other)][j] += m(best, j);
    for (const auto& [other, m] : neighbours_[static_cast<size_t>(node)])
      neighbours_[static_cast<size_t>(other)].erase(node);
    neighbours_[static_cast<size_t>(node)].clear();
    return node;
  }

  void fold(int node) {
    const auto links = neighbours_[static_cast<size_t>(node)];
    const auto& costs = costs_[static_cast<size_t>(node)];
    for (const auto& [other, m] : links) neighbours_[static_cast<size_t>(other)].erase(node);
    if (links.size() == 1) {
      const auto& [other, m] = *links.begin();
      auto& into = costs_[static_cast<size_t>(other)];
      for (size_t j = 0; j < into.size(); ++j) {
        double least = kInfinity;
        for (size_t i = 0; i < costs.size(); ++i) least = std::min(least, costs[i] + m(i, j));
        into[j] += least;
      }
    } else if (links.size() == 2) {
      const auto& [a, ma] = *links.begin();
      const auto& [b, mb] = *links.rbegin();
      Matrix joined{ma.columns, mb.columns, std::vector<double>(ma.columns * mb.columns, kInfinity)};
      for (size_t j = 0; j < ma.columns; ++j)
        for (size_t k = 0; k < mb.columns; ++k)
          for (size_t i = 0; i < costs.size(); ++i)
            joined.at[j * mb.columns + k] = std::min(joined.at[j * mb.columns + k], costs[i] + ma(i, j) + mb(i, k));
      connect(a, b, joined);
    }
    neighbours_[static_cast<size_t>(node)].clear();
  }

  std::vector<std::vector<double>> costs_;
  std::vector<std::map<int, Matrix>> neighbours_;
};

}  // namespace

int Pbqp::add_node(std::vector<double> costs) {
  SLIPWAY_CHECK(!costs.empty());
  nodes_.push_back(std::move(costs));
  return static_cast<int>(nodes_.size()) - 1;
}

void Pbqp::add_edge(int a, int b, std::vector<double> costs) {
  SLIPWAY_CHECK(a != b &&
                costs.size() == nodes_[static_cast<size_t>(a)].size() * nodes_[static_cast<size_t>(b)].size());
  edges_.push_back({a, b, std::move(costs)});
}

std::vector<int> Pbqp::solve() const {
  Solver solver(nodes_);
  for (const Edge& e : edges_)
    solver.connect(e.a, e.b,
                   {nodes_[static_cast<size_t>(e.a)].size(), nodes_[static_cast<size_t>(e.b)].size(), e.costs});
  return solver.solve();
}

double Pbqp::cost_of(std::span<const int> choice) const {
  double cost = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) cost += nodes_[i][static_cast<size_t>(choice[i])];
  for (const Edge& e : edges_)
    cost += e.costs[static_cast<size_t>(choice[static_cast<size_t>(e.a)]) * nodes_[static_cast<size_t>(e.b)].size() +
                    static_cast<size_t>(choice[static_cast<size_t>(e.b)])];
  return cost;
}

}  // namespace slipway
