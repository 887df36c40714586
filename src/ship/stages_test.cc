#include "ship/stages.h"

#include <gtest/gtest.h>

#include "data/test_folder.h"

namespace slipway {
namespace {

/// Three stages that write a file each; `ran` says which did work.
struct Road {
  TestFolder folder;
  std::vector<std::string> ran;
  std::map<std::string, std::string> inputs{{"a", "1"}, {"b", "1"}, {"c", "1"}};
  std::string failing, throwing;

  RoadResult go(const std::string& from = "") {
    ran.clear();
    std::vector<Stage> stages;
    for (const std::string name : {"a", "b", "c"})
      stages.push_back({.name = name, .inputs = {inputs[name]}, .run = [this, name](const StageValues& values) {
                          ran.push_back(name);
                          if (name == throwing) fail(ErrorCode::kIo, "The disk is full: {}", name);
                          const std::string file = folder.write(name + ".txt", name + inputs[name]);
                          StageOutcome outcome{.passed = name != failing, .figure = "made " + name, .files = {file}};
                          outcome.values[name] = inputs[name] + (values.contains("a") ? "+" + values.at("a") : "");
                          return outcome;
                        }});
    return run_stages(stages, folder.path("ship.json"), from, [](const StageReport&) {});
  }
  std::string worked() const {
    std::string text;
    for (const std::string& name : ran) text += name;
    return text;
  }
};

TEST(Stages, FinishedOnesAreNotDoneAgain) {
  Road road;
  EXPECT_TRUE(road.go().passed);
  EXPECT_EQ(road.worked(), "abc");
  const RoadResult again = road.go();
  EXPECT_EQ(road.worked(), "");
  ASSERT_EQ(again.stages.size(), 3u);
  EXPECT_EQ(again.stages[1].status, StageStatus::kAlreadyDone);
  EXPECT_EQ(again.stages[1].figure, "made b");
  EXPECT_EQ(again.values.at("c"), "1+1");
}

TEST(Stages, ChangedInputsRestartFromTheFirstAffected) {
  Road road;
  road.go();
  road.inputs["b"] = "2";
  const RoadResult result = road.go();
  EXPECT_EQ(road.worked(), "bc");
  EXPECT_EQ(result.values.at("b"), "2+1");
  road.go();
  EXPECT_EQ(road.worked(), "");
}

TEST(Stages, LostOrEditedFilesAreMadeAgain) {
  Road road;
  road.go();
  road.folder.write("b.txt", "edited");
  road.go();
  EXPECT_EQ(road.worked(), "bc");
  ::unlink(road.folder.path("c.txt").c_str());
  road.go();
  EXPECT_EQ(road.worked(), "c");
}

TEST(Stages, AStageThatDoesNotPassStopsAndIsTriedAgain) {
  Road road;
  road.failing = "b";
  const RoadResult result = road.go();
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.reason, "made b");
  EXPECT_EQ(result.stages.back().status, StageStatus::kFailed);
  EXPECT_EQ(road.worked(), "ab");
  road.failing = "";
  EXPECT_TRUE(road.go().passed);
  EXPECT_EQ(road.worked(), "bc");
}

TEST(Stages, AnErrorKeepsWhatWasFinished) {
  Road road;
  road.throwing = "c";
  EXPECT_NE(error_of([&] { road.go(); }).find("disk is full"), std::string::npos);
  road.throwing = "";
  EXPECT_TRUE(road.go().passed);
  EXPECT_EQ(road.worked(), "c");
}

TEST(Stages, FromDoesAStageAndAllAfterItAgain) {
  Road road;
  road.go();
  road.go("b");
  EXPECT_EQ(road.worked(), "bc");
  const std::string refusal = error_of([&] { road.go("d"); });
  EXPECT_NE(refusal.find("a, b, c"), std::string::npos) << refusal;
}

TEST(Stages, ADamagedStateCountsAsNone) {
  Road road;
  road.go();
  for (const char* text : {"", "{", "{\"slipway_ship\": 1}", "{\"slipway_ship\": 2, \"stages\": {}}", "[1]",
                           "{\"slipway_ship\": 1, \"stages\": {\"a\": {\"key\": 3}}}"}) {
    road.folder.write("ship.json", text);
    EXPECT_TRUE(road.go().passed) << text;
    EXPECT_EQ(road.worked(), "abc") << text;
  }
}

}  // namespace
}  // namespace slipway
