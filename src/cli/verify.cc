// slipway verify: a candidate model against the original it was made from, judged by a policy.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "data/feed.h"
#include "model/onnx/identity.h"
#include "model/onnx/onnx.h"
#include "verify/verify.h"

namespace slipway {
namespace {

struct VerifyFlags {
  std::string reference, candidate, data, policy, html, report;
  int threads = 1;
  VerifyExtent extent;
  bool json = false, no_tune = false;
};

/// The candidate's path without ".onnx".
std::string stem(const std::string& path) { return path.ends_with(".onnx") ? path.substr(0, path.size() - 5) : path; }

int run_verify(const VerifyFlags& o) {
  if (o.threads < 1) fail(ErrorCode::kInvalidArgument, "Threads must be positive: {}", o.threads);
  const std::string html = o.html.empty() ? stem(o.candidate) + ".report.html" : o.html;
  const std::string report_path = o.report.empty() ? stem(o.candidate) + ".report.json" : o.report;
  const Policy policy = o.policy.empty() ? Policy() : load_policy(o.policy);
  const Dataset data = Dataset::open(o.data);
  ModelIdentity reference_identity, candidate_identity;
  const Graph reference = load_onnx(o.reference, reference_identity),
              candidate = load_onnx(o.candidate, candidate_identity);
  require_fitting(data, reference);
  require_replaces_nothing({html, report_path}, {o.reference, o.candidate}, {o.data, o.policy});
  require_writable(html);
  require_writable(report_path);
  VerifyOptions options = verify_options(o.extent, policy);
  options.threads = o.threads;
  options.timing_cache = default_timing_cache();
  options.tune = !o.no_tune;
  options.quiet = o.json;
  Report report = verify({reference, o.reference, reference_identity}, {candidate, o.candidate, candidate_identity},
                         data, policy, options);
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
  return report.verdict == Verdict::kPass ? 0 : exit_status(ErrorCode::kVerificationFailed);
}

}  // namespace

void add_verify_extent(CLI::App& verb, VerifyExtent& extent) {
  verb.add_option("--samples", extent.samples, "Test samples to judge, spread evenly; all without it")
      ->check(CLI::Range(1, 1'000'000'000));
  verb.add_option("--edge-case-samples", extent.edge_case_samples,
                  "Samples to spoil, for each kind of spoiling (default: 1000)")
      ->check(CLI::Range(0, 1'000'000'000));
  verb.add_option("--seconds", extent.seconds,
                  "Seconds of latency measurement; the reference gets time in proportion (default: 4)")
      ->check(CLI::Range(0.001, 1e6));
  verb.add_flag("--quick", extent.quick,
                "Where nothing else is asked for: at most 1000 samples, 200 spoiled ones and 1 second of measurement");
}

void add_verify(Cli& cli) {
  auto o = std::make_shared<VerifyFlags>();
  CLI::App* verb =
      add_verb(cli, "verify", "Judge a candidate against the original it was made from: accuracy, speed, stability",
               "  slipway verify model.onnx model.int8.onnx --data data.yaml --policy policy.yaml\n"
               "Writes model.int8.report.html and .report.json; exit status 1 unless the candidate passed.",
               o->json);
  verb->add_option("reference", o->reference, "The original, ONNX")->required();
  verb->add_option("candidate", o->candidate, "What is to be judged, ONNX")->required();
  verb->add_option("--data", o->data, "Data file (slipway data init)")->required();
  verb->add_option("--policy", o->policy, "Policy (slipway policy init); without it, the defaults");
  verb->add_option("--report", o->html, "HTML report to write");
  verb->add_option("--report-json", o->report, "JSON report to write");
  add_verify_extent(*verb, o->extent);
  verb->add_option("--threads", o->threads, "Threads a run")->capture_default_str();
  verb->add_flag("--no-tune", o->no_tune, "Take the likely fastest candidates without timing them");
  verb->callback([=, &cli] { cli.exit_code = run_verify(*o); });
}

}  // namespace slipway
