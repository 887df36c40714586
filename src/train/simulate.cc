// Values are kept as the engine keeps them: as codes; as a sum of products still to be requantised, with the bounds and
// the residual that will be fused into that; or as reals. A sum becomes codes where a quantiser stands, reals where
// anything else reads it. Sums are exact: computed in float32 while they stay below 2^24, in double otherwise.
#include "train/simulate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <set>

#include "base/progress.h"
#include "engine/executor.h"
#include "engine/session.h"
#include "metrics/classification.h"
#include "model/op.h"
#include "quantize/ptq/weights.h"
#include "train/operators.h"
#include "train/tensors.h"

namespace slipway {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kExactInFloat = 0x1p24;
constexpr int64_t kBatch = 64;

/// Codes less their zero point, float32.
struct Coded {
  at::Tensor codes;
  QuantParams params;
};

/// Terms that add up to a value: float(sum) · factor + addend each, both before the division by the output's scale.
struct Sum {
  at::Tensor sums;              ///< double, exact
  std::vector<double> factors;  ///< one, or one a channel along axis 1 (the last for matrices)
  bool last = false;            ///< a matrix product's: channels along the last axis
  std::vector<double> addends;  ///< likewise; empty: none
  double divisor = 1;           ///< of an average
  std::optional<Coded> residual;
  double low = -kInfinity, high = kInfinity;
};

struct Simulated {
  at::Tensor real;
  std::optional<Coded> coded;
  std::optional<Sum> sum;
};

struct Linear {
  at::Tensor weights;           ///< codes, float32 or double where sums need it
  std::vector<double> bias;     ///< codes; empty: none
  std::vector<double> addends;  ///< a bias in reals; empty: none
  std::vector<double> scales;
};

at::Tensor along_channels(const at::Tensor& vector, const at::Tensor& like, bool last) {
  std::vector<int64_t> dims(static_cast<size_t>(like.dim()), 1);
  dims[last ? dims.size() - 1 : 1] = -1;
  return vector.view(dims);
}

at::Tensor floats(const std::vector<double>& values, double divisor) {
  std::vector<float> quotients;
  for (const double v : values) quotients.push_back(static_cast<float>(v / divisor));
  return at::tensor(quotients);
}

}  // namespace

struct Simulation::Impl {
  Impl(const QatModel& model, const QuantizeOptions& options)
      : graph(model.trained_graph()), order(graph.topological_order()), grid(activation_grid(options)) {
    const Quantizers quantizers = model.quantizers();
    for (const Placement::Group& group : model.placement().groups)
      for (const ValueId member : group.members)
        quantized[member] = quantizers.activations.at(graph.value(group.sources.front()).name);
    for (ValueId id = 0; id < graph.value_limit(); ++id)
      if (graph.value(id).alive && graph.value(id).is_constant()) constants[id] = to_torch(*graph.value(id).constant);
    for (const NodeId id : model.placement().weighted) add_linear(id, quantizers, options);
  }

  void add_linear(NodeId id, const Quantizers& quantizers, const QuantizeOptions& options) {
    const Node& node = graph.node(id);
    const std::vector<float>& scales = quantizers.weights.at(graph.value(node.outputs[0]).name);
    const float input_scale = quantized.at(node.inputs[0]).scale;
    const Tensor& weight = *graph.constant(node.inputs[1]);
    const int64_t axis = weight_axis(node);
    Linear linear;
    linear.weights = to_torch(quantize_weight(weight, axis, scales, weight_grid(options), node.label()).codes);
    for (const float scale : scales) linear.scales.push_back(static_cast<double>(input_scale) * double{scale});
    if (const Tensor* bias = graph.constant(node.input(2))) {
      const auto values = bias->values<float>();
      const bool integer = options.integer_bias && bias->rank() == 1 && values.size() == scales.size();
      if (integer)
        linear.bias = to_doubles(quantize_bias(*bias, scales, input_scale).codes);
      else
        for (size_t c = 0; c < scales.size(); ++c) linear.addends.push_back(double{values[values.size() == 1 ? 0 : c]});
    }
    const at::Tensor magnitudes = linear.weights.abs().to(at::kDouble).transpose(0, axis).flatten(1).sum(1);
    const double largest = 255 * magnitudes.max().item<double>();
    linear.weights = linear.weights.to(largest < kExactInFloat ? at::kFloat : at::kDouble);
    last_step = static_cast<double>(input_scale);
    double largest_weight = 0;
    for (const float w : weight.values<float>()) largest_weight = std::max(largest_weight, std::fabs(double{w}));
    last_step *= largest_weight;
    linears[id] = std::move(linear);
  }

  /// f of the fused operators before rounding, for an output of that scale.
  at::Tensor requantise(const Sum& sum, double scale) const {
    at::Tensor factor = floats(sum.factors, scale);
    if (sum.divisor != 1) factor = factor / static_cast<float>(sum.divisor);
    at::Tensor f = sum.sums.to(at::kFloat) * along_channels(factor, sum.sums, sum.last);
    if (!sum.addends.empty()) f = f + along_channels(floats(sum.addends, scale), f, sum.last);
    if (sum.residual)
      f = f + sum.residual->codes * static_cast<float>(static_cast<double>(sum.residual->params.scale) / scale);
    return f;
  }

  float code_of(double real, const QuantParams& params) const {
    if (real == kInfinity) return static_cast<float>(grid.saturate_max - params.zero_point);
    if (real == -kInfinity) return static_cast<float>(grid.saturate_min - params.zero_point);
    return static_cast<float>(quantize_value(static_cast<float>(real), params, grid) - params.zero_point);
  }

  Coded quantise(const Simulated& value, const QuantParams& params) const {
    if (value.coded && value.coded->params == params) return *value.coded;
    const at::Tensor f =
        value.sum ? requantise(*value.sum, static_cast<double>(params.scale)) : reals(value) / params.scale;
    const float low = code_of(value.sum ? value.sum->low : -kInfinity, params);
    const float high = code_of(value.sum ? value.sum->high : kInfinity, params);
    return {at::round(f).clamp(low, high), params};
  }

  at::Tensor reals(const Simulated& value) const {
    if (value.coded) return value.coded->codes * value.coded->params.scale;
    if (!value.sum) return value.real;
    at::Tensor f = requantise(*value.sum, 1);
    if (value.sum->low != -kInfinity) f = f.clamp_min(static_cast<float>(value.sum->low));
    if (value.sum->high != kInfinity) f = f.clamp_max(static_cast<float>(value.sum->high));
    return f;
  }

  bool single(ValueId id) const { return graph.only_user(id) != kNoNode; }

  Simulated linear(NodeId id, const Node& node, const Coded& x) const {
    const Linear& linear = linears.at(id);
    Node bare = node;
    bare.inputs.resize(2);
    const at::Tensor sums =
        find_operator(bare)({bare, graph.opset(), {x.codes.to(linear.weights.scalar_type()), linear.weights}})[0];
    Sum sum{.sums = sums.to(at::kDouble),
            .factors = linear.scales,
            .last = node.is("Gemm") || node.is("MatMul"),
            .addends = linear.addends};
    if (!linear.bias.empty())
      sum.sums = sum.sums + along_channels(at::tensor(linear.bias, at::kDouble), sum.sums, sum.last);
    return {.sum = std::move(sum)};
  }

  /// What the engine fuses into a sum of products, or has its own integer operator for; nothing otherwise.
  std::optional<Simulated> fused(NodeId id, const Node& node, const std::vector<const Simulated*>& inputs) const {
    if (linears.contains(id)) return linear(id, node, *inputs[0]->coded);
    if (inputs.empty() || inputs[0] == nullptr) return std::nullopt;
    const Simulated& x = *inputs[0];
    if ((node.is("Relu") || node.is("Clip")) && x.sum && single(node.inputs[0])) {
      Simulated result = x;
      double low = 0, high = kInfinity;
      if (node.is("Clip")) {
        low = node.has_input(1) ? constants.at(node.inputs[1]).item<double>() : -kInfinity;
        high = node.has_input(2) ? constants.at(node.inputs[2]).item<double>() : kInfinity;
      }
      result.sum->low = std::clamp(low, result.sum->low, result.sum->high);
      result.sum->high = std::clamp(high, result.sum->low, result.sum->high);
      return result;
    }
    if (node.is("Add") && inputs[1] != nullptr) {
      const bool swapped = !x.sum;
      const Simulated &a = swapped ? *inputs[1] : x, &b = swapped ? x : *inputs[1];
      const bool free = a.sum && a.sum->low == -kInfinity && a.sum->high == kInfinity && !a.sum->residual;
      if (free && a.sum->divisor == 1 && b.coded && a.sum->sums.sizes() == b.coded->codes.sizes() &&
          single(node.inputs[swapped ? 1 : 0])) {
        Simulated result = a;
        result.sum->residual = b.coded;
        return result;
      }
      if (x.coded && inputs[1]->coded && quantises_next(node.outputs[0]))
        return Simulated{.sum = Sum{.sums = x.coded->codes.to(at::kDouble),
                                    .factors = {static_cast<double>(x.coded->params.scale)},
                                    .residual = inputs[1]->coded}};
    }
    const bool global = node.is("GlobalAveragePool");
    if ((global || node.is("AveragePool")) && x.coded && quantises_next(node.outputs[0]))
      return average(node, *x.coded);
    return std::nullopt;
  }

  std::optional<Simulated> average(const Node& node, const Coded& x) const {
    const bool global = node.is("GlobalAveragePool");
    const std::vector<int64_t> pads = node.integers("pads");
    const bool padded = std::any_of(pads.begin(), pads.end(), [](int64_t p) { return p != 0; });
    if (!global && (padded || node.text("auto_pad", "NOTSET") != "NOTSET" || node.integer("ceil_mode", 0) != 0))
      return std::nullopt;
    double count = 1;
    const std::vector<int64_t> kernel = global ? x.codes.sizes().slice(2).vec() : node.integers("kernel_shape");
    for (const int64_t k : kernel) count *= static_cast<double>(k);
    const at::Tensor means = find_operator(node)({node, graph.opset(), {x.codes.to(at::kDouble)}})[0];
    return Simulated{
        .sum =
            Sum{.sums = at::round(means * count), .factors = {static_cast<double>(x.params.scale)}, .divisor = count}};
  }

  /// Whether the value, perhaps behind Relu or Clip, is quantised.
  bool quantises_next(ValueId id) const {
    while (!quantized.contains(id)) {
      const NodeId next = graph.only_user(id);
      if (next == kNoNode || !(graph.node(next).is("Relu") || graph.node(next).is("Clip"))) return false;
      id = graph.node(next).outputs[0];
    }
    return true;
  }

  /// Operators that only choose or move values do so to codes, where all of them mean the same.
  bool moves_codes(const Node& node, const std::vector<const Simulated*>& inputs) const {
    const OpSpec* spec = find_op(graph, node);
    if (!node.is("MaxPool") && !node.is("Concat") && (spec == nullptr || !spec->has(kMovesOnly))) return false;
    if (inputs.empty() || inputs[0] == nullptr || !inputs[0]->coded) return false;
    return !node.is("Concat") || std::all_of(inputs.begin(), inputs.end(), [&](const Simulated* input) {
      return input != nullptr && input->coded && input->coded->params == inputs[0]->coded->params;
    });
  }

  at::Tensor run(const std::vector<at::Tensor>& inputs, std::map<std::string, at::Tensor>* codes) const {
    const at::NoGradGuard no_gradient;
    std::vector<Simulated> values(static_cast<size_t>(graph.value_limit()));
    const auto put = [&](ValueId id, Simulated value) {
      if (const auto found = quantized.find(id); found != quantized.end()) {
        value = {.coded = quantise(value, found->second)};
        if (codes != nullptr)
          (*codes)[graph.value(id).name] = (value.coded->codes + found->second.zero_point).to(at::kInt);
      }
      values[static_cast<size_t>(id)] = std::move(value);
    };
    for (size_t i = 0; i < inputs.size(); ++i) put(graph.inputs()[i], {.real = inputs[i]});
    for (const NodeId id : order) {
      const Node& node = graph.node(id);
      std::vector<const Simulated*> operands;
      for (const ValueId at : node.inputs)
        operands.push_back(at == kNoValue || constants.contains(at) ? nullptr : &values[static_cast<size_t>(at)]);
      if (auto result = fused(id, node, operands)) {
        put(node.outputs[0], *std::move(result));
        continue;
      }
      const bool moves = moves_codes(node, operands);
      std::vector<at::Tensor> arguments;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const ValueId at = node.inputs[i];
        if (at == kNoValue)
          arguments.emplace_back();
        else if (operands[i] == nullptr)
          arguments.push_back(constants.at(at));
        else
          arguments.push_back(moves && operands[i]->coded ? operands[i]->coded->codes : reals(*operands[i]));
      }
      const bool floats = std::any_of(arguments.begin(), arguments.end(),
                                      [](const at::Tensor& t) { return t.defined() && t.is_floating_point(); });
      const std::vector<at::Tensor> outputs =
          run_operator(graph, node, floats ? find_operator(node) : nullptr, std::move(arguments));
      for (size_t i = 0; i < outputs.size() && i < node.outputs.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        Simulated result{.real = outputs[i]};
        if (moves) result = {.coded = Coded{outputs[i], operands[0]->coded->params}};
        put(node.outputs[i], std::move(result));
      }
    }
    const ValueId output = graph.outputs()[0];
    return reals(values[static_cast<size_t>(output)]);
  }

  double output_step() const {
    const auto found = quantized.find(graph.outputs()[0]);
    return found == quantized.end() ? last_step : static_cast<double>(found->second.scale);
  }

  const Graph graph;
  const std::vector<NodeId> order;
  const QuantGrid grid;
  std::map<ValueId, QuantParams> quantized;
  std::map<ValueId, at::Tensor> constants;
  std::map<NodeId, Linear> linears;
  double last_step = 0;
};

Simulation::Simulation(const QatModel& model, const QuantizeOptions& options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Simulation::~Simulation() = default;
at::Tensor Simulation::run(const std::vector<at::Tensor>& inputs, std::map<std::string, at::Tensor>* codes) {
  return impl_->run(inputs, codes);
}
double Simulation::output_step() const { return impl_->output_step(); }

namespace {

std::vector<at::Tensor> tensors_of(std::span<const Tensor> inputs) {
  std::vector<at::Tensor> tensors;
  for (const Tensor& input : inputs) tensors.push_back(to_torch(input));
  return tensors;
}

/// Integer tensors of the engine's plan against the simulation's, sample by sample.
void compare_tensors(Simulation& simulation, const Graph& executed, const Feed& feed, const QatOptions& options,
                     QatAgreement& agreement) {
  std::map<std::string, std::string> originals;  // by name of the codes
  for (const NodeId id : executed.topological_order())
    if (const Node& node = executed.node(id); node.is("QuantizeLinear"))
      originals[executed.value(node.outputs[0]).name] = executed.value(node.inputs[0]).name;
  std::map<std::map<std::string, int64_t>, std::unique_ptr<Session>> sessions;  // by sizes beside the batch
  const int64_t size = feed.data().size(Split::kTest), count = std::min(options.compare_samples, size);
  std::set<std::string> compared;
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<Tensor> sample = feed.request(Split::kTest, i * size / count);
    std::map<std::string, at::Tensor> codes;
    simulation.run(tensors_of(sample), &codes);
    const std::map<std::string, int64_t> dims = dims_of_request(executed, sample);
    std::unique_ptr<Session>& session = sessions[dims];
    if (session == nullptr)
      session =
          std::make_unique<Session>(Plan::build(executed, {.dims = dims, .threads = options.threads, .tune = false}));
    session->run_observed(sample, [&](const std::string& name, const Tensor& value) {
      const auto original = originals.find(name);
      if (original == originals.end() || !is_integer(value.dtype())) return;
      const auto simulated = codes.find(original->second);
      if (simulated == codes.end()) return;
      const at::Tensor expected = simulated->second.reshape(value.dims());
      const int64_t unequal = to_torch(value).to(at::kInt).ne(expected).sum().item<int64_t>();
      compared.insert(name);
      agreement.elements += value.elements();
      agreement.unequal_elements += unequal;
      if (unequal > 0 && agreement.first_unequal.empty()) agreement.first_unequal = original->second;
    });
  }
  agreement.compared_samples = count;
  agreement.tensors = static_cast<int64_t>(compared.size());
}

}  // namespace

QatAgreement compare_with_execution(const QatModel& model, const Graph& executed, const Feed& feed,
                                    const std::vector<int64_t>& executed_classes, const QatOptions& options) {
  QatAgreement agreement;
  Simulation simulation(model, options.quantize);
  agreement.output_step = simulation.output_step();
  agreement.samples = static_cast<int64_t>(executed_classes.size());
  Progress progress("simulating", agreement.samples, options.quiet);
  for (int64_t first = 0; first < agreement.samples; first += kBatch) {
    const int64_t n = std::min(kBatch, agreement.samples - first);
    std::vector<int64_t> indices(static_cast<size_t>(n));
    std::iota(indices.begin(), indices.end(), first);
    const auto outputs = run_requests(feed.requests(Split::kTest, indices, options.threads),
                                      {.rows = kBatch, .fill = false}, [&](std::span<const Tensor> inputs) {
                                        return std::vector<Tensor>{from_torch(simulation.run(tensors_of(inputs)))};
                                      });
    for (const int64_t index : indices) {
      std::vector<float> scores = to_floats(outputs[static_cast<size_t>(index - first)][0]);
      const int64_t simulated = argmax(scores), executed_class = executed_classes[static_cast<size_t>(index)];
      if (simulated == executed_class) {
        ++agreement.equal;
        continue;
      }
      std::sort(scores.begin(), scores.end(), std::greater());
      const double margin = scores.size() > 1 ? double{scores[0]} - double{scores[1]} : 0;
      agreement.largest_margin = std::max(agreement.largest_margin, margin);
      agreement.disagreements.push_back({feed.data().sample_name(Split::kTest, index),
                                         feed.data().label(Split::kTest, index), simulated, executed_class, margin});
    }
    progress.step(n);
  }
  compare_tensors(simulation, executed, feed, options, agreement);
  return agreement;
}

}  // namespace slipway
