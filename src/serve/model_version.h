#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "data/input_recipe.h"
#include "data/preprocess.h"
#include "engine/plan.h"
#include "engine/program.h"
#include "model/graph.h"
#include "model/rows.h"
#include "serve/metrics.h"
#include "serve/protocol.h"

namespace slipway {

struct BatchingOptions {
  int64_t max_rows = 16;    ///< of one batch; 1: no batching
  int64_t delay_us = 0;     ///< how long an idle instance waits for more
  int64_t max_queue = 256;  ///< requests waiting; beyond, they are rejected
  bool operator==(const BatchingOptions&) const = default;
};

struct PrepareOptions {
  int64_t seconds = 600;   ///< that preparing one version may take
  int64_t memory_mib = 0;  ///< and memory of its process; 0: half of what the server's limit leaves free
  bool operator==(const PrepareOptions&) const = default;
};

/// How sequences of different lengths come to share a batch.
struct Padding {
  std::vector<int64_t> sizes;              ///< lengths that they are filled up to, ascending; empty: they are not
  int64_t axis = 1;                        ///< of the inputs
  std::map<std::string, double> inputs;    ///< what each is filled up with
  std::map<std::string, int64_t> outputs;  ///< axis along which each is cut back
  bool operator==(const Padding&) const = default;
};

/// How to serve one model: the YAML beside it.
struct ModelConfig {
  BatchingOptions batching;
  int instances = 1;                    ///< batches computed at the same time
  int threads = 1;                      ///< of one batch
  int64_t timeout_ms = 0;               ///< deadline of requests that bring none; 0: none
  std::map<std::string, int64_t> dims;  ///< free dimensions but the first, by symbol; what is left out stays free
  int64_t max_shapes = 32;              ///< combinations of free dimensions kept prepared
  int64_t max_run_seconds = 60;         ///< of one batch; looked at between the turns of a loop and the like
  int64_t max_value_mib = 1024;         ///< of a value whose size follows from the request
  Padding padding;
  std::string sticky_header;             ///< assignment of the canary; empty: the request's id
  std::string sticky_parameter;          ///< the same, from the request's parameters
  std::optional<Preprocess> preprocess;  ///< where the ONNX file carries none
  std::vector<std::string> labels;
  PrepareOptions prepare;
  bool operator==(const ModelConfig&) const = default;
};

/// A port in the protocol's terms: dims[0] is −1 where any number of rows is taken.
struct Port {
  std::string name;
  DType dtype;
  Dims dims;
};

/// What proof a version has.
enum class Proof : uint8_t {
  kPassed,      ///< a Report that passed, of these very bytes
  kFailed,      ///< a Report that did not pass
  kMissing,     ///< no Report
  kMismatched,  ///< a Report of other bytes
};
const char* to_string(Proof proof);

/// What a version's graph and the first runs of its plans tell.
struct FirstRun {
  RowIndependence batching;
  std::optional<Preprocess> preprocess;  ///< the model's own
  std::vector<InputRecipe> inputs;       ///< likewise, of a model with several
  std::vector<std::string> labels;       ///< the model's own
  std::map<int64_t, double> time_us;     ///< of each plan that pays, by rows
};

/// Everything needed to make a version warm.
struct VersionSource {
  std::string model;
  int64_t version = 1;
  Graph graph;                                           ///< without a first run, and where there is no plan
  std::map<int64_t, std::shared_ptr<const Plan>> plans;  ///< by rows; empty: run by the program
  std::map<int64_t, std::string> plan_files;             ///< where those lie that lie in a file
  std::shared_ptr<const Program> program;                ///< of the graph, for shapes that are known as requests come
  std::vector<std::string> shape_files;                  ///< plan files whose shapes the program took over
  std::string timing_cache;                              ///< by which untimed plans are ranked; may be empty
  std::optional<FirstRun> first_run;                     ///< empty: made when the version is
  ModelConfig config;
  std::string sha256;         ///< of the model (ModelIdentity)
  std::string report_sha256;  ///< of report.json; empty: there is none
  uint64_t file_bytes = 0;
  double max_variation = 1e-3;  ///< what the policy of its report allows, of an output's range
  Proof proof = Proof::kMissing;
  std::string proof_reason;  ///< one sentence
};

/// A program of its graph, with the sizes that the configuration fixes; candidates are timed where asked.
std::shared_ptr<const Program> make_program(const VersionSource& source, bool tune = false);

/// Weights and buffers of a version's plans, or of what its program has prepared so far, and of its instances.
uint64_t memory_bytes(const VersionSource& source);

/// One version of a model, warm: its plans, instances, queue and counters. Immutable but for the last two; shared by
/// whoever still has requests on it, gone with the last of them.
class ModelVersion {
 public:
  /// Starts the instances, each plan run once; without a first run makes that here. `clock` is what deadlines and
  /// arrivals are given in, ns. Fails as Session does.
  explicit ModelVersion(VersionSource source, std::function<int64_t()> clock = now_ns);
  ~ModelVersion();
  ModelVersion(const ModelVersion&) = delete;
  ModelVersion& operator=(const ModelVersion&) = delete;

  const std::string& model() const { return source_.model; }
  int64_t version() const { return source_.version; }
  /// Unlike that of any other object of this process: counters of two generations are never subtracted.
  uint64_t generation() const { return generation_; }
  const VersionSource& source() const { return source_; }
  const ModelConfig& config() const { return source_.config; }
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }
  /// Rows of the largest batch that the configuration allows; 0 where requests are not batched.
  int64_t max_rows() const { return max_rows_; }
  /// Whether requests are batched, or why not.
  const RowIndependence& batching() const { return source_.first_run->batching; }
  /// Null when pictures are not what it takes.
  const Preprocess* preprocess() const { return preprocess_ ? &*preprocess_ : nullptr; }
  /// What fills each input of a model with several; empty where it carries no such description.
  const std::vector<InputRecipe>& recipes() const { return source_.first_run->inputs; }
  const std::vector<std::string>& labels() const { return labels_; }
  uint64_t memory_bytes() const { return slipway::memory_bytes(source_); }

  /// Checks the request against the ports (kInvalidArgument naming tensor, expected and given) and puts it in the
  /// queue. `done` gets errors too, perhaps before submit() returns: kOverloaded when the queue is full or the deadline
  /// can't be met, kDeadline once it passed, kInternal when this one does not take what `live` takes.
  using Answered = std::function<void(const InferRequest&, InferResponse&&)>;
  void submit(InferRequest&& request, Variant variant, Answered done, const ModelVersion* live = nullptr);

  VersionMetrics& metrics() const { return metrics_; }

 private:
  struct Engine;
  const uint64_t generation_;
  const std::function<int64_t()> clock_;
  VersionSource source_;
  std::vector<Port> inputs_, outputs_;
  int64_t max_rows_ = 0;
  std::optional<Preprocess> preprocess_;
  std::vector<std::string> labels_;
  mutable VersionMetrics metrics_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace slipway
