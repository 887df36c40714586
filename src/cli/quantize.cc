// slipway quantize: static post-training quantisation to a standard QDQ file that carries its pre-processing and
// labels; with --strategy, training where the policy asks for it.
#include "quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "data/feed.h"
#include "model/onnx/onnx.h"
#include "quantize/auto_quantize.h"
#include "report/policy.h"

namespace slipway {
namespace {

struct QuantizeFlags {
  std::string model, data, output, method = "mse", profile = "portable", save_calibration, strategy = "ptq", policy;
  const CLI::App* verb = nullptr;
  std::vector<std::string> exclude, exclude_regex;
  double percentile = 99.999;
  int activation_bits = 8, weight_bits = 8, threads = 1;
  int64_t samples = 500, test_samples = -1, epochs = QatOptions().epochs;
  bool both_add_inputs = false, float_bias = false, json = false, tensors = false;
};

void print_report(const QuantizeReport& report, bool tensors) {
  if (tensors) {
    Table table({"tensor", "scale", "zero", "min", "max", "method", "SQNR dB"});
    for (const QuantizedTensor& t : report.tensors)
      table.add({t.name, fmt::format("{:.6g}", t.params.scale), std::to_string(t.params.zero_point),
                 fmt::format("{:.4g}", t.min), fmt::format("{:.4g}", t.max),
                 std::string(to_string(t.range.chosen.method)), fmt::format("{:.1f}", t.range.chosen.sqnr_db)});
    table.print();
    fmt::print("\n");
  }
  const QuantGrid grid = activation_grid(report.options);
  const auto quantized =
      std::count_if(report.nodes.begin(), report.nodes.end(), [](const NodeDecision& n) { return n.quantized; });
  fmt::print(
      "{} of {} nodes run on integers; {} activations ({}INT{}) and {} weights (INT{}) quantised from {} samples\n",
      quantized, report.nodes.size(), report.tensors.size(), grid.symmetric ? "" : "U", report.options.activation_bits,
      report.weights.size(), report.options.weight_bits, report.samples);
  struct Floats {
    std::string first;
    int64_t count = 0;
  };
  std::map<std::pair<std::string, std::string>, Floats> floats;  // by operator and reason
  for (const NodeDecision& n : report.nodes) {
    if (n.quantized || n.reason.empty()) continue;
    Floats& group = floats[{n.op_type, n.reason}];
    if (group.count++ == 0) group.first = n.name;
  }
  for (const auto& [what, group] : floats)
    fmt::print("  stays float: {} '{}'{}: {}\n", what.first, group.first,
               group.count > 1 ? fmt::format(" and {} more", group.count - 1) : "", what.second);
  if (report.tensors.empty()) return;
  const auto worst = std::min_element(report.tensors.begin(), report.tensors.end(),
                                      [](const QuantizedTensor& a, const QuantizedTensor& b) {
                                        return a.range.chosen.sqnr_db < b.range.chosen.sqnr_db;
                                      });
  fmt::print("  noisiest activation: '{}' at {:.1f} dB\n", worst->name, worst->range.chosen.sqnr_db);
}

/// What the policy asks for; bits given on the command line come first.
QuantizationGoal goal_of(const QuantizeFlags& o) {
  QuantizationGoal goal = o.policy.empty() ? QuantizationGoal() : quantization_goal(load_policy(o.policy));
  if (o.verb->count("--activation-bits") > 0) goal.activation_bits = o.activation_bits;
  if (o.verb->count("--weight-bits") > 0) goal.weight_bits = o.weight_bits;
  return goal;
}

void require_consistent(const QuantizeFlags& o, const std::optional<QuantizeStrategy>& strategy) {
  if (strategy && !o.policy.empty())
    fail(ErrorCode::kInvalidArgument,
         "A policy decides between PTQ and QAT only with --strategy auto; leave out --policy: {}", o.policy);
  if (strategy == QuantizeStrategy::kQat && !o.save_calibration.empty())
    fail(ErrorCode::kInvalidArgument, "QAT leaves no calibration; leave out --save-calibration: {}",
         o.save_calibration);
  if (strategy == QuantizeStrategy::kPtq && o.verb->count("--epochs") > 0)
    fail(ErrorCode::kInvalidArgument, "--strategy ptq trains nothing; leave out --epochs, or choose qat or auto");
  require_replaces_nothing({o.output, o.save_calibration}, {o.model}, {o.data, o.policy});
}

/// By the rule, or QAT with its defaults; returns the exit status.
int run_strategy(const QuantizeFlags& o, const Dataset& data, const QuantizeOptions& quantize_options,
                 const std::optional<QuantizeStrategy>& strategy) {
  std::optional<QuantizeReport> report;
  AutoQuantizeOptions options{
      .goal = goal_of(o), .strategy = strategy, .test_samples = o.test_samples, .threads = o.threads};
  options.qat.quantize = quantize_options;
  options.qat.calibrate = {.samples = o.samples, .threads = o.threads};
  options.qat.epochs = o.epochs;
  options.qat.quiet = o.json;
  options.on_sentence = [&](const std::string& sentence) {
    if (!o.json) fmt::print("{}\n", sentence);
    std::fflush(stdout);
  };
  options.on_ptq = [&](const QuantizationRun& ptq) {
    report = ptq.report;
    if (!o.save_calibration.empty()) save_calibration(ptq.calibration, o.save_calibration);
  };
  const AutoQuantizeResult result = auto_quantize(o.model, data, o.output, options);
  const double before = static_cast<double>(model_bytes(o.model)), after = static_cast<double>(file_bytes(o.output));
  if (o.json) {
    nlohmann::json facts = to_json(result);
    facts.update({{"model", o.model}, {"output", o.output}, {"bytes_before", before}, {"bytes_after", after}});
    print_json(facts);
  } else {
    if (report && result.kept == QuantizeStrategy::kPtq) print_report(*report, o.tensors);
    if (result.qat && result.kept == QuantizeStrategy::kQat)
      fmt::print("trained {} epochs, epoch {} is kept ({}); top-1 {:.2f} %, was {:.2f} %\n",
                 result.qat->epochs.size() - 1, result.qat->best_epoch, result.qat->stopped, 100 * result.qat_accuracy,
                 100 * result.float_accuracy);
    fmt::print("{} -> {} ({:.1f} %): {}\n", human_bytes(before), human_bytes(after), 100 * after / before, o.output);
  }
  return result.met ? 0 : exit_status(ErrorCode::kVerificationFailed);
}

int run_quantize(const QuantizeFlags& o) {
  const std::optional<QuantizeStrategy> strategy = parse_strategy(o.strategy);
  require_consistent(o, strategy);
  QuantizeOptions options;
  options.profile = parse_quantize_profile(o.profile);
  options.activation_bits = o.activation_bits;
  options.weight_bits = o.weight_bits;
  options.range.method = parse_range_method(o.method);
  options.range.percentile = o.percentile;
  options.exclude = o.exclude;
  options.exclude_regex = o.exclude_regex;
  options.quantize_both_add_inputs = o.both_add_inputs;
  options.integer_bias = !o.float_bias;
  require_writable(o.output);
  Graph model = load_onnx(o.model);
  const Dataset data = Dataset::open(o.data);
  for (const std::string& warning : data.warnings()) fmt::print(stderr, "warning: {}\n", warning);
  require_fitting(data, model);
  carry_preprocess(data, model);
  if (strategy != QuantizeStrategy::kPtq) return run_strategy(o, data, options, strategy);
  QuantizationRun result = quantize(model, samples_of(Feed(data, model), Split::kCalibration, o.threads), options,
                                    {.samples = o.samples, .threads = o.threads});
  carry_preprocess(data, result.graph);
  save_onnx(result.graph, o.output);
  if (!o.save_calibration.empty()) save_calibration(result.calibration, o.save_calibration);
  const double before = static_cast<double>(model_bytes(o.model)), after = static_cast<double>(file_bytes(o.output));
  if (o.json) {
    nlohmann::json facts = to_json(result.report);
    facts["model"] = o.model;
    facts["output"] = o.output;
    facts["bytes_before"] = before;
    facts["bytes_after"] = after;
    print_json(facts);
    return 0;
  }
  print_report(result.report, o.tensors);
  if (o.weight_bits < 8)
    fmt::print(
        "  weights of {} bits, rounded without training, often cost points of accuracy: slipway verify measures them, "
        "slipway qat wins them back\n",
        o.weight_bits);
  fmt::print("{} -> {} ({:.1f} %): {}\n", human_bytes(before), human_bytes(after), 100 * after / before, o.output);
  return 0;
}

}  // namespace

void add_quantize(Cli& cli) {
  auto o = std::make_shared<QuantizeFlags>();
  CLI::App* verb = add_verb(
      cli, "quantize", "Quantise to INT8, weights also to INT4, after training, with calibration data",
      "  slipway quantize model.onnx --data data.yaml -o model.int8.onnx\n"
      "  slipway quantize model.onnx --data data.yaml -o m.onnx --profile cpu --method entropy --exclude head/fc\n"
      "  slipway quantize model.onnx --data data.yaml -o m.onnx --weight-bits 4\n"
      "  slipway quantize model.onnx --data data.yaml -o m.onnx --strategy auto --policy policy.yaml",
      o->json);
  o->verb = verb;
  verb->add_option("model", o->model, "ONNX file")->required();
  verb->add_option("--data", o->data, "Data file (see slipway data init); its calibration split is used")->required();
  verb->add_option("-o,--output", o->output, "QDQ ONNX file to write")->required();
  verb->add_option("--strategy", o->strategy,
                   "ptq: after training; qat: with training (slipway qat); auto: as the policy's `quantization` asks, "
                   "with the reasons")
      ->capture_default_str();
  verb->add_option("--epochs", o->epochs, "Of training, where --strategy asks for it; slipway qat has all its options")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  verb->add_option("--test-samples", o->test_samples, "Test samples that --strategy auto judges by; all without it")
      ->check(CLI::Range(1, 1'000'000'000));
  verb->add_option("--policy", o->policy, "Policy for --strategy auto (slipway policy init); else the defaults");
  verb->add_option("--method", o->method,
                   "How an activation's range is chosen: mse, minmax, percentile or entropy; minmax also keeps 4-bit "
                   "weights from being clipped")
      ->capture_default_str();
  verb->add_option("--percentile", o->percentile, "Percent of the values kept by --method percentile")
      ->capture_default_str();
  verb->add_option("--profile", o->profile,
                   "portable: symmetric INT8, for every runtime; cpu: asymmetric UINT8 activations")
      ->capture_default_str();
  verb->add_option("--activation-bits", o->activation_bits, "8, or 16 for INT16 activations (opset 21)")
      ->capture_default_str();
  verb->add_option("--weight-bits", o->weight_bits, "8, or 4 for INT4 weights, packed two a byte (opset 21)")
      ->capture_default_str();
  verb->add_option("--samples", o->samples, "Calibration samples, spread evenly over the split")->capture_default_str();
  verb->add_option("--exclude", o->exclude, "Node that stays float, by name (repeatable)");
  verb->add_option("--exclude-regex", o->exclude_regex,
                   "Nodes that stay float, by regular expression on the whole name (repeatable)");
  verb->add_flag("--both-add-inputs", o->both_add_inputs,
                 "Quantise both branches of a residual Add, as ONNX Runtime's integer kernels need");
  verb->add_flag("--float-bias", o->float_bias, "Leave biases in FP32, as TensorRT wants them");
  verb->add_option("--save-calibration", o->save_calibration, "Also write what was observed, as JSON");
  verb->add_option("--threads", o->threads, "Threads")->capture_default_str();
  verb->add_flag("--tensors", o->tensors, "Print every activation's scale, range, method and SQNR");
  verb->callback([=, &cli] { cli.exit_code = run_quantize(*o); });
}

}  // namespace slipway
