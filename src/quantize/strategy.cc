// The rule that chooses between post-training quantisation and quantisation-aware training. Pure: numbers in, a
// decision and its reason out.
#include "quantize/strategy.h"

#include <algorithm>

#include "base/error.h"

namespace slipway {

std::string_view to_string(QuantizeStrategy strategy) {
  switch (strategy) {
    case QuantizeStrategy::kPtq:
      return "PTQ";
    case QuantizeStrategy::kQat:
      return "QAT";
    default:
      return "PTQ first";
  }
}

std::optional<QuantizeStrategy> parse_strategy(std::string_view name) {
  if (name == "ptq") return QuantizeStrategy::kPtq;
  if (name == "qat") return QuantizeStrategy::kQat;
  if (name == "auto") return std::nullopt;
  fail(ErrorCode::kInvalidArgument, "There is no such strategy; choose ptq, qat or auto: '{}'", name);
}

StrategyChoice choose_strategy(const QuantizationGoal& goal) {
  const double tolerance = goal.max_accuracy_drop_points.value_or(kDefaultDropPoints);
  const std::string budget = goal.time_budget_minutes ? fmt::format("{:g} minutes", *goal.time_budget_minutes) : "";
  if (tolerance > kLargeDropPoints && goal.time_budget_minutes && *goal.time_budget_minutes < kShortMinutes)
    return {QuantizeStrategy::kPtq,
            fmt::format("PTQ alone: {:g} points of accuracy may be lost, more than {:g}, and {} are too few to train "
                        "in (below {:g}).",
                        tolerance, kLargeDropPoints, budget, kShortMinutes)};
  const int bits = std::min(goal.weight_bits, goal.activation_bits);
  if (bits < 8)
    return {QuantizeStrategy::kQat,
            fmt::format("QAT: {} of {} bits are below 8, where rounding after training costs accuracy.",
                        goal.weight_bits < 8 ? "weights" : "activations", bits)};
  if (goal.accuracy_critical)
    return {QuantizeStrategy::kQat,
            fmt::format("QAT: the policy calls accuracy critical (less than {:g} points may be lost).", tolerance)};
  return {QuantizeStrategy::kPtqThenQat,
          fmt::format("PTQ first: no bits below 8, accuracy not critical and {}; QAT follows if {:g} or more points of "
                      "accuracy are lost.",
                      budget.empty() ? "no limit of time" : "a budget of " + budget, tolerance)};
}

}  // namespace slipway
