// slipway verify: a candidate model against the original it was made from, judged by a policy.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "verify/verify.h"

namespace slipway {
namespace {

struct Options {
  std::string reference, candidate, data, policy, html, report;
  int threads = 1;
  int64_t samples = -1, edge_case_samples = 1000;
  double seconds = 4;
  bool json = false, no_tune = false, quick = false;
};

/// The candidate's path without ".onnx".
std::string stem(const std::string& path) { return path.ends_with(".onnx") ? path.substr(0, path.size() - 5) : path; }

int run(const Options& o) {
  if (o.threads < 1 || o.samples == 0 || !(o.seconds > 0))
    fail(ErrorCode::kInvalidArgument, "Threads, samples and seconds must be positive: {}, {} and {}", o.threads,
         o.samples, o.seconds);
  const std::string html = o.html.empty() ? stem(o.candidate) + ".report.html" : o.html;
  const std::string report_path = o.report.empty() ? stem(o.candidate) + ".report.json" : o.report;
  const Policy policy = o.policy.empty() ? Policy() : load_policy(o.policy);
  const Dataset data = Dataset::open(o.data);
  ModelIdentity reference_identity, candidate_identity;
  const Graph reference = load_onnx(o.reference, reference_identity),
              candidate = load_onnx(o.candidate, candidate_identity);
  data.require_fitting(reference);
  require_replaces_nothing({html, report_path}, {o.reference, o.candidate}, {o.data, o.policy});
  require_writable(html);
  require_writable(report_path);
  Report report =
      verify({reference, o.reference, reference_identity}, {candidate, o.candidate, candidate_identity}, data, policy,
             {.threads = o.threads,
              .max_samples = o.quick && o.samples < 0 ? 1000 : o.samples,
              .edge_case_samples = o.quick ? 200 : o.edge_case_samples,
              .seconds = o.quick ? 1 : o.seconds,
              .timing_cache = default_timing_cache(),
              .tune = !o.no_tune,
              .quiet = o.json});
  report.policy_path = o.policy;
  save_report(report, report_path);
  write_file(html, std::string_view(report_html(report)));
  if (o.json) {
    nlohmann::json j = to_json(report);
    j.erase("probes");
    j["report"] = html;
    j["report_json"] = report_path;
    print_json(j);
  } else {
    fmt::print("{}report: {}\n        {}\n", report_text(report), html, report_path);
  }
  return report.verdict == Verdict::kFail ? exit_status(ErrorCode::kVerificationFailed) : 0;
}

}  // namespace

void add_verify(Cli& cli) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      add_verb(cli, "verify", "Judge a candidate against the original it was made from: accuracy, speed, stability",
               "  slipway verify model.onnx model.int8.onnx --data data.yaml --policy policy.yaml\n"
               "Writes model.int8.report.html and .report.json; exit status 1 when the candidate failed.",
               o->json);
  verb->add_option("reference", o->reference, "The original, ONNX")->required();
  verb->add_option("candidate", o->candidate, "What is to be judged, ONNX")->required();
  verb->add_option("--data", o->data, "Data file (slipway data init)")->required();
  verb->add_option("--policy", o->policy, "Policy (slipway policy init); without it, the defaults");
  verb->add_option("--report", o->html, "HTML report to write");
  verb->add_option("--report-json", o->report, "JSON report to write");
  verb->add_option("--samples", o->samples, "Test samples to judge, spread evenly; all without it");
  verb->add_option("--edge-case-samples", o->edge_case_samples, "Samples to spoil, for each kind of spoiling")
      ->capture_default_str();
  verb->add_option("--seconds", o->seconds, "Seconds of latency measurement")->capture_default_str();
  verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  verb->add_flag("--quick", o->quick, "At most 1000 samples, 200 spoiled ones and 1 second of measurement");
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=, &cli] { cli.exit_code = run(*o); });
}

}  // namespace slipway
