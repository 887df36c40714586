#include "verify/checks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/test_folder.h"

namespace slipway {
namespace {

/// Figures that pass the default policy.
Report good_report() {
  Report r;
  r.accuracy.classifier = true;
  r.accuracy.samples = 1000;
  r.accuracy.reference.accuracy = 0.95;
  r.accuracy.candidate.accuracy = 0.947;
  r.accuracy.candidate.correct = 947;
  r.accuracy.reference.chance = r.accuracy.candidate.chance = 0.5;
  r.accuracy.reference.chance_p = r.accuracy.candidate.chance_p = 1e-9;
  r.accuracy.drop_points = 0.3;
  r.accuracy.rows = {{.index = 0, .support = 900, .name = "cat", .reference_recall = 0.95, .candidate_recall = 0.95},
                     {.index = 1,
                      .support = 100,
                      .name = "dog",
                      .minority = true,
                      .reference_recall = 0.9,
                      .candidate_recall = 0.88,
                      .mcnemar_p = 0.6}};
  r.outputs = {{.name = "scores", .cosine_mean = 0.999, .cosine_min = 0.99, .worst_sample = "x[3]"}};
  r.layers.layers = {{.layer = "conv1", .cosine = 0.999, .sqnr_db = 30},
                     {.layer = "conv2", .cosine = 0.5, .sqnr_db = 2}};
  r.layers.worst = "conv2";
  r.layers.worst_cosine = 0.5;
  r.layers.origin = "conv2";
  r.performance.rounds = 40;
  r.performance.ratio = 0.5;
  r.performance.ratio_low = 0.45;
  r.performance.ratio_high = 0.55;
  r.performance.reference.peak_bytes = 100 << 20;
  r.performance.candidate.peak_bytes = 40 << 20;
  r.stability.variations = {{.what = "run again"}};
  r.stability.extremes = {{.name = "zeros", .judged = true}};
  r.engine = {
      .done = true,
      .samples = 1,
      .reference = {{.input = "sample x[0]",
                     .step_error = 1e-7,
                     .output_error = 1e-6,
                     .output_bound = 1e-3,
                     .output = "scores"}},
      .candidate = {
          {.input = "sample x[0]", .step_error = 0, .output_error = 0.01, .output_bound = 0.03, .output = "scores"}}};
  return r;
}

const Check& check(const Report& r, const std::string& id) {
  for (const Check& c : r.checks)
    if (c.id == id) return c;
  ADD_FAILURE() << "no check " << id;
  return r.checks.front();
}

struct Judged {
  Verdict verdict;
  std::string reason;
};

template <typename Change>
Judged judged(const char* id, const Change& change) {
  Report r = good_report();
  change(r);
  judge(r);
  EXPECT_EQ(check(r, id).verdict, r.verdict) << r.reason;
  return {r.verdict, r.reason};
}

TEST(Checks, GoodFiguresPass) {
  Report r = good_report();
  judge(r);
  EXPECT_EQ(r.verdict, Verdict::kPass) << r.reason;
  EXPECT_NE(check(r, "accuracy.classes").sentence.find("Fewest samples: dog"), std::string::npos);
}

TEST(Checks, AccuracyDropNamesTheLayer) {
  const Judged j = judged("accuracy.drop", [](Report& r) { r.accuracy.drop_points = 1.0; });
  EXPECT_EQ(j.verdict, Verdict::kFail);
  EXPECT_NE(j.reason.find("conv2, cosine 0.5"), std::string::npos) << j.reason;
  EXPECT_EQ(judged("accuracy.drop", [](Report& r) { r.accuracy.drop_points = 0.99; }).verdict, Verdict::kPass);
  EXPECT_EQ(judged("accuracy.drop", [](Report& r) { r.accuracy.drop_points = NAN; }).verdict, Verdict::kFail);
  EXPECT_EQ(judged("accuracy.drop", [](Report& r) { r.accuracy.samples = 20; }).verdict, Verdict::kInconclusive);
  EXPECT_EQ(judged("accuracy.drop",
                   [](Report& r) {
                     r.policy.accuracy.max_drop_points = 0;
                     r.accuracy.drop_points = 0;
                   })
                .verdict,
            Verdict::kPass);
}

TEST(Checks, ClassLossCountsOnlyWhereSignificant) {
  const auto lose = [](double p) {
    return [p](Report& r) {
      r.accuracy.rows[1].candidate_recall = 0.7;
      r.accuracy.rows[1].mcnemar_p = p;
    };
  };
  EXPECT_EQ(judged("accuracy.classes", lose(0.001)).verdict, Verdict::kFail);
  EXPECT_NE(judged("accuracy.classes", lose(0.001)).reason.find("dog"), std::string::npos);
  EXPECT_EQ(judged("accuracy.classes", lose(0.2)).verdict, Verdict::kPass);
}

TEST(Checks, EdgeCaseLoss) {
  const Judged j = judged("accuracy.edge_cases", [](Report& r) {
    r.accuracy.edge_cases = {{.name = "dark", .drop_points = 9, .mcnemar_p = 0.001},
                             {.name = "blur", .drop_points = 1}};
  });
  EXPECT_EQ(j.verdict, Verdict::kFail);
  EXPECT_NE(j.reason.find("dark"), std::string::npos);
}

TEST(Checks, AModelThatIsNoBetterThanChanceFails) {
  for (const bool original : {false, true}) {
    const auto set = [&](double p) {
      return [=](Report& r) { (original ? r.accuracy.reference : r.accuracy.candidate).chance_p = p; };
    };
    for (const double p : {0.5, 0.01, std::nan("")}) {
      const Judged j = judged("accuracy.chance", set(p));
      EXPECT_EQ(j.verdict, Verdict::kFail) << p;
      EXPECT_NE(j.reason.find(original ? "The original" : "The candidate"), std::string::npos) << j.reason;
      EXPECT_NE(j.reason.find("label map"), std::string::npos) << j.reason;
    }
    EXPECT_EQ(judged("accuracy.chance", set(1e-4)).verdict, Verdict::kPass);
  }
  const auto hopeless = [](Report& r) { r.accuracy.candidate.chance_p = 1; };
  Report few = good_report();
  hopeless(few);
  few.accuracy.samples = 50;
  judge(few);
  EXPECT_EQ(check(few, "accuracy.chance").verdict, Verdict::kInconclusive);
  EXPECT_EQ(judged("accuracy.chance",
                   [&](Report& r) {
                     hopeless(r);
                     r.accuracy.candidate.chance_known = false;
                   })
                .verdict,
            Verdict::kInconclusive);
  Report waived = good_report();
  hopeless(waived);
  waived.policy.accuracy.require_better_than_chance = false;
  judge(waived);
  EXPECT_EQ(waived.verdict, Verdict::kPass) << waived.reason;
}

TEST(Checks, TopOneHasAFloor) {
  const auto floor = [](double percent) {
    return judged("accuracy.top1", [=](Report& r) { r.policy.accuracy.min_top1_percent = percent; }).verdict;
  };
  EXPECT_EQ(floor(94.7), Verdict::kPass);
  EXPECT_EQ(floor(94.8), Verdict::kFail);
}

TEST(Checks, ChanceWarning) {
  EXPECT_EQ(chance_warning(0.9, {0.5, 1e-9, true}), "");
  EXPECT_NE(chance_warning(0.0967, {0.1, 0.9, true}).find("near chance (9.67 % right, 10.00 % by chance)"),
            std::string::npos);
  EXPECT_NE(chance_warning(0.15, {0.1, 1e-9, true}), "") << "significant, and of no use";
  EXPECT_EQ(chance_warning(1, {1, 1, false}), "");
}

TEST(Checks, TheEngineIsSuspectedToo) {
  const auto step = [](bool candidate, double error) {
    return judged("engine.steps", [=](Report& r) {
      EngineRun& run = (candidate ? r.engine.candidate : r.engine.reference)[0];
      run.step_error = error;
      run.step = "conv7";
    });
  };
  for (const double error : {2e-4, static_cast<double>(INFINITY), std::nan("")})
    for (const bool candidate : {false, true}) {
      const Judged j = step(candidate, error);
      EXPECT_EQ(j.verdict, Verdict::kFail) << error;
      for (const char* part : {"conv7", candidate ? "candidate" : "original", "sample x[0]"})
        EXPECT_NE(j.reason.find(part), std::string::npos) << j.reason;
    }
  EXPECT_EQ(step(true, 9e-5).verdict, Verdict::kPass);
  const auto output = [](double error) {
    return judged("engine.outputs", [=](Report& r) { r.engine.candidate[0].output_error = error; }).verdict;
  };
  EXPECT_EQ(output(0.031), Verdict::kFail);
  EXPECT_EQ(output(INFINITY), Verdict::kFail);
  EXPECT_EQ(output(std::nan("")), Verdict::kFail);
  EXPECT_EQ(output(0.029), Verdict::kPass);
}

TEST(Checks, NaNWhereTheOriginalHasNoneFailsAndSharedOnesAreSaid) {
  const auto set = [](int64_t all, int64_t fresh, int64_t lost) {
    return [=](Report& r) {
      r.outputs[0].reference_nonfinite = r.outputs[0].candidate_nonfinite = all;
      r.outputs[0].new_nonfinite = fresh;
      r.outputs[0].lost_nonfinite = lost;
    };
  };
  EXPECT_EQ(judged("output.finite", set(4, 1, 1)).verdict, Verdict::kFail);
  Report shared = good_report();
  set(4, 0, 2)(shared);
  judge(shared);
  EXPECT_EQ(shared.verdict, Verdict::kPass);
  EXPECT_NE(check(shared, "output.finite").sentence.find("so in the original too"), std::string::npos);
  EXPECT_NE(check(shared, "output.finite").sentence.find("2 that are so"), std::string::npos);
}

TEST(Checks, CosineNamesTheLayerAndNaNFails) {
  for (const double cosine : {0.99, 0.2, std::nan("")}) {
    const Judged j = judged("output.cosine", [&](Report& r) { r.outputs[0].cosine_mean = cosine; });
    EXPECT_EQ(j.verdict, Verdict::kFail);
    EXPECT_NE(j.reason.find("conv2"), std::string::npos) << j.reason;
  }
}

TEST(Checks, OptionalThresholds) {
  EXPECT_EQ(judged("output.mse",
                   [](Report& r) {
                     r.policy.output.max_mse = 0.1;
                     r.outputs[0].mse = 0.2;
                   })
                .verdict,
            Verdict::kFail);
  EXPECT_EQ(judged("performance.file",
                   [](Report& r) {
                     r.policy.performance.max_file_increase_percent = -60;
                     r.reference.file_bytes = 100;
                     r.candidate.file_bytes = 45;
                   })
                .verdict,
            Verdict::kFail);
  EXPECT_EQ(judged("stability.saturation",
                   [](Report& r) {
                     r.policy.stability.max_saturated_percent = 1;
                     r.stability.saturation = {{.layer = "conv1", .elements = 100, .saturated = 2}};
                   })
                .verdict,
            Verdict::kFail);
}

TEST(Checks, LatencyFailsOnlyAboveTheIntervalAndIsOpenWhenUnsure) {
  const auto latency = [](double low, double ratio, double high, int64_t rounds) {
    return judged("performance.latency",
                  [=](Report& r) {
                    r.performance.ratio = ratio;
                    r.performance.ratio_low = low;
                    r.performance.ratio_high = high;
                    r.performance.rounds = rounds;
                  })
        .verdict;
  };
  EXPECT_EQ(latency(1.06, 1.2, 1.3, 40), Verdict::kFail);
  EXPECT_EQ(latency(1.04, 1.2, 1.3, 40), Verdict::kInconclusive);
  EXPECT_EQ(latency(0.9, 1.0, 1.3, 40), Verdict::kPass);
  EXPECT_EQ(latency(0.4, 0.5, 0.6, 5), Verdict::kInconclusive);
  EXPECT_EQ(latency(1.5, 1.6, 1.7, 5), Verdict::kInconclusive);
}

TEST(Checks, LatencyOfThreadsOnACrowdedMachineIsOpen) {
  const auto latency = [](int threads, double preemptions) {
    return judged("performance.latency",
                  [=](Report& r) {
                    r.performance.threads = threads;
                    r.performance.ratio = r.performance.ratio_low = 2;
                    r.performance.preemptions_per_s = preemptions;
                  })
        .verdict;
  };
  EXPECT_EQ(latency(2, 5), Verdict::kFail);
  EXPECT_EQ(latency(2, 200), Verdict::kInconclusive);
  EXPECT_EQ(latency(1, 200), Verdict::kFail);
}

TEST(Checks, MemoryHasSlack) {
  const auto memory = [](double reference_mib, double candidate_mib) {
    return judged("performance.memory",
                  [=](Report& r) {
                    r.performance.reference.peak_bytes = static_cast<uint64_t>(reference_mib * 1024 * 1024);
                    r.performance.candidate.peak_bytes = static_cast<uint64_t>(candidate_mib * 1024 * 1024);
                  })
        .verdict;
  };
  EXPECT_EQ(memory(100, 104), Verdict::kPass);
  EXPECT_EQ(memory(100, 106), Verdict::kFail);
  EXPECT_EQ(memory(1, 1.9), Verdict::kPass);
}

TEST(Checks, Stability) {
  EXPECT_EQ(
      judged("stability.reproducible", [](Report& r) { r.stability.variations[0].candidate_equal = false; }).verdict,
      Verdict::kFail);
  EXPECT_EQ(
      judged("stability.variation",
             [](Report& r) { r.stability.variations.push_back({.what = "2 threads", .candidate_relative = 0.1}); })
          .verdict,
      Verdict::kFail);
  const auto extreme = [](bool is_judged, int64_t reference_nan) {
    return judged("stability.extremes", [=](Report& r) {
      r.stability.extremes[0].judged = is_judged;
      r.stability.extremes[0].reference.output_nan = reference_nan;
      r.stability.extremes[0].candidate = {.output_nan = 3, .first_nonfinite = "conv1"};
    });
  };
  EXPECT_EQ(extreme(true, 0).verdict, Verdict::kFail);
  EXPECT_NE(extreme(true, 0).reason.find("conv1"), std::string::npos);
  EXPECT_EQ(extreme(false, 0).verdict, Verdict::kPass);
  EXPECT_EQ(extreme(true, 3).verdict, Verdict::kPass);
}

/// Of a simulation that passes.
SimulationFigures good_simulation() {
  return {.done = true,
          .seconds = 20,
          .loads = {{.name = "closed loop, 1 connection", .requests = 900, .p99_ms = 2},
                    {.name = "open loop", .rate_per_s = 70, .requests = 600}},
          .soak = {.seconds = 10,
                   .requests = 500,
                   .slope_low = -1,
                   .slope_high = 3,
                   .t_s = {1, 2},
                   .memory_mib = {9, 9},
                   .p99_ms = {1, 1}},
          .replay = {.requests = 400, .compared = 200, .classes = true, .agreement = 0.99},
          .comparison = {
              .samples = 500, .rounds = 20, .requests = 1000, .labels = true, .p99_ratio = 1.1, .p99_ratio_low = 0.7}};
}

TEST(Checks, SimulationIsJudgedOnceDone) {
  Report none = good_report();
  judge(none);
  for (const Check& c : none.checks) EXPECT_FALSE(c.id.starts_with("simulation.")) << c.id;
  const auto simulated = [](const char* id, const auto& change) {
    return judged(id,
                  [&](Report& r) {
                    r.simulation = good_simulation();
                    change(r);
                  })
        .verdict;
  };
  EXPECT_EQ(simulated("simulation.errors", [](Report&) {}), Verdict::kPass);
  EXPECT_EQ(simulated("simulation.errors", [](Report& r) { r.simulation.loads[1].errors = 30; }), Verdict::kFail);
  EXPECT_EQ(simulated("simulation.errors", [](Report& r) { r.simulation.comparison.errors = 30; }), Verdict::kFail);
  EXPECT_EQ(simulated("simulation.errors", [](Report& r) { r.simulation.seconds = 1; }), Verdict::kInconclusive);
  EXPECT_EQ(simulated("simulation.latency", [](Report& r) { r.simulation.comparison.p99_ratio = 2.5; }),
            Verdict::kInconclusive);
  EXPECT_EQ(simulated("simulation.latency",
                      [](Report& r) {
                        r.simulation.comparison.p99_ratio = 4;
                        r.simulation.comparison.p99_ratio_low = 2.1;
                      }),
            Verdict::kFail);
  EXPECT_EQ(simulated("simulation.latency", [](Report& r) { r.simulation.comparison.p99_ratio = NAN; }),
            Verdict::kInconclusive);
  const auto lose = [](double p) {
    return [p](Report& r) {
      r.simulation.comparison.drop_points = 3;
      r.simulation.comparison.mcnemar_p = p;
    };
  };
  EXPECT_EQ(simulated("simulation.accuracy", lose(0.001)), Verdict::kFail);
  EXPECT_EQ(simulated("simulation.accuracy", lose(0.4)), Verdict::kPass);
  const auto grow = [](double low, double high) {
    return [=](Report& r) {
      r.policy.simulation.max_memory_slope_mib_per_hour = 10;
      r.simulation.soak.slope_low = low;
      r.simulation.soak.slope_high = high;
    };
  };
  EXPECT_EQ(simulated("simulation.memory", grow(11, 30)), Verdict::kFail);
  EXPECT_EQ(simulated("simulation.memory", grow(-5, 30)), Verdict::kInconclusive);
  EXPECT_EQ(simulated("simulation.memory", grow(-5, 9)), Verdict::kPass);
  EXPECT_EQ(simulated("simulation.memory", grow(-INFINITY, INFINITY)), Verdict::kInconclusive);
}

TEST(Report, FromBeforeThereWasASimulationIsRead) {
  nlohmann::json j = to_json(good_report());
  j.erase("simulation");
  j["policy"].erase("simulation");
  const Report back = report_from_json(j, "r.json");
  EXPECT_FALSE(back.simulation.done);
  EXPECT_EQ(back.policy, Policy());
}

TEST(Report, FromBeforeTheEngineWasCheckedIsRead) {
  nlohmann::json j = to_json(good_report());
  j.erase("engine");
  for (const char* side : {"reference", "candidate"})
    for (const char* key : {"chance", "chance_p", "chance_known"}) j["accuracy"][side].erase(key);
  for (const char* key : {"new_nonfinite", "lost_nonfinite"}) j["outputs"][0].erase(key);
  for (const char* key : {"speedup", "speed_note", "integer_note"}) j["performance"].erase(key);
  for (const char* key : {"require_better_than_chance", "min_top1_percent"}) j["policy"]["accuracy"].erase(key);
  j["policy"]["stability"].erase("max_engine_error");
  j["performance"]["throughput"] = {{{"batch", 1}, {"reference_per_s", 2.0}, {"candidate_per_s", 3.0}}};
  const Report back = report_from_json(j, "r.json");
  EXPECT_FALSE(back.engine.done);
  EXPECT_FALSE(back.policy.accuracy.require_better_than_chance) << "nobody asked then";
  EXPECT_FALSE(back.performance.throughput.at(0).steady);
}

TEST(Report, WarningsAndSpeedAreShown) {
  Report r = good_report();
  r.data.warnings = {"the model's input: values are <odd>"};
  r.performance.speed_note = "the rounds are too unsteady";
  r.performance.integer_note = "INT8 gains less than 10 % here: fc stayed float.";
  judge(r);
  const std::string page = report_html(r), text = report_text(r);
  EXPECT_NE(page.find("Warning: the model's input: values are &lt;odd&gt;"), std::string::npos);
  EXPECT_NE(page.find("<p class=\"note\">INT8 gains"), std::string::npos);
  for (const std::string& part :
       {"warning: " + r.data.warnings[0], r.performance.speed_note, r.performance.integer_note})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_EQ(text.find("as fast"), std::string::npos);
  r.performance.speedup = 1.9;
  EXPECT_NE(report_text(r).find("1.90x as fast"), std::string::npos);
}

TEST(Report, TextShowsTheSimulation) {
  Report r = good_report();
  r.simulation = good_simulation();
  judge(r);
  const std::string text = report_text(r);
  for (const char* part : {"served, closed loop, 1 connection", "same top-1 99.00 %", "p99 is"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(Report, JsonReadsBackWhole) {
  Report r = good_report();
  r.simulation = good_simulation();
  judge(r);
  r.outputs[0].kl_mean = NAN;
  r.performance.ratio_high = INFINITY;
  r.policy.output.max_kl = 0.25;
  r.accuracy.confusion = {{.label = 1, .predicted = 0, .reference = 4, .candidate = 5}};
  const nlohmann::json j = to_json(r);
  const Report back = report_from_json(nlohmann::json::parse(j.dump()), "r.json");
  EXPECT_EQ(to_json(back), j);
  EXPECT_TRUE(std::isnan(back.outputs[0].kl_mean));
  EXPECT_EQ(back.policy, r.policy);
  EXPECT_EQ(back.checks.size(), r.checks.size());
  TestFolder folder;
  save_report(r, folder.path("r.json"));
  EXPECT_EQ(to_json(load_report(folder.path("r.json"))), j);
}

TEST(Report, DamagedJsonIsRefused) {
  TestFolder folder;
  const auto refused = [&](const std::string& text) {
    return error_of([&] { load_report(folder.write("r.json", text)); });
  };
  EXPECT_NE(refused("{}").find("no report"), std::string::npos);
  EXPECT_NE(refused("[").find("no JSON object"), std::string::npos);
  nlohmann::json j = to_json(good_report());
  j["verdict"] = "splendid";
  EXPECT_NE(refused(j.dump()).find("splendid"), std::string::npos);
  j["verdict"] = "pass";
  j.erase("checks");
  EXPECT_NE(refused(j.dump()).find("damaged"), std::string::npos);
  EXPECT_NE(refused(std::string(100, '[') + std::string(100, ']')), "");
}

TEST(Report, HtmlFetchesNothingAndEscapes) {
  Report r = good_report();
  r.candidate.path = "/x/<script>alert(1)</script>.onnx";
  r.layers.layers[0].layer = "</script><img src=x>";
  r.accuracy.rows[0].name = "\"><b>";
  judge(r);
  const std::string page = report_html(r);
  for (const char* bad :
       {"src=\"http", "href=", "url(", "@import", "<link", "<img", "<script>alert", "</script><img", "src='"})
    EXPECT_EQ(page.find(bad), std::string::npos) << bad;
  for (const char* part : {"Chart.js v", "<title>Passed", "Top-1 accuracy lost", "\\u003c/script>"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
}

TEST(Report, TextSaysWhatMatters) {
  Report r = good_report();
  r.accuracy.drop_points = 12;
  judge(r);
  const std::string text = report_text(r);
  for (const char* part : {"FAIL  Top-1", "conv2", "FAILED 1 of", "latency p99"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

}  // namespace
}  // namespace slipway
