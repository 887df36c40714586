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
#include "engine/executor.h"
#include "model/rows.h"
#include "verify/checks.h"
#include "verify/temporary_folder.h"
#include "verify/training.h"
#include "verify/trial.h"

namespace slipway {
namespace {

// A request to the one must be one to the other.
void require_inputs_correspond(const Graph& original, const Graph& candidate) {
  const auto names = [](const Graph& graph) {
    std::vector<std::string> list;
    for (const FeedPort& port : input_ports(graph)) list.push_back(port.name);
    return list;
  };
  const std::vector<std::string> a = names(original), b = names(candidate);
  if (a.size() != b.size() || (a.size() > 1 && a != b))
    fail(ErrorCode::kInvalidArgument,
         "The models' inputs do not correspond; is this candidate made from this original? '{}' and '{}'",
         fmt::join(a, "', '"), fmt::join(b, "', '"));
}

void require_preprocess_agrees(const Side& side, const Dataset& data) {
  if (const std::string difference = carried_difference(data, side.graph); !difference.empty())
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

/// The samples that the plans are for: of the shapes that most of some have, the largest of these.
void choose_planned(Trial& trial) {
  constexpr int64_t kLookedAt = 100;
  const auto count = static_cast<int64_t>(trial.samples.size());
  for (const FeedPort& port : trial.feed.ports())
    for (size_t axis = 1; axis < port.shape.rank(); ++axis) trial.sizes_vary |= !port.shape[axis].is_known();
  if (!trial.sizes_vary) {
    trial.planned = spread(count, count);
  } else {
    std::map<std::vector<Dims>, std::vector<int64_t>> by_shape;
    for (const int64_t position : spread(count, kLookedAt)) {
      std::vector<Dims> shapes;
      for (const Tensor& t : trial.feed.request(Split::kTest, trial.samples[static_cast<size_t>(position)]))
        shapes.push_back(t.dims());
      by_shape[std::move(shapes)].push_back(position);
    }
    for (auto& [shapes, positions] : by_shape)
      if (positions.size() >= trial.planned.size()) trial.planned = positions;
  }
  trial.example = trial.feed.request(Split::kTest, trial.samples[static_cast<size_t>(trial.planned[0])]);
}

/// The batch that all of the model's inputs fix, or 0 when it takes any.
int64_t fixed_batch(const Trial& trial, const Side& side) {
  const int64_t fixed = batch_of_samples(side.graph, 1);
  for (const FeedPort& port : input_ports(side.graph))
    if (port.shape.rank() == 0 || !port.shape[0].is_known()) return fixed > 1 ? fixed : 0;
  return trial.example[0].dims()[0] == fixed ? 1 : fixed;
}

void choose_batch(Trial& trial) {
  const int64_t a = fixed_batch(trial, trial.reference), b = fixed_batch(trial, trial.candidate);
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
              .feed = Feed(data, reference.graph),
              .policy = policy,
              .options = options,
              .samples = spread(total, options.max_samples < 0 ? total : options.max_samples),
              .planned = {},
              .example = {},
              .folder = folder.path(),
              .codes = read_codes(candidate.graph, reference.graph)};
  if (trial.samples.empty() || options.batch < 1 || !(options.seconds > 0))
    fail(ErrorCode::kInvalidArgument, "Samples, batch and seconds must be positive: {}, {} and {}",
         trial.samples.size(), options.batch, options.seconds);
  require_inputs_correspond(reference.graph, candidate.graph);
  for (const Side* side : {&trial.reference, &trial.candidate}) {
    require_preprocess_agrees(*side, data);
    Feed(data, side->graph).request(Split::kTest, trial.samples[0]);
  }
  choose_planned(trial);
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
