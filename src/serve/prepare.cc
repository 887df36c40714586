// How a version is made ready by a process of its own. Job and answer are one JSON text each. The process bounds itself
// before it reads a byte of the model: RLIMIT_DATA counts memory that it could write, so a request beyond fails where
// it is made (address space would count the libraries and the stacks of threads too, resident memory could only be seen
// after the fact); it is the first that the kernel kills when memory is short, and has a lower priority than those that
// serve. What it made is opened by the server only when it is what was tried: a plan is known by its file's digest.
#include "serve/prepare.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/child.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "engine/plan_file.h"
#include "engine/weight_pool.h"
#include "model/onnx/identity.h"
#include "serve/first_run.h"
#include "serve/process.h"
#include "serve/repository.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int kNice = 10;

/// A folder for what the cache does not take; empty where none can be made.
class Scratch {
 public:
  Scratch() {
    const char* folder = std::getenv("TMPDIR");
    path_ = join_path(folder != nullptr ? folder : "/tmp", "slipway-prepare-XXXXXX");
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Scratch() {
    if (!path_.empty()) remove_folder(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string json_text(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

json prepared_json(const VersionSource& source, const FirstRun& first) {
  json plans = json::array();
  for (const auto& [rows, plan] : source.plans)
    plans.push_back({{"rows", rows},
                     {"path", source.plan_files.at(rows)},
                     {"digest", file_digest(*plan)},
                     {"time_us", first.time_us.at(rows)}});
  json shapes = json::array();
  for (const std::string& path : source.shape_files)
    shapes.push_back({{"path", path}, {"digest", PlanFile(path).digest()}});
  return {{"sha256", source.sha256},
          {"report_sha256", source.report_sha256},
          {"file_bytes", source.file_bytes},
          {"proof", static_cast<int>(source.proof)},
          {"proof_reason", source.proof_reason},
          {"plans", std::move(plans)},
          {"shapes", std::move(shapes)},
          {"memory_bytes", memory_bytes(source)},
          {"batching",
           {{"proven", first.batching.proven},
            {"reason", first.batching.reason},
            {"inputs", first.batching.inputs},
            {"outputs", first.batching.outputs}}},
          {"preprocess", first.preprocess ? json(preprocess_json(*first.preprocess)) : json()},
          {"inputs", input_recipes_json(first.inputs)},
          {"labels", first.labels}};
}

int number_below(const json& j, int end) {
  const int number = j.get<int>();
  if (number < 0 || number >= end) fail(ErrorCode::kInternal, "a number is out of range");
  return number;
}

/// The source without its plans.
VersionSource source_of(const json& j) {
  const json& batching = j.at("batching");
  FirstRun first{
      .batching = {batching.at("proven"), batching.at("reason"), batching.at("inputs"), batching.at("outputs")},
      .labels = j.at("labels")};
  if (!j.at("preprocess").is_null())
    first.preprocess = parse_preprocess_json(j.at("preprocess").get<std::string>(), "the model");
  first.inputs = parse_input_recipes(j.at("inputs").get<std::string>(), "the model");
  for (const json& plan : j.at("plans")) first.time_us[plan.at("rows").get<int64_t>()] = plan.at("time_us");
  VersionSource source{.first_run = std::move(first),
                       .sha256 = j.at("sha256"),
                       .report_sha256 = j.at("report_sha256"),
                       .file_bytes = j.at("file_bytes"),
                       .proof_reason = j.at("proof_reason")};
  source.proof = static_cast<Proof>(number_below(j.at("proof"), static_cast<int>(Proof::kMismatched) + 1));
  return source;
}

json prepare_here(const json& job) {
  const ServerOptions options{.repository = job.at("repository"),
                              .cache_dir = job.at("cache"),
                              .tune = job.at("tune"),
                              .allow_links = job.at("allow_links")};
  const std::string model = job.at("model");
  const int64_t version = job.at("version");
  const std::string folder = version_folder(options.repository, model, version);
  if (job.contains("known") && job.at("known").at("sha256") == identify_model(onnx_path(folder)).sha256 &&
      job.at("known").at("report_sha256") == report_digest(folder))
    return {{"unchanged", true}};
  ModelConfig config;
  if (job.contains("config"))
    config = parse_model_config(job.at("config"), model_config_path(options.repository, model));
  set_thread_count(config.threads);
  if (job.contains("shapes")) {
    const std::string path =
        build_timed_shapes(options, model, version, config, job.at("sha256"),
                           job.at("shapes").get<std::vector<std::vector<Dims>>>(), job.at("scratch"));
    return {{"path", path}, {"digest", PlanFile(path).digest()}};
  }
  VersionSource source = read_version(options, model, version, config, job.at("scratch"));
  const FirstRun first = make_first_run(source);
  return prepared_json(source, first);
}

/// What prepare_here() gives, or why it failed. Throws nothing.
json reply_to(const json& job) {
  const auto failed = [](ErrorCode code, const std::string& why) -> json {
    return {{"error", why}, {"code", static_cast<int>(code)}};
  };
  const auto no_memory = [&] {
    const int64_t mib = job.at("memory_bytes").get<int64_t>() >> 20;
    return failed(ErrorCode::kUnsupported,
                  fmt::format("Preparing it takes more memory than it may have; use a smaller model or batch, or raise "
                              "prepare.memory_mib in config.yaml: {}",
                              mib > 0 ? fmt::format("{} MiB are allowed", mib) : "no limit is set"));
  };
  try {
    return prepare_here(job);
  } catch (const Error& error) {
    return error.code() == ErrorCode::kOutOfMemory ? no_memory() : failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return no_memory();
  } catch (const std::exception& error) {
    return failed(ErrorCode::kInternal, error.what());
  }
}

/// The process's own bounds. What can't be set is left: a smaller limit that is there already holds anyway.
void bound_this_process([[maybe_unused]] uint64_t memory_bytes) {
  const rlimit no_core = {0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose shadow memory alone is beyond any limit
  const rlimit memory = {memory_bytes, memory_bytes};
  if (memory_bytes > 0) ::setrlimit(RLIMIT_DATA, &memory);
#endif
  if (::nice(kNice) < 0) errno = 0;
  if (std::FILE* file = std::fopen("/proc/self/oom_score_adj", "we")) {
    std::fputs("1000", file);
    std::fclose(file);
  }
}

std::string ask_to_prepare(const ServerOptions& options, const json& job, const ModelConfig& config,
                           const std::function<bool()>& keep_going, const std::string& what) {
  if (options.program.empty()) return json_text(reply_to(job));
  try {
    return run_child({.program = options.program, .arguments = {"slipway", "prepare"}, .hidden = "SLIPWAY_ADMIN_TOKEN"},
                     json_text(job), {.seconds = static_cast<double>(config.prepare.seconds), .keep_going = keep_going},
                     what);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDeadline) throw;
    fail(ErrorCode::kDeadline, "{}; raise prepare.seconds in config.yaml, or use another model.", error.what());
  }
}

void open_plans(const json& plans, uint64_t needed, VersionSource& source) {
  const uint64_t free = free_memory_bytes();
  if (free > 0 && needed > free)
    fail(ErrorCode::kOutOfMemory,
         "There is not enough memory left to serve it beside the others: it takes {} MiB, {} MiB are free",
         needed >> 20, free >> 20);
  const auto weights = std::make_shared<WeightPool>();
  for (const json& plan : plans) {
    const std::string path = plan.at("path");
    auto opened = Plan::open(path, weights);
    if (file_digest(*opened) != plan.at("digest"))
      fail(ErrorCode::kIo, "A plan changed while its model was loaded; load it again: {}", path);
    source.plans[plan.at("rows")] = std::move(opened);
  }
}

void take_shapes(const Program& program, const json& file) {
  const std::string path = file.at("path");
  if (adopt_shapes(program, path) != file.at("digest"))
    fail(ErrorCode::kIo, "A plan changed while its model was loaded; load it again: {}", path);
}

/// A job, and what bounds it.
struct Job {
  Job(const ServerOptions& options, const std::string& model, int64_t version)
      : what(fmt::format("The process that prepares {}/{}", model, version)) {
    require_no_way_out(options, model, version);
    const std::optional<std::string> text = model_config_text(options.repository, model);
    if (text) config = parse_model_config(*text, model_config_path(options.repository, model));
    const uint64_t limit = options.program.empty()         ? 0
                           : config.prepare.memory_mib > 0 ? static_cast<uint64_t>(config.prepare.memory_mib) << 20
                                                           : free_memory_bytes() / 2;
    request = {{"repository", options.repository},
               {"model", model},
               {"version", version},
               {"cache", options.cache_dir},
               {"scratch", scratch.path()},
               {"tune", options.tune},
               {"memory_bytes", limit},
               {"allow_links", options.allow_links}};
    if (text) request["config"] = *text;
  }

  /// Runs it and hands the answer to `use`, which may throw json::exception. Fails as the job did.
  template <typename Use>
  auto run(const ServerOptions& options, const std::function<bool()>& keep_going, const Use& use) const try {
    const json reply = json::parse(ask_to_prepare(options, request, config, keep_going, what), nullptr, false);
    if (reply.contains("error"))
      throw Error(static_cast<ErrorCode>(number_below(reply.at("code"), kErrorCodeCount)),
                  reply.at("error").get<std::string>());
    return use(reply);
  } catch (const json::exception&) {
    fail(ErrorCode::kInternal, "{} gave an answer that is none", what);
  }

  const std::string what;
  const Scratch scratch;
  ModelConfig config;
  json request;
};

}  // namespace

std::optional<VersionSource> prepare_version(const ServerOptions& options, const std::string& model, int64_t version,
                                             const VersionSource* loaded, const std::function<bool()>& keep_going) {
  Job job(options, model, version);
  if (loaded != nullptr && loaded->config == job.config)
    job.request["known"] = {{"sha256", loaded->sha256}, {"report_sha256", loaded->report_sha256}};
  return job.run(options, keep_going, [&](const json& reply) -> std::optional<VersionSource> {
    if (reply.contains("unchanged")) return std::nullopt;
    VersionSource source = source_of(reply);
    source.model = model;
    source.version = version;
    source.config = job.config;
    source.timing_cache = timings_path(options);
    open_plans(reply.at("plans"), reply.at("memory_bytes"), source);
    if (!source.plans.empty()) return source;
    ModelIdentity identity;
    const std::string path = onnx_path(version_folder(options.repository, model, version));
    source.graph = load_onnx(path, identity);
    if (identity.sha256 != source.sha256)
      fail(ErrorCode::kIo, "A model changed while it was loaded; load it again: {}", path);
    source.program = make_program(source);
    for (const json& file : reply.at("shapes")) take_shapes(*source.program, file);
    return source;
  });
}

void time_shapes(const ServerOptions& options, const ModelVersion& version,
                 const std::vector<std::vector<Dims>>& shapes, const std::function<bool()>& keep_going) {
  Job job(options, version.model(), version.version());
  if (!(job.config == version.config()))
    fail(ErrorCode::kIo, "The configuration changed since the model was loaded; load it again: {}/{}", version.model(),
         version.version());
  job.request["sha256"] = version.source().sha256;
  job.request["shapes"] = shapes;
  job.run(options, keep_going, [&](const json& reply) { take_shapes(*version.source().program, reply); });
}

void run_preparation() {
  std::string text;
  char bytes[65536];
  for (size_t n; (n = std::fread(bytes, 1, sizeof bytes, stdin)) > 0;) text.append(bytes, n);
  const json job = json::parse(text, nullptr, false);
  if (!job.is_object() || !job.contains("memory_bytes"))
    fail(ErrorCode::kInvalidArgument, "This verb is for a server's own use; see `slipway serve`.");
  bound_this_process(job.at("memory_bytes"));
  const std::string reply = json_text(reply_to(job));
  std::fwrite(reply.data(), 1, reply.size(), stdout);
  std::fflush(stdout);
}

}  // namespace slipway
