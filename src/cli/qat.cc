// slipway qat: quantisation-aware training from an ONNX file to a standard QDQ file.
#include "quantize/qat/qat.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "data/feed.h"
#include "model/onnx/onnx.h"
#include "quantize/auto_quantize.h"
#include "verify/training.h"

namespace slipway {
namespace {

constexpr size_t kShownDisagreements = 10;

struct QatFlags {
  std::string model, data, output, report, bits = "w8a8", loss = "mixed", optimizer = "sgd", method = "mse",
                                           profile = "portable";
  QatOptions qat;
  bool flip = false, no_flip = false, json = false;
  const CLI::App* verb = nullptr;

  bool given(const char* option) const { return verb->count(option) > 0; }
};

void require_range(const char* option, double value, double low, double high) {
  if (!(value >= low && value <= high))
    fail(ErrorCode::kInvalidArgument, "A number from {:g} to {:g} is expected for {}: {:g}", low, high, option, value);
}

/// What is wrong with the options alone; nothing is read for it.
void require_sensible(const QatFlags& o) {
  const QatOptions& q = o.qat;
  constexpr double kMany = 1e9;
  require_range("--epochs", static_cast<double>(q.epochs), 1, 1e5);
  require_range("--batch", static_cast<double>(q.batch), 1, 65536);
  if (o.given("--samples")) require_range("--samples", static_cast<double>(q.samples), 2, kMany);
  require_range("--held-out", q.held_out, 0.001, 0.9);
  require_range("--patience", static_cast<double>(q.patience), 0, kMany);
  require_range("--time-budget-minutes", q.time_budget_minutes, 0, kMany);
  require_range("--distillation-weight", q.distillation_weight, 0, 1);
  require_range("--temperature", q.temperature, 0.01, 1000);
  if (o.given("--learning-rate")) require_range("--learning-rate", q.learning_rate, 1e-12, 100);
  require_range("--momentum", q.momentum, 0, 0.9999);
  require_range("--weight-decay", q.weight_decay, 0, 1);
  require_range("--warmup", q.warmup, 0, 1);
  if (o.given("--crop")) require_range("--crop", static_cast<double>(q.crop), 0, 1024);
  require_range("--threads", q.threads, 0, 1024);
  require_range("--calibration-samples", static_cast<double>(q.calibrate.samples), 1, kMany);
  const auto contradiction = [&](bool both, const char* sentence) {
    if (both) fail(ErrorCode::kInvalidArgument, "{}: {}", sentence, o.model);
  };
  contradiction(o.flip && o.no_flip, "Pictures are flipped or not; leave out one of --flip and --no-flip");
  contradiction(q.optimizer == QatOptimizer::kAdamW && o.given("--momentum"),
                "AdamW has no --momentum; leave it out, or choose --optimizer sgd");
  contradiction(q.loss == QatLoss::kLabels && (o.given("--distillation-weight") || o.given("--temperature")),
                "With --loss labels nothing is distilled; leave out --distillation-weight and --temperature");
  contradiction(q.loss == QatLoss::kDistillation && o.given("--distillation-weight"),
                "With --loss distillation the weight is 1; leave out --distillation-weight, or choose --loss mixed");
  contradiction(o.given("--max-held-out") && q.max_held_out < 1, "At least one sample must be held out");
  for (const std::string& other : {o.report, q.checkpoint})
    contradiction(!other.empty() && is_same_file(other, o.output),
                  "The report or the checkpoint would replace the trained model; give it another name");
}

/// The model must be a float one that the data fits, as far as that is known before training.
void require_fitting(const QatFlags& o) {
  require_replaces_nothing({o.output, o.report, o.qat.checkpoint}, {o.model}, {o.data});
  Graph model = load_onnx(o.model);
  activation_grid(o.qat.quantize);
  weight_grid(o.qat.quantize);
  prepare_for_quantization(model, o.qat.quantize);
  const Dataset data = Dataset::open(o.data);
  require_fitting(data, model, true);
  carry_preprocess(data, model);
}

std::string percent(double share) { return std::isfinite(share) ? fmt::format("{:.2f} %", 100 * share) : "–"; }
std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : "–"; }

void print_header() {
  fmt::print("{:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}\n", "epoch", "rate", "loss", "accuracy", "held out", "accuracy",
             "seconds");
}

void print_epoch(const QatEpoch& e) {
  fmt::print("{:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8.1f}{}\n", e.epoch,
             e.epoch == 0 ? "PTQ" : fmt::format("{:.2e}", e.learning_rate), number(e.loss), percent(e.accuracy),
             number(e.held_out_loss), percent(e.held_out_accuracy), e.seconds, e.best ? "  best" : "");
  std::fflush(stdout);
}

void print_agreement(const QatAgreement& a) {
  if (a.samples == 0) return;
  fmt::print("\nSimulation and execution agree on {} of {} test samples", a.equal, a.samples);
  if (a.elements > 0)
    fmt::print("; {} of {} elements of {} integer tensors differ{}", a.unequal_elements, a.elements, a.tensors,
               a.first_unequal.empty() ? "" : fmt::format(", first in '{}'", a.first_unequal));
  fmt::print(".\n");
  const int64_t unequal = a.samples - a.equal;
  if (unequal == 0) return;
  fmt::print("Largest margin of a disagreement: {:.4g}; one step of the output: {:.4g}.\n", a.largest_margin,
             a.output_step);
  Table table({"sample", "label", "simulated", "executed", "margin"});
  const size_t shown = std::min(a.disagreements.size(), kShownDisagreements);
  for (size_t i = 0; i < shown; ++i) {
    const QatDisagreement& d = a.disagreements[i];
    table.add({d.sample, d.label < 0 ? "-" : std::to_string(d.label), std::to_string(d.simulated),
               std::to_string(d.executed), fmt::format("{:.4g}", d.margin)});
  }
  if (shown > 0) table.print();
  if (unequal > static_cast<int64_t>(shown)) fmt::print("and {} more\n", unequal - static_cast<int64_t>(shown));
}

void print_result(const QatFlags& o, const QatResult& r) {
  const std::string bits = bits_name(o.qat.quantize);
  fmt::print(
      "\nTraining ended: {}.\n{} of {} nodes run on integers; {:.1f} s an epoch, {:.0f} s in all; epoch {} is "
      "kept.\n\n",
      r.stopped, r.quantized_nodes, r.nodes, r.seconds_per_epoch, r.seconds, r.best_epoch);
  const auto size = [&](uint64_t bytes) {
    return fmt::format("{} ({:.1f} %)", human_bytes(static_cast<double>(bytes)),
                       100 * static_cast<double>(bytes) / std::max<double>(1, static_cast<double>(r.float_bytes)));
  };
  Table table({"bits", "method", r.labels ? "top-1" : "same class as the original", "file"});
  table.add({"fp32", "original", percent(r.labels ? r.float_accuracy : 1), size(r.float_bytes)});
  table.add({bits, "PTQ", percent(r.ptq_accuracy), size(r.ptq_bytes)});
  table.add({bits, "QAT", percent(r.accuracy), size(r.bytes)});
  table.print();
  fmt::print("({} test samples, as executed)\n", r.test_samples);
  if (r.accuracy < r.ptq_accuracy)
    fmt::print(
        "On the test samples PTQ is better: slipway quantize gives it, and with --strategy auto the better one.\n");
  print_agreement(r.agreement);
  fmt::print("\nwrote {}\n", o.output);
}

void run_qat(QatFlags& o) {
  QatOptions& q = o.qat;
  parse_bits(o.bits, q.quantize);
  q.loss = parse_qat_loss(o.loss);
  q.optimizer = parse_qat_optimizer(o.optimizer);
  q.quantize.range.method = parse_range_method(o.method);
  q.quantize.profile = parse_quantize_profile(o.profile);
  q.flip = o.flip ? 1 : o.no_flip ? 0 : -1;
  q.quiet = o.json;
  require_sensible(o);
  for (const std::string& path : {o.output, o.report, q.checkpoint})
    if (!path.empty()) require_writable(path);
  require_fitting(o);
  bool first = true;
  const QatResult result =
      run_qat({.model = o.model, .data = o.data, .output = o.output}, q, [&](const QatEpoch& epoch) {
        if (o.json) return;
        if (std::exchange(first, false)) print_header();
        print_epoch(epoch);
      });
  if (!o.report.empty()) write_file(o.report, std::string_view(training_html(training_figures(q, result), o.output)));
  if (o.json) {
    print_json({{"model", o.model},
                {"output", o.output},
                {"report", o.report},
                {"options", to_json(q)},
                {"result", to_json(result)}});
    return;
  }
  print_result(o, result);
  if (!o.report.empty()) fmt::print("report: {}\n", o.report);
}

void add_training(CLI::App* verb, QatFlags& o) {
  QatOptions& q = o.qat;
  const char* group = "Training";
  verb->add_option("--epochs", q.epochs, "Times that the training data is gone through")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--loss", o.loss,
                   "labels: cross entropy with them; distillation: with what the original says, which needs no labels; "
                   "mixed: both")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--distillation-weight", q.distillation_weight, "Share of distillation in the mixed loss, 0 to 1")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--temperature", q.temperature, "Of both softmaxes in distillation: higher shows more of the rest")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--optimizer", o.optimizer, "sgd (with momentum) or adamw")->capture_default_str()->group(group);
  verb->add_option("--learning-rate", q.learning_rate,
                   "The highest; for adamw as a share of each tensor's size; without it, by optimiser and bits")
      ->group(group);
  verb->add_option("--momentum", q.momentum, "Of sgd")->capture_default_str()->group(group);
  verb->add_option("--weight-decay", q.weight_decay, "Pull of the weights towards 0")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--warmup", q.warmup, "Share of the steps in which the rate rises; then it falls as a cosine to 0")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--batch", q.batch, "Samples a step")->capture_default_str()->group(group);
  verb->add_option("--patience", q.patience, "Stop after so many epochs without a better one; 0: never")
      ->capture_default_str()
      ->group(group);
  verb->add_option(
          "--time-budget-minutes", q.time_budget_minutes,
          "For calibration and training, keeping the best epoch; the test split is measured after it; 0: no limit")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--seed", q.seed, "The same seed gives the same model")->capture_default_str()->group(group);
  verb->add_option("--threads", q.threads, "Threads; 0: all cores")->capture_default_str()->group(group);
}

void add_samples(CLI::App* verb, QatFlags& o) {
  QatOptions& q = o.qat;
  const char* group = "Data";
  verb->add_option("--samples", q.samples, "Train on so many, spread evenly over the training split; all without it")
      ->group(group);
  verb->add_option("--held-out", q.held_out, "Share of them that is not trained on and chooses the best epoch")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--max-held-out", q.max_held_out, "At most so many")->capture_default_str()->group(group);
  verb->add_option("--crop", q.crop, "Shift pictures by up to so many pixels (default: as the data file says)")
      ->group(group);
  verb->add_flag("--flip", o.flip, "Mirror half of the pictures left to right (default: as the data file says)")
      ->group(group);
  verb->add_flag("--no-flip", o.no_flip, "Never mirror them")->group(group);
}

void add_quantisation(CLI::App* verb, QatFlags& o) {
  QatOptions& q = o.qat;
  const char* group = "Quantisation";
  verb->add_option("--bits", o.bits, "Of weights and activations: w8a8 or w4a8")->capture_default_str()->group(group);
  verb->add_option("--profile", o.profile,
                   "portable: symmetric INT8, for every runtime; cpu: asymmetric UINT8 activations")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--exclude", q.quantize.exclude, "Node that stays float, by name (repeatable)")->group(group);
  verb->add_option("--exclude-regex", q.quantize.exclude_regex,
                   "Nodes that stay float, by regular expression on the whole name (repeatable)")
      ->group(group);
  verb->add_option("--method", o.method, "How the first ranges are chosen: mse, minmax, percentile or entropy")
      ->capture_default_str()
      ->group(group);
  verb->add_option("--calibration-samples", q.calibrate.samples, "That they are chosen from")
      ->capture_default_str()
      ->group(group);
}

}  // namespace

void add_qat(Cli& cli) {
  auto o = std::make_shared<QatFlags>();
  CLI::App* verb = add_verb(
      cli, "qat", "Quantise with training: learns what rounding costs and wins it back",
      "  slipway qat model.onnx --data data.yaml -o model.qat.onnx\n"
      "  slipway qat model.onnx --data data.yaml --bits w4a8 --epochs 10 -o model.w4.onnx --report training.html\n"
      "  slipway qat model.onnx --data data.yaml --loss distillation -o model.qat.onnx          no labels needed\n"
      "  slipway qat model.onnx --data data.yaml --time-budget-minutes 20 --patience 3 -o model.qat.onnx\n\n"
      "It starts from post-training quantisation (epoch 0), trains weights and scales, keeps the epoch that is best "
      "on\n"
      "held-out data and writes standard QDQ ONNX. Killed at any time, the same command goes on from its checkpoint.\n"
      "Whether a model needs it at all: slipway quantize --strategy auto --policy policy.yaml.",
      o->json);
  o->verb = verb;
  verb->add_option("model", o->model, "Float model, ONNX")->required();
  verb->add_option("--data", o->data, "Data file (see slipway data init); its training split is learned from")
      ->required();
  verb->add_option("-o,--output", o->output, "QDQ ONNX file to write")->required();
  verb->add_option("--report", o->report, "HTML page to write: curves, accuracy, size, agreement");
  verb->add_option("--checkpoint", o->qat.checkpoint, "Where training saves its state (default: OUTPUT.checkpoint)");
  verb->add_flag("--restart", o->qat.restart, "Ignore a checkpoint that is there");
  add_quantisation(verb, *o);
  add_training(verb, *o);
  add_samples(verb, *o);
  verb->callback([=] { run_qat(*o); });
}

}  // namespace slipway
