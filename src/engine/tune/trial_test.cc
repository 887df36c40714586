// Trials: a candidate that crashes is a rejected one, the next ones are tried all the same, and a plan remembers it.
#include "engine/tune/trial.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/lower/step_graph.h"
#include "engine/passes/pipeline.h"

namespace slipway {
namespace {

std::string depthwise_residual_text(int channels) {
  return fmt::format(R"(graph "depthwise" ir 8 opset {{"": 13}} {{
  input %x : f32[1,{0},7,6]
  input %w_d : f32[{0},1,3,3]
  %d = Conv(%x, %w_d) {{pads = [1, 1, 1, 1], group = {0}}} "depthwise"
  %y = Add(%d, %x) "add"
  output %y
}})",
                     channels);
}

TEST(Trial, ACrashIsARejectionAndTheNextIsTried) {
  Random random(1);
  Graph graph = random_graph(depthwise_residual_text(5), random);
  run_passes(graph);
  const Node& node = graph.node(graph.topological_order().at(0));
  std::vector<bool> constants;
  for (ValueId v : node.inputs) constants.push_back(v != kNoValue && graph.value(v).is_constant());
  const Graph alone = step_graph(graph, node);
  const LowerContext build{graph, node, 1, constants}, step{alone, step_node(alone), 1, constants};
  std::vector<Candidate> candidates = propose_candidates(build);
  candidates.pop_back();  // the reference
  const auto aligned = [](const Candidate& c) { return c.rejected.find("16 bytes") != std::string::npos; };
  if (std::none_of(candidates.begin(), candidates.end(), aligned)) GTEST_SKIP() << "oneDNN has no SSE kernel for it";
  std::erase_if(candidates, [&](const Candidate& c) { return !c.rejected.empty() && !aligned(c); });
  ASSERT_GE(candidates.size(), 3u);
  std::vector<CandidateTrial> trials;
  for (const Candidate& c : candidates) trials.push_back({build, step, c});
  size_t done = 0;
  const std::vector<TrialResult> results = run_trials(trials, [&] { ++done; });
  ASSERT_EQ(results.size(), trials.size());
  EXPECT_EQ(done, trials.size());
  for (size_t i = 0; i < results.size(); ++i) {
    SCOPED_TRACE(candidates[i].variant);
    EXPECT_EQ(results[i].crash_signal, aligned(candidates[i]) ? SIGSEGV : 0);
    EXPECT_EQ(results[i].rejected, aligned(candidates[i]) ? crash_reason(SIGSEGV) : "");
    EXPECT_EQ(results[i].time_us > 0, !aligned(candidates[i]));
  }
}

TEST(Trial, AnErrorIsARejectionWithItsReason) {
  Random random(2);
  const Graph graph = random_graph(depthwise_residual_text(8), random);
  const Node& node = graph.node(graph.topological_order().at(0));
  const std::vector<bool> constants = {false, true};
  const Graph alone = step_graph(graph, node);
  const LowerContext build{graph, node, 1, constants}, step{alone, step_node(alone), 1, constants};
  const Candidate unknown{.tactic = "onednn_conv",
                          .variant = "nothing of this name",
                          .inputs = {Layout::kPlain, Layout::kPlain},
                          .outputs = {Layout::kPlain}};
  const CandidateTrial trials[] = {{build, step, unknown}};
  const TrialResult result = run_trials(trials, [] {}).at(0);
  EXPECT_NE(result.rejected.find("no such implementation"), std::string::npos) << result.rejected;
  EXPECT_EQ(result.crash_signal, 0);
}

TEST(Trial, DepthwiseConvolutionsWithAResidualBuildTuned) {
  for (const int channels : {5, 6, 9, 10, 17, 18, 33}) {
    Random random(static_cast<uint64_t>(channels));
    const Graph graph = random_graph(depthwise_residual_text(channels), random);
    const std::vector<Tensor> inputs = random_inputs(graph, random);
    const auto plan = Plan::build(graph, {});
    EXPECT_EQ(difference(run_plan(plan, inputs)[0], evaluate(graph, inputs)[0]), "") << channels;
  }
}

TEST(Trial, ThePlanKeepsOffWhatTheCacheSaysCrashes) {
  Random random(4);
  const std::string cache = ::testing::TempDir() + fmt::format("slipway-crashes-{}.json", ::getpid());
  const Graph graph = random_graph(depthwise_residual_text(8), random);
  const std::vector<Tensor> inputs = random_inputs(graph, random);
  Plan::build(graph, {.timing_cache = cache});
  auto times = nlohmann::json::parse(read_text_file(cache));
  for (auto& [key, time] : times.items())
    if (!key.starts_with("layout")) time[0] = -SIGFPE;
  write_file(cache, times.dump());
  const auto plan = Plan::build(graph, {.timing_cache = cache});
  ::unlink(cache.c_str());
  const StepInfo step = plan->steps().at(0);
  EXPECT_EQ(step.tactic, "reference");
  EXPECT_TRUE(std::any_of(step.candidates.begin(), step.candidates.end(),
                          [](const CandidateInfo& c) { return c.rejected == crash_reason(SIGFPE); }));
  EXPECT_EQ(difference(run_plan(plan, inputs)[0], evaluate(graph, inputs)[0]), "");
}

// A convolution over 2^30 pixels in a row divides by zero in oneDNN.
TEST(Trial, SizesBeyond32BitsAreRejected) {
  Random random(5);
  for (const char* node : {"input %x : f32[1,1,1,1073741824]\n input %w_k : f32[1,1,1,3]\n %y = Conv(%x, %w_k)",
                           "input %x : f32[1,4,2,1073741824]\n %y = MaxPool(%x) {kernel_shape = [2, 2]}"}) {
    SCOPED_TRACE(node);
    const Graph graph =
        random_graph(fmt::format("graph \"\" ir 8 opset {{\"\": 13}} {{\n {}\n output %y\n}}", node), random);
    const Node& n = graph.node(graph.topological_order().at(0));
    const std::vector<Candidate> candidates = propose_candidates({graph, n, 1, {false, true}});
    for (const Candidate& c : candidates)
      if (c.tactic.starts_with("onednn")) {
        EXPECT_NE(c.rejected, "") << c.variant;
      }
  }
}

}  // namespace
}  // namespace slipway
