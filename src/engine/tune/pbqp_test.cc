#include "engine/tune/pbqp.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/random.h"

namespace slipway {
namespace {

// The best of all choices, tried one by one.
double brute_force(const Pbqp& problem, const std::vector<int>& sizes) {
  std::vector<int> choice(sizes.size(), 0);
  double best = std::numeric_limits<double>::infinity();
  for (;;) {
    best = std::min(best, problem.cost_of(choice));
    size_t i = 0;
    while (i < sizes.size() && ++choice[i] == sizes[i]) choice[i++] = 0;
    if (i == sizes.size()) return best;
  }
}

Pbqp random_problem(Random& random, std::vector<int>& sizes, bool series_parallel) {
  Pbqp problem;
  const int nodes = 3 + static_cast<int>(random.below(4));
  sizes.clear();
  for (int i = 0; i < nodes; ++i) {
    sizes.push_back(1 + static_cast<int>(random.below(3)));
    std::vector<double> costs;
    for (int k = 0; k < sizes.back(); ++k) costs.push_back(random.uniform() * 10);
    problem.add_node(costs);
  }
  const auto connect = [&](int a, int b) {
    std::vector<double> costs;
    for (int k = 0; k < sizes[static_cast<size_t>(a)] * sizes[static_cast<size_t>(b)]; ++k)
      costs.push_back(random.uniform() * 10);
    problem.add_edge(a, b, costs);
  };
  for (int i = 1; i < nodes; ++i) connect(i - 1, i);
  if (series_parallel)
    connect(0, nodes - 1);
  else
    for (int i = 2; i < nodes; ++i) connect(0, i), connect(1, i);
  return problem;
}

TEST(Pbqp, IsExactWhereNodesOfDegreeTwoSuffice) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> sizes;
    const Pbqp problem = random_problem(random, sizes, true);
    const auto choice = problem.solve();
    EXPECT_NEAR(problem.cost_of(choice), brute_force(problem, sizes), 1e-9) << "round " << round;
  }
}

TEST(Pbqp, AnswersDenseProblemsLegally) {
  Random random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> sizes;
    const Pbqp problem = random_problem(random, sizes, false);
    const auto choice = problem.solve();
    for (size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_GE(choice[i], 0);
      EXPECT_LT(choice[i], sizes[i]);
    }
    EXPECT_GE(problem.cost_of(choice), brute_force(problem, sizes) - 1e-9);
  }
}

}  // namespace
}  // namespace slipway
