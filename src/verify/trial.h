#pragma once
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/feed.h"
#include "engine/program.h"
#include "engine/session.h"
#include "verify/verify.h"

namespace slipway {

// What the stages of a verification share.

/// How an integer value of a quantised model stands for a value of the original.
struct Codes {
  std::string original;  ///< name of the value there; empty when unknown
  float scale = 1;
  int64_t zero_point = 0;
};

/// A model's inputs for one run.
using Inputs = std::vector<Tensor>;

/// One of the two models.
struct Side {
  Side(const VerifySubject& subject, std::string how)
      : graph(subject.graph), identity(subject.identity), path(subject.path), role(std::move(how)) {}
  const Graph& graph;
  const ModelIdentity& identity;
  std::string path, role;                                     ///< "original" or "candidate", for messages
  std::string plan_path;                                      ///< the plan file for Trial::unit samples
  std::shared_ptr<const Program> program;                     ///< the same, opened
  std::shared_ptr<const Plan> plan;                           ///< its plan; null where the model is no single one
  std::map<std::string, std::string> layer_names, layer_ops;  ///< by value name of the plan
};

struct Trial {
  Side reference, candidate;
  const Dataset& data;
  Feed feed;  ///< the samples as requests to the original, and so to the candidate
  const Policy& policy;
  const VerifyOptions& options;
  std::vector<int64_t> samples;        ///< indices in the test split
  std::vector<int64_t> planned;        ///< positions in `samples` of those with the shapes that the plans are for
  bool sizes_vary = false;             ///< the model leaves more open than the batch
  Inputs example;                      ///< the request of the first of `planned`
  bool batchable = true;               ///< both models' batch is free and their rows are proven independent
  int64_t unit = 1;                    ///< samples a run of the plans takes
  std::string folder;                  ///< for temporary files
  std::map<std::string, Codes> codes;  ///< of the candidate, by name of the integer value
};

/// A run of a side's plan, or of its program, on the shapes of Trial::example.
class SideSession {
 public:
  /// As the side stands.
  explicit SideSession(const Side& side);
  /// For so many samples and threads, nothing timed.
  SideSession(const Trial& trial, const Side& side, int64_t batch, int threads);
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  /// A program shows nothing.
  std::vector<Tensor> run_observed(std::span<const Tensor> inputs, const Session::Observer& observe);

 private:
  std::optional<Session> plan_;
  std::unique_ptr<ProgramSession> program_;
};

/// `count` positions in [0, size), spread evenly.
std::vector<int64_t> spread(int64_t size, int64_t count);
/// A value for all elements of an input: a number, or an end of its range in the data.
struct Level {
  Level(double number) : value(number) {}  // NOLINT: numbers are levels
  static Level minimum() { return {NAN, kMinimum}; }
  static Level maximum() { return {NAN, kMaximum}; }
  double in(const InputRange& range) const {
    return end == kMinimum ? range.minimum : end == kMaximum ? range.maximum : value;
  }
  double value;
  enum End { kNone, kMinimum, kMaximum } end = kNone;

 private:
  Level(double number, End which) : value(number), end(which) {}
};
/// Inputs like these, filled with two values in turn. What is no float takes only the ends of its range and 0; what the
/// data file says is constant stays.
Inputs filled(const Trial& trial, const Inputs& like, std::span<const InputRange> ranges, Level even, Level odd);

/// At most `count` of trial.planned, spread evenly, as requests.
std::vector<Inputs> planned_requests(const Trial& trial, int64_t count);
/// Copies of a request as one run of the plans takes them.
Inputs unit_of(const Trial& trial, const Inputs& request);
/// Requests through a plan that takes `unit` rows at once; all outputs, one request after the other.
std::vector<Tensor> run_all(SideSession& session, std::span<const Inputs> requests, int64_t unit);
BuildOptions build_options(const Trial& trial, const Side& side, int64_t batch, int threads);

bool computes_on_codes(const std::string& op);
/// Whether a model quantises anything.
bool has_codes(const Graph& graph);
/// Whether an operator's work is with weights: Conv, Gemm, LSTM, …
bool is_weighted(const std::string& op);
/// Fills in layer_names and layer_ops from the plan's steps: the weighted node behind each value, else the first node.
void name_layers(Side& side, const Graph& reference);
std::string layer_of(const Side& side, const std::string& value);
/// The integer values of a graph with QuantizeLinear nodes, as the original's values.
std::map<std::string, Codes> read_codes(const Graph& candidate, const Graph& reference);

/// Kullback-Leibler divergence of the values' distributions over 64 equal bins of their common range, nats.
double kl_of_values(std::span<const float> x, std::span<const float> y);
int64_t count_nonfinite(std::span<const float> values);

// The stages, in their order: each fills its part of the Report.
void measure_performance(Trial& trial, Report& report);
/// Says what still computes in floats where a quantised candidate gains less than 10 % here; needs the layers' names.
void note_small_gain(const Trial& trial, Report& report);
void measure_accuracy(Trial& trial, Report& report);
void compare_layers(Trial& trial, Report& report);
void examine_stability(Trial& trial, Report& report);
void record_probes(Trial& trial, Report& report);

/// Runs a side's plan on Trial::unit samples, showing every step's values.
using PlanRunner =
    std::function<std::vector<Tensor>(const Side& side, const Inputs& inputs, const Session::Observer& observe)>;
std::vector<Tensor> run_plan(const Side& side, const Inputs& inputs, const Session::Observer& observe);
/// `run` is another only in tests: an engine with a fault.
void check_engine(Trial& trial, Report& report, const PlanRunner& run = run_plan);

}  // namespace slipway
