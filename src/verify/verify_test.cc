#include "verify/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "quantize/quantize.h"
#include "verify/measure.h"
#include "verify/verify_testing.h"

namespace slipway {
namespace {

const Check* find_check(const Report& r, const std::string& id) {
  for (const Check& c : r.checks)
    if (c.id == id) return &c;
  return nullptr;
}

/// Verifies a candidate against SmallNet on 200 of its own labels.
struct Bench {
  TestFolder folder;
  Graph original = SmallNet().graph();
  Dataset data;
  std::string path;

  explicit Bench(int64_t count = 200, bool labels = true)
      : data(labelled_by(original, folder, count, labels)), path(save_model(original, folder, "original.onnx")) {}
  Report run(const Graph& candidate, const Policy& policy = patient_policy(),
             const VerifyOptions& options = quick_options()) const {
    return verify({original, path}, {candidate, save_model(candidate, folder, "candidate.onnx")}, data, policy,
                  options);
  }
  Graph quantized() const {
    return quantize(original, samples_of(Feed(data, original), Split::kCalibration), {}, {.samples = 64}).graph;
  }
};

TEST(Verify, TheModelItselfPasses) {
  const Bench bench;
  const Report r = bench.run(bench.original);
  EXPECT_EQ(r.verdict, Verdict::kPass) << r.reason;
  EXPECT_TRUE(r.accuracy.classifier);
  EXPECT_EQ(r.accuracy.candidate.correct, 200);
  EXPECT_EQ(r.accuracy.agreement, 1);
  EXPECT_EQ(r.accuracy.edge_cases.size(), 3u);
  EXPECT_NEAR(r.outputs.at(0).cosine_mean, 1, 1e-6);
  EXPECT_TRUE(r.layers.origin.empty());
  EXPECT_GE(r.layers.layers.size(), 4u);
  EXPECT_EQ(r.performance.throughput.size(), 3u);
  EXPECT_EQ(r.stability.extremes.size(), 10u);
  EXPECT_EQ(r.stability.variations.size(), 4u);
  EXPECT_EQ(r.reference.sha256, sha256_of_file(bench.path));
  EXPECT_EQ(r.candidate.sha256, sha256_of_file(bench.folder.path("candidate.onnx")));
  EXPECT_EQ(r.data.digest, bench.data.digest());
  EXPECT_EQ(r.policy_digest, policy_digest(patient_policy()));
  EXPECT_EQ(r.candidate.plan_digest.size(), 64u);
  EXPECT_GT(r.performance.reference.peak_bytes, 0u);
  EXPECT_EQ(to_json(report_from_json(to_json(r), "r")), to_json(r));
  ASSERT_EQ(r.probes.size(), 32u);
  ASSERT_EQ(r.probes[0].inputs.size(), 1u);
  EXPECT_EQ(r.probes[0].outputs.size(), 1u);
  EXPECT_EQ(r.probes[0].inputs[0].substr(0, 8), "k05VTVBZ");  // "\x93NUMPY" in base64
  EXPECT_EQ(r.probes[0].inputs[0].size() % 4, 0u);
}

TEST(Verify, QuantisedModelIsComparedLayerByLayer) {
  const Bench bench;
  const Report r = bench.run(bench.quantized());
  EXPECT_EQ(r.candidate.precision, "int8");
  int64_t integer = 0;
  for (const LayerDistance& layer : r.layers.layers) {
    integer += layer.integer;
    EXPECT_GT(layer.sqnr_db, 15) << layer.layer << " " << layer.value;
  }
  EXPECT_GE(integer, 2) << r.layers.layers.size();
  EXPECT_NE(find_check(r, "output.cosine")->verdict, Verdict::kFail) << r.reason;
  EXPECT_FALSE(r.stability.saturation.empty());
  EXPECT_TRUE(r.stability.variations.at(0).candidate_equal);
}

TEST(Verify, ACorruptedLayerIsNamed) {
  const Bench bench;
  SmallNet spoiled;
  for (float& w : spoiled.conv2) w = -w;
  const Report r = bench.run(spoiled.graph());
  EXPECT_EQ(r.verdict, Verdict::kFail);
  EXPECT_EQ(r.layers.origin, "conv2") << r.layers.worst;
  EXPECT_NE(r.reason.find("conv2"), std::string::npos) << r.reason;
  EXPECT_EQ(find_check(r, "output.cosine")->verdict, Verdict::kFail);
}

TEST(Verify, ACorruptedLayerOfAQuantisedModelIsNamed) {
  const Bench bench;
  Graph candidate = bench.quantized();
  for (ValueId id = 0; id < candidate.value_limit(); ++id) {
    const Value& v = candidate.value(id);
    if (!v.alive || !v.is_constant() || v.name.find("conv2_w") == std::string::npos || v.dtype != DType::kInt8 ||
        v.shape.rank() != 4)
      continue;
    Tensor codes = *v.constant;
    for (int8_t& w : codes.mutable_values<int8_t>()) w = static_cast<int8_t>(-w);
    candidate.set_constant(id, codes);
  }
  const Report r = bench.run(candidate);
  EXPECT_EQ(r.verdict, Verdict::kFail);
  EXPECT_EQ(r.layers.origin, "conv2") << r.layers.worst;
}

TEST(Verify, NaNWeightsFailAndAreLocated) {
  const Bench bench;
  SmallNet spoiled;
  spoiled.conv3[5] = NAN;
  const Report r = bench.run(spoiled.graph());
  EXPECT_EQ(r.verdict, Verdict::kFail);
  EXPECT_EQ(find_check(r, "model.weights")->verdict, Verdict::kFail);
  EXPECT_NE(r.reason.find("1 weights of the candidate are NaN or infinite, first in 'conv3_w' of Conv 'conv3'"),
            std::string::npos)
      << r.reason;
}

TEST(Verify, NaNOutputsFailAndAreLocated) {
  const Bench bench;
  Graph candidate = bench.original;
  const ValueId offset = candidate.add_constant("offset", Tensor::of<float>({1}, {-1000.0f}));
  const ValueId low =
      candidate.add_node({.op_type = "Add", .name = "lower", .inputs = {candidate.outputs()[0], offset}}, "lowered");
  candidate.set_output(0, candidate.add_node({.op_type = "Log", .name = "log", .inputs = {low}}, "logged"));
  infer_shapes(candidate);
  const Report r = bench.run(candidate);
  EXPECT_EQ(r.verdict, Verdict::kFail);
  EXPECT_EQ(find_check(r, "output.finite")->verdict, Verdict::kFail);
  EXPECT_EQ(find_check(r, "output.cosine")->verdict, Verdict::kFail);
  EXPECT_EQ(find_check(r, "stability.extremes")->verdict, Verdict::kFail);
  EXPECT_NE(find_check(r, "stability.extremes")->sentence.find("layer log"), std::string::npos) << r.reason;
  EXPECT_TRUE(std::isnan(r.outputs[0].cosine_mean));
  EXPECT_EQ(to_json(report_from_json(to_json(r), "r")), to_json(r));
}

/// Log of the scores' distance from a threshold: NaN on one side of it.
Graph with_nan(const Graph& graph, bool above) {
  Graph g = graph;
  const ValueId threshold = g.add_constant("threshold", Tensor::of<float>({1}, {0.05f}));
  const ValueId scores = g.outputs()[0];
  const ValueId difference =
      g.add_node({.op_type = "Sub",
                  .name = "difference",
                  .inputs = above ? std::vector<ValueId>{threshold, scores} : std::vector<ValueId>{scores, threshold}},
                 "difference");
  g.set_output(0, g.add_node({.op_type = "Log", .name = "log", .inputs = {difference}}, "logged"));
  infer_shapes(g);
  return g;
}

TEST(Verify, NaNInTheSamePlacesIsSaidAndInOthersFails) {
  Bench bench(120);
  const Graph original = with_nan(bench.original, false);
  const std::string path = save_model(original, bench.folder, "nan.onnx");
  const auto run = [&](const Graph& candidate) {
    return verify({original, path}, {candidate, save_model(candidate, bench.folder, "candidate.onnx")}, bench.data,
                  patient_policy(), quick_options());
  };
  const Report same = run(original);
  ASSERT_GT(same.outputs[0].reference_nonfinite, 0);
  EXPECT_EQ(same.outputs[0].new_nonfinite, 0);
  EXPECT_NEAR(same.outputs[0].cosine_mean, 1, 1e-6);
  EXPECT_EQ(find_check(same, "output.finite")->verdict, Verdict::kPass);
  EXPECT_NE(find_check(same, "output.finite")->sentence.find("in the original too"), std::string::npos);
  const Report other = run(with_nan(bench.original, true));
  EXPECT_GT(other.outputs[0].new_nonfinite, 0);
  EXPECT_GT(other.outputs[0].lost_nonfinite, 0);
  EXPECT_EQ(find_check(other, "output.finite")->verdict, Verdict::kFail);
  EXPECT_EQ(find_check(other, "output.cosine")->verdict, Verdict::kFail);
}

TEST(Verify, AModelThatOnlyGuessesIsRefusedThoughTheCandidateEqualsIt) {
  const Bench bench;
  SmallNet stranger;
  stranger.conv1 = SmallNet::random(stranger.conv1.size(), 71);
  stranger.conv2 = SmallNet::random(stranger.conv2.size(), 72);
  stranger.conv3 = SmallNet::random(stranger.conv3.size(), 73);
  const Graph guess = stranger.graph();
  const std::string path = save_model(guess, bench.folder, "guess.onnx");
  const Report r = verify({guess, path}, {guess, path}, bench.data, patient_policy(), quick_options());
  EXPECT_EQ(r.accuracy.drop_points, 0);
  EXPECT_EQ(find_check(r, "accuracy.chance")->verdict, Verdict::kFail) << r.accuracy.candidate.accuracy;
  const auto warns = [&](const char* who) {
    return std::any_of(r.data.warnings.begin(), r.data.warnings.end(), [&](const std::string& w) {
      return w.find(who) != std::string::npos && w.find("near chance") != std::string::npos;
    });
  };
  EXPECT_TRUE(warns("original"));
  EXPECT_TRUE(warns("candidate"));
}

TEST(Verify, TokenIdsAreNotSpoiled) {
  TestFolder folder;
  Graph g;
  g.opsets[""] = 13;
  const ValueId ids = g.add_input("ids", DType::kInt64, Shape({Dim("N"), Dim(5)}));
  const ValueId table = g.add_constant("table", Tensor::of<float>({7, 3}, SmallNet::random(21, 5)));
  const ValueId rows = g.add_node({.op_type = "Gather", .name = "embed", .inputs = {table, ids}}, "rows");
  g.add_output(g.add_node({.op_type = "ReduceMean",
                           .name = "mean",
                           .inputs = {rows},
                           .attributes = {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{0}}}},
                          "scores"));
  infer_shapes(g);
  Random random(3);
  std::vector<int64_t> words(60 * 5), labels(60);
  for (int64_t& w : words) w = static_cast<int64_t>(random.below(7));
  for (int64_t& l : labels) l = static_cast<int64_t>(random.below(3));
  write_npy(folder.path("x.npy"), Tensor::of<int64_t>({60, 5}, words));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({60}, labels));
  const Dataset data = Dataset::open(
      folder.write("data.yaml", "format: npy\ntest: {images: x.npy, labels: y.npy}\npreprocess: {dtype: i64}\n"));
  EXPECT_FALSE(data.is_continuous());
  const std::string path = save_model(g, folder, "ids.onnx");
  const Report r = verify({g, path}, {g, path}, data, patient_policy(), quick_options());
  EXPECT_TRUE(r.accuracy.classifier);
  EXPECT_TRUE(r.accuracy.edge_cases.empty());
  EXPECT_EQ(find_check(r, "engine.steps")->verdict, Verdict::kPass) << find_check(r, "engine.steps")->sentence;
  for (const EngineRun& run : r.engine.candidate) EXPECT_EQ(run.input.find("NaN"), std::string::npos) << run.input;
}

// Ids and a mask of different lengths, and a state that is the same for all: mean of the embedded ids under the mask.
TEST(Verify, SeveralInputsOfDifferentLengths) {
  TestFolder folder;
  Random random(3);
  Graph g = parse_text(R"(graph "text" ir 8 opset {"": 17} {
  input %ids : i64[N,T]
  input %state : f32[N,8]
  input %mask : i64[N,T]
  input %table : f32[16,8]
  input %weight : f32[8,4]
  const %last : i64[1] = {2}
  const %second : i64[1] = {1}
  %rows = Gather(%table, %ids)
  %kept = Cast(%mask) {to = 1}
  %wide = Unsqueeze(%kept, %last)
  %masked = Mul(%rows, %wide)
  %sum = ReduceSum(%masked, %second) {keepdims = 0}
  %sized = Add(%sum, %state)
  %act = Relu(%sized)
  %scores = MatMul(%act, %weight)
  output %scores
})");
  for (const char* name : {"table", "weight"}) {
    const ValueId id = g.find(name);
    const Dims dims = g.value(id).shape.to_dims();
    const std::vector<float> values = SmallNet::random(static_cast<size_t>(element_count(dims)), 4);
    g.replace_uses(id, g.add_constant(std::string(name) + "_constant", Tensor::of<float>(dims, values)));
    g.erase_value(id);
  }
  infer_shapes(g);
  make_folders(folder.path("ids"));
  make_folders(folder.path("mask"));
  std::string labels = "file,label\n";
  Executor teacher(g);
  for (int64_t i = 0; i < 90; ++i) {
    const auto length = static_cast<int64_t>(2 + random.below(3));
    std::vector<int32_t> ids(static_cast<size_t>(length));
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(16));
    const Tensor sample = Tensor::of<int32_t>({length}, ids);
    std::vector<int64_t> ones(static_cast<size_t>(length), 1);
    ones.back() = static_cast<int64_t>(random.below(2));
    const Tensor mask = Tensor::of<int64_t>({length}, ones);
    write_npy(folder.path(fmt::format("ids/{:03}.npy", i)), sample);
    write_npy(folder.path(fmt::format("mask/{:03}.npy", i)), mask);
    const Tensor scores = teacher.run(std::vector<Tensor>{cast(sample, DType::kInt64).reshaped({1, length}),
                                                          Tensor::of<float>({1, 8}, std::vector<float>(8, 0.25f)),
                                                          mask.reshaped({1, length})})[0];
    labels += fmt::format("{:03}.npy,{}\n", i, argmax(to_floats(scores)));
  }
  folder.write("labels.csv", labels);
  const Dataset data = Dataset::open(folder.write("data.yaml", R"(format: folder
samples: arrays
inputs: {ids: {folder: ids, labels: labels.csv}, mask: mask, state: {constant: 0.25}}
calibration: {count: 30}
test: {}
)"));
  const Graph quantized = quantize(g, samples_of(Feed(data, g), Split::kCalibration)).graph;
  const Report r = verify({g, save_model(g, folder, "a.onnx")}, {quantized, save_model(quantized, folder, "b.onnx")},
                          data, patient_policy(), quick_options());
  EXPECT_EQ(r.accuracy.reference.correct, 60) << "the labels are the model's own";
  EXPECT_GT(r.accuracy.agreement, 0.8);
  EXPECT_EQ(r.candidate.precision, "int8");
  ASSERT_EQ(r.data.ranges.size(), 3u);
  EXPECT_EQ(r.data.ranges[0].maximum, 15);
  EXPECT_EQ(r.data.ranges[1].minimum, 0.25);
  EXPECT_EQ(r.data.ranges[2].minimum, 0);
  EXPECT_TRUE(r.accuracy.edge_cases.empty()) << "neither ids nor masks nor constants are spoiled";
  for (const char* id : {"engine.steps", "engine.outputs"})
    EXPECT_EQ(find_check(r, id)->verdict, Verdict::kPass) << find_check(r, id)->sentence;
  ASSERT_FALSE(r.probes.empty());
  EXPECT_EQ(r.probes[0].inputs.size(), 3u);
  const Graph renamed = parse_text(R"(graph "r" ir 8 opset {"": 17} {
  input %ids : i64[N,T]
  input %state : f32[N,8]
  input %other : i64[N,T]
  output %state
})");
  const std::string refusal = error_of([&] {
    verify({g, folder.path("a.onnx")}, {renamed, save_model(renamed, folder, "c.onnx")}, data, patient_policy(),
           quick_options());
  });
  EXPECT_NE(refusal.find("inputs do not correspond"), std::string::npos) << refusal;
}

// What it finds has as many rows as there are: no single plan, and another number where quantising tips the balance.
TEST(Verify, AModelThatIsNoSinglePlan) {
  const Bench bench(64);
  const auto with_finds = [](Graph g) {
    const ValueId zero = g.add_constant("threshold", Tensor::scalar(0.3f));
    const ValueId above =
        g.add_node({.op_type = "Greater", .name = "above", .inputs = {g.find("scores"), zero}}, "above");
    g.add_output(g.add_node({.op_type = "NonZero", .name = "find", .inputs = {above}}, "found"));
    infer_shapes(g);
    return g;
  };
  const Graph original = with_finds(bench.original), candidate = with_finds(bench.quantized());
  const std::string path = save_model(original, bench.folder, "finds.onnx");
  const Report r = verify({original, path}, {candidate, save_model(candidate, bench.folder, "finds.int8.onnx")},
                          bench.data, patient_policy(), quick_options());
  EXPECT_FALSE(r.engine.steps);
  EXPECT_EQ(find_check(r, "engine.steps"), nullptr) << "no steps were seen, so nothing is said of them";
  EXPECT_EQ(find_check(r, "engine.outputs")->verdict, Verdict::kPass) << find_check(r, "engine.outputs")->sentence;
  EXPECT_EQ(r.accuracy.reference.correct, 64);
  EXPECT_GT(r.outputs.at(0).cosine_mean, 0.98);
  EXPECT_GT(r.performance.reference.warm.runs, 0);
  EXPECT_EQ(r.stability.extremes.size(), 10u);
  EXPECT_EQ(r.candidate.plan_digest.size(), 64u);
  EXPECT_EQ(r.probes.size(), 32u);
  EXPECT_EQ(r.probes[0].outputs.size(), 2u);
}

TEST(Verify, QuickOverridesNothingThatWasAskedFor) {
  Policy policy;
  const VerifyOptions plain = verify_options({}, policy), quick = verify_options({.quick = true}, policy);
  EXPECT_EQ(plain.max_samples, -1);
  EXPECT_EQ(plain.edge_case_samples, 1000);
  EXPECT_EQ(plain.seconds, 4);
  EXPECT_EQ(quick.max_samples, 1000);
  EXPECT_EQ(quick.edge_case_samples, 200);
  EXPECT_EQ(quick.seconds, 1);
  const VerifyOptions asked =
      verify_options({.quick = true, .samples = 5000, .edge_case_samples = 700, .seconds = 9}, policy);
  EXPECT_EQ(asked.max_samples, 5000);
  EXPECT_EQ(asked.edge_case_samples, 700);
  EXPECT_EQ(asked.seconds, 9);
  policy.accuracy.min_samples = 3000;
  EXPECT_EQ(verify_options({.quick = true}, policy).max_samples, 3000);
}

TEST(Verify, AsManyRoundsAsThePolicyWants) {
  const Bench bench(20);
  Policy policy = patient_policy();
  policy.performance.min_rounds = 50;
  VerifyOptions options = quick_options();
  options.seconds = 1;  // of which a busy machine takes up to four times as many before it ends the rounds
  EXPECT_EQ(bench.run(bench.original, policy, options).performance.rounds, 50);
}

TEST(Verify, WithoutLabelsDistancesDecide) {
  const Bench bench(120, false);
  SmallNet spoiled;
  for (float& w : spoiled.conv1) w *= -1;
  const Report r = bench.run(spoiled.graph());
  EXPECT_FALSE(r.accuracy.classifier);
  EXPECT_NE(r.accuracy.note.find("no labels"), std::string::npos);
  EXPECT_EQ(find_check(r, "accuracy.drop"), nullptr);
  EXPECT_EQ(r.verdict, Verdict::kFail);
  EXPECT_EQ(r.layers.origin, "conv1");
}

TEST(Verify, AnOutputThatIsNoListOfScoresIsNotAClassifier) {
  TestFolder folder;
  const Dataset data = labelled_by(SmallNet().graph(), folder, 40);
  const auto image_to_image = [](float w) {
    Graph g;
    g.opsets[""] = 13;
    const ValueId x = g.add_input("image", DType::kFloat32, Shape({Dim("N"), Dim(1), Dim(8), Dim(8)}));
    const ValueId k = g.add_constant("k", Tensor::of<float>({1, 1, 1, 1}, {w}));
    g.add_output(g.add_node({.op_type = "Conv", .name = "filter", .inputs = {x, k}}, "filtered"));
    infer_shapes(g);
    return g;
  };
  const Graph a = image_to_image(2.0f), b = image_to_image(2.02f);
  Policy policy = patient_policy();
  policy.output.max_mse = 1e-6;
  const Report r =
      verify({a, save_model(a, folder, "a.onnx")}, {b, save_model(b, folder, "b.onnx")}, data, policy, quick_options());
  EXPECT_FALSE(r.accuracy.classifier);
  EXPECT_NE(r.accuracy.note.find("no classifier"), std::string::npos);
  EXPECT_EQ(r.outputs.at(0).kl_of, "histograms");
  EXPECT_EQ(find_check(r, "output.cosine")->verdict, Verdict::kPass);
  EXPECT_EQ(find_check(r, "output.mse")->verdict, Verdict::kFail);
}

TEST(Verify, MismatchesAreRefusedInOneSentence) {
  const Bench bench(20);
  Graph other;
  other.opsets[""] = 13;
  const ValueId x = other.add_input("picture", DType::kFloat32, Shape({Dim("N"), Dim(3), Dim(32), Dim(32)}));
  other.add_output(other.add_node({.op_type = "Flatten", .name = "f", .inputs = {x}}, "out"));
  infer_shapes(other);
  const std::string shape = error_of([&] { bench.run(other); });
  for (const char* part : {"[1,8,8]", "[N,3,32,32]", "data.yaml"})
    EXPECT_NE(shape.find(part), std::string::npos) << shape;

  Graph carrying = bench.original;
  Preprocess how = bench.data.preprocess();
  how.mean = {0.5};
  store_preprocess(carrying, how, {});
  EXPECT_NE(error_of([&] { bench.run(carrying); }).find("mean"), std::string::npos);

  Graph narrow = SmallNet().graph();
  narrow.clear_outputs();
  narrow.add_output(narrow.find("pooled"));
  EXPECT_NE(error_of([&] { bench.run(narrow); }).find("do not correspond"), std::string::npos);
  EXPECT_NE(error_of([&] { bench.run(bench.original, {}, {.max_samples = 0}); }).find("positive"), std::string::npos);
}

TEST(Measure, ErrorsAndDeathComeBackFromTheChild) {
  ChildProcess child("model.onnx", [](const nlohmann::json& request) -> nlohmann::json {
    if (request == 1) fail(ErrorCode::kUnsupported, "no such thing");
    if (request == 2) std::_Exit(9);
    return request;
  });
  EXPECT_EQ(child.ask("echo"), "echo");
  try {
    child.ask(1);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_STREQ(e.what(), "no such thing");
  }
  EXPECT_NE(error_of([&] { child.ask(2); }).find("model.onnx"), std::string::npos);
}

TEST(Measure, TwoPlansSideBySideWithTwoThreads) {
  TestFolder folder;
  const Graph graph = SmallNet().graph();
  Graph bound = graph;
  bind_batch(bound, 1);
  EXPECT_GT(build_plan_file([&] { return graph; }, {.threads = 2}, random_inputs(bound), folder.path("a.plan"), "a"),
            0);
  MeasuredPlan a(folder.path("a.plan"), "a"), b(folder.path("a.plan"), "b");
  for (MeasuredPlan* plan : {&a, &b, &a}) {
    const auto round = plan->run(0, 5);
    EXPECT_EQ(round.times_ms.size(), 5u);
    EXPECT_GT(round.peak_over_start_bytes, 0u);
    EXPECT_LT(round.peak_over_start_bytes, round.peak_bytes);
  }
  EXPECT_EQ(a.opened().precision, "fp32");
}

}  // namespace
}  // namespace slipway
