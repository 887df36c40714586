#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "metrics/verdict.h"
#include "report/policy.h"

namespace slipway {

/// How a model was trained, as it says itself.
struct TrainingFigures {
  bool done = false;
  std::string note = {};    ///< why it can't be shown, where the model says something that can't be read
  std::string record = {};  ///< JSON: {"options": QatOptions, "result": QatResult}; empty unless done
};
void to_json(nlohmann::json& json, const TrainingFigures& training);
void from_json(const nlohmann::json& json, TrainingFigures& training);

/// One threshold of the policy and what was found.
struct Check {
  std::string id, title;  ///< "accuracy.drop", "Top-1 accuracy lost"
  Verdict verdict = Verdict::kPass;
  double figure = 0, threshold = 0;
  std::string bound;  ///< "below", "above", "at most"
  std::string unit;   ///< "points", "%", "x", or empty
  std::string sentence;
};

struct ModelFacts {
  std::string path, sha256;
  uint64_t file_bytes = 0;
  int64_t nodes = 0, parameters = 0;
  int64_t nonfinite_weights = 0;       ///< NaN or infinite elements of constants
  std::string nonfinite_place;         ///< the first of these constants and the node that reads it
  std::string precision, plan_digest;  ///< of the plan for one sample
};

struct InputRange {
  std::string input;
  double minimum = 0, maximum = 0;
};

struct DataFacts {
  std::string path, digest;
  int64_t test_samples = 0, judged_samples = 0;  ///< in the split; looked at
  std::vector<InputRange> ranges;                ///< by the model's inputs
  std::vector<std::string> warnings;             ///< what `data preview` warns of
};

/// A classifier on the labelled samples; intervals are Wilson's at 95 %.
struct ClassifierScore {
  int64_t correct = 0;
  double accuracy = 0, accuracy_low = 0, accuracy_high = 0, macro_f1 = 0, macro_recall = 0;
  double chance = 0, chance_p = 1;  ///< accuracy expected of predictions unrelated to the labels; p of being as good
  bool chance_known = true;         ///< false where all labels are the same
};

struct ClassRow {
  int64_t index = 0, support = 0;
  std::string name;
  bool minority = false;  ///< among those with the fewest samples
  double reference_recall = 0, candidate_recall = 0, reference_precision = 0, candidate_precision = 0;
  double reference_f1 = 0, candidate_f1 = 0;
  double mcnemar_p = 1;
};

struct ConfusionCell {
  int64_t label = 0, predicted = 0, reference = 0, candidate = 0;
};

/// The same samples, spoiled.
struct EdgeCase {
  std::string name;
  int64_t samples = 0;
  double reference_accuracy = 0, candidate_accuracy = 0;  ///< NaN without labels
  double drop_points = 0, agreement = 0, mcnemar_p = 1, cosine = 0;
};

struct AccuracyFigures {
  bool classifier = false;
  std::string note;  ///< why it is not judged as a classifier
  std::string output;
  int64_t classes = 0, samples = 0;
  ClassifierScore reference, candidate;
  double drop_points = 0, agreement = 0, mcnemar_p = 1;
  int64_t only_reference_right = 0, only_candidate_right = 0;
  std::vector<ClassRow> rows;
  std::vector<ConfusionCell> confusion;  ///< cells where either counts
  std::vector<EdgeCase> edge_cases;
};

struct OutputDistance {
  std::string name;
  double cosine_mean = 0, cosine_min = 0;  ///< over the samples
  std::string worst_sample;
  double mse = 0, max_abs = 0, sqnr_db = 0, kl_mean = 0;
  std::string kl_of;                                         ///< "softmax", "probabilities" or "histograms"
  int64_t reference_nonfinite = 0, candidate_nonfinite = 0;  ///< NaN or infinite elements
  int64_t new_nonfinite = 0;   ///< of the candidate's: where the original has a number, or another of them
  int64_t lost_nonfinite = 0;  ///< of the original's: where the candidate has a number
};

/// One value of the candidate as its plan computes it, against the original's.
struct LayerDistance {
  std::string layer, op, value;  ///< node, its operator, the value's name in the original
  double cosine = 0, sqnr_db = 0, max_abs = 0, mse = 0, kl = 0;
  double lost_db = 0;  ///< SQNR below the worst of the layers it reads from
  int64_t reference_nonfinite = 0, candidate_nonfinite = 0;
  bool integer = false;  ///< held as integer codes
};

struct LayerFigures {
  int64_t samples = 0, unmatched = 0;  ///< unmatched: values of the candidate that the original has not
  std::vector<LayerDistance> layers;   ///< in the order of execution
  std::string worst;                   ///< layer of the lowest SQNR
  double worst_cosine = 1;
  std::string origin;  ///< first layer where the error jumps; empty when it does nowhere
  double origin_lost_db = 0;
};

struct LatencyFigures {
  int64_t runs = 0;
  double mean_ms = 0, min_ms = 0, p50_ms = 0, p95_ms = 0, p99_ms = 0, max_ms = 0;
  std::vector<double> percentiles_ms;  ///< 0 to 100, 101 numbers
};

struct ModelPerformance {
  LatencyFigures cold, warm;  ///< cold: opening the plan to the first result, each in a fresh process
  double build_ms = 0;
  uint64_t peak_bytes = 0;  ///< resident, above the process's start
  uint64_t arena_bytes = 0, weight_bytes = 0;
};

struct Throughput {
  int64_t batch = 1;
  double reference_per_s = 0, candidate_per_s = 0;  ///< by the median run
  bool steady = false;                              ///< the rounds agree on the ratio
};

struct PerformanceFigures {
  int threads = 1;
  int64_t batch = 1, rounds = 0;
  ModelPerformance reference, candidate;
  double ratio = 0, ratio_low = 0, ratio_high = 0;  ///< of warm medians, with its bootstrap interval
  double preemptions_per_s = 0;                     ///< of the more disturbed model, median of the rounds
  double speedup = 0;  ///< original / candidate where that may be a headline; else 0, and speed_note says why
  std::string speed_note;
  std::string integer_note;  ///< of a quantised candidate that gains little: what still computes in floats
  std::vector<Throughput> throughput;
};

struct LayerCounts {
  std::string layer;
  int64_t elements = 0, nan = 0, inf = 0, denormal = 0, saturated = 0;
  bool all_zero = false;
};

/// What an input did to one model. `layers` holds those where something was counted.
struct ExtremeSide {
  int64_t output_nan = 0, output_inf = 0;
  int64_t nan = 0, inf = 0, denormal = 0, saturated = 0;  ///< over all layers
  std::string first_nonfinite;                            ///< layer
  std::vector<LayerCounts> layers;
};

struct Extreme {
  std::string name;
  bool judged = false;  ///< whether new NaN or infinity counts against the candidate
  ExtremeSide reference, candidate;
};

/// The same sample computed again in another way: the largest difference over the output's largest magnitude.
struct Variation {
  std::string what;
  bool reference_equal = true, candidate_equal = true;  ///< bit for bit
  double reference_relative = 0, candidate_relative = 0;
};

struct StabilityFigures {
  std::vector<Extreme> extremes;
  std::vector<LayerCounts> saturation;  ///< integer layers on real samples, the most saturated first
  std::vector<Variation> variations;
};

/// A model's plan on one input against the reference: errors over the largest magnitude of the tensor, infinite where
/// NaN, infinity or an integer is not the same.
struct EngineRun {
  std::string input;                          ///< "sample x[3]", "zeros"
  int64_t values = 0, wrong = 0;              ///< of steps: compared; elements that are not the same, see above
  double step_error = 0;                      ///< of the worst step, on the inputs that the plan gave it
  std::string step;                           ///< its layer
  double output_error = 0, output_bound = 0;  ///< of the worst output, the model evaluated as its file has it
  std::string output;
};

struct EngineFigures {
  bool done = false;
  bool steps = true;    ///< false: the models are no single plans, so that only outputs were compared
  int64_t samples = 0;  ///< real ones among the inputs
  double seconds = 0;
  std::vector<EngineRun> reference, candidate;  ///< by input
};

/// A request to the candidate and what it made of it, by input and output as base64 of .npy files.
struct Probe {
  std::string sample;
  std::vector<std::string> inputs, outputs;
};

/// One load on the candidate as it is served. Times from the intended send time where the loop is open.
struct SimulatedLoad {
  std::string name;       ///< "closed loop, 4 connections"
  double rate_per_s = 0;  ///< of an open loop; 0: closed
  int64_t connections = 1, requests = 0, errors = 0;
  double seconds = 0, throughput_per_s = 0, p50_ms = 0, p95_ms = 0, p99_ms = 0;
  bool kept_up = true;  ///< the generator did, not the server
};

/// The server's memory under a steady load: Theil and Sen's slope with its 95 % interval.
struct SimulatedSoak {
  double seconds = 0;
  int64_t requests = 0, errors = 0;
  double slope_mib_per_hour = 0, slope_low = 0, slope_high = 0, slope_p = 1;
  std::vector<double> t_s, memory_mib, p99_ms;  ///< of one length
};

/// The same requests to both models, their first outputs compared.
struct SimulatedReplay {
  std::string source;  ///< the recording's path; empty: samples of the test split
  int64_t requests = 0, errors = 0, compared = 0;
  bool classes = false;  ///< the outputs have more than one element, so that a top-1 exists
  double agreement = 0;  ///< share of equal top-1
  double max_difference = 0, max_relative_difference = 0;  ///< of one element; over the original's largest magnitude
};

/// Both models on the same samples, in turns: A is the original, B the candidate.
struct SimulatedComparison {
  int64_t samples = 0, rounds = 0, requests = 0, errors = 0;  ///< requests: to both
  bool labels = false;
  double reference_accuracy = 0, candidate_accuracy = 0, drop_points = 0, mcnemar_p = 1;
  int64_t only_reference_right = 0, only_candidate_right = 0;
  Verdict accuracy = Verdict::kPass;
  double reference_p50_ms = 0, candidate_p50_ms = 0, ratio = 0, ratio_low = 0, ratio_high = 0;
  double mann_whitney_u = 0, mann_whitney_p = 1;  ///< over the rounds' medians
  double reference_p99_ms = 0, candidate_p99_ms = 0, p99_ratio = 0, p99_ratio_low = 0, p99_ratio_high = 0;
  Verdict latency = Verdict::kPass;
};

/// Stage 4: the candidate behind a server, before release.
struct SimulationFigures {
  bool done = false;
  double seconds = 0;  ///< of load and soak
  std::vector<SimulatedLoad> loads;
  SimulatedSoak soak;
  SimulatedReplay replay;
  SimulatedComparison comparison;
};

/// Every figure of a verification, its threshold, verdict, and the digests of what it judged.
struct Report {
  std::string tool, date, cpu, cpu_features;
  Verdict verdict = Verdict::kPass;
  std::string reason;  ///< one sentence
  double seconds = 0;
  ModelFacts reference, candidate;
  DataFacts data;
  std::string policy_path, policy_digest;
  Policy policy;
  std::vector<Check> checks;
  AccuracyFigures accuracy;
  std::vector<OutputDistance> outputs;
  LayerFigures layers;
  PerformanceFigures performance;
  StabilityFigures stability;
  EngineFigures engine;
  SimulationFigures simulation;
  TrainingFigures training;  ///< of the candidate, where it carries its history
  std::vector<Probe> probes;
};

/// NaN and infinities become null; null reads back as NaN.
nlohmann::json to_json(const Report& report);
/// Fails with kInvalidArgument, `name` saying where it came from.
Report report_from_json(const nlohmann::json& json, const std::string& name);
void save_report(const Report& report, const std::string& path);
Report load_report(const std::string& path);

/// One HTML file that opens anywhere: charts, styles and data inside, nothing fetched.
std::string report_html(const Report& report);
/// Its section on training as a page of its own. `model`: the file that was written.
std::string training_html(const TrainingFigures& training, const std::string& model);
/// For the terminal.
std::string report_text(const Report& report);

}  // namespace slipway
