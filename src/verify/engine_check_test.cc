// Engines with planted faults. Most are interpreters of the optimised graph by the reference, so that without a fault
// they agree with it whatever the real kernels do; the flipped weights are in real plans.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/passes/pipeline.h"
#include "model/evaluate.h"
#include "quantize/quantize.h"
#include "verify/checks.h"
#include "verify/trial.h"
#include "verify/verify_testing.h"

namespace slipway {
namespace {

/// Done to what a node makes.
using Fault = std::function<void(const Node& node, Tensor& value)>;

PlanRunner engine_with(const Fault& fault) {
  return [fault](const Side& side, const Inputs& inputs, const Session::Observer& observe) {
    Graph graph = side.graph;
    bind_batch(graph, inputs[0].dims()[0]);
    run_passes(graph);
    std::map<ValueId, Tensor> values{{graph.inputs()[0], inputs[0]}};
    for (const NodeId id : graph.topological_order()) {
      const Node& node = graph.node(id);
      std::vector<const Tensor*> arguments;
      for (const ValueId in : node.inputs)
        arguments.push_back(in == kNoValue                  ? nullptr
                            : graph.constant(in) != nullptr ? graph.constant(in)
                                                            : &values.at(in));
      std::vector<Tensor> made = evaluate_node(graph, node, arguments);
      for (size_t i = 0; i < made.size(); ++i) {
        if (side.role == "candidate") fault(node, made[i]);
        observe(graph.value(node.outputs[i]).name, made[i]);
        values[node.outputs[i]] = std::move(made[i]);
      }
    }
    std::vector<Tensor> outputs;
    for (const ValueId out : graph.outputs()) outputs.push_back(values.at(out));
    return outputs;
  };
}

void no_fault(const Node&, Tensor&) {}

bool stands_for(const Node& node, const std::string& layer) {
  return std::find(node.origins.begin(), node.origins.end(), layer) != node.origins.end();
}

/// A model against itself, up to the engine's check.
struct Suspect {
  TestFolder folder;
  Graph original = SmallNet().graph();
  Dataset data = labelled_by(original, folder, 60);
  Policy policy = patient_policy();
  VerifyOptions options = quick_options();
  Graph candidate;
  VerifySubject subjects[2] = {{original, "original.onnx", {}}, {candidate, "candidate.onnx", {}}};

  explicit Suspect(bool quantized = false) : candidate(original) {
    options.seconds = 4;  // reference runs for every input
    if (quantized)
      candidate = quantize(original, samples_of(Feed(data, original), Split::kCalibration), {}, {.samples = 60}).graph;
  }

  Trial trial_with_plans(const std::optional<Graph>& planned = std::nullopt) const {
    Trial trial{.reference = Side(subjects[0], "original"),
                .candidate = Side(subjects[1], "candidate"),
                .data = data,
                .feed = Feed(data, original),
                .policy = policy,
                .options = options,
                .samples = spread(data.size(Split::kTest), data.size(Split::kTest)),
                .planned = spread(data.size(Split::kTest), data.size(Split::kTest)),
                .example = Feed(data, original).request(Split::kTest, 0),
                .folder = folder.path(),
                .codes = {}};
    for (Side* side : {&trial.reference, &trial.candidate}) {
      side->plan = Plan::build(side == &trial.candidate && planned ? *planned : side->graph,
                               build_options(trial, *side, trial.unit, 1));
      name_layers(*side, original);
    }
    return trial;
  }

  EngineFigures check(const PlanRunner& run, const std::optional<Graph>& planned = std::nullopt) const {
    Trial trial = trial_with_plans(planned);
    Report report;
    report.data.ranges = {{"x", 0, 1}};
    check_engine(trial, report, run);
    return report.engine;
  }
};

/// The model after that change of one weight, of `count`, which moves its outputs most.
Graph most_telling(int64_t count, const Dataset& data, const Graph& original,
                   const std::function<Graph(size_t weight)>& changed) {
  const Inputs inputs = Feed(data, original).request(Split::kTest, 0);
  const std::vector<double> before = to_doubles(evaluate(original, inputs)[0]);
  double most = -1;
  Graph worst;
  for (int64_t i = 0; i < count; ++i) {
    Graph graph = changed(static_cast<size_t>(i));
    const std::vector<double> after = to_doubles(evaluate(graph, inputs)[0]);
    double moved = 0;
    for (size_t k = 0; k < after.size(); ++k) moved = std::max(moved, std::abs(after[k] - before[k]));
    if (moved <= most) continue;
    most = moved;
    worst = std::move(graph);
  }
  return worst;
}

const Check* check_of(Report& report, const EngineFigures& engine, const char* id) {
  report.engine = engine;
  judge(report);
  for (const Check& c : report.checks)
    if (c.id == id) return &c;
  return nullptr;
}

TEST(EngineCheck, AFaithfulEnginePasses) {
  for (const bool quantized : {false, true}) {
    const EngineFigures e = Suspect(quantized).check(engine_with(no_fault));
    EXPECT_TRUE(e.done);
    EXPECT_EQ(e.samples, 4);
    EXPECT_EQ(e.candidate.size(), 14u);
    EXPECT_EQ(e.reference.size(), e.candidate.size());
    for (const auto* runs : {&e.reference, &e.candidate})
      for (const EngineRun& run : *runs) {
        EXPECT_EQ(run.step_error, 0) << run.input << " " << run.step;
        EXPECT_LE(run.output_error, run.output_bound) << run.input << (quantized ? " quantised" : "");
        EXPECT_GE(run.values, 4);
      }
    Report report;
    EXPECT_EQ(check_of(report, e, "engine.steps")->verdict, Verdict::kPass);
    EXPECT_EQ(check_of(report, e, "engine.outputs")->verdict, Verdict::kPass);
  }
}

TEST(EngineCheck, AKernelThatSwallowsNaNFails) {
  const EngineFigures e = Suspect().check(engine_with([](const Node& node, Tensor& value) {
    if (!stands_for(node, "conv2")) return;
    for (float& v : value.mutable_values<float>())
      if (std::isnan(v)) v = 0;
  }));
  Report report;
  const Check* steps = check_of(report, e, "engine.steps");
  EXPECT_EQ(steps->verdict, Verdict::kFail);
  for (const char* part : {"conv2", "candidate", "NaN"})
    EXPECT_NE(steps->sentence.find(part), std::string::npos) << steps->sentence;
  EXPECT_EQ(report.verdict, Verdict::kFail);
  for (const EngineRun& run : e.candidate)
    EXPECT_EQ(run.step_error > 0, run.input.find("NaN") != std::string::npos || run.wrong > 0) << run.input;
  for (const EngineRun& run : e.reference) EXPECT_EQ(run.step_error, 0) << run.input;
}

TEST(EngineCheck, AWrongKernelFailsAndIsNamed) {
  const EngineFigures e = Suspect().check(engine_with([](const Node& node, Tensor& value) {
    if (stands_for(node, "conv3"))
      for (float& v : value.mutable_values<float>()) v *= 1.001f;
  }));
  Report report;
  const Check* steps = check_of(report, e, "engine.steps");
  EXPECT_EQ(steps->verdict, Verdict::kFail);
  EXPECT_NEAR(steps->figure, 1e-3, 1e-4);
  EXPECT_NE(steps->sentence.find("conv3"), std::string::npos) << steps->sentence;
}

TEST(EngineCheck, AnIntegerKernelThatIsOffByOneCodeFails) {
  const EngineFigures e = Suspect(true).check(engine_with([](const Node& node, Tensor& value) {
    if (!stands_for(node, "conv2") || value.dtype() != DType::kInt8) return;
    int8_t& code = value.mutable_values<int8_t>()[5];
    code = static_cast<int8_t>(code == 0 ? 1 : code - 1);
  }));
  Report report;
  const Check* steps = check_of(report, e, "engine.steps");
  EXPECT_EQ(steps->verdict, Verdict::kFail);
  EXPECT_NE(steps->sentence.find("conv2"), std::string::npos) << steps->sentence;
}

TEST(EngineCheck, APlanWithOneFlippedWeightFails) {
  const Suspect suspect;
  const Graph flipped = most_telling(144, suspect.data, suspect.original, [](size_t weight) {
    SmallNet net;
    net.conv2[weight] = -net.conv2[weight];
    return net.graph();
  });
  const EngineFigures good = suspect.check(run_plan), bad = suspect.check(run_plan, flipped);
  // On a sample; what the kernels make of NaN is another matter.
  EXPECT_LT(good.candidate[0].step_error, 1e-5);
  EXPECT_LT(good.candidate[0].output_error, 1e-5);
  EXPECT_GT(bad.candidate[0].step_error, 1e-3);
  EXPECT_EQ(bad.candidate[0].step, "conv2");
  EXPECT_GT(bad.candidate[0].output_error, bad.candidate[0].output_bound);
  EXPECT_EQ(bad.reference[0].step_error, good.reference[0].step_error);
  Report report;
  EXPECT_EQ(check_of(report, bad, "engine.steps")->verdict, Verdict::kFail);
}

TEST(EngineCheck, AQuantisedPlanWithOneFlippedCodeFails) {
  const Suspect suspect(true);
  const Graph flipped = most_telling(36, suspect.data, suspect.candidate, [&](size_t weight) {
    Graph graph = suspect.candidate;
    for (ValueId id = 0; id < graph.value_limit(); ++id) {
      const Value& v = graph.value(id);
      if (!v.alive || !v.is_constant() || v.dtype != DType::kInt8 || v.shape.rank() != 4) continue;
      Tensor codes = *v.constant;
      codes.mutable_values<int8_t>()[weight] ^= 0x40;
      graph.set_constant(id, codes);
      break;
    }
    return graph;
  });
  const EngineFigures good = suspect.check(run_plan), bad = suspect.check(run_plan, flipped);
  EXPECT_EQ(good.candidate[0].wrong, 0) << good.candidate[0].step;
  EXPECT_GT(bad.candidate[0].wrong, 0);
  Report report;
  EXPECT_EQ(check_of(report, bad, "engine.steps")->verdict, Verdict::kFail);
}

TEST(EngineCheck, OutputsOfAnotherModelFailAgainstTheFile) {
  // The steps that are shown are right, what is handed out is not.
  const PlanRunner honest = engine_with(no_fault);
  const EngineFigures e =
      Suspect().check([&](const Side& side, const Inputs& inputs, const Session::Observer& observe) {
        std::vector<Tensor> outputs = honest(side, inputs, observe);
        outputs[0].mutable_values<float>()[2] += 1;
        return outputs;
      });
  Report report;
  EXPECT_EQ(check_of(report, e, "engine.outputs")->verdict, Verdict::kFail);
  EXPECT_EQ(check_of(report, e, "engine.steps")->verdict, Verdict::kFail);
}

TEST(EngineCheck, LittleTimeStillBuysASampleAndSpecialValues) {
  Suspect suspect;
  suspect.options.seconds = 1e-9;
  const EngineFigures e = suspect.check(engine_with(no_fault));
  ASSERT_EQ(e.candidate.size(), 2u);
  EXPECT_EQ(e.samples, 1);
  EXPECT_NE(e.candidate[1].input.find("NaN"), std::string::npos);
}

TEST(Performance, SmallGainsOfIntegersAreSaid) {
  const auto note = [](bool quantized, double ratio, const char* precision) {
    const Suspect suspect(quantized);
    Report report;
    report.reference.precision = "fp32";
    report.candidate.precision = precision;
    report.performance.ratio = ratio;
    note_small_gain(suspect.trial_with_plans(), report);
    return report.performance.integer_note;
  };
  EXPECT_NE(note(true, 0.97, "int8").find("takes 0.97 of the original's time. All its weighted layers"),
            std::string::npos);
  EXPECT_NE(note(false, 1.2, "mixed").find("3 of its layers stayed float: conv1, conv2, conv3."), std::string::npos)
      << note(false, 1.2, "mixed");
  EXPECT_EQ(note(true, 0.5, "int8"), "");
  EXPECT_EQ(note(false, 0.97, "fp32"), "");
}

}  // namespace
}  // namespace slipway
