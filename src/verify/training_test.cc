#include "verify/training.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/replay_corpus.h"
#include "report/report.h"
#include "verify/verify_testing.h"

#define LLVMFuzzerTestOneInput fuzz_training
#include "verify/training_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

using nlohmann::json;

QatResult example() {
  QatResult r{.output = "m.onnx", .best_epoch = 1, .stopped = "all 2 <epochs> are done", .labels = true};
  r.epochs = {{.epoch = 0, .held_out_loss = 0.9, .held_out_accuracy = 0.8},
              {.epoch = 1,
               .learning_rate = 0.01,
               .loss = 0.5,
               .accuracy = 0.9,
               .held_out_loss = 0.4,
               .held_out_accuracy = 0.91,
               .seconds = 3,
               .best = true},
              {.epoch = 2,
               .learning_rate = 0.001,
               .loss = 0.4,
               .accuracy = 0.92,
               .held_out_loss = 0.41,
               .held_out_accuracy = 0.905,
               .seconds = 3}};
  r.float_accuracy = 0.92;
  r.ptq_accuracy = 0.85;
  r.accuracy = 0.915;
  r.agreement = {.samples = 100, .equal = 99, .output_step = 0.1, .disagreements = {{"x[3]", 1, 1, 2, 0.05}}};
  return r;
}

Graph trained(const std::string& text) {
  Graph graph = SmallNet().graph();
  graph.metadata["slipway.training"] = text;
  return graph;
}

std::string record() {
  return json{{"options", to_json(QatOptions{.epochs = 2, .seed = 7})}, {"result", to_json(example())}}.dump();
}

QatResult result_of(const TrainingFigures& t) { return qat_result_from_json(json::parse(t.record).at("result")); }

TEST(Training, IsReadFromTheModel) {
  const TrainingFigures t = training_of(trained(record()), 1000, 0);
  ASSERT_TRUE(t.done) << t.note;
  EXPECT_EQ(json::parse(t.record)["options"]["seed"], 7);
  const QatResult result = result_of(t);
  ASSERT_EQ(result.epochs.size(), 3u);
  EXPECT_TRUE(std::isnan(result.epochs[0].loss));
  EXPECT_EQ(result.epochs[1].held_out_accuracy, 0.91);
  EXPECT_EQ(result.agreement.disagreements.at(0).sample, "x[3]");
  EXPECT_EQ(result.float_bytes, 1000u);
  EXPECT_FALSE(training_of(SmallNet().graph()).done);
  EXPECT_EQ(training_of(SmallNet().graph()).note, "");
}

TEST(Training, DamagedRecordsGiveANote) {
  const std::string good = record();
  json many = json::parse(good), text = many, wrong = many;
  for (int i = 0; i < 6000; ++i) many["result"]["epochs"].push_back(many["result"]["epochs"][1]);
  text["result"]["stopped"] = std::string(5000, 'x');
  wrong["result"]["epochs"] = "none";
  for (const std::string& bad :
       {std::string(), std::string("{"), good.substr(0, good.size() / 2), std::string("[1, 2]"), std::string("{}"),
        std::string(100000, '['), std::string(R"({"options": 3, "result": 4})"), many.dump(), text.dump(), wrong.dump(),
        std::string(9 << 20, ' ') + good}) {
    const TrainingFigures t = training_of(trained(bad));
    EXPECT_FALSE(t.done) << bad.substr(0, 60);
    EXPECT_NE(t.note.find("can't be read"), std::string::npos) << bad.substr(0, 60);
    EXPECT_LT(t.note.size(), 1200u);
  }
}

TEST(Training, CorpusAndItsMutations) { replay_corpus("training_fuzz", fuzz_training); }

TEST(Training, TravelsInTheReport) {
  Report report;
  report.training = training_of(trained(record()));
  const json j = to_json(report);
  const Report again = report_from_json(j, "r");
  EXPECT_EQ(to_json(again), j);
  EXPECT_EQ(result_of(again.training).best_epoch, 1);
  EXPECT_TRUE(std::isnan(result_of(again.training).epochs[0].loss));
  json old = j;
  old.erase("training");
  old["policy"].erase("quantization");
  EXPECT_FALSE(report_from_json(old, "old").training.done);
  const std::string page = report_html(report);
  EXPECT_NE(page.find("all 2 \\u003cepochs> are done"), std::string::npos);
  EXPECT_EQ(page.find("<epochs>"), std::string::npos);
  report.training = training_of(trained("{"));
  EXPECT_EQ(to_json(report_from_json(to_json(report), "r")), to_json(report));
}

TEST(Training, IsAPageOfItsOwn) {
  const std::string page = training_html(training_of(trained(record())), "folder/<m>.onnx");
  for (const char* part : {"Quantisation-aware training", "&lt;m&gt;.onnx", "ended: all 2 &lt;epochs&gt; are done.<",
                           "\"page\":\"training\"", "</html>"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("<m>"), std::string::npos);
}

TEST(Training, VerificationReportsIt) {
  const TestFolder folder;
  const Graph original = SmallNet().graph(), candidate = trained(record());
  const Dataset data = labelled_by(original, folder, 100);
  VerifyOptions options = quick_options();
  options.edge_case_samples = 5;
  const Report r = verify({original, save_model(original, folder, "a.onnx")},
                          {candidate, save_model(candidate, folder, "b.onnx")}, data, patient_policy(), options);
  EXPECT_TRUE(r.training.done) << r.training.note;
  EXPECT_EQ(result_of(r.training).bytes, r.candidate.file_bytes);
}

}  // namespace
}  // namespace slipway
