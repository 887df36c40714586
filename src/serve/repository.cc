// The model repository on disk, and how a version in it becomes plans for this machine. A plan is taken as published,
// from the cache, or built; whatever its origin, it must reproduce the Report's probes.
#include "serve/repository.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>

#include "base/base64.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/npy.h"
#include "engine/executor.h"
#include "engine/partition.h"
#include "engine/passes/pipeline.h"
#include "engine/session.h"
#include "engine/weight_pool.h"
#include "model/infer.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "report/report.h"
#include "serve/batching.h"

namespace slipway {
namespace {

std::string report_path(const std::string& folder) { return join_path(folder, "report.json"); }

Tensor probe_tensor(const std::string& text) {
  const auto bytes = base64_decode(text);
  if (!bytes) fail(ErrorCode::kInvalidArgument, "The probes of a report are damaged; verify the model again.");
  const auto owner = std::make_shared<std::vector<std::byte>>(*bytes);
  return parse_npy({owner, *owner}, "the report's probes");
}

struct ProbeSet {
  std::vector<std::vector<Tensor>> inputs, outputs;  ///< by probe
  double max_variation = 0;
};

std::optional<ProbeSet> probes_of(const Report& report) {
  if (report.probes.empty()) return {};
  ProbeSet set{.inputs = {}, .outputs = {}, .max_variation = report.policy.stability.max_variation};
  for (const Probe& probe : report.probes) {
    std::vector<Tensor>&inputs = set.inputs.emplace_back(), &outputs = set.outputs.emplace_back();
    for (const std::string& text : probe.inputs) inputs.push_back(probe_tensor(text));
    for (const std::string& text : probe.outputs) outputs.push_back(probe_tensor(text));
  }
  return set;
}

using RunRows = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

void require_probes(const ProbeSet& probes, const RunRows& run, int64_t unit, const std::string& what) {
  const std::vector<std::vector<Tensor>> outputs = run_requests(probes.inputs, {.rows = unit}, run);
  for (size_t p = 0; p < outputs.size(); ++p)
    for (size_t i = 0; i < outputs[p].size(); ++i) {
      const double difference = i < probes.outputs[p].size() ? relative_difference(probes.outputs[p][i], outputs[p][i])
                                                             : std::numeric_limits<double>::infinity();
      if (!(difference <= probes.max_variation))
        fail(ErrorCode::kVerificationFailed,
             "The model does not give what was verified; verify it on this machine: {}, output {} is off by {:.2g} "
             "of its range, {:.2g} is allowed",
             what, i, difference, probes.max_variation);
    }
}

/// Of a plan file of the version in the cache; empty where there is none.
std::string cached_plan_path(const ServerOptions& options, const VersionSource& version, const std::string& of) {
  if (options.cache_dir.empty()) return "";
  std::string text = fmt::format("{} {} {} {} {} {} {}", SLIPWAY_VERSION, version.sha256, of, version.config.threads,
                                 options.tune, cpu_name(), to_string(cpu_features()));
  for (const auto& [name, size] : version.config.dims) text += fmt::format(" {}={}", name, size);
  return join_path(join_path(options.cache_dir, "plans"), sha256_hex(text).substr(0, 32) + ".plan");
}

std::string timed_shapes_path(const ServerOptions& options, const VersionSource& version) {
  return cached_plan_path(options, version, "shapes");
}

/// Whether nothing in the model depends on the data so that it must be cut.
bool is_one_plan(const Graph& graph, const std::map<std::string, int64_t>& dims) {
  Graph bound = graph;
  bind_batch(bound, plan_batch(graph, 1), dims);
  const auto is_whole = [&] {
    const std::vector<GraphStage> stages = cut_into_stages(bound);
    return stages.empty() || (stages.size() == 1 && stages[0].kind == GraphStage::kPlan);
  };
  if (is_whole()) return true;
  run_passes(bound);  // may see what inference alone does not
  return is_whole();
}

/// Fails where a plan does not give what was verified.
using PlanCheck = std::function<void(const std::shared_ptr<const Plan>&)>;

class PlanSource {
 public:
  PlanSource(const ServerOptions& options, const VersionSource& version, std::string folder, std::string scratch)
      : options_(options), version_(version), folder_(std::move(folder)), scratch_(std::move(scratch)) {}

  struct Taken {
    std::shared_ptr<const Plan> plan;
    std::string path;  ///< of its file; empty: it is in none
  };

  /// A plan that `check` takes (it fails otherwise): as published, which only a passed report vouches for; from the
  /// cache; or built. What is damaged, fits elsewhere or is not taken is made anew, and replaced in the cache.
  Taken get(int64_t rows, bool take_published, const PlanCheck& check) {
    const std::string published = join_path(folder_, "model.plan");
    if (rows == 1 && take_published)
      if (auto taken = open(published, check)) return *std::move(taken);
    const std::string cached = cached_plan_path(options_, version_, std::to_string(rows));
    if (!cached.empty())
      if (auto taken = open(cached, check)) return *std::move(taken);
    log_info("{}/{}: building the plan for {} row{}", version_.model, version_.version, rows, rows == 1 ? "" : "s");
    const auto plan = Plan::build(version_.graph, {.batch = plan_batch(version_.graph, rows),
                                                   .dims = version_.config.dims,
                                                   .threads = version_.config.threads,
                                                   .tune = options_.tune,
                                                   .timing_cache = version_.timing_cache});
    check(plan);
    if (!cached.empty()) try {
        make_folders(parent_folder(cached));
        return saved(*plan, cached);
      } catch (const Error& error) {
        log_warning("The plan can't be kept in the cache: {}", error.what());
      }
    return scratch_.empty() ? Taken{plan, ""} : saved(*plan, join_path(scratch_, std::to_string(rows) + ".plan"));
  }

 private:
  std::optional<Taken> open(const std::string& path, const PlanCheck& check) {
    if (!file_exists(path)) return std::nullopt;
    try {
      auto plan = Plan::open(path, weights_);
      if (plan->threads() != version_.config.threads) return std::nullopt;
      check(plan);
      return Taken{std::move(plan), path};
    } catch (const Error& error) {
      log_warning("{}/{}: a plan is not used: {}", version_.model, version_.version, error.what());
      return std::nullopt;
    }
  }
  Taken saved(const Plan& plan, const std::string& path) const {
    plan.save(path);
    return {Plan::open(path, weights_), path};  // without the model that a built one carries for saving
  }

  const ServerOptions& options_;
  const VersionSource& version_;
  std::string folder_, scratch_;
  const std::shared_ptr<WeightPool> weights_ = std::make_shared<WeightPool>();
};

/// The proof that the report beside a model gives; the report itself when there is one of these bytes.
std::optional<Report> read_proof(const std::string& folder, VersionSource& source) {
  const std::string path = report_path(folder);
  if (!file_exists(path)) {
    source.proof = Proof::kMissing;
    source.proof_reason = "There is no report.json beside the model; run slipway verify.";
    return std::nullopt;
  }
  try {
    Report report = load_report(path);
    if (report.candidate.sha256 != source.sha256) {
      source.proof = Proof::kMismatched;
      source.proof_reason = "The report judged another file: its digest is not this model's.";
      return std::nullopt;
    }
    source.max_variation = report.policy.stability.max_variation;
    source.proof = report.verdict == Verdict::kPass ? Proof::kPassed : Proof::kFailed;
    source.proof_reason = report.reason;
    return report;
  } catch (const Error& error) {
    source.proof = Proof::kMismatched;
    source.proof_reason = fmt::format("The report can't be read: {}", error.what());
    return std::nullopt;
  }
}

/// The program of a version, with what plan files have ready for it: the cache, which was timed here, and the published
/// one, which is what was verified. Only what gives the probes is taken; fails with kVerificationFailed where the
/// program alone does not.
void make_program_of(VersionSource& source, const std::vector<std::string>& shape_files,
                     const std::function<void(const Program&)>& check) {
  source.program = make_program(source);
  for (const std::string& file : shape_files) {
    if (!file_exists(file)) continue;
    try {
      adopt_shapes(*source.program, file);
      source.shape_files.push_back(file);
    } catch (const Error& error) {
      log_warning("{}/{}: the shapes of a plan file are not used: {}", source.model, source.version, error.what());
    }
  }
  try {
    return check(*source.program);
  } catch (const Error& error) {
    if (source.shape_files.empty()) throw;
    log_warning("{}/{}: the shapes of plan files are not used: {}", source.model, source.version, error.what());
  }
  source.shape_files.clear();
  source.program = make_program(source);
  check(*source.program);
}

// Made-up values that the model can't be computed for say nothing.
void require_alike(const Program& untimed, const Program& timed, const std::vector<Tensor>& inputs, double allowed) {
  std::vector<Tensor> expected;
  try {
    expected = untimed.open()->run(inputs);
  } catch (const Error&) {
    return;
  }
  const std::vector<Tensor> outputs = timed.open()->run(inputs);
  for (size_t i = 0; i < expected.size(); ++i)
    if (const double off = is_float(expected[i].dtype()) ? relative_difference(expected[i], outputs[i]) : 0;
        !(off <= allowed))
      fail(ErrorCode::kVerificationFailed,
           "Timed candidates do not give what untimed ones do; output {} is off by {:.2g} of its range", i, off);
}

// The protocol knows tensors alone.
void require_tensor_ports(const Graph& graph, const std::string& path) {
  for (const auto* ids : {&graph.inputs(), &graph.outputs()})
    for (const ValueId id : *ids)
      if (const Value& v = graph.value(id); !is_tensor(v.dtype))
        fail(ErrorCode::kUnsupported,
             "A server takes and gives tensors only; export the model without sequences and optionals as inputs and "
             "outputs: '{}' is {} in {}",
             v.name, to_string(v.dtype), path);
}

}  // namespace

std::vector<std::string> repository_models(const std::string& repository) {
  if (!is_folder(repository))
    fail(ErrorCode::kNotFound, "There is no such folder; name the repository: {}", repository);
  std::vector<std::string> models;
  for (const std::string& name : list_folder(repository))
    if (is_folder(join_path(repository, name))) models.push_back(name);
  return models;
}

std::vector<int64_t> repository_versions(const std::string& repository, const std::string& model) {
  std::vector<int64_t> versions;
  for (const std::string& name : list_folder(join_path(repository, model))) {
    int64_t version = 0;
    const char* end = name.data() + name.size();
    if (name[0] != '0' && std::from_chars(name.data(), end, version) == std::from_chars_result{end, std::errc()} &&
        version > 0 && file_exists(onnx_path(join_path(join_path(repository, model), name))))
      versions.push_back(version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

std::string version_folder(const std::string& repository, const std::string& model, int64_t version) {
  return join_path(join_path(repository, model), std::to_string(version));
}

std::string onnx_path(const std::string& folder) { return join_path(folder, "model.onnx"); }

std::string report_digest(const std::string& folder) {
  const std::string path = report_path(folder);
  return file_exists(path) ? sha256_of_file(path) : "";
}

void require_no_way_out(const ServerOptions& options, const std::string& model, int64_t version) {
  if (options.allow_links) return;
  const std::string folder = version_folder(options.repository, model, version);
  for (const std::string& file : {onnx_path(folder), join_path(folder, "report.json"), join_path(folder, "model.plan"),
                                  join_path(join_path(options.repository, model), "config.yaml")})
    if (file_exists(file) && !lies_in(file, options.repository))
      fail(ErrorCode::kInvalidModel,
           "A symbolic link leads out of the repository; copy the file there, or start the server with --allow-links: "
           "{} is {}",
           file, real_path(file));
}

VersionSource read_version(const ServerOptions& options, const std::string& model, int64_t version,
                           const ModelConfig& config, const std::string& scratch) {
  const std::string folder = version_folder(options.repository, model, version);
  const std::string path = onnx_path(folder);
  require_no_way_out(options, model, version);
  VersionSource source{.model = model, .version = version, .config = config};
  ModelIdentity identity;
  source.graph = load_onnx(path, identity);
  require_tensor_ports(source.graph, path);
  source.sha256 = identity.sha256;
  source.file_bytes = identity.bytes;
  source.report_sha256 = report_digest(folder);
  source.timing_cache = timings_path(options);
  const std::optional<Report> report = read_proof(folder, source);

  const std::optional<ProbeSet> probes = report ? probes_of(*report) : std::nullopt;
  const bool take_published = source.proof == Proof::kPassed && probes;
  if (takes_plans(source.graph, config.dims) && is_one_plan(source.graph, config.dims)) {
    PlanSource plans(options, source, folder, scratch);
    for (const int64_t rows : plan_sizes(source.graph, source.config)) {
      auto [plan, file] = plans.get(rows, take_published, [&](const std::shared_ptr<const Plan>& tried) {
        if (!probes) return;
        Session session(tried);
        require_probes(
            *probes, [&](std::span<const Tensor> part) { return session.run(part); }, plan_batch(source.graph, rows),
            fmt::format("{}/{} for {} rows", model, version, rows));
      });
      source.plans[rows] = std::move(plan);
      source.plan_files[rows] = std::move(file);
    }
    return source;
  }
  std::vector<std::string> shape_files;
  if (options.tune) shape_files.push_back(timed_shapes_path(options, source));
  if (take_published) shape_files.push_back(join_path(folder, "model.plan"));
  make_program_of(source, shape_files, [&](const Program& program) {
    if (!probes) return;
    const auto session = program.open();
    require_probes(
        *probes, [&](std::span<const Tensor> part) { return session->run(part); }, plan_batch(source.graph, 1),
        fmt::format("{}/{}", model, version));
  });
  return source;
}

std::string timings_path(const ServerOptions& options) {
  return options.cache_dir.empty() ? "" : join_path(options.cache_dir, "timings.json");
}

std::string build_timed_shapes(const ServerOptions& options, const std::string& model, int64_t version,
                               const ModelConfig& config, const std::string& sha256,
                               const std::vector<std::vector<Dims>>& shapes, const std::string& scratch) {
  const std::string folder = version_folder(options.repository, model, version);
  require_no_way_out(options, model, version);
  VersionSource source{.model = model, .version = version, .timing_cache = timings_path(options), .config = config};
  ModelIdentity identity;
  source.graph = load_onnx(onnx_path(folder), identity);
  source.sha256 = identity.sha256;
  if (identity.sha256 != sha256)
    fail(ErrorCode::kIo, "A model changed while it was served; load it again: {}", onnx_path(folder));
  const std::optional<Report> report = read_proof(folder, source);

  const std::string cached = timed_shapes_path(options, source);
  const std::string path = cached.empty() ? join_path(scratch, "shapes.plan") : cached;
  const auto untimed = make_program(source), timed = make_program(source, true);
  if (file_exists(path)) try {
      adopt_shapes(*timed, path);
    } catch (const Error& error) {
      log_warning("{}/{}: the shapes timed before are not used: {}", model, version, error.what());
    }
  for (const std::vector<Dims>& dims : shapes) {
    const std::vector<Tensor> inputs = made_up_inputs(untimed->ports(), dims);
    timed->prepare(inputs);
    require_alike(*untimed, *timed, inputs, source.max_variation);
  }
  if (const auto probes = report ? probes_of(*report) : std::nullopt)
    for (size_t p = 0; p < probes->inputs.size(); ++p) {
      std::vector<Dims> dims;
      for (const Tensor& t : probes->inputs[p]) dims.push_back(t.dims());
      if (std::find(shapes.begin(), shapes.end(), dims) == shapes.end()) continue;
      require_probes(
          {{probes->inputs[p]}, {probes->outputs[p]}, probes->max_variation},
          [&](std::span<const Tensor> part) { return timed->open()->run(part); }, plan_batch(source.graph, 1),
          fmt::format("{}/{}, timed", model, version));
    }
  make_folders(parent_folder(path));
  save_program(*timed, path);
  return path;
}

}  // namespace slipway
