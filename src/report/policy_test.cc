#include "report/policy.h"

#include <gtest/gtest.h>

#include "data/test_folder.h"

namespace slipway {
namespace {

std::string refusal(const std::string& text) {
  return error_of([&] { parse_policy(text, "p.yaml"); });
}

TEST(Policy, TemplateHoldsTheDefaults) {
  const std::string text = policy_template();
  EXPECT_EQ(parse_policy(text, "p.yaml"), Policy());
  for (const char* part :
       {"max_drop_points: 1", "require_better_than_chance: true", "# min_top1_percent:", "max_engine_error: 0.0001",
        "min_cosine: 0.99", "max_latency_ratio: 1.05", "max_memory_increase_percent: 5", "max_p99_ratio: 2",
        "# max_memory_slope_mib_per_hour:", "# max_kl:", "  #", "# time_budget_minutes:", "accuracy_critical: false",
        "weight_bits: 8"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(Policy, EmptyFileMeansDefaults) {
  EXPECT_EQ(parse_policy("", "p.yaml"), Policy());
  EXPECT_EQ(parse_policy("\n\n", "p.yaml"), Policy());
}

TEST(Policy, ReadsEveryKindOfValue) {
  const Policy p = parse_policy(
      "accuracy: {max_drop_points: 0.5, min_agreement: 0.98, min_samples: 10, min_top1_percent: 80,\n"
      "  require_better_than_chance: no}\n"
      "output: {max_kl: 0.01}\n"
      "stability: {require_reproducible: false}\n"
      "simulation: {max_error_rate: 0.02, max_memory_slope_mib_per_hour: 40}\n",
      "p.yaml");
  EXPECT_EQ(p.simulation.max_error_rate, 0.02);
  EXPECT_EQ(p.simulation.max_memory_slope_mib_per_hour, 40);
  EXPECT_EQ(p.simulation.max_p99_ratio, 2);
  EXPECT_EQ(p.accuracy.max_drop_points, 0.5);
  EXPECT_EQ(p.accuracy.min_agreement, 0.98);
  EXPECT_EQ(p.accuracy.min_samples, 10);
  EXPECT_EQ(p.accuracy.min_top1_percent, 80);
  EXPECT_FALSE(p.accuracy.require_better_than_chance);
  EXPECT_EQ(p.output.max_kl, 0.01);
  EXPECT_EQ(p.output.max_mse, std::nullopt);
  EXPECT_FALSE(p.stability.require_reproducible);
  EXPECT_EQ(p.performance.max_latency_ratio, 1.05);
}

TEST(Policy, WrongKeysAreNamedWithTheNearestRightOne) {
  const std::string inner = refusal("output:\n  min_cosin: 0.9\n");
  for (const char* part : {"p.yaml:2", "'min_cosin'", "'min_cosine'"})
    EXPECT_NE(inner.find(part), std::string::npos) << inner;
  const std::string outer = refusal("accuracy:\n  max_drop_points: 1\nperformence:\n  min_rounds: 3\n");
  for (const char* part : {"p.yaml:3", "'performence'", "'performance'"})
    EXPECT_NE(outer.find(part), std::string::npos) << outer;
}

TEST(Policy, WrongValuesAreRefused) {
  EXPECT_NE(refusal("output: {min_cosine: 1.5}").find("from -1 to 1"), std::string::npos);
  EXPECT_NE(refusal("output: {min_cosine: high}").find("number"), std::string::npos);
  EXPECT_NE(refusal("accuracy: {min_samples: -1}").find("whole number"), std::string::npos);
  EXPECT_NE(refusal("stability: {require_reproducible: 3}").find("true or false"), std::string::npos);
  EXPECT_NE(refusal("accuracy: [1, 2]"), "");
  EXPECT_NE(refusal("just text"), "");
}

TEST(Policy, DigestFollowsTheValuesNotTheText) {
  Policy other;
  EXPECT_EQ(policy_digest(other), policy_digest(parse_policy("output: {min_cosine: 0.990}", "p.yaml")));
  other.output.max_mse = 0;
  EXPECT_NE(policy_digest(other), policy_digest(Policy()));
}

TEST(Policy, DigestOfPoliciesWithoutQuantizationStaysAsReportsHoldIt) {
  EXPECT_EQ(policy_digest(Policy()), "5757c4001cda32ab208eebc83fd4fdbf4c4e2d8df549b133f8d7784cf2bba839");
  const std::string old =
      "accuracy: {max_drop_points: 0.5, min_agreement: 0.98, min_samples: 10}\noutput: {max_kl: 0.01}\n"
      "stability: {require_reproducible: false}\n"
      "simulation: {max_error_rate: 0.02, max_memory_slope_mib_per_hour: 40}\n";
  const std::string digest = "39df7083fcbf916d5f82738d4846433f448621d089d8e526748fee028d52c3ed";
  EXPECT_EQ(policy_digest(parse_policy(old, "p.yaml")), digest);
  EXPECT_EQ(policy_digest(parse_policy(old + "quantization: {weight_bits: 8, accuracy_critical: false}", "p.yaml")),
            digest);
  for (const char* key :
       {"max_accuracy_drop_points: 0.5", "time_budget_minutes: 9", "accuracy_critical: true", "weight_bits: 4"})
    EXPECT_NE(policy_digest(parse_policy(old + "quantization: {" + key + "}", "p.yaml")), digest) << key;
}

TEST(Policy, QuantizationGoal) {
  const QuantizationGoal usual = quantization_goal(parse_policy("accuracy: {max_drop_points: 0.4}", "p.yaml"));
  EXPECT_EQ(usual, (QuantizationGoal{.max_accuracy_drop_points = 0.4}));
  const QuantizationGoal goal = quantization_goal(parse_policy(
      "quantization: {max_accuracy_drop_points: 4, time_budget_minutes: 2.5, accuracy_critical: yes, weight_bits: 4}",
      "p.yaml"));
  EXPECT_EQ(
      goal,
      (QuantizationGoal{
          .max_accuracy_drop_points = 4, .time_budget_minutes = 2.5, .accuracy_critical = true, .weight_bits = 4}));
  EXPECT_NE(refusal("quantization: {weight_bits: 5}").find("choose 8 or 4: 5 at p.yaml:1"), std::string::npos);
  EXPECT_NE(refusal("quantization: {activation_bits: 4}").find("choose 8"), std::string::npos);
  EXPECT_NE(refusal("quantization: {time_budget_minutes: 0}").find("number from"), std::string::npos);
  EXPECT_NE(refusal("quantization: {weight_bit: 4}").find("'weight_bits'"), std::string::npos);
}

}  // namespace
}  // namespace slipway
