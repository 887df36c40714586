// slipway bench: latency, throughput, start-up and memory of models as they would run, side by side.
//
// Each ONNX file is first built into a plan by a child process, where it can be one; then a child of its own opens the
// plan, as a server would, and is asked in turn, round after round, so that a noisy neighbour hits all models alike.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "cli/cli.h"
#include "data/feed.h"
#include "metrics/latency.h"
#include "model/infer.h"
#include "model/rows.h"
#include "verify/measure.h"

namespace slipway {
namespace {

using nlohmann::json;

struct BenchFlags {
  std::vector<std::string> models, dims;
  std::string data;
  int64_t batch = 1;
  int threads = 1, rounds = 5;
  double seconds = 3;
  bool json = false, no_tune = false;
};

struct Entry {
  std::string model, plan_path;
  std::vector<Tensor> inputs;           ///< a data file's first sample, or made up; empty: of the plan's first shapes
  std::map<std::string, int64_t> dims;  ///< of free dimensions besides the batch
  bool temporary = false;
  std::unique_ptr<MeasuredPlan> plan;
  double build_ms = 0;
  std::vector<double> times_ms, round_medians;
  uint64_t peak = 0, peak_over_start = 0;
};

/// Sizes for the free dimensions besides the batch that the user gives none: the first of some usual ones that the
/// model can have.
std::map<std::string, int64_t> settle_dims(const Graph& graph, const BenchFlags& o) {
  constexpr int64_t kPicture = 224, kSequence = 128;
  const std::map<std::string, int64_t> given = parse_dims(o.dims);
  std::map<std::string, int64_t> dims;
  std::set<std::string> batch;  // first axes' symbols, wherever else they stand
  for (const ValueId id : graph.inputs())
    if (const Shape& shape = graph.value(id).shape; shape.rank() > 0) batch.insert(shape[0].symbol());
  for (const int64_t shrink : {1, 2, 4, 128}) {
    dims = given;
    for (const ValueId id : graph.inputs()) {
      const Value& v = graph.value(id);
      for (size_t axis = 1; axis < v.shape.rank(); ++axis) {
        const Dim& dim = v.shape[axis];
        const std::string place = fmt::format("{}.{}", v.name, axis);
        if (dim.is_known() || given.contains(place)) continue;
        if (dim.is_symbol() && (given.contains(dim.symbol()) || batch.contains(dim.symbol()))) continue;
        dims.emplace(dim.is_symbol() ? dim.symbol() : place,
                     std::max<int64_t>((v.shape.rank() == 4 ? kPicture : kSequence) / shrink, 1));
      }
    }
    try {
      Graph bound = graph;
      bind_batch(bound, o.batch, dims);
      return dims;
    } catch (const Error&) {
      if (dims == given) return dims;  // building the plan says it
    }
  }
  return dims;
}

/// The first sample of the test split, `batch` times.
std::vector<Tensor> sample_inputs(const Graph& graph, const BenchFlags& o) {
  std::vector<Tensor> inputs = Feed(Dataset::open(o.data), graph).request(Split::kTest, 0);
  for (Tensor& tensor : inputs)
    if (o.batch > 1 && tensor.rank() > 0)
      tensor = stack_rows(std::vector<Tensor>(static_cast<size_t>(o.batch), tensor));
  return inputs;
}

// An entry's plan file, and what is run on it where that is not made up from its first shapes.
void prepare(Entry& entry, const BenchFlags& o) {
  entry.plan_path = entry.model;
  const bool is_plan = Plan::is_plan_file(entry.model);
  if (is_plan && o.data.empty() && o.dims.empty() && o.batch == 1) return;
  Graph graph = load_model(entry.model);
  if (o.data.empty()) {
    entry.dims = settle_dims(graph, o);
    Graph bound = graph;
    bind_batch(bound, o.batch, entry.dims);
    entry.inputs = random_inputs(bound);
  } else {
    entry.inputs = sample_inputs(graph, o);
    entry.dims = dims_of_request(graph, entry.inputs);
  }
  if (is_plan) return;
  const char* folder = std::getenv("TMPDIR");
  entry.plan_path = join_path(folder ? folder : "/tmp",
                              fmt::format("slipway-bench-{}-{}.plan", ::getpid(), reinterpret_cast<uintptr_t>(&entry)));
  entry.temporary = true;
  entry.build_ms = build_plan_file(
      [&] { return load_model(entry.model); },
      {.threads = o.threads, .tune = !o.no_tune, .timing_cache = default_timing_cache(), .quiet = o.json}, entry.inputs,
      entry.plan_path, entry.model);
}

/// Rows of a run: the first axis that all inputs agree on.
int64_t rows_of_run(const Entry& e) {
  const std::vector<Dims>& inputs = e.plan->opened().inputs;
  const bool agree = !inputs.empty() && std::all_of(inputs.begin(), inputs.end(), [&](const Dims& dims) {
    return !dims.empty() && !inputs[0].empty() && dims[0] == inputs[0][0];
  });
  return agree ? inputs[0][0] : 1;
}

std::string inputs_text(const Entry& e) {
  std::string text;
  for (const Dims& dims : e.plan->opened().inputs) text += (text.empty() ? "" : " ") + to_string(dims);
  return text;
}

json summary(const Entry& e, const Entry& first) {
  const double median = quantile(e.times_ms, 0.5), p99 = quantile(e.times_ms, 0.99), mean = summarize(e.times_ms).mean;
  json j = {{"model", e.model},
            {"precision", e.plan->opened().precision},
            {"threads", e.plan->opened().threads},
            {"batch", rows_of_run(e)},
            {"inputs", e.plan->opened().inputs},
            {"dims", e.dims},
            {"latency_ms_median", median},
            {"latency_ms_p95", quantile(e.times_ms, 0.95)},
            {"latency_ms_p99", p99},
            {"latency_ms_min", *std::min_element(e.times_ms.begin(), e.times_ms.end())},
            {"throughput_per_s", static_cast<double>(rows_of_run(e)) * 1e3 / mean},
            {"first_result_ms", e.plan->opened().first_result_ms},
            {"build_ms", e.build_ms},
            {"peak_rss_bytes", e.peak},
            {"peak_rss_over_start_bytes", e.peak_over_start},
            {"file_bytes", model_bytes(e.model)},
            {"runs", e.times_ms.size()},
            {"coefficient_of_variation", summarize(e.round_medians).cv},
            {"choices_digest", e.plan->opened().choices_digest},
            {"one_plan", e.plan->opened().whole}};
  if (&e != &first && e.plan->opened().inputs != first.plan->opened().inputs) {
    j["speedup_note"] = "other shapes";
  } else if (&e != &first) {
    const SpeedUp fast =
        speed_up(quantile(first.times_ms, 0.5), median, median_ratio_interval(first.round_medians, e.round_medians));
    if (fast.value > 0) j["speedup_over_first"] = fast.value;
    j["speedup_note"] = fast.note;
  }
  return j;
}

void run_bench(const BenchFlags& o) {
  if (!(o.seconds > 0) || o.rounds < 1)
    fail(ErrorCode::kInvalidArgument, "Seconds and rounds must be positive: {} and {}", o.seconds, o.rounds);
  std::vector<Entry> entries(o.models.size());
  struct Cleanup {
    std::vector<Entry>& entries;
    ~Cleanup() {
      for (Entry& e : entries)
        if (e.temporary) ::unlink(e.plan_path.c_str());
    }
  } cleanup{entries};
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].model = o.models[i];
    prepare(entries[i], o);
  }
  for (Entry& e : entries) {
    try {
      e.plan = std::make_unique<MeasuredPlan>(e.plan_path, e.model, e.inputs);
    } catch (const Error& error) {
      if (!o.data.empty() || error.code() != ErrorCode::kInvalidModel) throw;
      fail(ErrorCode::kInvalidArgument, "The model does not run on made-up inputs; give some with --data: {} ({})",
           e.model, error.what());
    }
    if (e.temporary) ::unlink(e.plan_path.c_str());  // the child has read it
  }
  for (int round = 0; round <= o.rounds; ++round)  // round 0 warms up
    for (Entry& e : entries) {
      throw_if_interrupted();
      const double seconds = round == 0 ? std::min(0.2, o.seconds) : o.seconds / o.rounds;
      const MeasuredPlan::Round result = e.plan->run(seconds, 3);
      e.peak = result.peak_bytes;
      e.peak_over_start = result.peak_over_start_bytes;
      if (round == 0) continue;
      e.times_ms.insert(e.times_ms.end(), result.times_ms.begin(), result.times_ms.end());
      e.round_medians.push_back(quantile(result.times_ms, 0.5));
    }
  Table table({"model", "precision", "median ms", "p99 ms", "per s", "first ms", "memory", "file", "speed-up"});
  for (const Entry& e : entries) {
    const json j = summary(e, entries[0]);
    if (o.json) {
      print_json(j);
      continue;
    }
    table.add(
        {e.model, j.at("precision"), fmt::format("{:.3f}", j.at("latency_ms_median").get<double>()),
         fmt::format("{:.3f}", j.at("latency_ms_p99").get<double>()),
         fmt::format("{:.1f}", j.at("throughput_per_s").get<double>()),
         fmt::format("{:.1f}", j.at("first_result_ms").get<double>()),
         human_bytes(j.at("peak_rss_over_start_bytes").get<double>()), human_bytes(j.at("file_bytes").get<double>()),
         j.contains("speedup_over_first") ? fmt::format("{:.2f}x", j.at("speedup_over_first").get<double>()) : ""});
  }
  if (o.json) return;
  table.print();
  fmt::print("\n{} rounds interleaved over {:g} s each; memory is the peak above the process's start\n", o.rounds,
             o.seconds);
  for (const Entry& e : entries)
    fmt::print("{}: {} thread{}, inputs {}\n", e.model, e.plan->opened().threads,
               e.plan->opened().threads == 1 ? "" : "s", inputs_text(e));
  const size_t given = o.dims.size();
  for (const Entry& e : entries) {
    if (!e.plan->opened().whole)
      fmt::print("{} is no single plan: what its shapes or its control flow hide is prepared as it becomes known\n",
                 e.model);
    if (e.dims.size() > given) {
      std::string sizes;
      for (const auto& [name, size] : e.dims) sizes += fmt::format("{}{}={}", sizes.empty() ? "" : ", ", name, size);
      fmt::print("{} leaves dimensions free; measured at {} (--dim)\n", e.model, sizes);
    }
    const double cv = summarize(e.round_medians).cv;
    if (cv > 0.025)
      fmt::print("unsteady: {} varies by {:.1f} % between rounds; the machine is busy\n", e.model, 100 * cv);
    if (e.times_ms.size() < 1000)
      fmt::print("p99 of {} comes from {} runs; 1000 make it meaningful (--seconds)\n", e.model, e.times_ms.size());
  }
}

}  // namespace

void add_bench(Cli& cli) {
  auto o = std::make_shared<BenchFlags>();
  CLI::App* verb =
      add_verb(cli, "bench", "Measure latency, throughput, start-up and memory",
               "  slipway bench model.onnx --batch 32 --threads 2\n"
               "  slipway bench model.onnx model.int8.onnx          side by side, interleaved, with the speed-up",
               o->json);
  verb->add_option("model", o->models, "ONNX files or plans")->required();
  verb->add_option("--batch", o->batch, "Samples a run")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  verb->add_option("--seconds", o->seconds, "Seconds to measure each model")->capture_default_str();
  verb->add_option("--rounds", o->rounds, "Rounds that the seconds are cut into")->capture_default_str();
  auto* data = verb->add_option("--data", o->data, "Data file, whose first test sample is run; else random numbers");
  verb->add_option("--dim", o->dims,
                   "Size of another free dimension, NAME=SIZE (repeatable); else 224 for pictures, 128 for sequences")
      ->excludes(data);
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=] { run_bench(*o); });
}

}  // namespace slipway
