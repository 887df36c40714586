// The whole road. What computes (optimise, quantise, verify) does so in a child process each: memory and thread pools
// of one stage are no other's, and this process stays small enough to be forked from when latency is measured.
#include "ship/ship.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/feed.h"
#include "engine/passes/pipeline.h"
#include "load/load_samples.h"
#include "load/load_target.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "quantize/auto_quantize.h"
#include "rollout/rollout_plan.h"
#include "serve/repository.h"
#include "ship/canary.h"
#include "ship/publish.h"
#include "ship/simulate.h"
#include "verify/checks.h"
#include "verify/measure.h"
#include "verify/verify.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int64_t kCalibrationSamples = 500, kQuickCalibrationSamples = 200;
constexpr int64_t kQuickTestSamples = 1000, kQuickTrainSamples = 2000, kQuickEpochs = 2;
constexpr int64_t kReplaySamples = 1000, kQuickReplaySamples = 500;
constexpr double kReplayShare = 0.4, kMaxRate = 1000;  ///< of the slower model's capacity
constexpr double kLonger = 3;  ///< an inconclusive measurement is taken again, so many times as long

std::string stem_of(const std::string& path) {
  const std::string name = file_name(path);
  return name.ends_with(".onnx") ? name.substr(0, name.size() - 5) : name;
}

/// Only one process works in a folder; the lock goes with the process.
class WorkLock {
 public:
  explicit WorkLock(const std::string& folder) {
    const std::string path = join_path(folder, "lock");
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0)
      fail(ErrorCode::kIo, "The work folder is not writable ({}); choose one with --work: {}", std::strerror(errno),
           folder);
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(fd_);
    fail(ErrorCode::kOverloaded, "Another `slipway ship` works here; wait for it, or choose a folder with --work: {}",
         folder);
  }
  ~WorkLock() { ::close(fd_); }
  WorkLock(const WorkLock&) = delete;
  WorkLock& operator=(const WorkLock&) = delete;

 private:
  int fd_ = -1;
};

json in_child(const std::string& label, const std::function<json()>& work) {
  ChildProcess child(label, [&](const json&) { return work(); });
  return child.ask(json::object());
}

std::string reason_of(const Report& report, const std::string& page) {
  return fmt::format("{}{} The report: {}", report.verdict == Verdict::kInconclusive ? "Inconclusive: " : "",
                     report.reason, page);
}

class Ship {
 public:
  Ship(const ShipOptions& options, const ShipObserver& observer)
      : o_(options), observer_(observer), data_(Dataset::open(options.data)) {
    name_ = o_.name.empty() ? stem_of(o_.model) : o_.name;
    if (!o_.repository.empty()) require_model_name(name_);
    if (!o_.candidate.empty() && o_.skip_quantize)
      fail(ErrorCode::kInvalidArgument, "A candidate made elsewhere is never quantised here; leave out one of the two");
    if (o_.strategy && (o_.skip_quantize || !o_.candidate.empty()))
      fail(ErrorCode::kInvalidArgument, "Nothing is quantised here; leave out --strategy, or what skips quantising: {}",
           to_string(*o_.strategy));
    if (o_.url.empty() != o_.admin_url.empty())
      fail(ErrorCode::kInvalidArgument, "A running server is named by both its addresses, --url and --admin");
    policy_ = o_.policy.empty() ? Policy() : load_policy(o_.policy);
    plan_ = o_.plan.empty() ? "" : read_text_file(o_.plan);
    if (!plan_.empty()) parse_rollout_plan(plan_, o_.plan);
    if (!o_.repository.empty()) config_ = load_model_config(o_.repository, name_);
    threads_ = o_.threads > 0 ? o_.threads : config_.threads;
    work_ = !o_.work.empty()        ? o_.work
            : o_.repository.empty() ? stem_of(o_.model) + ".ship"
                                    : join_path(join_path(o_.repository, ".slipway/ship"), name_);
    if (o_.work.empty() && o_.repository.empty()) work_ = join_path(parent_folder(o_.model), work_);
    make_folders(work_);
    data_digest_ = data_.digest();
  }

  ShipResult run() {
    const WorkLock lock(work_);
    if (!o_.repository.empty() && o_.url.empty() && !find_server(o_.repository)) require_free_ports(serve_command());
    ShipResult result{.work = work_, .name = name_};
    std::exception_ptr error;
    try {
      result.road = run_stages(stages(), in_work("ship.json"), o_.from, observer_.stage);
    } catch (...) {
      error = std::current_exception();
    }
    if (server_started_ && o_.stop_server) result.server_stopped = stop_server(server_->pid);
    if (error) std::rethrow_exception(error);
    const bool verified = std::any_of(result.road.stages.begin(), result.road.stages.end(),
                                      [](const StageReport& stage) { return stage.name == "verify"; });
    if (verified && file_exists(in_work("verify.json")))
      result.warnings = load_report(in_work("verify.json")).data.warnings;
    result.server = server_;
    result.server_started = server_started_;
    return result;
  }

 private:
  std::string in_work(const std::string& name) const { return join_path(work_, name); }

  std::vector<Stage> stages() {
    const auto run = [this](StageOutcome (Ship::*stage)(const StageValues&)) {
      return [this, stage](const StageValues& values) { return (this->*stage)(values); };
    };
    model_digest_ = identify_model(o_.model).sha256;
    const std::string quick = o_.extent.quick ? "quick" : "full";
    const std::string candidate = o_.candidate.empty() ? "" : identify_model(o_.candidate).sha256;
    std::vector<Stage> road{
        {"optimize", {model_digest_, data_digest_, candidate, o_.candidate}, run(&Ship::optimize)},
        {"quantize",
         {o_.skip_quantize ? "skip" : goal_key(), fmt::format("{}", o_.extent.samples.value_or(-1)), quick},
         run(&Ship::quantize)},
        {"verify",
         {policy_digest(policy_), std::to_string(threads_), extent_key(), quick, o_.tune ? "tune" : ""},
         run(&Ship::verify)},
        {"simulate", {o_.recording.empty() ? "" : sha256_of_file(o_.recording), quick}, run(&Ship::simulate)}};
    if (o_.repository.empty()) return road;
    road.push_back({"publish", {o_.repository, name_}, run(&Ship::publish)});
    road.push_back(
        {"canary",
         {plan_, o_.traffic == CanaryTraffic::kLive ? "live" : "replay", fmt::format("{}", o_.rate), o_.admin_url},
         run(&Ship::canary)});
    road.push_back({"promote", {}, run(&Ship::promote), true});
    return road;
  }

  /// What a stage reads must be what its key stands for.
  void require_unchanged(const ModelIdentity& model) const {
    if (model.sha256 != model_digest_)
      fail(ErrorCode::kIo, "The model changed while it was on its way; run the same command again: {}", o_.model);
  }

  // Pre-processing and labels travel in the model from here on.
  StageOutcome optimize(const StageValues&) {
    if (!o_.candidate.empty())
      return {
          .figure = "skipped: the candidate was made elsewhere", .files = {}, .values = {{"candidate", o_.candidate}}};
    const std::string output = in_work("optimized.onnx");
    const json done = in_child("optimize", [&]() -> json {
      ModelIdentity identity;
      Graph graph = load_onnx(o_.model, identity);
      require_unchanged(identity);
      require_fitting(data_, graph);
      const size_t before = graph.node_count();
      run_passes(graph, {.standard_onnx = true});
      carry_preprocess(data_, graph);
      save_onnx(graph, output);
      return {{"before", before}, {"after", graph.node_count()}};
    });
    return {.figure = fmt::format("{} nodes, of {}", done.at("after").get<int64_t>(), done.at("before").get<int64_t>()),
            .files = {output},
            .values = {{"candidate", output}}};
  }

  std::string extent_key() const {
    const VerifyExtent& e = o_.extent;
    return fmt::format("{} {} {}", e.samples.value_or(-1), e.edge_case_samples.value_or(-1), e.seconds.value_or(-1));
  }

  /// What the quantised model depends on besides the stages before: a policy that asks otherwise makes it anew.
  std::string goal_key() const {
    const QuantizationGoal goal = quantization_goal(policy_);
    const auto text = [](const std::optional<double>& value) { return value ? fmt::format("{}", *value) : "none"; };
    return fmt::format("{} drop {} minutes {} critical {} w{}a{}", o_.strategy ? to_string(*o_.strategy) : "auto",
                       text(goal.max_accuracy_drop_points), text(goal.time_budget_minutes), goal.accuracy_critical,
                       goal.weight_bits, goal.activation_bits);
  }

  StageOutcome quantize(const StageValues& values) {
    if (!o_.candidate.empty()) return {.figure = "skipped: the candidate was made elsewhere", .files = {}};
    if (o_.skip_quantize) return {.figure = "skipped as asked: the model stays as precise as it is", .files = {}};
    const std::string output = in_work("quantized.onnx");
    AutoQuantizeOptions options{.goal = quantization_goal(policy_), .strategy = o_.strategy, .threads = cpu_count()};
    options.qat.calibrate = {.samples = o_.extent.quick ? kQuickCalibrationSamples : kCalibrationSamples, .threads = 1};
    options.qat.checkpoint = in_work("training.checkpoint");
    options.qat.quiet = o_.quiet;
    if (o_.extent.samples) options.test_samples = *o_.extent.samples;
    if (o_.extent.quick) {
      options.test_samples = o_.extent.samples.value_or(kQuickTestSamples);
      options.qat.epochs = kQuickEpochs;
      options.qat.samples = kQuickTrainSamples;
    }
    options.on_sentence = observer_.note;
    options.on_epoch = [&](const QatEpoch& e) {
      if (e.epoch == 0 && o_.extent.quick)
        observer_.note(
            fmt::format("--quick: trained for {} epochs on at most {} samples", kQuickEpochs, kQuickTrainSamples));
      observer_.note(
          fmt::format("{}: held-out accuracy {:.2f} %{}",
                      e.epoch == 0 ? "before training" : fmt::format("epoch {} of {}", e.epoch, options.qat.epochs),
                      100 * e.held_out_accuracy, e.best && e.epoch > 0 ? ", kept so far" : ""));
    };
    options.apart = [](const std::function<json()>& step) { return in_child("quantize", step); };
    const AutoQuantizeResult done = auto_quantize(values.at("candidate"), data_, output, options);
    return {.figure = figure_of(done) + fmt::format("{:.0f} % of the file's size",
                                                    100.0 * static_cast<double>(file_bytes(output)) /
                                                        static_cast<double>(identify_model(o_.model).bytes)),
            .files = {output},
            .values = {{"candidate", output}}};
  }

  static std::string figure_of(const AutoQuantizeResult& r) {
    const bool trained = r.kept == QuantizeStrategy::kQat;
    std::string text = fmt::format("{}{}", to_string(r.kept), r.met ? "" : ", short of the goal");
    if (const double accuracy = trained ? r.qat_accuracy : r.ptq_accuracy; std::isfinite(accuracy))
      text += r.labels ? fmt::format(", top-1 {:.2f} %, was {:.2f} %", 100 * accuracy, 100 * r.float_accuracy)
                       : fmt::format(", same class as the original {:.2f} %", 100 * accuracy);
    const int64_t integers = trained ? r.qat->quantized_nodes : r.quantized_nodes,
                  nodes = trained ? r.qat->nodes : r.nodes;
    return text + fmt::format("; {} of {} nodes on integers; ", integers, nodes);
  }

  StageOutcome verify(const StageValues& values) {
    const std::string candidate = values.at("candidate"), saved = in_work("verify.json"), plan = in_work("model.plan");
    VerifyOptions options = verify_options(o_.extent, policy_);
    options.threads = threads_;
    options.timing_cache = join_path(user_cache_folder(), "timings.json");
    options.tune = o_.tune;
    options.quiet = o_.quiet;
    options.save_plan = plan;
    ::unlink(plan.c_str());  // none of an earlier candidate
    for (bool last = false;; last = true, options.seconds *= kLonger) {
      in_child("verify", [&]() -> json {
        ModelIdentity a_identity, b_identity;
        const Graph a = load_onnx(o_.model, a_identity), b = load_onnx(candidate, b_identity);
        require_unchanged(a_identity);
        Report report = slipway::verify({a, o_.model, a_identity}, {b, candidate, b_identity}, data_, policy_, options);
        report.policy_path = o_.policy;
        save_report(report, saved);
        return json::object();
      });
      const Report report = load_report(saved);
      if (report.verdict == Verdict::kInconclusive && !last) {
        observer_.note("inconclusive, measured again for longer");
        continue;
      }
      for (const std::string& warning : report.data.warnings) observer_.note("warning: " + warning);
      if (!report.performance.integer_note.empty()) observer_.note(report.performance.integer_note);
      write_file(in_work("report.html"), std::string_view(report_html(report)));
      save_report(report, in_work("report.json"));
      if (report.verdict != Verdict::kPass)
        return {.passed = false, .figure = reason_of(report, in_work("report.html"))};
      std::vector<std::string> files = {saved};
      if (file_exists(plan)) files.push_back(plan);
      return {.figure = figure_of(report), .files = std::move(files)};
    }
  }

  static std::string figure_of(const Report& report) {
    std::string text = fmt::format("{} checks passed; ", report.checks.size());
    if (report.accuracy.classifier)
      text += fmt::format("top-1 {:.2f} %, was {:.2f} %; ", 100 * report.accuracy.candidate.accuracy,
                          100 * report.accuracy.reference.accuracy);
    return text + fmt::format("{:.3f} ms, was {:.3f} ms", report.performance.candidate.warm.p50_ms,
                              report.performance.reference.warm.p50_ms);
  }

  StageOutcome simulate(const StageValues& values) {
    Report report = load_report(in_work("verify.json"));
    SimulateOptions options{.program = o_.program,
                            .recording = o_.recording,
                            .threads = threads_,
                            .dims = config_.dims,
                            .load_seconds = o_.extent.quick ? 1.0 : 3.0,
                            .soak_seconds = o_.extent.quick ? 3.0 : 10.0,
                            .samples = o_.extent.quick ? kQuickReplaySamples : kReplaySamples,
                            .many_connections = !o_.extent.quick,
                            .classifier = report.accuracy.classifier,
                            .tune = o_.tune,
                            .quiet = o_.quiet};
    for (bool last = false;; last = true) {
      report.simulation = slipway::simulate(o_.model, values.at("candidate"), data_, policy_, options);
      judge(report);
      if (report.verdict != Verdict::kInconclusive || last) break;
      observer_.note("inconclusive, simulated again for longer");
      options.load_seconds *= kLonger;
      options.soak_seconds *= kLonger;
      options.samples = static_cast<int64_t>(kLonger) * options.samples;
    }
    const std::string page = in_work("report.html"), saved = in_work("report.json");
    write_file(page, std::string_view(report_html(report)));
    save_report(report, saved);
    if (report.verdict != Verdict::kPass) return {.passed = false, .figure = reason_of(report, page)};
    const SimulationFigures& s = report.simulation;
    double capacity = 0;
    for (const SimulatedLoad& load : s.loads) capacity = std::max(capacity, load.throughput_per_s);
    const SimulatedLoad& open = s.loads.back();
    const std::string same =
        report.accuracy.classifier
            ? fmt::format("same top-1 as the original {:.1f} %", 100 * s.replay.agreement)
            : fmt::format("outputs within {:.2g} of the original's range", s.replay.max_relative_difference);
    return {.figure = fmt::format("{:.0f} requests/s, p99 {:.2f} ms at {:.0f}/s, {}", capacity, open.p99_ms,
                                  open.rate_per_s, same),
            .files = {saved, page},
            .values = {{"capacity", fmt::format("{}", capacity)}, {"ratio", fmt::format("{}", s.comparison.ratio)}}};
  }

  StageOutcome publish(const StageValues& values) {
    const std::string plan = in_work("model.plan");
    const Published published = publish_version(o_.repository, name_,
                                                {.model = values.at("candidate"),
                                                 .report = in_work("report.json"),
                                                 .page = in_work("report.html"),
                                                 .plan = file_exists(plan) ? plan : ""});
    const std::string model = join_path(o_.repository, name_), config = join_path(model, "config.yaml");
    if (threads_ != 1 && !file_exists(config))
      write_file(config, std::string_view(fmt::format("threads: {}\n", threads_)));
    const std::string version = std::to_string(published.version), folder = join_path(model, version);
    std::vector<std::string> files = model_files(join_path(folder, "model.onnx"));
    files.push_back(join_path(folder, "report.json"));
    return {.figure =
                fmt::format("{} as version {}{}", name_, version, published.reused ? ", which was there already" : ""),
            .files = std::move(files),
            .values = {{"version", version}}};
  }

  ServeCommand serve_command() const {
    return {.program = o_.program,
            .repository = o_.repository,
            .http_port = o_.http_port,
            .grpc_port = o_.grpc_port,
            .admin_port = o_.admin_port,
            .more = o_.tune ? std::vector<std::string>{} : std::vector<std::string>{"--no-tune"},
            .log_path = join_path(o_.repository, ".slipway/serve.log")};
  }

  /// The server named, found, or started.
  const RunningServer& server() {
    if (server_) return *server_;
    server_ = find_server(o_.repository);
    if (server_) return *server_;
    make_folders(join_path(o_.repository, ".slipway"));
    server_ = start_detached(serve_command());
    server_started_ = true;
    observer_.note(fmt::format("started a server at {}; dashboard {}/", server_->http_url(), server_->admin_url()));
    return *server_;
  }
  std::string url() { return o_.url.empty() ? server().http_url() : o_.url; }
  std::string admin_url() { return o_.admin_url.empty() ? server().admin_url() : o_.admin_url; }

  StageOutcome canary(const StageValues& values) {
    CanaryOptions options{.admin_url = admin_url(),
                          .token = o_.token,
                          .tls = o_.tls,
                          .http_url = url(),
                          .model = name_,
                          .version = std::stoll(values.at("version")),
                          .plan = plan_,
                          .rate = o_.rate > 0 ? o_.rate : replay_rate(values)};
    std::vector<LoadSample> samples;
    if (o_.traffic == CanaryTraffic::kReplay)
      samples = dataset_samples(data_, describe_file(values.at("candidate")), {kReplaySamples});
    const RolloutPlan steps = plan_.empty() ? RolloutPlan() : parse_rollout_plan(plan_, o_.plan);
    if (!samples.empty())
      observer_.note(
          fmt::format("at {:.0f} requests a second the steps take {:.0f} s or more; a model's first version goes live "
                      "without them",
                      options.rate, least_seconds(steps, options.rate)));
    const CanaryResult r = run_canary(options, samples, observer_.note);
    if (r.already) return {.figure = fmt::format("version {} was live already", options.version), .files = {}};
    if (r.first) return {.figure = "went live as the first version, for its report passed", .files = {}};
    if (r.promoted && samples.empty())
      return {.figure = fmt::format("promoted after {:.0f} s", r.seconds), .files = {}};
    if (r.promoted)
      return {.figure = fmt::format("promoted after {:.0f} s; {} requests replayed, {} failed", r.seconds, r.requests,
                                    r.errors),
              .files = {}};
    std::string state = r.state;
    std::replace(state.begin(), state.end(), '_', ' ');
    std::string reason = fmt::format("Version {} is {}: {}", options.version, state, r.reason);
    if (r.rollback_us > 0)
      reason +=
          fmt::format(" All traffic is back with version {}, {:.0f} µs after the decision.", r.live, r.rollback_us);
    if (r.state == "held")
      reason += fmt::format(" It keeps its share; decide with `slipway rollout promote {}` or `abort`.", name_);
    return {.passed = false, .figure = reason};
  }

  /// Until a candidate has what the steps ask of it at the least.
  static double least_seconds(const RolloutPlan& plan, double rate) {
    double seconds = 0;
    for (const RolloutStep& step : plan.steps)
      seconds +=
          std::max(static_cast<double>(step.min_seconds), static_cast<double>(step.min_requests) / (step.share * rate));
    return seconds;
  }

  /// What the server would say of the model; asked of the file, for the server may not have loaded it yet.
  static ModelDescription describe_file(const std::string& path) {
    ModelDescription model;
    const Graph graph = load_onnx(path);
    for (const FeedPort& port : input_ports(graph)) {
      Dims dims;
      for (const Dim& dim : port.shape.dims()) dims.push_back(dim.is_known() ? dim.value() : -1);
      model.inputs.push_back({port.name, port.dtype, std::move(dims)});
    }
    return model;
  }

  static double replay_rate(const StageValues& values) {
    const double ratio = std::stod(values.at("ratio")), capacity = std::stod(values.at("capacity"));
    return std::clamp(kReplayShare * capacity * (ratio > 0 ? std::min(ratio, 1.0) : 1.0), 5.0, kMaxRate);
  }

  StageOutcome promote(const StageValues& values) {
    const int64_t version = std::stoll(values.at("version")), live = live_version(admin_url(), o_.token, o_.tls, name_);
    if (live == version)
      return {.figure = fmt::format("version {} of {} is live at {}", live, name_, url()), .files = {}};
    return {.passed = false,
            .figure = fmt::format("Version {} is not live, {} is; take it there with --from canary", version,
                                  live == 0 ? "none" : fmt::format("version {}", live))};
  }

  const ShipOptions& o_;
  const ShipObserver& observer_;
  Dataset data_;
  Policy policy_;
  std::string name_, work_, plan_, data_digest_, model_digest_;
  ModelConfig config_;  ///< of the repository's model, as it is served
  int threads_ = 1;
  std::optional<RunningServer> server_;
  bool server_started_ = false;
};

}  // namespace

ShipResult ship(const ShipOptions& options, const ShipObserver& observer) { return Ship(options, observer).run(); }

}  // namespace slipway
