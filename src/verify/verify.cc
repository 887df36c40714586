// The stages in their order, after the checks that make their comparison meaningful. Performance comes first: its child
// processes should be forked from a parent that holds little and whose OpenMP pool is untouched.
#include "verify/verify.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "data/preview.h"
#include "model/rows.h"
#include "verify/checks.h"
#include "verify/temporary_folder.h"
#include "verify/training.h"
#include "verify/trial.h"

namespace slipway {
namespace {

// The input must be one sample after the other, in the data's shape and type.
void require_input_fits(const Side& side, const Dataset& data, const Tensor& sample) {
  const Graph& graph = side.graph;
  if (graph.inputs().size() != 1)
    fail(ErrorCode::kUnsupported, "A data file feeds one input; the {} has {}: {}", side.role, graph.inputs().size(),
         side.path);
  const Value& input = graph.value(graph.inputs()[0]);
  if (!takes_sample(input, sample))
    fail(
        ErrorCode::kInvalidArgument,
        "The data does not fit the {}; correct `preprocess` in {}: a sample is {}{}, input '{}' is {}{} with the batch "
        "first",
        side.role, data.path(), to_string(sample.dtype()), to_string(sample.dims()), input.name, to_string(input.dtype),
        to_string(input.shape));
}

void require_preprocess_agrees(const Side& side, const Dataset& data) {
  Preprocess carried;
  std::vector<std::string> labels;
  if (!load_preprocess(side.graph, carried, labels)) return;
  if (const std::string difference = preprocess_difference(data.preprocess(), carried); !difference.empty())
    fail(ErrorCode::kInvalidArgument,
         "The data file contradicts the pre-processing that the {} carries; correct {}: {}", side.role, data.path(),
         difference);
}

void require_outputs_correspond(const Trial& trial) {
  const Graph &a = trial.reference.graph, &b = trial.candidate.graph;
  if (a.outputs().size() != b.outputs().size())
    fail(ErrorCode::kInvalidArgument,
         "The models' outputs do not correspond; is this candidate made from this original? {} and {} outputs",
         a.outputs().size(), b.outputs().size());
}

/// The fixed first dimension of the model's input, or 0 when it takes any batch.
int64_t fixed_batch(const Side& side) {
  const Shape& shape = side.graph.value(side.graph.inputs()[0]).shape;
  return shape.has_rank() && shape[0].is_known() ? shape[0].value() : 0;
}

void choose_batch(Trial& trial) {
  const int64_t a = fixed_batch(trial.reference), b = fixed_batch(trial.candidate);
  if (a != 0 && b != 0 && a != b)
    fail(ErrorCode::kInvalidArgument, "The models have different fixed batches; export both with a free one: {} and {}",
         a, b);
  trial.unit = std::max<int64_t>({a, b, 1});
  bool proven = true;
  for (const Side* side : {&trial.reference, &trial.candidate}) {
    const RowIndependence rows = prove_row_independence(side->graph);
    proven &= rows.proven;
    if (trial.unit > 1 && !rows.proven)
      fail(ErrorCode::kUnsupported,
           "The models compute {} samples at once and the {}'s rows are not proven independent, so no sample has a "
           "result of its own; export both with a batch of 1 or a free one: {}",
           trial.unit, side->role, rows.reason);
  }
  trial.batchable = a == 0 && b == 0 && proven;
}

ModelFacts facts_of(const Side& side) {
  ModelFacts facts{.path = side.path,
                   .sha256 = side.identity.sha256,
                   .file_bytes = side.identity.bytes,
                   .nodes = static_cast<int64_t>(side.graph.node_count())};
  for (ValueId id = 0; id < side.graph.value_limit(); ++id)
    if (const Value& v = side.graph.value(id); v.alive && v.is_constant()) {
      facts.parameters += v.constant->elements();
      const int64_t bad = is_float(v.dtype) ? count_nonfinite(to_floats(*v.constant)) : 0;
      facts.nonfinite_weights += bad;
      if (bad > 0 && facts.nonfinite_place.empty())
        facts.nonfinite_place =
            fmt::format("'{}'{}", v.name, v.uses.empty() ? "" : " of " + side.graph.node(v.uses[0].node).label());
    }
  return facts;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

VerifyOptions verify_options(const VerifyExtent& extent, const Policy& policy) {
  constexpr int64_t kQuickSamples = 1000, kQuickEdgeCaseSamples = 200;
  constexpr double kQuickSeconds = 1;
  VerifyOptions options;
  if (extent.quick)
    options = {.max_samples = std::max(kQuickSamples, policy.accuracy.min_samples),
               .edge_case_samples = kQuickEdgeCaseSamples,
               .seconds = kQuickSeconds};
  options.max_samples = extent.samples.value_or(options.max_samples);
  options.edge_case_samples = extent.edge_case_samples.value_or(options.edge_case_samples);
  options.seconds = extent.seconds.value_or(options.seconds);
  return options;
}

Report verify(const VerifySubject& reference, const VerifySubject& candidate, const Dataset& data, const Policy& policy,
              const VerifyOptions& options) {
  const int64_t start = now_ns(), total = data.size(Split::kTest);
  const TemporaryFolder folder;
  Trial trial{.reference = Side(reference, "original"),
              .candidate = Side(candidate, "candidate"),
              .data = data,
              .policy = policy,
              .options = options,
              .samples = spread(total, options.max_samples < 0 ? total : options.max_samples),
              .sample_dims = {},
              .folder = folder.path(),
              .codes = read_codes(candidate.graph, reference.graph)};
  if (trial.samples.empty() || options.batch < 1 || !(options.seconds > 0))
    fail(ErrorCode::kInvalidArgument, "Samples, batch and seconds must be positive: {}, {} and {}",
         trial.samples.size(), options.batch, options.seconds);
  const Tensor sample = data.input(Split::kTest, trial.samples[0]);
  trial.sample_dims = sample.dims();
  for (const Side* side : {&trial.reference, &trial.candidate}) {
    require_preprocess_agrees(*side, data);
    require_input_fits(*side, data, sample);
  }
  require_outputs_correspond(trial);
  choose_batch(trial);

  Report report{.tool = "slipway " SLIPWAY_VERSION,
                .date = utc_now(),
                .cpu = cpu_name(),
                .cpu_features = to_string(cpu_features()),
                .reference = facts_of(trial.reference),
                .candidate = facts_of(trial.candidate),
                .data = {.path = data.path(),
                         .digest = data.digest(),
                         .test_samples = total,
                         .judged_samples = static_cast<int64_t>(trial.samples.size()),
                         .warnings = input_warnings(data, Split::kTest)},
                .policy_digest = policy_digest(policy),
                .policy = policy};
  // The record inside a file can't know the file's size.
  report.training = training_of(candidate.graph, report.reference.file_bytes, report.candidate.file_bytes);
  measure_performance(trial, report);
  name_layers(trial.reference, reference.graph);
  name_layers(trial.candidate, reference.graph);
  note_small_gain(trial, report);
  measure_accuracy(trial, report);
  compare_layers(trial, report);
  examine_stability(trial, report);
  check_engine(trial, report);
  record_probes(trial, report);
  if (!options.save_plan.empty()) copy_file(trial.candidate.plan_path, options.save_plan);
  judge(report);
  report.seconds = static_cast<double>(now_ns() - start) * 1e-9;
  return report;
}

}  // namespace slipway
