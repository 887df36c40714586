#include "ship/simulate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <climits>

#include "base/hash.h"
#include "load/load_samples.h"
#include "model/onnx/external_testing.h"
#include "model/onnx/identity.h"
#include "ship/ship.h"
#include "verify/checks.h"
#include "verify/verify_testing.h"

namespace slipway {
namespace {

/// The program beside this test; empty when it was not built.
std::string program() {
  char self[PATH_MAX] = {};
  if (::readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return "";
  const std::string path = join_path(parent_folder(self), "slipway");
  return file_exists(path) ? path : "";
}

SimulateOptions quick_simulation() {
  return {.program = program(),
          .load_seconds = 0.3,
          .soak_seconds = 1,
          .samples = 60,
          .many_connections = false,
          .tune = false,
          .quiet = true};
}

/// As patient with time as a test must be.
Policy simulation_policy() {
  Policy policy = patient_policy();
  policy.simulation.max_p99_ratio = 1e6;
  policy.simulation.min_seconds = 0;
  return policy;
}

TEST(Simulate, SamplesAreSpreadAsTheLabelsAreRead) {
  TestFolder folder;
  const Dataset data = labelled_by(SmallNet().graph(), folder, 50);
  const auto samples = dataset_samples(data, {"net", {{"image", DType::kFloat32, {-1, 1, 8, 8}}}}, {.max_samples = 7});
  ASSERT_EQ(samples.size(), 7u);
  for (int64_t i = 0; i < 7; ++i) {
    const Tensor expected = data.input(Split::kTest, i * 50 / 7);
    const auto bytes = samples[static_cast<size_t>(i)].inputs[0].bytes;
    ASSERT_EQ(bytes.size(), expected.bytes());
    EXPECT_EQ(std::memcmp(bytes.data(), expected.raw(), bytes.size()), 0) << i;
  }
}

TEST(Simulate, AnEqualModelAgreesAndABrokenOneIsSeen) {
  if (program().empty()) GTEST_SKIP() << "the program is not built";
  TestFolder folder;
  SmallNet net;
  const std::string original = save_model(net.graph(), folder, "a.onnx");
  const Dataset data = labelled_by(net.graph(), folder, 60);
  const SimulationFigures same = simulate(original, original, data, simulation_policy(), quick_simulation());
  ASSERT_TRUE(same.done);
  ASSERT_EQ(same.loads.size(), 3u);
  for (const SimulatedLoad& load : same.loads) {
    EXPECT_GT(load.requests, 0) << load.name;
    EXPECT_EQ(load.errors, 0) << load.name;
    EXPECT_GE(load.p99_ms, load.p50_ms) << load.name;
  }
  EXPECT_GT(same.soak.requests, 0);
  EXPECT_EQ(same.replay.compared, 60);
  EXPECT_EQ(same.replay.agreement, 1);
  EXPECT_EQ(same.replay.max_difference, 0);
  EXPECT_EQ(same.comparison.errors, 0);
  EXPECT_TRUE(same.comparison.labels);
  EXPECT_EQ(same.comparison.candidate_accuracy, 1);
  EXPECT_GT(same.comparison.p99_ratio, 0);

  for (float& weight : net.conv2) weight = -weight;
  const std::string broken = save_model(net.graph(), folder, "b.onnx");
  Report report{.policy = simulation_policy()};
  report.simulation = simulate(original, broken, data, report.policy, quick_simulation());
  EXPECT_LT(report.simulation.replay.agreement, 0.9);
  EXPECT_GT(report.simulation.replay.max_difference, 0.01);
  EXPECT_EQ(report.simulation.comparison.reference_accuracy, 1);
  EXPECT_EQ(report.simulation.comparison.only_candidate_right, 0);
  judge(report);
  EXPECT_EQ(report.simulation.comparison.accuracy, Verdict::kFail);
}

TEST(Simulate, AModelThatCantBeServedSaysWhy) {
  if (program().empty()) GTEST_SKIP() << "the program is not built";
  TestFolder folder;
  const std::string original = save_model(SmallNet().graph(), folder, "a.onnx");
  const Dataset data = labelled_by(SmallNet().graph(), folder, 20);
  save_external(SmallNet().graph(), folder.path("b.onnx"), "b.data");
  folder.write("b.data", "too short");
  const std::string text =
      error_of([&] { simulate(original, folder.path("b.onnx"), data, simulation_policy(), quick_simulation()); });
  EXPECT_NE(text.find("served"), std::string::npos) << text;
}

TEST(Ship, StopsBeforePublishingWithoutARepositoryAndResumes) {
  if (program().empty()) GTEST_SKIP() << "the program is not built";
  TestFolder folder;
  SmallNet net;
  const std::string model = folder.path("net.onnx");
  save_external(net.graph(), model, "net.data");
  labelled_by(net.graph(), folder, 120);
  folder.write("policy.yaml",
               "performance: {max_latency_ratio: 1000, memory_slack_mib: 1000, min_rounds: 1}\n"
               "output: {min_cosine: 0.9}\naccuracy: {max_drop_points: 30, max_class_drop_points: 100, "
               "max_edge_case_drop_points: 100}\nsimulation: {max_p99_ratio: 1e6, min_seconds: 0}\n");
  ShipOptions options{.model = model,
                      .data = folder.path("data.yaml"),
                      .policy = folder.path("policy.yaml"),
                      .program = program(),
                      .tune = false,
                      .quiet = true,
                      .extent = {.quick = true}};
  std::string did;
  const auto go = [&] {
    did.clear();
    return ship(options, {.stage =
                              [&](const StageReport& s) {
                                if (s.status == StageStatus::kRunning) did += s.name.substr(0, 1);
                              },
                          .note = [](const std::string&) {}});
  };
  const ShipResult first = go();
  ASSERT_TRUE(first.road.passed) << first.road.reason;
  EXPECT_EQ(did, "oqvs");
  EXPECT_EQ(first.work, folder.path("net.ship"));
  const Report report = load_report(folder.path("net.ship/report.json"));
  EXPECT_TRUE(report.simulation.done);
  EXPECT_EQ(report.candidate.precision, "int8");
  EXPECT_EQ(report.reference.sha256, identify_model(model).sha256);
  EXPECT_EQ(report.reference.file_bytes, file_bytes(model) + file_bytes(folder.path("net.data")));
  EXPECT_EQ(report.candidate.sha256, sha256_of_file(folder.path("net.ship/quantized.onnx")));
  EXPECT_EQ(Plan::open(folder.path("net.ship/model.plan"))->choices_digest(), report.candidate.plan_digest);
  EXPECT_TRUE(go().road.passed);
  EXPECT_EQ(did, "");
  folder.write("policy.yaml",
               "accuracy: {max_drop_points: 0}\noutput: {min_cosine: 1}\n"
               "quantization: {max_accuracy_drop_points: 30}\n");
  const ShipResult strict = go();
  EXPECT_EQ(did, "v");  // quantising has the goal that it had
  EXPECT_FALSE(strict.road.passed);
  EXPECT_NE(strict.road.reason.find("report.html"), std::string::npos) << strict.road.reason;
  net.conv3[0] += 0.1f;
  save_external(net.graph(), model, "net.data");  // trained further: the same ONNX file, other data
  go();
  EXPECT_EQ(did, "oqv");
}

TEST(Ship, ContradictoryOptionsAreRefused) {
  TestFolder folder;
  labelled_by(SmallNet().graph(), folder, 20);
  const std::string model = save_model(SmallNet().graph(), folder, "net.onnx");
  const ShipObserver nobody{.stage = [](const StageReport&) {}, .note = [](const std::string&) {}};
  ShipOptions options{.model = model, .data = folder.path("data.yaml"), .candidate = model, .skip_quantize = true};
  EXPECT_NE(error_of([&] { ship(options, nobody); }).find("leave out one"), std::string::npos);
  options = {
      .model = model, .data = folder.path("data.yaml"), .strategy = QuantizeStrategy::kPtq, .skip_quantize = true};
  EXPECT_NE(error_of([&] { ship(options, nobody); }).find("--strategy"), std::string::npos);
  options = {.model = model, .data = folder.path("data.yaml"), .url = "http://127.0.0.1:1"};
  EXPECT_NE(error_of([&] { ship(options, nobody); }).find("--admin"), std::string::npos);
  options = {.model = model, .data = folder.path("data.yaml"), .repository = folder.path("r"), .name = "../x"};
  EXPECT_NE(error_of([&] { ship(options, nobody); }).find("--name"), std::string::npos);
  options = {.model = model, .data = folder.path("data.yaml"), .from = "lunch"};
  EXPECT_NE(error_of([&] { ship(options, nobody); }).find("optimize, quantize"), std::string::npos);
}

}  // namespace
}  // namespace slipway
