#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace slipway {

/// What a quantised model is to reach, and at what price.
struct QuantizationGoal {
  std::optional<double> max_accuracy_drop_points = {};  ///< top-1, percentage points: must lose less; default 1
  std::optional<double> time_budget_minutes = {};       ///< of quantising; none: no limit
  bool accuracy_critical = false;
  int weight_bits = 8, activation_bits = 8;
  bool operator==(const QuantizationGoal&) const = default;
};

/// Points that may be lost where the goal does not say.
inline constexpr double kDefaultDropPoints = 1;
/// Above so many points post-training quantisation may do although it is the coarser method.
inline constexpr double kLargeDropPoints = 3;
/// Below so many minutes time is short: too little for training to pay.
inline constexpr double kShortMinutes = 15;

enum class QuantizeStrategy {
  kPtq,         ///< post-training quantisation alone
  kQat,         ///< quantisation-aware training
  kPtqThenQat,  ///< the first, and the second where it falls short of the goal
};
/// "PTQ", "QAT", "PTQ first".
std::string_view to_string(QuantizeStrategy strategy);
/// From "ptq", "qat" or "auto"; nothing for "auto", which leaves it to the rule. Fails with kInvalidArgument, listing
/// them.
std::optional<QuantizeStrategy> parse_strategy(std::string_view name);

struct StrategyChoice {
  QuantizeStrategy strategy = QuantizeStrategy::kPtqThenQat;
  std::string why;  ///< one sentence, with the numbers
};

/// The rule, whose first match wins: a tolerance above kLargeDropPoints and less than kShortMinutes → PTQ; bits below 8
/// or accuracy critical → QAT; otherwise PTQ first.
StrategyChoice choose_strategy(const QuantizationGoal& goal);

}  // namespace slipway
