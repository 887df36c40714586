// Post-training quantisation, its judgement, and training where the rule or the judgement asks for it. Each candidate
// is written beside the output and takes its name only at the end, so that an output is always one that was chosen.
// What computes is a step that returns JSON, so that a caller can run it in a process of its own.
#include "quantize/auto_quantize.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "data/feed.h"
#include "metrics/classification.h"
#include "model/onnx/onnx.h"
#include "quantize/predict.h"

namespace slipway {
namespace {

using nlohmann::json;

/// A candidate's file, removed unless it was kept.
class CandidateFile {
 public:
  explicit CandidateFile(std::string path) : path_(std::move(path)) {}
  ~CandidateFile() { ::unlink(path_.c_str()); }
  CandidateFile(const CandidateFile&) = delete;
  CandidateFile& operator=(const CandidateFile&) = delete;
  const std::string& path() const { return path_; }
  void keep_as(const std::string& output) const {
    if (std::rename(path_.c_str(), output.c_str()) != 0)
      fail(ErrorCode::kIo, "The quantised model can't be given its name ({}): {}", std::strerror(errno), output);
  }

 private:
  std::string path_;
};

std::string lost(double points) {
  return points < 0 ? fmt::format("gains {:.2f} points", -points) : fmt::format("loses {:.2f} points", points);
}

class AutoQuantize {
 public:
  AutoQuantize(const std::string& model, const Dataset& data, const std::string& output,
               const AutoQuantizeOptions& options)
      : model_(model),
        data_(data),
        output_(output),
        o_(options),
        qat_options_(options.qat),
        limit_(options.goal.max_accuracy_drop_points.value_or(kDefaultDropPoints)),
        ptq_file_(output + ".ptq"),
        qat_file_(output + ".qat") {
    qat_options_.quantize.weight_bits = o_.goal.weight_bits;
    qat_options_.quantize.activation_bits = o_.goal.activation_bits;
    if (qat_options_.checkpoint.empty()) qat_options_.checkpoint = output + ".checkpoint";
  }

  AutoQuantizeResult run() {
    StrategyChoice choice{o_.strategy.value_or(QuantizeStrategy::kPtqThenQat), ""};
    if (!o_.strategy) {
      choice = choose_strategy(o_.goal);
      say(choice.why);
    }
    if (choice.strategy == QuantizeStrategy::kQat)
      train_only();
    else
      ptq_and_more(choice.strategy);
    return std::move(result_);
  }

 private:
  void say(std::string sentence) {
    if (o_.on_sentence) o_.on_sentence(sentence);
    result_.why.push_back(std::move(sentence));
  }
  json apart(const std::function<json()>& step) const { return o_.apart ? o_.apart(step) : step(); }
  // Rounded, for the difference of two shares falls just short of a limit of whole points.
  double points(double accuracy) const { return std::round(1e8 * (result_.float_accuracy - accuracy)) * 1e-6; }
  bool meets(double accuracy) const { return points(accuracy) < limit_; }

  void ptq_and_more(QuantizeStrategy strategy) {
    const int64_t start = now_ns();
    const bool asked = o_.strategy == QuantizeStrategy::kPtq;
    ptq(!asked);
    if (asked || std::isnan(result_.ptq_accuracy)) {
      if (!asked) say("The model has no output of the form [N, classes], so there is no top-1 to judge: PTQ is kept.");
      return keep(QuantizeStrategy::kPtq);
    }
    result_.met = meets(result_.ptq_accuracy);
    if (result_.met || strategy == QuantizeStrategy::kPtq) {
      say(fmt::format("{}: it is kept.", verdict("PTQ", result_.ptq_accuracy)));
      return keep(QuantizeStrategy::kPtq);
    }
    const double minutes = static_cast<double>(now_ns() - start) * 1e-9 / 60;
    const std::string short_of = verdict("PTQ", result_.ptq_accuracy);
    if (!o_.can_train) {
      say(fmt::format("{}; QAT would be next, but this build has none (slipway-torch is missing): PTQ is kept.",
                      short_of));
      return keep(QuantizeStrategy::kPtq);
    }
    if (o_.goal.time_budget_minutes && minutes >= *o_.goal.time_budget_minutes) {
      say(fmt::format("{}; QAT would be next, but the {:g} minutes are spent: PTQ is kept.", short_of,
                      *o_.goal.time_budget_minutes));
      return keep(QuantizeStrategy::kPtq);
    }
    say(fmt::format("{}; QAT is next.", short_of));
    try {
      train(minutes);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported && error.code() != ErrorCode::kInvalidArgument) throw;
      say(fmt::format("QAT is not possible here, so PTQ is kept: {}", error.what()));
      return keep(QuantizeStrategy::kPtq);
    }
    const json judged = apart([&]() -> json {
      const Predictions trained = predictions(load_onnx(qat_file_.path()));
      if (result_.labels) return top1_accuracy(trained);
      return agreement(trained.classes, predictions(load_onnx(model_)).classes);
    });
    result_.qat_accuracy = judged.get<double>();
    choose_better();
  }

  void train_only() {
    if (!o_.can_train)
      fail(ErrorCode::kUnsupported,
           "QAT is due, and this build has none: slipway-torch is missing; build with -DSLIPWAY_TORCH=ON, or quantise "
           "after training with --strategy ptq: {}",
           model_);
    train(0);
    const QatResult& r = *result_.qat;
    result_.labels = r.labels;
    result_.test_samples = r.test_samples;
    result_.float_accuracy = r.labels ? r.float_accuracy : 1;
    result_.ptq_accuracy = r.ptq_accuracy;
    result_.qat_accuracy = r.accuracy;
    if (!meets(r.accuracy) && r.ptq_accuracy > r.accuracy) ptq(false);
    choose_better();
  }

  void choose_better() {
    result_.met = meets(result_.qat_accuracy);
    const bool better = result_.met || !file_exists(ptq_file_.path()) || result_.ptq_accuracy < result_.qat_accuracy;
    const std::string trained = verdict("QAT", result_.qat_accuracy);
    if (result_.met)
      say(fmt::format("{}: it is kept.", trained));
    else if (result_.qat->best_epoch == 0)
      say(
          fmt::format("{}. No epoch of training was better than PTQ, whose weights are kept; more data, more epochs or "
                      "another --learning-rate (slipway qat) may help.",
                      trained));
    else
      say(fmt::format("{}; PTQ at these bits {}. Neither meets the goal: {}{} is kept.", trained,
                      lost(points(result_.ptq_accuracy)),
                      result_.ptq_accuracy == result_.qat_accuracy ? "" : "the better one, ", better ? "QAT" : "PTQ"));
    keep(better ? QuantizeStrategy::kQat : QuantizeStrategy::kPtq);
  }

  /// "PTQ loses 0.42 points of top-1 (91.32 % to 90.90 % of 10000 test samples), less than the 1 allowed"
  std::string verdict(const char* what, double accuracy) const {
    const std::string figures =
        result_.labels
            ? fmt::format("{} of top-1 ({:.2f} % to {:.2f} % of {} test samples)", lost(points(accuracy)),
                          100 * result_.float_accuracy, 100 * accuracy, result_.test_samples)
            : fmt::format("predicts otherwise than the original on {:.2f} % of {} test samples without labels",
                          points(accuracy), result_.test_samples);
    if (points(accuracy) < 0 && meets(accuracy)) return fmt::format("{} {}", what, figures);
    return fmt::format("{} {}, {} than the {:g} allowed", what, figures, meets(accuracy) ? "less" : "not less", limit_);
  }

  void keep(QuantizeStrategy which) {
    (which == QuantizeStrategy::kQat ? qat_file_ : ptq_file_).keep_as(output_);
    result_.kept = which;
    if (result_.qat) result_.qat->output = output_;
  }

  Predictions predictions(const Graph& graph) const {
    return predict(graph, data_, {.samples = o_.test_samples, .threads = o_.threads, .quiet = qat_options_.quiet});
  }

  void ptq(bool judge) {
    const json done = apart([&]() -> json {
      const Graph graph = load_onnx(model_);
      QuantizationRun run =
          quantize(graph, samples_of(Feed(data_, graph), Split::kCalibration, qat_options_.calibrate.threads),
                   qat_options_.quantize, qat_options_.calibrate);
      carry_preprocess(data_, run.graph);
      save_onnx(run.graph, ptq_file_.path());
      if (o_.on_ptq) o_.on_ptq(run);
      const auto integers = std::count_if(run.report.nodes.begin(), run.report.nodes.end(),
                                          [](const NodeDecision& n) { return n.quantized; });
      json figures = {
          {"quantized_nodes", integers}, {"nodes", run.report.nodes.size()}, {"samples", run.report.samples}};
      if (!judge) return figures;
      const Predictions original = predictions(graph);
      if (original.classes.empty()) return figures;
      const Predictions quantized = predictions(run.graph);
      const bool labels = data_.has_labels();
      figures["labels"] = labels;
      figures["test_samples"] = original.classes.size();
      figures["float"] = labels ? top1_accuracy(original) : 1.0;
      figures["ptq"] = labels ? top1_accuracy(quantized) : agreement(original.classes, quantized.classes);
      return figures;
    });
    result_.quantized_nodes = done.at("quantized_nodes");
    result_.nodes = done.at("nodes");
    result_.calibration_samples = done.at("samples");
    if (!done.contains("ptq")) return;
    result_.labels = done.at("labels");
    result_.test_samples = done.at("test_samples");
    result_.float_accuracy = done.at("float");
    result_.ptq_accuracy = done.at("ptq");
  }

  /// Training gets what `minutes` have left of the budget.
  void train(double minutes) {
    if (o_.goal.time_budget_minutes) {
      const double left = *o_.goal.time_budget_minutes - minutes, given = qat_options_.time_budget_minutes;
      qat_options_.time_budget_minutes = given > 0 ? std::min(given, left) : left;
    }
    result_.qat =
        o_.train({.model = model_, .data = data_.path(), .output = qat_file_.path()}, qat_options_, o_.on_epoch);
  }

  const std::string& model_;
  const Dataset& data_;
  const std::string& output_;
  const AutoQuantizeOptions& o_;
  QatOptions qat_options_;
  const double limit_;
  const CandidateFile ptq_file_, qat_file_;
  AutoQuantizeResult result_;
};

}  // namespace

void carry_preprocess(const Dataset& data, Graph& model) {
  if (const std::string difference = carried_difference(data, model); !difference.empty())
    fail(ErrorCode::kInvalidArgument,
         "The data file contradicts the pre-processing that the model carries; correct one of them: {}", difference);
  const std::vector<std::string> labels = data.class_names().empty() ? load_labels(model) : data.class_names();
  if (model.inputs().size() == 1)
    store_preprocess(model, data.preprocess(), labels);
  else
    store_input_recipes(model, recipes_of(data), labels);
}

json to_json(const AutoQuantizeResult& r) {
  const auto number = [](double value) { return std::isfinite(value) ? json(value) : json(); };
  json j = {{"strategy", r.kept == QuantizeStrategy::kQat ? "qat" : "ptq"},
            {"why", r.why},
            {"met", r.met},
            {"labels", r.labels},
            {"test_samples", r.test_samples},
            {"float_accuracy", number(r.float_accuracy)},
            {"ptq_accuracy", number(r.ptq_accuracy)},
            {"qat_accuracy", number(r.qat_accuracy)}};
  if (r.qat) j["qat"] = to_json(*r.qat);
  return j;
}

AutoQuantizeResult auto_quantize(const std::string& model, const Dataset& data, const std::string& output,
                                 const AutoQuantizeOptions& options) {
  return AutoQuantize(model, data, output, options).run();
}

}  // namespace slipway
