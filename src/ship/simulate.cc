// Stage 4 of verification. Both models run in one server process, so that what is compared shares the machine, and the
// A/B comparison sends chunks of the same samples to one and the other in turns, the order changing each time (ABBA):
// what disturbs the machine strikes both. Latency: bootstrap over the rounds' pairs of medians, Mann and Whitney's test
// over the same; p99 from all requests, bootstrapped over whole rounds. Accuracy: McNemar's exact test.
#include "ship/simulate.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "load/load.h"
#include "load/load_samples.h"
#include "load/load_target.h"
#include "load/soak.h"
#include "metrics/classification.h"
#include "metrics/significance.h"
#include "model/onnx/identity.h"
#include "serve/admin/admin_client.h"
#include "ship/server_process.h"

namespace slipway {
namespace {

constexpr const char* kModel = "candidate";
constexpr const char* kVersions[] = {"1", "2"};  ///< original, candidate
constexpr int kRequestTimeoutMs = 600'000;
constexpr double kOpenShare = 0.7, kSoakShare = 0.5;  ///< of the capacity that the closed loops found
constexpr int64_t kChunk = 25, kMinRounds = 10;
constexpr double kMaxReplaySeconds = 60;
constexpr uint64_t kMaxSampleBytes = uint64_t{128} << 20;

constexpr int kMaxPasses = 8, kConvictingPasses = 3;  ///< of the A/B comparison over the samples

using Rounds = std::vector<std::vector<double>>;  ///< latencies in milliseconds by round
using Scores = std::vector<std::vector<float>>;   ///< first output by sample; empty where it failed

void remove_tree(const std::string& path) {
  if (DIR* folder = ::opendir(path.c_str())) {
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      const std::string inner = join_path(path, name);
      if (entry->d_type == DT_DIR)
        remove_tree(inner);
      else
        ::unlink(inner.c_str());
    }
    ::closedir(folder);
  }
  ::rmdir(path.c_str());
}

/// A repository of both models, removed at the end.
class TemporaryRepository {
 public:
  TemporaryRepository(const std::string& original, const std::string& candidate, const SimulateOptions& options) {
    const char* parent = std::getenv("TMPDIR");
    path_ = join_path(parent != nullptr ? parent : "/tmp", "slipway-simulate-XXXXXX");
    if (::mkdtemp(path_.data()) == nullptr)
      fail(ErrorCode::kIo, "A temporary folder can't be made; set TMPDIR to one with space: {}: {}", path_,
           std::strerror(errno));
    try {
      const std::string model = join_path(repository(), kModel);
      const std::string* paths[] = {&original, &candidate};
      for (int i = 0; i < 2; ++i) {
        const std::string folder = join_path(model, kVersions[i]);
        make_folders(folder);
        copy_model(*paths[i], join_path(folder, "model.onnx"));
      }
      nlohmann::json config = {{"threads", options.threads}};  // JSON is YAML
      if (!options.dims.empty()) config["dims"] = options.dims;
      write_file(join_path(model, "config.yaml"), std::string_view(config.dump()));
    } catch (...) {
      remove_tree(path_);
      throw;
    }
  }
  ~TemporaryRepository() { remove_tree(path_); }
  TemporaryRepository(const TemporaryRepository&) = delete;
  TemporaryRepository& operator=(const TemporaryRepository&) = delete;
  std::string repository() const { return join_path(path_, "repository"); }
  std::string log() const { return join_path(path_, "serve.log"); }

 private:
  std::string path_;
};

/// The same sample in every row of a model whose batch is fixed.
void fill_batch(std::vector<LoadSample>& samples, int64_t rows) {
  for (LoadSample& sample : samples) {
    auto bytes = std::make_shared<std::vector<std::byte>>();
    WireTensor& tensor = sample.inputs[0];
    for (int64_t i = 0; i < rows; ++i) bytes->insert(bytes->end(), tensor.bytes.begin(), tensor.bytes.end());
    tensor.dims[0] = rows;
    tensor.bytes = *bytes;
    sample.owner = bytes;
  }
}

double seconds_of(const SimulationFigures& figures) {
  double seconds = figures.soak.seconds;
  for (const SimulatedLoad& load : figures.loads) seconds += load.seconds;
  return seconds;
}

class Simulation {
 public:
  Simulation(const RunningServer& server, const Dataset& data, const Policy& policy, const SimulateOptions& options)
      : server_(server), data_(data), policy_(policy), options_(options) {
    const AdminReply reply = admin_call(
        server.admin_url(), "POST", fmt::format("/v2/repository/models/{}/load", kModel), "{}", "", kRequestTimeoutMs);
    if (reply.status != 200)
      fail(ErrorCode::kInvalidModel, "The models can't be served, though they could be run: {}", reply.body);
    for (int side = 0; side < 2; ++side) {
      const ModelDescription model = describe_model(server.http_url(), kModel, kVersions[side]);
      samples_[side] = dataset_samples(data, model, {options.samples, kMaxSampleBytes});
      if (const int64_t rows = model.inputs[0].dims.empty() ? 1 : model.inputs[0].dims[0]; rows > 1) {
        fill_batch(samples_[side], rows);
        rows_ = rows;
      }
    }
  }

  SimulationFigures run() {
    Progress progress("simulating", 6 + (options_.many_connections ? 1 : 0), options_.quiet);
    meet_shapes();
    for (const int connections : {1, 4, 16})
      if (connections < 16 || options_.many_connections) {
        load(fmt::format("closed loop, {} connection{}", connections, connections == 1 ? "" : "s"), connections, 0);
        progress.step();
      }
    load(fmt::format("open loop, {:.0f} % of that", 100 * kOpenShare), 64, kOpenShare * capacity_);
    progress.step();
    soak();
    progress.step();
    replay();
    progress.step();
    compare();
    progress.step();
    figures_.seconds = seconds_of(figures_);
    figures_.done = true;
    return figures_;
  }

 private:
  LoadOptions options_for(int side) const {
    return {.url = server_.http_url(), .model = kModel, .version = kVersions[side], .quiet = true};
  }
  static LoadResult run_checked(const LoadOptions& options, const std::vector<LoadSample>& samples) {
    LoadResult result = run_load(options, samples);
    throw_if_interrupted();
    return result;
  }

  // A combination of shapes is prepared when it is first seen, which is no part of what is measured.
  void meet_shapes() {
    for (int side = 0; side < 2; ++side) {
      std::set<std::vector<Dims>> seen;
      std::vector<LoadSample> samples;
      for (const LoadSample& sample : samples_[side]) {
        std::vector<Dims> shapes;
        for (const WireTensor& tensor : sample.inputs) shapes.push_back(tensor.dims);
        if (seen.insert(std::move(shapes)).second) samples.push_back(sample);
      }
      LoadOptions o = options_for(side);
      o.concurrency = 1;
      o.warm_up_seconds = 0;
      o.seconds = kMaxReplaySeconds;
      o.max_requests = static_cast<int64_t>(samples.size());
      run_checked(o, samples);
    }
  }

  void load(const std::string& name, int connections, double rate) {
    LoadOptions o = options_for(1);
    o.concurrency = connections;
    o.rate = rate;
    o.poisson = true;
    o.seconds = options_.load_seconds;
    o.warm_up_seconds = 0.2;
    const LoadResult r = run_checked(o, samples_[1]);
    figures_.loads.push_back({.name = name,
                              .rate_per_s = rate,
                              .connections = connections,
                              .requests = r.requests,
                              .errors = r.error_count(),
                              .seconds = r.seconds,
                              .throughput_per_s = r.throughput_per_s,
                              .p50_ms = r.latency_us.quantile(0.5) * 1e-3,
                              .p95_ms = r.latency_us.quantile(0.95) * 1e-3,
                              .p99_ms = r.latency_us.quantile(0.99) * 1e-3,
                              .kept_up = r.kept_up});
    if (rate == 0) capacity_ = std::max(capacity_, std::max(r.throughput_per_s, 1.0));
  }

  void soak() {
    LoadOptions o = options_for(1);
    o.concurrency = 64;
    o.rate = kSoakShare * capacity_;
    o.seconds = std::max(options_.soak_seconds, std::ceil(policy_.simulation.min_seconds - seconds_of(figures_)));
    o.warm_up_seconds = 0.5;
    o.admin_url = server_.admin_url();
    const LoadResult r = run_checked(o, samples_[1]);
    const SoakResult trend = judge_soak(r);
    SimulatedSoak& s = figures_.soak;
    s = {.seconds = r.seconds,
         .requests = r.requests,
         .errors = r.error_count(),
         .slope_mib_per_hour = trend.memory_mib.slope,
         .slope_low = trend.memory_mib.low,
         .slope_high = trend.memory_mib.high,
         .slope_p = trend.memory_mib.p};
    for (const LoadResult::Point& p : r.series) {
      s.t_s.push_back(p.t_s);
      s.memory_mib.push_back(p.server_rss_mb);
      s.p99_ms.push_back(p.p99_ms);
    }
  }

  // The first output's scores go to `scores` by sample; the rows that only fill a batch are left out.
  void keep_scores(LoadOptions& o, Scores& scores, size_t offset = 0) const {
    o.on_scores = [&scores, offset, rows = rows_](size_t sample, std::span<const float> row, int64_t) {
      const auto used = row.first(row.size() / static_cast<size_t>(rows));
      scores[offset + sample].assign(used.begin(), used.end());
    };
  }

  void replay() {
    SimulatedReplay& r = figures_.replay;
    r.source = options_.recording;
    std::vector<LoadSample> recorded;
    if (!options_.recording.empty()) {
      recorded = recorded_samples(read_recording(options_.recording), "", 1);
      const auto last = std::find_if(recorded.begin(), recorded.end(), [](const LoadSample& s) {
        return static_cast<double>(s.at_us) * 1e-6 > kMaxReplaySeconds;
      });
      recorded.erase(last, recorded.end());
      recorded.resize(std::min(recorded.size(), static_cast<size_t>(options_.samples)));
    }
    Scores scores[2];
    for (int side = 0; side < 2; ++side) {
      const std::vector<LoadSample>& samples = recorded.empty() ? samples_[side] : recorded;
      scores[side].resize(samples.size());
      LoadOptions o = options_for(side);
      o.warm_up_seconds = 0;
      o.seconds = recorded.empty() ? 2 * kMaxReplaySeconds : kMaxReplaySeconds + 1;
      o.concurrency = recorded.empty() ? 4 : 64;
      o.max_requests = static_cast<int64_t>(samples.size());
      keep_scores(o, scores[side]);
      const LoadResult result = run_checked(o, samples);
      if (side == 0) continue;
      r.requests = result.requests;
      r.errors = result.error_count();
    }
    differ(scores[0], scores[1], r);
  }

  static void differ(const Scores& original, const Scores& candidate, SimulatedReplay& r) {
    int64_t same = 0;
    double largest = 0;
    r.classes = true;
    for (size_t i = 0; i < original.size(); ++i) {
      const auto &a = original[i], &b = candidate[i];
      if (a.empty() || a.size() != b.size()) continue;
      ++r.compared;
      r.classes = r.classes && a.size() > 1;
      same += argmax(a) == argmax(b) && argmax(a) >= 0;
      for (size_t k = 0; k < a.size(); ++k) {
        const double difference = std::abs(static_cast<double>(a[k]) - static_cast<double>(b[k]));
        if (!std::isnan(r.max_difference) && !(difference <= r.max_difference)) r.max_difference = difference;
        if (std::isfinite(a[k])) largest = std::max(largest, std::abs(static_cast<double>(a[k])));
      }
    }
    r.classes = r.classes && r.compared > 0;
    r.agreement = r.compared == 0 ? 0 : static_cast<double>(same) / static_cast<double>(r.compared);
    r.max_relative_difference = r.max_difference / std::max(largest, 1e-30);
  }

  // Again and again as long as the p99 looks too high: on a busy machine more rounds tell a stall from a slow model.
  void compare() {
    SimulatedComparison& c = figures_.comparison;
    const auto size = samples_[0].size();
    Scores scores[2] = {Scores(size), Scores(size)};
    Rounds rounds[2];
    c.samples = static_cast<int64_t>(size);
    for (int pass = 1; pass <= kMaxPasses; ++pass) {
      compare_once(scores, rounds);
      latencies(rounds, c);
      if (!(c.p99_ratio > policy_.simulation.max_p99_ratio)) break;
      if (c.p99_ratio_low > policy_.simulation.max_p99_ratio && pass >= kConvictingPasses) break;
    }
    accuracies(scores, c);
  }

  void compare_once(Scores (&scores)[2], Rounds (&rounds)[2]) {
    SimulatedComparison& c = figures_.comparison;
    const auto size = static_cast<int64_t>(samples_[0].size());
    const int64_t chunk = std::clamp(size / kMinRounds, int64_t{1}, kChunk);
    for (int64_t first = 0; first < size; first += chunk, ++c.rounds) {
      const int64_t count = std::min(chunk, size - first);
      std::vector<double> times[2];
      for (const int turn : {0, 1}) {
        const int side = static_cast<int>((turn + c.rounds) % 2);
        const auto begin = samples_[side].begin() + first;
        const std::vector<LoadSample> part(begin, begin + count);
        LoadOptions o = options_for(side);
        o.warm_up_seconds = 0;
        o.seconds = 2 * kMaxReplaySeconds;
        o.max_requests = count;
        keep_scores(o, scores[side], static_cast<size_t>(first));
        const LoadResult r = run_checked(o, part);
        c.requests += r.requests;
        c.errors += r.error_count();
        times[side] = times_ms(r.latency_us);
      }
      if (times[0].empty() || times[1].empty()) continue;
      for (const int side : {0, 1}) rounds[side].push_back(std::move(times[side]));
    }
  }

  static std::vector<double> times_ms(const Histogram& latency_us) {
    std::vector<double> times;
    const std::vector<int64_t>& counts = latency_us.counts();
    for (size_t i = 0; i < counts.size(); ++i)
      times.insert(times.end(), static_cast<size_t>(counts[i]), static_cast<double>(LogBuckets::highest(i)) * 1e-3);
    return times;
  }

  static void latencies(const Rounds (&rounds)[2], SimulatedComparison& c) {
    if (rounds[0].empty()) return;
    std::vector<double> all[2], medians[2];
    for (const int side : {0, 1})
      for (const std::vector<double>& times : rounds[side]) {
        all[side].insert(all[side].end(), times.begin(), times.end());
        medians[side].push_back(quantile(times, 0.5));
      }
    c.reference_p50_ms = quantile(all[0], 0.5);
    c.candidate_p50_ms = quantile(all[1], 0.5);
    c.reference_p99_ms = quantile(all[0], 0.99);
    c.candidate_p99_ms = quantile(all[1], 0.99);
    const Interval ratio = median_ratio_interval(medians[0], medians[1]);
    c.ratio = ratio.value;
    c.ratio_low = ratio.low;
    c.ratio_high = ratio.high;
    const TestResult test = mann_whitney_u(medians[1], medians[0]);
    c.mann_whitney_u = test.statistic;
    c.mann_whitney_p = test.p;
    const Interval p99 = quantile_ratio_interval(rounds[0], rounds[1], 0.99);
    c.p99_ratio = p99.value;
    c.p99_ratio_low = p99.low;
    c.p99_ratio_high = p99.high;
  }

  void accuracies(const Scores (&scores)[2], SimulatedComparison& c) const {
    const auto size = static_cast<int64_t>(scores[0].size());
    const int64_t total = data_.size(Split::kTest), asked = std::min(total, options_.samples);
    if (!data_.has_labels() || !options_.classifier) return;
    int64_t judged = 0, right[2] = {0, 0};
    for (int64_t i = 0; i < size; ++i) {
      const auto &a = scores[0][static_cast<size_t>(i)], &b = scores[1][static_cast<size_t>(i)];
      const int64_t label = data_.label(Split::kTest, i * total / asked);  // as dataset_samples spreads them
      if (a.size() < 2 || b.size() < 2 || label < 0) continue;
      const bool hit[2] = {argmax(a) == label, argmax(b) == label};
      ++judged;
      right[0] += hit[0];
      right[1] += hit[1];
      c.only_reference_right += hit[0] && !hit[1];
      c.only_candidate_right += hit[1] && !hit[0];
    }
    if (judged == 0) return;
    c.labels = true;
    c.reference_accuracy = static_cast<double>(right[0]) / static_cast<double>(judged);
    c.candidate_accuracy = static_cast<double>(right[1]) / static_cast<double>(judged);
    c.drop_points =
        100 * static_cast<double>(c.only_reference_right - c.only_candidate_right) / static_cast<double>(judged);
    c.mcnemar_p = mcnemar_exact(c.only_reference_right, c.only_candidate_right);
  }

  const RunningServer& server_;
  const Dataset& data_;
  const Policy& policy_;
  const SimulateOptions& options_;
  std::vector<LoadSample> samples_[2];
  int64_t rows_ = 1;  ///< of one request
  double capacity_ = 0;
  SimulationFigures figures_;
};

}  // namespace

SimulationFigures simulate(const std::string& original_path, const std::string& candidate_path, const Dataset& data,
                           const Policy& policy, const SimulateOptions& options) {
  if (options.threads < 1 || options.samples < 1 || !(options.load_seconds > 0 && options.soak_seconds >= 0))
    fail(ErrorCode::kInvalidArgument, "A simulation needs threads, samples and seconds: {}, {}, {}", options.threads,
         options.samples, options.load_seconds);
  const TemporaryRepository repository(original_path, candidate_path, options);
  std::vector<std::string> more{"--allow-unverified"};
  if (!options.tune) more.emplace_back("--no-tune");
  const ServerChild child(
      {.program = options.program, .repository = repository.repository(), .more = more, .log_path = repository.log()});
  return Simulation(child.server(), data, policy, options).run();
}

}  // namespace slipway
