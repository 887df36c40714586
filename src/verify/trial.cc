// What the stages share: samples as inputs, plans for one unit of samples, and names. Layers are named after nodes of
// the original where the plan's provenance leads there, because those are the names that its user knows.
#include "verify/trial.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "engine/executor.h"
#include "metrics/distance.h"
#include "model/op.h"
#include "model/rows.h"

namespace slipway {

bool computes_on_codes(const std::string& op) {
  for (const char* part : {"Quantize", "Integer", "QLinear"})
    if (op.find(part) != std::string::npos) return true;
  return false;
}

bool has_codes(const Graph& graph) {
  const std::vector<NodeId> nodes = graph.topological_order();
  return std::any_of(nodes.begin(), nodes.end(), [&](NodeId id) { return computes_on_codes(graph.node(id).op_type); });
}

bool is_weighted(const std::string& op) {
  constexpr int64_t kNewest = 1 << 19;
  const OpSpec* spec = find_op("", op, kNewest);
  return spec != nullptr && spec->has(kWeighted);
}

namespace {

/// A node is known by its name, or by its first output's where it has none.
std::string name_of(const Graph& graph, const Node& node) {
  return !node.name.empty() || node.output(0) == kNoValue ? node.name : graph.value(node.output(0)).name;
}

std::unordered_map<std::string, std::string> ops_by_name(const Graph& graph) {
  std::unordered_map<std::string, std::string> ops;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    ops.emplace(name_of(graph, node), node.op_type);
  }
  return ops;
}

}  // namespace

SideSession::SideSession(const Side& side) {
  if (side.plan != nullptr)
    plan_.emplace(side.plan);
  else
    program_ = side.program->open();
}

SideSession::SideSession(const Trial& trial, const Side& side, int64_t batch, int threads) {
  BuildOptions options = build_options(trial, side, batch, threads);
  options.tune = false;
  if (side.plan != nullptr)
    plan_.emplace(Plan::build(side.graph, options));
  else
    program_ = compiled_backend().make(side.graph, {.threads = threads})->open();
}

std::vector<Tensor> SideSession::run(std::span<const Tensor> inputs) {
  return plan_ ? plan_->run(inputs) : program_->run(inputs);
}

std::vector<Tensor> SideSession::run_observed(std::span<const Tensor> inputs, const Session::Observer& observe) {
  return plan_ ? plan_->run_observed(inputs, observe) : program_->run(inputs);
}

std::vector<int64_t> spread(int64_t size, int64_t count) {
  count = std::clamp<int64_t>(count, 0, size);
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < count; ++i) positions.push_back(i * size / count);
  return positions;
}

Inputs filled(const Trial& trial, const Inputs& like, std::span<const InputRange> ranges, Level even, Level odd) {
  Inputs inputs;
  for (size_t input = 0; input < like.size(); ++input) {
    const Tensor& tensor = like[input];
    const double values[] = {even.in(ranges[input]), odd.in(ranges[input])};
    const bool takes = is_float(tensor.dtype()) || even.end != Level::kNone || even.value == 0;
    if (!takes || !trial.feed.source_of(input)) {
      inputs.push_back(tensor);
      continue;
    }
    std::vector<double> all(static_cast<size_t>(tensor.elements()));
    for (size_t i = 0; i < all.size(); ++i) all[i] = values[i % 2];
    inputs.push_back(from_doubles(tensor.dtype(), tensor.dims(), all));
  }
  return inputs;
}

std::vector<Inputs> planned_requests(const Trial& trial, int64_t count) {
  std::vector<int64_t> indices;
  for (const int64_t i : spread(static_cast<int64_t>(trial.planned.size()), count))
    indices.push_back(trial.samples[static_cast<size_t>(trial.planned[static_cast<size_t>(i)])]);
  return trial.feed.requests(Split::kTest, indices, trial.options.threads);
}

Inputs unit_of(const Trial& trial, const Inputs& request) {
  if (trial.unit == 1) return request;
  Inputs stacked;
  for (const Tensor& tensor : request)
    stacked.push_back(stack_rows(std::vector<Tensor>(static_cast<size_t>(trial.unit), tensor)));
  return stacked;
}

std::vector<Tensor> run_all(SideSession& session, std::span<const Inputs> requests, int64_t unit) {
  std::vector<Tensor> all;
  for (std::vector<Tensor>& outputs :
       run_requests(requests, {.rows = unit}, [&](std::span<const Tensor> inputs) { return session.run(inputs); }))
    for (Tensor& output : outputs) all.push_back(std::move(output));
  return all;
}

BuildOptions build_options(const Trial& trial, const Side& side, int64_t batch, int threads) {
  return {.batch = batch,
          .dims = dims_of_request(side.graph, trial.example),
          .threads = threads,
          .tune = trial.options.tune,
          .timing_cache = trial.options.timing_cache,
          .quiet = trial.options.quiet};
}

void name_layers(Side& side, const Graph& reference) {
  if (side.plan == nullptr) return;
  const auto originals = ops_by_name(reference), own = ops_by_name(side.graph);
  for (const StepInfo& step : side.plan->steps()) {
    if (step.op == "layout" || step.name.empty()) continue;
    const auto pick = [&](const auto& ops, bool weighted) {
      for (const std::string& origin : step.origins)
        if (const auto it = ops.find(origin); it != ops.end() && (!weighted || is_weighted(it->second))) {
          side.layer_names[step.name] = origin;
          side.layer_ops[step.name] = it->second;
          return true;
        }
      return false;
    };
    if (!pick(originals, true) && !pick(own, true) && !pick(originals, false) && !pick(own, false)) {
      side.layer_names[step.name] = step.name;
      side.layer_ops[step.name] = step.op;
    }
  }
}

std::string layer_of(const Side& side, const std::string& value) {
  const auto it = side.layer_names.find(value);
  return it == side.layer_names.end() ? value : it->second;
}

std::map<std::string, Codes> read_codes(const Graph& candidate, const Graph& reference) {
  std::map<std::string, Codes> codes;
  std::map<std::string, std::string> dequantized;  // float value → the original's name
  const auto original = [&](const std::string& name) {
    if (const auto it = dequantized.find(name); it != dequantized.end()) return it->second;
    return reference.find(name) != kNoValue ? name : std::string();
  };
  for (const NodeId id : candidate.topological_order()) {
    const Node& node = candidate.node(id);
    if (node.inputs.empty() || node.output(0) == kNoValue) continue;
    const std::string& in = candidate.value(node.inputs[0]).name;
    const std::string& out = candidate.value(node.outputs[0]).name;
    if (node.is("QuantizeLinear")) {
      const Tensor* scale = candidate.constant(node.input(1));
      const Tensor* zero = candidate.constant(node.input(2));
      if (scale == nullptr || scale->elements() != 1) continue;
      codes[out] = {original(in), to_floats(*scale)[0],
                    zero != nullptr && zero->elements() == 1 ? to_ints(*zero)[0] : 0};
    } else if (node.is("DequantizeLinear")) {
      const auto it = codes.find(in);
      if (it == codes.end()) continue;
      if (it->second.original.empty()) it->second.original = original(out);
      dequantized[out] = it->second.original;
    }
  }
  return codes;
}

double kl_of_values(std::span<const float> x, std::span<const float> y) {
  constexpr size_t kBins = 64;
  constexpr double kFloor = 1e-6;
  float low = INFINITY, high = -INFINITY;
  for (const auto& values : {x, y})
    for (const float v : values) {
      if (!std::isfinite(v)) return NAN;
      low = std::min(low, v);
      high = std::max(high, v);
    }
  if (x.empty() || !(low < high)) return 0;
  const auto histogram = [&](std::span<const float> values) {
    std::vector<float> share(kBins, 0.0f);
    const double step = kBins / (static_cast<double>(high) - low);
    for (const float v : values)
      share[std::min(kBins - 1, static_cast<size_t>((static_cast<double>(v) - low) * step))] +=
          1.0f / static_cast<float>(values.size());
    return share;
  };
  return std::max(0.0, kl_of_probabilities(histogram(x), histogram(y), kFloor));
}

int64_t count_nonfinite(std::span<const float> values) {
  return std::count_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
}

}  // namespace slipway
