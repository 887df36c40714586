// Latency, throughput and memory. Both models' plans are built and run in child processes, asked in turn, round after
// round and in alternating order, so that slow moments of the machine strike both; the ratio of the medians gets a
// bootstrap interval over the pairs of rounds (Efron, 1979). The rounds are shared out over several pairs of processes:
// where its pages come to lie can make a process slower for its whole life. This stage runs first, while the parent
// holds little.
#include <algorithm>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "metrics/latency.h"
#include "model/rows.h"
#include "verify/checks.h"
#include "verify/measure.h"
#include "verify/trial.h"

namespace slipway {
namespace {

constexpr int kRounds = 40, kMaxRounds = 10'000, kProcesses = 5, kThroughputRounds = 3, kColdOpenings = 20,
              kMinColdOpenings = 3;
constexpr int64_t kBatches[] = {1, 8, 32};

LatencyFigures figures_of(std::vector<double> times_ms) {
  const SampleSummary s = summarize(times_ms);
  LatencyFigures f{.runs = s.count,
                   .mean_ms = s.mean,
                   .min_ms = s.min,
                   .p50_ms = s.p50,
                   .p95_ms = s.p95,
                   .p99_ms = s.p99,
                   .max_ms = s.max};
  std::sort(times_ms.begin(), times_ms.end());
  for (size_t p = 0; p <= 100 && !times_ms.empty(); ++p)
    f.percentiles_ms.push_back(times_ms[(p * (times_ms.size() - 1) + 50) / 100]);
  return f;
}

double seconds_since(int64_t start_ns) { return static_cast<double>(now_ns() - start_ns) * 1e-9; }

std::string plan_file(const Trial& trial, const Side& side, int64_t batch) {
  return join_path(trial.folder, fmt::format("{}.{}.plan", side.role, batch));
}

/// Builds and saves a side's plans for so many samples; the time it took, ms.
double build(const Trial& trial, const Side& side, int64_t batch) {
  Inputs example;
  for (const Tensor& tensor : trial.example)
    example.push_back(batch == 1 ? tensor : stack_rows(std::vector<Tensor>(static_cast<size_t>(batch), tensor)));
  return build_plan_file([&] { return side.graph; },
                         {.threads = trial.options.threads,
                          .tune = trial.options.tune,
                          .timing_cache = trial.options.timing_cache,
                          .quiet = trial.options.quiet},
                         example, plan_file(trial, side, batch), side.path);
}

/// A side in a process of its own.
MeasuredPlan measured(const Trial& trial, const Side& side, int64_t batch) {
  return {plan_file(trial, side, batch), "the " + side.role};
}

/// The two sides of a pair of rounds, each in its own process.
struct Pair {
  Pair(const Trial& trial, int64_t batch)
      : reference(measured(trial, trial.reference, batch)), candidate(measured(trial, trial.candidate, batch)) {}
  void round(int index, double seconds, int64_t min_runs, MeasuredPlan::Round& a, MeasuredPlan::Round& b) {
    if (index % 2 == 0) a = reference.run(seconds, min_runs);
    b = candidate.run(seconds, min_runs);
    if (index % 2 != 0) a = reference.run(seconds, min_runs);
  }
  MeasuredPlan reference, candidate;
};

void measure_cold(const Trial& trial, PerformanceFigures& p) {
  const int64_t start = now_ns();
  std::vector<double> a, b;
  Progress progress("opening plans cold", kColdOpenings, trial.options.quiet);
  for (int i = 0; i < kColdOpenings; ++i) {
    if (i >= kMinColdOpenings && seconds_since(start) > trial.options.seconds / 2) break;
    a.push_back(measured(trial, trial.reference, trial.unit).opened().first_result_ms);
    b.push_back(measured(trial, trial.candidate, trial.unit).opened().first_result_ms);
    progress.step();
  }
  p.reference.cold = figures_of(a);
  p.candidate.cold = figures_of(b);
}

void measure_warm(const Trial& trial, PerformanceFigures& p) {
  const auto rounds = static_cast<int>(std::clamp<int64_t>(trial.policy.performance.min_rounds, kRounds, kMaxRounds));
  const double seconds = trial.options.seconds / (2 * rounds);
  std::unique_ptr<Pair> pair;
  MeasuredPlan::Round a, b;
  double spent = 0;  // in rounds, without the starts of processes
  std::vector<double> all_a, all_b, medians_a, medians_b, preempted_a, preempted_b;
  Progress progress("measuring latency", rounds, trial.options.quiet);
  for (int i = 0; i < rounds; ++i) {
    if (i > 4 && spent > 4 * trial.options.seconds) break;
    if (i % (rounds / kProcesses) == 0) {
      pair.reset();  // never two at a time
      pair = std::make_unique<Pair>(trial, trial.unit);
      pair->round(0, std::min(0.2, trial.options.seconds / 16), 3, a, b);  // warms up
    }
    const int64_t start = now_ns();
    pair->round(i, seconds, 3, a, b);
    spent += seconds_since(start);
    all_a.insert(all_a.end(), a.times_ms.begin(), a.times_ms.end());
    all_b.insert(all_b.end(), b.times_ms.begin(), b.times_ms.end());
    medians_a.push_back(quantile(a.times_ms, 0.5));
    medians_b.push_back(quantile(b.times_ms, 0.5));
    preempted_a.push_back(a.preemptions_per_s);
    preempted_b.push_back(b.preemptions_per_s);
    progress.step();
  }
  p.rounds = static_cast<int64_t>(medians_a.size());
  const Interval ratio = median_ratio_interval(medians_a, medians_b, trial.policy.performance.confidence);
  p.ratio = ratio.value;
  p.ratio_low = ratio.low;
  p.ratio_high = ratio.high;
  p.preemptions_per_s = std::max(quantile(preempted_a, 0.5), quantile(preempted_b, 0.5));
  p.reference.warm = figures_of(std::move(all_a));
  p.candidate.warm = figures_of(std::move(all_b));
  const SpeedUp fast = speed_up(p.reference.warm.p50_ms, p.candidate.warm.p50_ms, ratio);
  p.speedup = fast.value;
  p.speed_note = fast.note;
  const auto memory = [](const MeasuredPlan& plan, const MeasuredPlan::Round& last, ModelPerformance& m) {
    m.peak_bytes = last.peak_over_start_bytes;
    m.arena_bytes = plan.opened().memory.arena_bytes;
    m.weight_bytes = plan.opened().memory.weight_bytes;
  };
  memory(pair->reference, a, p.reference);
  memory(pair->candidate, b, p.candidate);
}

Throughput measure_throughput(const Trial& trial, int64_t batch) {
  for (const Side* side : {&trial.reference, &trial.candidate}) build(trial, *side, batch);
  Pair pair(trial, batch);
  MeasuredPlan::Round a, b;
  pair.round(0, 0, 1, a, b);
  std::vector<double> times_a, times_b, medians_a, medians_b;
  double preempted = 0;
  for (int i = 0; i < kThroughputRounds; ++i) {
    pair.round(i, trial.options.seconds / (8 * kThroughputRounds), 1, a, b);
    times_a.insert(times_a.end(), a.times_ms.begin(), a.times_ms.end());
    times_b.insert(times_b.end(), b.times_ms.begin(), b.times_ms.end());
    medians_a.push_back(quantile(a.times_ms, 0.5));
    medians_b.push_back(quantile(b.times_ms, 0.5));
    preempted = std::max({preempted, a.preemptions_per_s, b.preemptions_per_s});
  }
  const double samples = 1e3 * static_cast<double>(batch), time_a = quantile(times_a, 0.5),
               time_b = quantile(times_b, 0.5);
  const SpeedUp fast = speed_up(time_a, time_b, median_ratio_interval(medians_a, medians_b));
  return {batch, samples / time_a, samples / time_b, fast.value > 0 && preempted <= kCrowded * trial.options.threads};
}

void build_plans(Trial& trial, Report& report) {
  PerformanceFigures& p = report.performance;
  for (auto [side, figures, facts] : {std::tuple(&trial.reference, &p.reference, &report.reference),
                                      std::tuple(&trial.candidate, &p.candidate, &report.candidate)}) {
    side->plan_path = plan_file(trial, *side, trial.unit);
    figures->build_ms = build(trial, *side, trial.unit);
    side->program = open_program(side->plan_path);
    const std::vector<PreparedShape> prepared = side->program->prepared();
    if (prepared.at(0).whole) side->plan = prepared[0].plans[0];
    facts->precision = precision_of(plans_of(*side->program));
    facts->plan_digest = choices_digest_of(plans_of(*side->program));
  }
}

}  // namespace

void measure_performance(Trial& trial, Report& report) {
  PerformanceFigures& p = report.performance;
  p.threads = trial.options.threads;
  p.batch = trial.unit;
  build_plans(trial, report);
  measure_cold(trial, p);
  measure_warm(trial, p);
  const double unit = 1e3 * static_cast<double>(trial.unit);
  p.throughput.push_back({trial.unit, unit / p.reference.warm.p50_ms, unit / p.candidate.warm.p50_ms, p.speedup > 0});
  if (!trial.batchable) return;
  Progress progress("measuring throughput", std::size(kBatches) - 1, trial.options.quiet);
  for (const int64_t batch : kBatches) {
    if (batch == trial.unit) continue;
    p.throughput.push_back(measure_throughput(trial, batch));
    progress.step();
  }
}

void note_small_gain(const Trial& trial, Report& report) {
  constexpr double kGain = 0.9;
  constexpr size_t kNamed = 8;
  PerformanceFigures& p = report.performance;
  if (trial.candidate.plan == nullptr || report.candidate.precision == "fp32" || report.reference.precision != "fp32" ||
      p.ratio < kGain)
    return;
  std::vector<std::string> floats;
  for (const StepInfo& step : trial.candidate.plan->steps())
    if (const std::string op = step.op.substr(step.op.rfind('.') + 1);  // whatever it is fused with
        is_weighted(op) && !computes_on_codes(op))
      floats.push_back(layer_of(trial.candidate, step.name));
  p.integer_note =
      fmt::format("INT8 gains less than 10 % here: the candidate takes {:.2f} of the original's time.", p.ratio);
  const size_t count = floats.size();
  if (count > kNamed) floats.resize(kNamed);
  p.integer_note += count == 0 ? " All its weighted layers compute on integers."
                               : fmt::format(" {} of its layers stayed float: {}{}.", count, fmt::join(floats, ", "),
                                             count > kNamed ? ", …" : "");
}

}  // namespace slipway
