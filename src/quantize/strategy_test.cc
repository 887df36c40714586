#include "quantize/strategy.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

struct StrategyCase {
  const char* name;
  QuantizationGoal goal;
  QuantizeStrategy expected;
  const char* part;  ///< of the reason
};

TEST(Strategy, TheFirstMatchWins) {
  using enum QuantizeStrategy;
  const StrategyCase cases[] = {
      {"defaults", {}, kPtqThenQat, "1 or more points"},
      {"tolerant, no limit", {.max_accuracy_drop_points = 5}, kPtqThenQat, "no limit of time"},
      {"tolerant, time enough", {.max_accuracy_drop_points = 5, .time_budget_minutes = 15}, kPtqThenQat, "15 minutes"},
      {"tolerant, short", {.max_accuracy_drop_points = 5, .time_budget_minutes = 14.5}, kPtq, "14.5 minutes"},
      {"at the tolerance", {.max_accuracy_drop_points = 3, .time_budget_minutes = 5}, kPtqThenQat, "3 or more points"},
      {"just above it", {.max_accuracy_drop_points = 3.1, .time_budget_minutes = 5}, kPtq, "3.1 points"},
      {"short alone", {.time_budget_minutes = 1}, kPtqThenQat, "1 minutes"},
      {"4 bits", {.weight_bits = 4}, kQat, "weights of 4 bits"},
      {"4-bit activations", {.activation_bits = 4}, kQat, "activations of 4 bits"},
      {"16-bit activations", {.activation_bits = 16}, kPtqThenQat, "PTQ first"},
      {"critical", {.max_accuracy_drop_points = 0.5, .accuracy_critical = true}, kQat, "0.5 points"},
      {"4 bits, critical and short", {.time_budget_minutes = 5, .accuracy_critical = true, .weight_bits = 4}, kQat, ""},
      {"4 bits, tolerant and short",
       {.max_accuracy_drop_points = 4, .time_budget_minutes = 5, .weight_bits = 4},
       kPtq,
       "4 points"},
      {"critical, tolerant and short",
       {.max_accuracy_drop_points = 4, .time_budget_minutes = 5, .accuracy_critical = true},
       kPtq,
       "too few"},
      {"critical, tolerant, no limit", {.max_accuracy_drop_points = 4, .accuracy_critical = true}, kQat, "critical"},
  };
  for (const StrategyCase& c : cases) {
    const StrategyChoice choice = choose_strategy(c.goal);
    EXPECT_EQ(choice.strategy, c.expected) << c.name << ": " << choice.why;
    EXPECT_NE(choice.why.find(c.part), std::string::npos) << c.name << ": " << choice.why;
    EXPECT_TRUE(choice.why.starts_with(to_string(c.expected))) << choice.why;
    EXPECT_TRUE(choice.why.ends_with(".")) << choice.why;
  }
}

TEST(Strategy, NamesAreRead) {
  EXPECT_EQ(parse_strategy("ptq"), QuantizeStrategy::kPtq);
  EXPECT_EQ(parse_strategy("qat"), QuantizeStrategy::kQat);
  EXPECT_EQ(parse_strategy("auto"), std::nullopt);
  EXPECT_THROW(parse_strategy("best"), Error);
}

}  // namespace
}  // namespace slipway
