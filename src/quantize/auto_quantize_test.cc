#include "quantize/auto_quantize.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "data/npy.h"
#include "data/test_folder.h"
#include "model/onnx/onnx.h"
#include "quantize/predict.h"
#include "quantize/ptq/quantize_testing.h"

namespace slipway {
namespace {

Graph classifier(const char* row) {
  return graph_of(std::string("const %w : f32[4,3] = {") + row + R"(}
  input %image : f32[N,1,2,2]
  %flat = Flatten(%image)
  %scores = MatMul(%flat, %w)
  output %scores)");
}
Graph good() { return classifier("1, 0, 0, 0, 1, 0, 0, 0, 1, 0.3, 0.2, 0.1"); }
Graph bad() { return classifier("-1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0"); }

/// A classifier that its own labels call perfect, and a trainer that writes what a test wants.
struct Workshop {
  TestFolder folder;
  std::string model = folder.path("model.onnx"), output = folder.path("out.onnx");
  Dataset data;
  int trainings = 0;
  double minutes = -1;
  int64_t best_epoch = 1;
  std::string heard;

  explicit Workshop(bool labels = true) : data(open(folder, labels)) { save_onnx(good(), model); }

  static Dataset open(const TestFolder& folder, bool labels) {
    constexpr int64_t kCount = 100;
    Random source(3);
    std::vector<uint8_t> pixels(kCount * 4);
    for (uint8_t& p : pixels) p = static_cast<uint8_t>(source.below(256));
    for (const char* name : {"x.npy", "c.npy"})
      write_npy(folder.path(name), Tensor::of<uint8_t>({kCount, 2, 2}, pixels));
    const std::string common = "}\ncalibration: {images: c.npy}\npreprocess: {color: gray, scale: 1/255}\n";
    const std::string plain = folder.write("plain.yaml", "format: npy\ntest: {images: x.npy" + common);
    write_npy(folder.path("y.npy"),
              Tensor::of<int64_t>({kCount}, predict(good(), Dataset::open(plain), {.quiet = true}).classes));
    return Dataset::open(labels ? folder.write("data.yaml", "format: npy\ntest: {images: x.npy, labels: y.npy" + common)
                                : plain);
  }

  AutoQuantizeOptions options(const Graph& trained, QuantizationGoal goal) {
    AutoQuantizeOptions o{.goal = goal, .can_train = true};
    o.qat.quiet = true;
    o.on_sentence = [this](const std::string& sentence) { heard += sentence + "\n"; };
    o.train = [this, trained](const QatFiles& files, const QatOptions& qat, const auto&) {
      ++trainings;
      minutes = qat.time_budget_minutes;
      EXPECT_EQ(qat.checkpoint, output + ".checkpoint");
      save_onnx(trained, files.output);
      const double accuracy = top1_accuracy(predict(trained, data, {.quiet = true}));
      return QatResult{.best_epoch = best_epoch,
                       .labels = true,
                       .test_samples = 100,
                       .float_accuracy = 1,
                       .ptq_accuracy = 0.9,
                       .accuracy = accuracy};
    };
    return o;
  }
  AutoQuantizeResult run(const AutoQuantizeOptions& o) {
    AutoQuantizeResult result = auto_quantize(model, data, output, o);
    EXPECT_TRUE(file_exists(output));
    EXPECT_FALSE(file_exists(output + ".ptq") || file_exists(output + ".qat"));
    return result;
  }
  bool wrote_quantized() const { return load_onnx(output).metadata.contains("slipway.quantization"); }
};

TEST(AutoQuantize, PtqThatMeetsTheGoalIsAllThereIs) {
  Workshop shop;
  const AutoQuantizeResult r = shop.run(shop.options(good(), {.max_accuracy_drop_points = 50}));
  EXPECT_EQ(r.kept, QuantizeStrategy::kPtq);
  EXPECT_TRUE(r.met);
  EXPECT_EQ(shop.trainings, 0);
  EXPECT_EQ(r.float_accuracy, 1);
  EXPECT_GT(r.ptq_accuracy, 0.8);
  EXPECT_EQ(r.test_samples, 100);
  EXPECT_GT(r.quantized_nodes, 0);
  ASSERT_EQ(r.why.size(), 2u);
  EXPECT_NE(r.why[1].find("less than the 50 allowed: it is kept"), std::string::npos) << r.why[1];
  EXPECT_EQ(shop.heard, r.why[0] + "\n" + r.why[1] + "\n");
  EXPECT_TRUE(shop.wrote_quantized());
  Preprocess carried;
  std::vector<std::string> labels;
  EXPECT_TRUE(load_preprocess(load_onnx(shop.output), carried, labels));
}

// Less than 0 points can be lost by none, so that every judgement falls short.
TEST(AutoQuantize, TrainsWherePtqFallsShortAndKeepsTheBetter) {
  Workshop shop;
  const AutoQuantizeResult kept = shop.run(shop.options(good(), {.max_accuracy_drop_points = 0}));
  EXPECT_EQ(shop.trainings, 1);
  EXPECT_EQ(kept.kept, QuantizeStrategy::kPtq);  // as good, and simpler
  EXPECT_FALSE(kept.met);
  EXPECT_EQ(kept.qat_accuracy, 1);
  EXPECT_EQ(kept.ptq_accuracy, 1);
  EXPECT_TRUE(shop.wrote_quantized());
  EXPECT_NE(kept.why.back().find("Neither meets the goal: PTQ is kept"), std::string::npos) << kept.why.back();
  const AutoQuantizeResult worse = shop.run(shop.options(bad(), {.max_accuracy_drop_points = 0}));
  EXPECT_EQ(worse.kept, QuantizeStrategy::kPtq);
  EXPECT_LT(worse.qat_accuracy, 0.5);
  EXPECT_TRUE(shop.wrote_quantized());
  EXPECT_NE(worse.why.back().find("the better one, PTQ"), std::string::npos) << worse.why.back();
  Workshop poor;
  save_onnx(bad(), poor.model);
  const AutoQuantizeResult won = poor.run(poor.options(good(), {.max_accuracy_drop_points = -1}));
  EXPECT_EQ(won.kept, QuantizeStrategy::kQat);
  EXPECT_TRUE(won.met);
  EXPECT_FALSE(poor.wrote_quantized());
  shop.best_epoch = 0;
  const AutoQuantizeResult vain = shop.run(shop.options(good(), {.max_accuracy_drop_points = 0}));
  EXPECT_NE(vain.why.back().find("No epoch of training was better"), std::string::npos) << vain.why.back();
}

TEST(AutoQuantize, TrainsAtOnceWhereTheRuleSaysSo) {
  Workshop shop;
  const AutoQuantizeResult r = shop.run(shop.options(good(), {.time_budget_minutes = 30, .accuracy_critical = true}));
  EXPECT_EQ(r.kept, QuantizeStrategy::kQat);
  EXPECT_TRUE(r.met);
  EXPECT_EQ(r.ptq_accuracy, 0.9);
  EXPECT_EQ(shop.minutes, 30);
  const AutoQuantizeResult worse = shop.run(shop.options(bad(), {.accuracy_critical = true}));
  EXPECT_EQ(worse.kept, QuantizeStrategy::kPtq);
  EXPECT_FALSE(worse.met);
  EXPECT_TRUE(shop.wrote_quantized());
}

TEST(AutoQuantize, SaysWhatABuildWithoutTrainingLacks) {
  Workshop shop;
  AutoQuantizeOptions o = shop.options(good(), {.max_accuracy_drop_points = 0});
  o.can_train = false;
  const AutoQuantizeResult r = shop.run(o);
  EXPECT_EQ(r.kept, QuantizeStrategy::kPtq);
  EXPECT_FALSE(r.met);
  EXPECT_NE(r.why.back().find("QAT would be next"), std::string::npos) << r.why.back();
  o.goal.accuracy_critical = true;
  const std::string refusal = error_of([&] { auto_quantize(shop.model, shop.data, shop.output, o); });
  EXPECT_NE(refusal.find("--strategy ptq"), std::string::npos) << refusal;
  EXPECT_EQ(shop.trainings, 0);
}

TEST(AutoQuantize, WhatCannotBeTrainedKeepsPtq) {
  Workshop shop;
  AutoQuantizeOptions o = shop.options(good(), {.max_accuracy_drop_points = 0});
  o.train = [](const auto&, const auto&, const auto&) -> QatResult {
    fail(ErrorCode::kUnsupported, "An operator has no gradient: Foo 'bar'");
  };
  const AutoQuantizeResult r = shop.run(o);
  EXPECT_EQ(r.kept, QuantizeStrategy::kPtq);
  EXPECT_NE(r.why.back().find("Foo 'bar'"), std::string::npos) << r.why.back();
  o.train = [](const auto&, const auto&, const auto&) -> QatResult { fail(ErrorCode::kIo, "The disk is full"); };
  EXPECT_THROW(auto_quantize(shop.model, shop.data, shop.output, o), Error);
  EXPECT_FALSE(file_exists(shop.output + ".ptq"));
}

TEST(AutoQuantize, WithoutLabelsAgreementIsJudged) {
  Workshop shop(false);
  const AutoQuantizeResult r = shop.run(shop.options(good(), {.max_accuracy_drop_points = 50}));
  EXPECT_FALSE(r.labels);
  EXPECT_EQ(r.float_accuracy, 1);
  EXPECT_GT(r.ptq_accuracy, 0.8);
  EXPECT_NE(r.why.back().find("without labels"), std::string::npos) << r.why.back();
}

TEST(AutoQuantize, PtqByNameIsNotJudged) {
  Workshop shop;
  AutoQuantizeOptions o = shop.options(good(), {});
  o.strategy = QuantizeStrategy::kPtq;
  const AutoQuantizeResult r = shop.run(o);
  EXPECT_TRUE(std::isnan(r.ptq_accuracy));
  EXPECT_TRUE(r.why.empty());
}

TEST(Predict, AFixedBatchIsFilledUp) {
  Workshop shop;
  Graph fixed = graph_of(R"(
  const %w : f32[4,3] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0.3, 0.2, 0.1}
  input %image : f32[32,1,2,2]
  %flat = Flatten(%image)
  %scores = MatMul(%flat, %w)
  output %scores)");
  const Predictions p = predict(fixed, shop.data, {.quiet = true});
  EXPECT_EQ(p.classes.size(), 100u);
  EXPECT_EQ(top1_accuracy(p), 1);
  const Predictions some = predict(good(), shop.data, {.samples = 30, .quiet = true});
  EXPECT_EQ(some.classes.size(), 30u);
  EXPECT_EQ(some.classes[1], p.classes[3]);
}

}  // namespace
}  // namespace slipway
