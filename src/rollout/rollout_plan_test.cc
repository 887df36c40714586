// The plan's YAML, and its fuzz target over the corpus.
#include "rollout/rollout_plan.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/replay_corpus.h"

#define LLVMFuzzerTestOneInput fuzz_rollout_config
#include "rollout/rollout_config_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_rollout_plan(text, "plan.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(RolloutPlan, TheTemplateIsTheDefault) {
  EXPECT_EQ(parse_rollout_plan(rollout_plan_template(), "plan.yaml"), RolloutPlan());
  EXPECT_EQ(parse_rollout_plan("", "plan.yaml"), RolloutPlan());
  EXPECT_EQ(RolloutPlan().steps.size(), 4u);
}

TEST(RolloutPlan, StepsTakeTheLimitsOfTheirShare) {
  const RolloutPlan plan =
      parse_rollout_plan("steps:\n  - share: 0.2\n    min_seconds: 1\n  - share: 1\n", "plan.yaml");
  ASSERT_EQ(plan.steps.size(), 2u);
  EXPECT_EQ(plan.steps[0].min_seconds, 1);
  EXPECT_EQ(plan.steps[0].max_latency_ratio, RolloutPlan().steps[1].max_latency_ratio);
  EXPECT_EQ(plan.steps[0].share, 0.2);
}

TEST(RolloutPlan, MistakesAreNamedWithTheirLine) {
  EXPECT_NE(refusal("steps:\n  - shares: 1\n").find("plan.yaml:2"), std::string::npos);
  EXPECT_NE(refusal("steps:\n  - share: 0.5\n").find("must be 1"), std::string::npos);
  EXPECT_NE(refusal("steps: [{share: 0.5}, {share: 0.4}, {share: 1}]").find("above the one before"), std::string::npos);
  EXPECT_NE(refusal("steps: [{share: 1, min_seconds: 9, max_seconds: 3}]").find("max_seconds"), std::string::npos);
  EXPECT_NE(refusal("steps: [{share: 2}]").find("A number from"), std::string::npos);
  EXPECT_NE(refusal("alpha: 7").find("A number from"), std::string::npos);
  EXPECT_NE(refusal("steps: []").find("A list"), std::string::npos);
  EXPECT_NE(refusal("absolute: {max_errors: 1}").find("max_error_rate"), std::string::npos);
  EXPECT_NE(refusal(std::string(kMaxRolloutPlanBytes + 1, ' ')).find("at most"), std::string::npos);
}

TEST(RolloutPlan, FuzzCorpus) { replay_corpus("rollout_config_fuzz", fuzz_rollout_config); }

}  // namespace
}  // namespace slipway
