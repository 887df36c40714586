// Where the error arises. The original runs with every float value exposed as an output, so that each has its name; the
// candidate runs as its plan is, fused and with integer codes, and each value that it makes is set against the
// original's of the same name (codes: against the value that was quantised, through scale and zero point). A layer
// loses what its signal-to-quantisation-noise ratio lies below the worst of the layers it reads from; the first large
// loss is where an error starts, while the worst layer may only have inherited it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/progress.h"
#include "engine/executor.h"
#include "metrics/distance.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr double kCleanDb = 40, kJumpDb = 10, kNoisyDb = 20;
constexpr double kBrokenDb = -200;  ///< stands for a ratio that is no number

using NamedTensors = std::map<std::string, Tensor>;

/// The original with all float values as outputs; `names` in their order.
Graph expose_values(const Graph& graph, std::vector<std::string>& names) {
  Graph exposed = graph;
  for (const NodeId id : graph.topological_order())
    for (const ValueId out : graph.node(id).outputs)
      if (out != kNoValue && is_float(graph.value(out).dtype) && !graph.is_output(out)) exposed.add_output(out);
  for (const ValueId id : exposed.outputs()) names.push_back(exposed.value(id).name);
  return exposed;
}

struct Tally {
  LayerDistance figures;
  Distance distance;
  double kl_sum = 0;
  int64_t runs = 0;
};

/// Tallies by the original's value name, in the order of the candidate's execution.
struct Comparison {
  std::vector<Tally> tallies;
  std::map<std::string, size_t> index;
  std::map<std::string, bool> unmatched;

  void add(const Side& candidate, const std::string& value, const std::string& original, const Tensor& expected,
           std::span<const float> y, bool integer) {
    const auto [it, fresh] = index.try_emplace(original, tallies.size());
    if (fresh) {
      const auto op = candidate.layer_ops.find(value);
      tallies.push_back({.figures = {.layer = layer_of(candidate, value),
                                     .op = op == candidate.layer_ops.end() ? "" : op->second,
                                     .value = original,
                                     .integer = integer},
                         .distance = {}});
    }
    Tally& t = tallies[it->second];
    if (t.figures.integer != integer) return;  // the codes and the value made of them: one of the two is enough
    const std::vector<float> x = to_floats(expected);
    t.distance.add(x, y);
    t.kl_sum += kl_of_values(x, y);
    t.figures.reference_nonfinite += count_nonfinite(x);
    t.figures.candidate_nonfinite += count_nonfinite(y);
    ++t.runs;
  }
};

void compare_run(const Trial& trial, Session& session, const NamedTensors& expected, const Inputs& inputs,
                 Comparison& comparison) {
  session.run_observed(inputs, [&](const std::string& name, const Tensor& value) {
    const auto codes = trial.codes.find(name);
    const bool integer = codes != trial.codes.end() && is_integer(value.dtype());
    if (!integer && !is_float(value.dtype())) return;
    const auto it = expected.find(integer ? codes->second.original : name);
    if (it == expected.end() || it->second.dims() != value.dims()) {
      comparison.unmatched[name] = true;
      return;
    }
    std::vector<float> y = to_floats(value);
    if (integer)
      for (float& v : y) v = (v - static_cast<float>(codes->second.zero_point)) * codes->second.scale;
    comparison.add(trial.candidate, name, it->first, it->second, y, integer);
  });
}

double quality_db(const LayerDistance& layer) { return std::isfinite(layer.sqnr_db) ? layer.sqnr_db : kBrokenDb; }

// SQNR of the worst compared value that `value` is computed from, going back through values that were not compared.
double inherited_db(const Graph& graph, ValueId value, const std::map<ValueId, double>& compared) {
  double worst = kCleanDb;
  std::vector<ValueId> open = {value};
  std::vector<bool> seen(static_cast<size_t>(graph.value_limit()), false);
  while (!open.empty()) {
    const Node* node = graph.producer(open.back());
    open.pop_back();
    if (node == nullptr) continue;
    for (const ValueId in : node->inputs) {
      if (in == kNoValue || seen[static_cast<size_t>(in)]) continue;
      seen[static_cast<size_t>(in)] = true;
      if (const auto it = compared.find(in); it != compared.end())
        worst = std::min(worst, it->second);
      else
        open.push_back(in);
    }
  }
  return worst;
}

void locate(const Graph& reference, LayerFigures& figures) {
  std::map<ValueId, double> compared;
  for (const LayerDistance& layer : figures.layers) compared[reference.find(layer.value)] = quality_db(layer);
  const LayerDistance* worst = nullptr;
  const auto rank = [](const LayerDistance& l) { return std::isfinite(l.cosine) ? l.cosine : -2.0; };
  for (LayerDistance& layer : figures.layers) {
    layer.lost_db = std::max(0.0, inherited_db(reference, reference.find(layer.value), compared) - quality_db(layer));
    if (figures.origin.empty() && layer.lost_db >= kJumpDb && quality_db(layer) < kNoisyDb) {
      figures.origin = layer.layer;
      figures.origin_lost_db = layer.lost_db;
    }
    if (worst == nullptr || std::pair(rank(layer), quality_db(layer)) < std::pair(rank(*worst), quality_db(*worst)))
      worst = &layer;
  }
  if (worst == nullptr) return;
  figures.worst = worst->layer;
  figures.worst_cosine = worst->cosine;
}

}  // namespace

void compare_layers(Trial& trial, Report& report) {
  const std::vector<Inputs> samples = planned_requests(trial, trial.options.layer_samples);
  if (samples.empty() || trial.reference.plan == nullptr) return;
  std::vector<std::string> names;
  BuildOptions options = build_options(trial, trial.reference, trial.unit, trial.options.threads);
  options.tune = false;
  Session reference(Plan::build(expose_values(trial.reference.graph, names), options));
  Session candidate(trial.candidate.plan);
  Comparison comparison;
  Progress progress("comparing layers", static_cast<int64_t>(samples.size()), trial.options.quiet);
  run_requests(samples, {.rows = trial.unit}, [&](std::span<const Tensor> stacked) {
    const Inputs inputs(stacked.begin(), stacked.end());
    const std::vector<Tensor> values = reference.run(inputs);
    NamedTensors expected;
    for (size_t i = 0; i < names.size(); ++i) expected.emplace(names[i], values[i]);
    compare_run(trial, candidate, expected, inputs, comparison);
    progress.step(trial.unit);
    return std::vector<Tensor>();
  });
  LayerFigures& figures = report.layers;
  figures.samples = static_cast<int64_t>(samples.size());
  figures.unmatched = static_cast<int64_t>(comparison.unmatched.size());
  for (Tally& t : comparison.tallies) {
    t.figures.cosine = t.distance.cosine();
    t.figures.sqnr_db = t.distance.sqnr_db();
    t.figures.max_abs = t.distance.max_abs();
    t.figures.mse = t.distance.mse();
    t.figures.kl = t.kl_sum / static_cast<double>(t.runs);
    figures.layers.push_back(std::move(t.figures));
  }
  locate(trial.reference.graph, figures);
}

}  // namespace slipway
