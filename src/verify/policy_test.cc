#include "verify/policy.h"

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
       {"max_drop_points: 1", "min_cosine: 0.99", "max_latency_ratio: 1.05", "max_memory_increase_percent: 5",
        "max_p99_ratio: 2", "# max_memory_slope_mib_per_hour:", "# max_kl:", "  #"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(Policy, EmptyFileMeansDefaults) {
  EXPECT_EQ(parse_policy("", "p.yaml"), Policy());
  EXPECT_EQ(parse_policy("\n\n", "p.yaml"), Policy());
}

TEST(Policy, ReadsEveryKindOfValue) {
  const Policy p = parse_policy(
      "accuracy: {max_drop_points: 0.5, min_agreement: 0.98, min_samples: 10}\n"
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

}  // namespace
}  // namespace slipway
