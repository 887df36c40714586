// The Report as JSON, both ways, through nlohmann's field macros: a field added to a struct is added here once.
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "report/report.h"

namespace nlohmann {

template <>
struct adl_serializer<std::optional<double>> {
  static void to_json(json& j, const std::optional<double>& value) { j = value ? json(*value) : json(nullptr); }
  static void from_json(const json& j, std::optional<double>& value) {
    const double number = j.get<double>();
    value = std::isnan(number) ? std::nullopt : std::optional(number);
  }
};

}  // namespace nlohmann

namespace slipway {

using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr uint64_t kMaxReportBytes = uint64_t{256} << 20;
constexpr int kMaxDepth = 16;

// JSON has no NaN: it is written as null, which a number read from null becomes again.
void nulls_to_nan(json& j, int depth = 0) {
  if (depth > kMaxDepth) fail(ErrorCode::kInvalidArgument, "The report is nested too deeply");
  if (j.is_null()) j = std::nan("");
  if (j.is_structured())
    for (json& child : j) nulls_to_nan(child, depth + 1);
}

void nonfinite_to_null(json& j) {
  if (j.is_number_float() && !std::isfinite(j.get<double>())) j = nullptr;
  if (j.is_structured())
    for (json& child : j) nonfinite_to_null(child);
}

// Keys of `defaults` that `j` has not.
void fill(json& j, const json& defaults) {
  if (!j.is_object()) return;
  for (const auto& [key, value] : defaults.items())
    if (!j.contains(key)) j[key] = value;
}

void fill_each(json& list, const json& defaults) {
  if (list.is_array())
    for (json& item : list) fill(item, defaults);
}

void add_missing(json& report);

}  // namespace

void to_json(json& j, const Verdict& verdict) { j = to_string(verdict); }
void from_json(const json& j, Verdict& verdict) {
  const auto text = j.get<std::string>();
  for (const Verdict v : {Verdict::kPass, Verdict::kFail, Verdict::kInconclusive})
    if (text == to_string(v)) {
      verdict = v;
      return;
    }
  fail(ErrorCode::kInvalidArgument, "A verdict is pass, fail or inconclusive: '{}'", text);
}

void to_json(json& j, const TrainingFigures& t) {
  j = {{"done", t.done}, {"note", t.note}};
  if (t.done) j.update(json::parse(t.record));
}
void from_json(const json& j, TrainingFigures& t) {
  t = {.done = j.at("done"), .note = j.at("note")};
  if (t.done) t.record = json{{"options", j.at("options")}, {"result", j.at("result")}}.dump();
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy::Accuracy, max_drop_points, max_class_drop_points, max_edge_case_drop_points,
                                   min_agreement, min_samples, require_better_than_chance, min_top1_percent)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy::Output, min_cosine, max_kl, max_mse)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy::Performance, max_latency_ratio, confidence, min_rounds,
                                   max_memory_increase_percent, memory_slack_mib, max_file_increase_percent)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy::Stability, require_reproducible, max_variation, max_new_nonfinite,
                                   max_engine_error, max_saturated_percent)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy::Simulation, max_error_rate, max_p99_ratio, max_memory_slope_mib_per_hour,
                                   min_seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(QuantizationGoal, max_accuracy_drop_points, time_budget_minutes, accuracy_critical,
                                   weight_bits, activation_bits)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Policy, accuracy, output, performance, stability, simulation, quantization)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Check, id, title, verdict, figure, threshold, bound, unit, sentence)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelFacts, path, sha256, file_bytes, nodes, parameters, nonfinite_weights,
                                   nonfinite_place, precision, plan_digest)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InputRange, input, minimum, maximum)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DataFacts, path, digest, test_samples, judged_samples, ranges, warnings)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClassifierScore, correct, accuracy, accuracy_low, accuracy_high, macro_f1,
                                   macro_recall, chance, chance_p, chance_known)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClassRow, index, support, name, minority, reference_recall, candidate_recall,
                                   reference_precision, candidate_precision, reference_f1, candidate_f1, mcnemar_p)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ConfusionCell, label, predicted, reference, candidate)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EdgeCase, name, samples, reference_accuracy, candidate_accuracy, drop_points,
                                   agreement, mcnemar_p, cosine)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AccuracyFigures, classifier, note, output, classes, samples, reference, candidate,
                                   drop_points, agreement, mcnemar_p, only_reference_right, only_candidate_right, rows,
                                   confusion, edge_cases)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(OutputDistance, name, cosine_mean, cosine_min, worst_sample, mse, max_abs, sqnr_db,
                                   kl_mean, kl_of, reference_nonfinite, candidate_nonfinite, new_nonfinite,
                                   lost_nonfinite)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerDistance, layer, op, value, cosine, sqnr_db, max_abs, mse, kl, lost_db,
                                   reference_nonfinite, candidate_nonfinite, integer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerFigures, samples, unmatched, layers, worst, worst_cosine, origin,
                                   origin_lost_db)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LatencyFigures, runs, mean_ms, min_ms, p50_ms, p95_ms, p99_ms, max_ms,
                                   percentiles_ms)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelPerformance, cold, warm, build_ms, peak_bytes, arena_bytes, weight_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Throughput, batch, reference_per_s, candidate_per_s, steady)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PerformanceFigures, threads, batch, rounds, reference, candidate, ratio, ratio_low,
                                   ratio_high, preemptions_per_s, speedup, speed_note, integer_note, throughput)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerCounts, layer, elements, nan, inf, denormal, saturated, all_zero)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ExtremeSide, output_nan, output_inf, nan, inf, denormal, saturated, first_nonfinite,
                                   layers)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Extreme, name, judged, reference, candidate)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Variation, what, reference_equal, candidate_equal, reference_relative,
                                   candidate_relative)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StabilityFigures, extremes, saturation, variations)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EngineRun, input, values, wrong, step_error, step, output_error, output_bound,
                                   output)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EngineFigures, done, steps, samples, seconds, reference, candidate)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SimulatedLoad, name, rate_per_s, connections, requests, errors, seconds,
                                   throughput_per_s, p50_ms, p95_ms, p99_ms, kept_up)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SimulatedSoak, seconds, requests, errors, slope_mib_per_hour, slope_low, slope_high,
                                   slope_p, t_s, memory_mib, p99_ms)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SimulatedReplay, source, requests, errors, compared, classes, agreement,
                                   max_difference, max_relative_difference)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SimulatedComparison, samples, rounds, requests, errors, labels, reference_accuracy,
                                   candidate_accuracy, drop_points, mcnemar_p, only_reference_right,
                                   only_candidate_right, accuracy, reference_p50_ms, candidate_p50_ms, ratio, ratio_low,
                                   ratio_high, mann_whitney_u, mann_whitney_p, reference_p99_ms, candidate_p99_ms,
                                   p99_ratio, p99_ratio_low, p99_ratio_high, latency)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SimulationFigures, done, seconds, loads, soak, replay, comparison)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Probe, sample, inputs, outputs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Report, tool, date, cpu, cpu_features, verdict, reason, seconds, reference,
                                   candidate, data, policy_path, policy_digest, policy, checks, accuracy, outputs,
                                   layers, performance, stability, engine, simulation, training, probes)

namespace {

// What reports from before there was such a figure have not.
void add_missing(json& report) {
  fill(report, {{"engine", EngineFigures()}, {"simulation", SimulationFigures()}, {"training", TrainingFigures()}});
  if (json& policy = report.at("policy"); policy.is_object()) {
    fill(policy, {{"simulation", Policy::Simulation()}, {"quantization", QuantizationGoal()}});
    fill(policy["accuracy"], {{"require_better_than_chance", false}, {"min_top1_percent", nullptr}});
    fill(policy["stability"], {{"max_engine_error", Policy::Stability().max_engine_error}});
  }
  for (const char* side : {"reference", "candidate"})
    fill(report.at("accuracy").at(side), {{"chance", 0.0}, {"chance_p", 1.0}, {"chance_known", true}});
  fill_each(report.at("outputs"), {{"new_nonfinite", 0}, {"lost_nonfinite", 0}});
  fill(report.at("performance"), {{"speedup", 0.0}, {"speed_note", ""}, {"integer_note", ""}});
  fill_each(report.at("performance").at("throughput"), {{"steady", false}});
}

}  // namespace

json to_json(const Report& report) {
  json j;
  to_json(j, report);
  j["slipway_report"] = kFormat;
  nonfinite_to_null(j);
  return j;
}

Report report_from_json(const json& source, const std::string& name) {
  try {
    json j = source;
    if (j.value("slipway_report", 0) != kFormat)
      fail(ErrorCode::kInvalidArgument, "This is no report of `slipway verify`, or one of another version: {}", name);
    add_missing(j);
    nulls_to_nan(j);
    return j.get<Report>();
  } catch (const json::exception& e) {
    fail(ErrorCode::kInvalidArgument, "The report is damaged; verify the model again: {}: {}", name, e.what());
  }
}

void save_report(const Report& report, const std::string& path) {
  write_file(path, std::string_view(to_json(report).dump(1, ' ', false, json::error_handler_t::replace) + "\n"));
}

Report load_report(const std::string& path) {
  const json j = json::parse(read_text_file(path, kMaxReportBytes), nullptr, false);
  if (!j.is_object()) fail(ErrorCode::kInvalidArgument, "The report is no JSON object: {}", path);
  return report_from_json(j, path);
}

}  // namespace slipway
