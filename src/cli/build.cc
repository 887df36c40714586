// slipway build: tune a model for this machine and freeze it as a plan.
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "engine/plan.h"

namespace slipway {
namespace {

struct BuildFlags {
  std::string model, output, target = "cpu", timing_cache;
  std::vector<std::string> dims;
  int64_t batch = 1;
  int threads = 1;
  bool json = false, no_tune = false;
};

void run_build(const BuildFlags& o) {
  if (o.target != "cpu")
    fail(ErrorCode::kUnsupported,
         "Slipway builds plans for CPUs; for '{}' give the ONNX file to TensorRT: trtexec --onnx={} "
         "--saveEngine=model.engine",
         o.target, o.model);
  if (!Plan::is_plan_file(o.model)) require_replaces_nothing({o.output}, {o.model});
  require_writable(o.output);
  const Graph graph = load_model(o.model);
  const int64_t start = now_ns();
  const auto plan =
      Plan::build(graph, {.batch = o.batch,
                          .dims = parse_dims(o.dims),
                          .threads = o.threads,
                          .tune = !o.no_tune,
                          .timing_cache = o.timing_cache.empty() ? default_timing_cache() : o.timing_cache,
                          .quiet = o.json});
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  plan->save(o.output);
  const MemoryInfo m = plan->memory();
  if (o.json) {
    print_json({{"model", o.model},
                {"output", o.output},
                {"bytes", file_bytes(o.output)},
                {"precision", plan->precision()},
                {"threads", o.threads},
                {"batch", o.batch},
                {"steps", plan->steps().size()},
                {"build_s", seconds},
                {"cpu", plan->cpu()},
                {"choices_digest", plan->choices_digest()},
                {"arena_bytes", m.arena_bytes},
                {"arena_lower_bound_bytes", m.lower_bound_bytes},
                {"weight_bytes", m.weight_bytes},
                {"scratch_bytes", m.scratch_bytes}});
    return;
  }
  fmt::print("built in {:.1f} s for {} ({}), {} thread{}, batch {}: {}\n", seconds, cpu_name(), plan->cpu(), o.threads,
             o.threads == 1 ? "" : "s", o.batch, o.output);
  fmt::print("precision {}, {} steps, weights {}, activations {} (lower bound {}, without reuse {}), scratch {}\n",
             plan->precision(), plan->steps().size(), human_bytes(static_cast<double>(m.weight_bytes)),
             human_bytes(static_cast<double>(m.arena_bytes)), human_bytes(static_cast<double>(m.lower_bound_bytes)),
             human_bytes(static_cast<double>(m.unshared_bytes)), human_bytes(static_cast<double>(m.scratch_bytes)));
}

}  // namespace

void add_build(Cli& cli) {
  auto o = std::make_shared<BuildFlags>();
  CLI::App* verb = add_verb(cli, "build", "Time the candidates on this machine and freeze the fastest as a plan",
                            "  slipway build model.onnx -o model.plan --batch 8 --threads 2", o->json);
  verb->add_option("model", o->model, "ONNX file, or a plan to build anew")->required();
  verb->add_option("-o,--output", o->output, "Plan to write")->required();
  verb->add_option("--batch", o->batch, "Samples a run (size of the inputs' free first dimension)")
      ->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  verb->add_option("--dim", o->dims, "Size of another free dimension, NAME=SIZE (repeatable)");
  verb->add_option("--target", o->target, "cpu")->capture_default_str();
  verb->add_option("--timing-cache", o->timing_cache,
                   "File of timings, read and extended (default: in the user's cache folder)");
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=] { run_build(*o); });
}

}  // namespace slipway
