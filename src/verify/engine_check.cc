// The engine under suspicion: both models' plans against the reference, on some real samples, on inputs sprinkled with
// NaN, infinities, −0 and denormals, and on the extremes of the data's range. Two comparisons for each input:
//
// - Every step of the plan, as it was tuned, packed, saved and opened, against the reference evaluation of the node
//   that it stands for, on the values that the plan itself handed to it. Errors can't add up, so the bound is tight:
//   NaN and infinity in the same places, integers the same, floats within max_engine_error of the result's largest.
// - The plan's outputs against the reference evaluation of the model as its file has it, before any pass, so that the
//   passes are judged too. Errors do add up: floats may differ by max_variation, codes of up to 16 bits by one, other
//   integers (a class on the verge) in that share of the elements. A quantised model rounds: a value between two codes
//   falls to one side in float32 and to the other in double, and what comes of it is noise of the kind that quantising
//   made. So its floats may differ by 8 of 256 codes, or by as much as quantising itself moved the candidate's outputs.
//   Half precision is computed in float32 here and rounded at every node there: 16 of its roundings.
//
// The reference is slow, so the number of inputs follows from the models' FLOPs; one sample and one sprinkled input are
// the least. Magnitudes below kNoise count as zero, and inputs near FLT_MAX are left out: what overflows float there
// fits the reference's double.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/random.h"
#include "engine/passes/pipeline.h"
#include "model/evaluate.h"
#include "model/infer.h"
#include "model/op.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr double kNoise = 1e-30;
constexpr double kFlopsPerSecond = 2.5e9;  ///< of the reference, for each of VerifyOptions::seconds
constexpr double kLeastBound = 1e-6;       ///< floats are no more exact than that
constexpr double kQuantizedBound = 8.0 / 256, kF16Bound = 16.0 / 1024, kBf16Bound = 16.0 / 128;
constexpr size_t kLeastInputs = 2;  ///< a sample and a sprinkled one
constexpr int64_t kSamples = 4;

struct EngineInput {
  std::string name;
  Inputs tensors;  ///< Trial::unit samples
  bool is_sample = false;
};

/// How far `got` is from `expected`; counted apart are the elements where one is NaN or infinite and the other is not
/// the same, or where integers differ.
struct Gap {
  double error = 0;
  int64_t wrong = 0;
};

/// `scale` is the largest magnitude that this value had so far, a real sample's at first: what cancels out on an even
/// input is no smaller error than on a sample.
Gap gap_of(const Tensor& expected, const Tensor& got, double& scale) {
  if (expected.dtype() != got.dtype() || expected.dims() != got.dims()) return {INFINITY, expected.elements()};
  Gap gap;
  if (!is_float(expected.dtype())) {
    if (expected.identical(got)) return gap;
    if (expected.dtype() == DType::kString) return {INFINITY, 1};
    const std::vector<double> e = to_doubles(expected), g = to_doubles(got);
    for (size_t i = 0; i < e.size(); ++i) gap.wrong += e[i] != g[i];
    gap.error = INFINITY;
    return gap;
  }
  const std::vector<double> e = to_doubles(expected), g = to_doubles(got);
  double off = 0;
  scale = std::max(scale, kNoise);
  for (size_t i = 0; i < e.size(); ++i) {
    if (std::isfinite(e[i])) scale = std::max(scale, std::abs(e[i]));
    if (std::isfinite(e[i]) && std::isfinite(g[i]))
      off = std::max(off, std::abs(e[i] - g[i]));
    else
      gap.wrong += e[i] != g[i] && !(std::isnan(e[i]) && std::isnan(g[i]));
  }
  gap.error = gap.wrong > 0 ? INFINITY : off / scale;
  return gap;
}

/// The same for outputs of the whole model, whose integers may differ a little: see above.
Gap output_gap(const Tensor& expected, const Tensor& got, double& scale) {
  const Gap strict = gap_of(expected, got, scale);
  if (strict.wrong == 0 || !is_integer(expected.dtype()) || expected.dims() != got.dims()) return strict;
  if (bits_of(expected.dtype()) > 16)
    return {static_cast<double>(strict.wrong) / static_cast<double>(expected.elements()), strict.wrong};
  const std::vector<int64_t> e = to_ints(expected), g = to_ints(got);
  int64_t far = 0;
  for (size_t i = 0; i < e.size(); ++i) far += std::abs(e[i] - g[i]) > 1;
  return {far > 0 ? INFINITY : 0, far};
}

/// The steps of one run, each against the reference on the inputs that the plan gave it. What the plan does not show
/// (views that need no step) the reference computes.
class StepCheck {
 public:
  using Scales = std::map<ValueId, double>;
  StepCheck(const Side& side, const Graph& graph, const Inputs& inputs, Scales& scales, EngineRun& run)
      : side_(side), graph_(graph), readers_(static_cast<size_t>(graph.value_limit())), scales_(scales), run_(run) {
    for (ValueId id = 0; id < graph.value_limit(); ++id) readers_[at(id)] = graph.value(id).uses.size();
    for (const ValueId id : graph.outputs()) ++readers_[at(id)];
    for (size_t i = 0; i < inputs.size(); ++i) values_[graph.inputs()[i]] = inputs[i];
  }

  void add(const std::string& name, const Tensor& got) {
    const ValueId id = graph_.find(name);  // none: the plan's own copy of an output
    if (id == kNoValue || graph_.producer(id) == nullptr) return;
    const NodeId node = graph_.value(id).producer;
    if (done_.insert(node).second) {
      expected_.clear();
      for (auto& [out, tensor] : evaluate(node)) expected_[out] = std::move(tensor);
    }
    if (const auto it = expected_.find(id); it != expected_.end()) {
      ++run_.values;
      judge(name, gap_of(it->second, got, scales_[id]));
    }
    if (readers_[at(id)] > 0) values_[id] = got;
  }

  void finish(const std::vector<Tensor>& outputs) {
    for (size_t i = 0; i < outputs.size(); ++i)
      if (const Tensor* made = value(graph_.outputs()[i]); made != nullptr)
        judge(graph_.value(graph_.outputs()[i]).name, gap_of(*made, outputs[i], scales_[graph_.outputs()[i]]));
  }

 private:
  static size_t at(ValueId id) { return static_cast<size_t>(id); }

  void judge(const std::string& name, const Gap& gap) {
    run_.wrong += gap.wrong;
    if (gap.error <= run_.step_error) return;
    run_.step_error = gap.error;
    run_.step = layer_of(side_, name);
  }

  /// nullptr where the reference can't compute it alone.
  const Tensor* value(ValueId id) {
    if (const Tensor* constant = graph_.constant(id)) return constant;
    if (!values_.contains(id) && graph_.value(id).producer != kNoNode && done_.insert(graph_.value(id).producer).second)
      for (auto& [out, tensor] : evaluate(graph_.value(id).producer))
        if (readers_[at(out)] > 0) values_[out] = std::move(tensor);
    const auto it = values_.find(id);
    return it == values_.end() ? nullptr : &it->second;
  }

  std::vector<std::pair<ValueId, Tensor>> evaluate(NodeId id) {
    const Node& node = graph_.node(id);
    std::vector<std::pair<ValueId, Tensor>> results;
    std::vector<const Tensor*> inputs;
    bool known = !require_op(graph_, node).has(kNondeterministic);
    for (const ValueId in : node.captures) known = known && graph_.constant(in) != nullptr;
    for (const ValueId in : node.inputs) {
      inputs.push_back(in == kNoValue || !known ? nullptr : value(in));
      known = known && (in == kNoValue || inputs.back() != nullptr);
    }
    if (known) {
      std::vector<Tensor> tensors = evaluate_node(graph_, node, inputs);
      for (size_t i = 0; i < tensors.size(); ++i)
        if (node.outputs[i] != kNoValue) results.emplace_back(node.outputs[i], std::move(tensors[i]));
    }
    for (const auto* list : {&node.inputs, &node.captures})
      for (const ValueId in : *list)
        if (in != kNoValue && --readers_[at(in)] == 0) values_.erase(in);
    return results;
  }

  const Side& side_;
  const Graph& graph_;
  std::vector<size_t> readers_;
  std::map<ValueId, Tensor> values_;    ///< that somebody will read
  std::map<ValueId, Tensor> expected_;  ///< of the step that is being shown
  std::set<NodeId> done_;
  Scales& scales_;
  EngineRun& run_;
};

/// What makes a model's outputs differ from the reference's without a fault.
struct Traits {
  bool random = false, quantized = false;
  double bound = 0;  ///< of the outputs' floats
};

Traits traits_of(const Graph& graph, const Policy& policy) {
  Traits traits{.quantized = has_codes(graph), .bound = std::max(policy.stability.max_variation, kLeastBound)};
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    traits.random = traits.random || require_op(graph, node).has(kNondeterministic);
    for (const ValueId out : node.outputs)
      if (out != kNoValue && graph.value(out).dtype == DType::kFloat16)
        traits.bound = std::max(traits.bound, kF16Bound);
      else if (out != kNoValue && graph.value(out).dtype == DType::kBfloat16)
        traits.bound = std::max(traits.bound, kBf16Bound);
  }
  if (traits.quantized) traits.bound = std::max(traits.bound, kQuantizedBound);
  return traits;
}

/// What the plan was made from: the shapes bound, the passes run, as Plan::build does it.
Graph optimised(const Trial& trial, const Side& side) {
  Graph graph = side.graph;
  bind_batch(graph, trial.unit, dims_of_request(side.graph, trial.example));
  run_passes(graph);
  return graph;
}

double flops_of(const Graph& graph) {
  double flops = 0;
  for (const NodeId id : graph.topological_order()) flops += cost_of(graph, graph.node(id)).flops;
  return flops;
}

/// The sample with special values among the floats that come from the data.
Inputs sprinkled(const Trial& trial, const Inputs& sample, std::span<const double> specials) {
  Inputs inputs = sample;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_float(inputs[i].dtype()) || inputs[i].elements() == 0 || !trial.feed.source_of(i)) continue;
    std::vector<double> values = to_doubles(inputs[i]);
    Random random(values.size());
    for (const double special : specials) values[random.below(values.size())] = special;
    inputs[i] = from_doubles(inputs[i].dtype(), inputs[i].dims(), values);
  }
  return inputs;
}

/// In the order of what they are worth, for the budget may end before them.
std::vector<EngineInput> inputs_of(const Trial& trial, const DataFacts& data) {
  constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Inputs> samples = planned_requests(trial, kSamples);
  const std::vector<int64_t> places = spread(static_cast<int64_t>(trial.planned.size()), kSamples);
  std::vector<EngineInput> inputs;
  const auto more = [&](size_t from, size_t to) {
    for (size_t i = from; i < std::min(to, samples.size()); ++i) {
      const int64_t index = trial.samples[static_cast<size_t>(trial.planned[static_cast<size_t>(places[i])])];
      inputs.push_back({"sample " + trial.data.sample_name(Split::kTest, index), unit_of(trial, samples[i]), true});
    }
  };
  more(0, 1);
  const Inputs first = inputs[0].tensors;
  const auto special = [&](const char* name, std::vector<double> values) {
    inputs.push_back({fmt::format("{} sprinkled over a sample", name), sprinkled(trial, first, values), false});
  };
  const auto extreme = [&](const char* name, Level even, Level odd) {
    inputs.push_back({name, filled(trial, first, data.ranges, even, odd), false});
  };
  const bool floats =
      std::any_of(first.begin(), first.end(), [](const Tensor& tensor) { return is_float(tensor.dtype()); });
  if (floats) special("NaN, infinities, -0 and denormals", {kNan, kInf, -kInf, -0.0, 1e-40, -1e-40});
  more(1, 2);
  extreme("the data's minimum and maximum in turn", Level::minimum(), Level::maximum());
  if (floats) {
    special("NaN", {kNan});
    special("+Inf", {kInf});
    special("-Inf", {-kInf});
    special("-0 and denormals", {-0.0, 1e-40, -1e-40, -0.0});
    extreme("zeros", 0, 0);
    extreme("denormals (1e-40)", 1e-40, -1e-40);
  }
  extreme("the data's minimum", Level::minimum(), Level::minimum());
  extreme("the data's maximum", Level::maximum(), Level::maximum());
  more(2, static_cast<size_t>(kSamples));
  return inputs;
}

/// How far the candidate's outputs lie from the original's, each by the reference: what quantising did.
double distance_from_original(const std::vector<Tensor>& original, const std::vector<Tensor>& candidate, size_t i) {
  double scale = 0;
  const double error = i < original.size() ? gap_of(original[i], candidate[i], scale).error : 0;
  return std::isfinite(error) ? error : 0;
}

/// A model under suspicion.
struct Suspect {
  Suspect(const Trial& trial, const Side& which, std::vector<EngineRun>& results)
      : side(which),
        graph(optimised(trial, which)),
        traits(traits_of(which.graph, trial.policy)),
        output_scales(which.graph.outputs().size()),
        moved(which.graph.outputs().size()),
        runs(results) {}
  const Side& side;
  Graph graph;
  Traits traits;
  StepCheck::Scales step_scales;
  std::vector<double> output_scales;
  std::vector<double> moved;  ///< each output, by quantising, on samples
  std::vector<EngineRun>& runs;
};

/// One run; returns what the reference makes of the model as its file has it, nothing for a random one. `original`:
/// that of the original, none for itself.
std::vector<Tensor> examine(Suspect& suspect, const EngineInput& input, const std::vector<Tensor>& original,
                            const PlanRunner& run) {
  EngineRun& result = suspect.runs.emplace_back(EngineRun{.input = input.name});
  StepCheck steps(suspect.side, suspect.graph, input.tensors, suspect.step_scales, result);
  const std::vector<Tensor> got =
      run(suspect.side, input.tensors, [&](const std::string& name, const Tensor& value) { steps.add(name, value); });
  if (suspect.side.plan != nullptr) steps.finish(got);
  if (suspect.traits.random) return {};
  const Graph& model = suspect.side.graph;
  std::vector<Tensor> expected = evaluate(model, input.tensors);
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = output_gap(expected[i], got[i], suspect.output_scales[i]).error;
    double& moved = suspect.moved[i];
    if (suspect.traits.quantized && input.is_sample)
      moved = std::max(moved, distance_from_original(original, expected, i));
    const double bound = std::max(suspect.traits.bound, moved);
    if (i > 0 && error / bound <= result.output_error / result.output_bound) continue;
    result.output_error = error;
    result.output_bound = bound;
    result.output = model.value(model.outputs()[i]).name;
  }
  return expected;
}

}  // namespace

std::vector<Tensor> run_plan(const Side& side, const Inputs& inputs, const Session::Observer& observe) {
  return SideSession(side).run_observed(inputs, observe);
}

void check_engine(Trial& trial, Report& report, const PlanRunner& run) {
  const int64_t start = now_ns();
  EngineFigures& figures = report.engine;
  figures.steps = trial.reference.plan != nullptr;
  Suspect reference(trial, trial.reference, figures.reference), candidate(trial, trial.candidate, figures.candidate);
  std::vector<EngineInput> inputs = inputs_of(trial, report.data);
  const double flops = 2 * (flops_of(reference.graph) + flops_of(candidate.graph));  // by steps and as a whole
  const double affordable = kFlopsPerSecond * trial.options.seconds / std::max(flops, 1.0);
  if (affordable < static_cast<double>(inputs.size()))
    inputs.resize(std::min(inputs.size(), std::max(kLeastInputs, static_cast<size_t>(affordable))));
  Progress progress("engine against reference", static_cast<int64_t>(inputs.size()), trial.options.quiet);
  for (const EngineInput& input : inputs) {
    figures.samples += input.is_sample;
    const std::vector<Tensor> original = examine(reference, input, {}, run);
    examine(candidate, input, original, run);
    progress.step();
  }
  figures.done = true;
  figures.seconds = static_cast<double>(now_ns() - start) * 1e-9;
}

}  // namespace slipway
