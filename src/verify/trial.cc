// What the stages share: samples as inputs, plans for one unit of samples, and names. Layers are named after nodes of
// the original where the plan's provenance leads there, because those are the names that its user knows.
#include "verify/trial.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "base/error.h"
#include "engine/executor.h"
#include "metrics/distance.h"

namespace slipway {
bool is_weighted(const std::string& op) {
  return op == "Conv" || op == "Gemm" || op == "MatMul" || op == "ConvTranspose" || op == "LSTM" || op == "GRU" ||
         op == "RNN" || op == "Einsum";
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

Tensor read_samples(const Trial& trial, int64_t first, int64_t count) {
  const auto begin = trial.samples.begin() + first;
  if (*(begin + count - 1) - *begin == count - 1)
    return trial.data.batch(Split::kTest, *begin, count, trial.options.threads);
  std::vector<Tensor> samples;
  for (int64_t i = 0; i < count; ++i) samples.push_back(trial.data.input(Split::kTest, *(begin + i)));
  return stack(samples);
}

std::vector<int64_t> spread(int64_t size, int64_t count) {
  count = std::clamp<int64_t>(count, 0, size);
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < count; ++i) positions.push_back(i * size / count);
  return positions;
}

Tensor stack(std::span<const Tensor> samples) {
  Dims dims = samples[0].dims();
  dims.insert(dims.begin(), static_cast<int64_t>(samples.size()));
  Tensor all(samples[0].dtype(), dims);
  std::byte* to = all.mutable_raw();
  for (const Tensor& sample : samples) {
    if (sample.dims() != samples[0].dims() || sample.dtype() != samples[0].dtype())
      fail(ErrorCode::kInvalidArgument,
           "The samples differ in shape; give `resize` and `crop` in the data file: {} and {}",
           to_string(samples[0].dims()), to_string(sample.dims()));
    std::memcpy(to, sample.raw(), sample.bytes());
    to += sample.bytes();
  }
  return all;
}

std::vector<Tensor> run_samples(Session& session, const Tensor& inputs, int64_t unit) {
  return run_in_steps(std::span(&inputs, 1), unit, [&](std::span<const Tensor> part) { return session.run(part); });
}

std::map<std::string, int64_t> input_dims(const Side& side, const Dims& sample_dims) {
  std::map<std::string, int64_t> dims;
  const std::string& input = side.graph.value(side.graph.inputs()[0]).name;
  for (size_t axis = 0; axis < sample_dims.size(); ++axis)
    dims[fmt::format("{}.{}", input, axis + 1)] = sample_dims[axis];
  return dims;
}

BuildOptions build_options(const Trial& trial, const Side& side, int64_t batch, int threads) {
  return {.batch = batch,
          .dims = input_dims(side, trial.sample_dims),
          .threads = threads,
          .tune = trial.options.tune,
          .timing_cache = trial.options.timing_cache,
          .quiet = trial.options.quiet};
}

void name_layers(Side& side, const Graph& reference) {
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
