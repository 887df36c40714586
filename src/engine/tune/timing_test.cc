// The timing cache: what it keeps, what it estimates, and that an untimed plan is chosen by it.
#include "engine/tune/timing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/plan.h"

namespace slipway {
namespace {

class TimingCacheFile : public ::testing::Test {
 protected:
  ~TimingCacheFile() override { ::unlink(path_.c_str()); }
  const std::string path_ = ::testing::TempDir() + fmt::format("slipway-timings-{}.json", ::getpid());
};

TEST_F(TimingCacheFile, EstimatesByTheNearestOfTheFamily) {
  TimingCache cache("");
  EXPECT_TRUE(cache.empty());
  cache = TimingCache(path_);
  cache.add({"small", "conv", 100}, 3);
  cache.add({"large", "conv", 10'000}, 200);
  cache.add({"crashes", "conv", 900}, -8);
  cache.save();
  EXPECT_FALSE(cache.empty());
  EXPECT_EQ(cache.find("small"), 3);
  EXPECT_EQ(cache.find("medium"), std::nullopt);
  EXPECT_EQ(cache.estimate({"small", "conv", 100}), 3);
  EXPECT_DOUBLE_EQ(cache.estimate({"medium", "conv", 900}).value(), 27);     // nine times the work of "small"
  EXPECT_DOUBLE_EQ(cache.estimate({"medium", "conv", 5'000}).value(), 100);  // half the work of "large"
  EXPECT_EQ(cache.estimate({"crashes", "conv", 900}), -8);
  EXPECT_EQ(cache.estimate({"other", "pool", 900}), std::nullopt);
}

TEST_F(TimingCacheFile, KeepsWhatOthersAdded) {
  TimingCache first(path_), second(path_);
  first.add({"a", "f", 1}, 1);
  second.add({"b", "f", 2}, 2);
  first.save();
  second.save();
  const TimingCache both(path_);
  EXPECT_EQ(both.find("a"), 1);
  EXPECT_EQ(both.find("b"), 2);
}

TEST_F(TimingCacheFile, IgnoresWhatIsDamaged) {
  write_file(path_, std::string_view(R"({"a": 3, "b": [1, "f"], "c": ["1", "f", 2], "d": [4, "f", 2]})"));
  const TimingCache cache(path_);
  EXPECT_EQ(cache.find("a"), std::nullopt);
  EXPECT_EQ(cache.find("b"), std::nullopt);
  EXPECT_EQ(cache.find("c"), std::nullopt);
  EXPECT_EQ(cache.find("d"), 4);
  write_file(path_, std::string_view("{"));
  EXPECT_TRUE(TimingCache(path_).empty());
}

/// What was chosen for the convolution of images of so many pixels a side.
std::string choice_for(int size, const std::string& cache, bool tune) {
  Random random(7);
  const Graph graph = random_graph(fmt::format(R"(graph "conv" ir 8 opset {{"": 13}} {{
  input %x : f32[1,16,{0},{0}]
  input %w_k : f32[16,16,3,3]
  %y = Conv(%x, %w_k) {{pads = [1, 1, 1, 1]}} "conv"
  output %y
}})",
                                               size),
                                   random);
  for (const StepInfo& step : Plan::build(graph, {.tune = tune, .timing_cache = cache})->steps())
    for (const CandidateInfo& c : step.candidates)
      if (c.chosen) return c.tactic + " " + c.layouts;
  return "";
}

TEST_F(TimingCacheFile, AnUntimedPlanIsChosenByTheTimesOfTheNearestShapes) {
  choice_for(16, path_, true);
  auto times = nlohmann::json::parse(read_text_file(path_));
  std::set<std::string> chosen;
  for (const auto& [fastest, unused] : times.items()) {
    if (fastest.starts_with("layout")) continue;
    for (auto& [digest, time] : times.items())
      time[0] = digest.starts_with("layout") ? 1 : digest == fastest ? 2 : 1000;
    write_file(path_, times.dump());
    chosen.insert(choice_for(16, path_, true));
    EXPECT_EQ(choice_for(21, path_, false), choice_for(16, path_, true));
  }
  EXPECT_GE(chosen.size(), 2u);
}

}  // namespace
}  // namespace slipway
