#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "report/policy.h"

namespace slipway {

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
