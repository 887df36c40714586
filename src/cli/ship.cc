// slipway ship: the whole road in one go.
#include "ship/ship.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/visible.h"
#include "cli/cli.h"

namespace slipway {
namespace {

struct ShipFlags {
  ShipOptions ship;
  std::string traffic = "replay", strategy = "auto";
  std::string html, report;
  bool json = false;
};

const char* word(StageStatus status) {
  switch (status) {
    case StageStatus::kDone:
      return "done";
    case StageStatus::kAlreadyDone:
      return "already done";
    case StageStatus::kFailed:
      return "FAILED";
    default:
      return "running";
  }
}

std::string time_of(double seconds) {
  return seconds < 100 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.0f} min", seconds / 60);
}

void show(const StageReport& stage, bool terminal) {
  if (stage.status == StageStatus::kRunning) {
    if (terminal) fmt::print(stderr, "{:<9} …\n", stage.name);
  } else {
    fmt::print("{:<9} {:>8}  {}{}\n", stage.name, time_of(stage.seconds),
               stage.status == StageStatus::kDone ? "" : fmt::format("{}: ", word(stage.status)),
               visible(stage.figure, true));
  }
  std::fflush(stdout);
}

/// What to do about a stage that did not pass: the same command alone would fail there again.
std::string remedy(const std::string& stage, const std::string& name) {
  if (stage == "verify" || stage == "simulate")
    return "Read the report; then give another --policy, quantise otherwise (--strategy qat, --skip-quantize), or mend "
           "the model.";
  if (stage == "canary")
    return fmt::format(
        "`slipway rollout history {}` has the numbers. With other limits (slipway rollout init -o steps.yaml, "
        "then --steps steps.yaml) or --from canary the same version is tried again.",
        name);
  return "Mend what it names.";
}

nlohmann::json json_of(const ShipResult& r) {
  nlohmann::json stages = nlohmann::json::array();
  for (const StageReport& s : r.road.stages)
    stages.push_back({{"name", s.name}, {"status", word(s.status)}, {"seconds", s.seconds}, {"figure", s.figure}});
  nlohmann::json j{{"name", r.name},
                   {"passed", r.road.passed},
                   {"stage", r.road.stages.back().name},
                   {"reason", r.road.reason},
                   {"stages", stages},
                   {"work", r.work},
                   {"warnings", r.warnings},
                   {"report", join_path(r.work, "report.html")}};
  if (const auto version = r.road.values.find("version"); version != r.road.values.end())
    j["version"] = std::stoll(version->second);
  if (r.server)
    j["server"] = {{"pid", r.server->pid},
                   {"http", r.server->http_url()},
                   {"admin", r.server->admin_url()},
                   {"started", r.server_started},
                   {"stopped", r.server_stopped}};
  return j;
}

int run_ship(ShipFlags& o) {
  restart_with_passive_threads();
  o.ship.traffic = o.traffic == "live" ? CanaryTraffic::kLive : CanaryTraffic::kReplay;
  o.ship.strategy = parse_strategy(o.strategy);
  o.ship.quiet = o.json;
  require_replaces_nothing({o.html, o.report}, {o.ship.model, o.ship.candidate},
                           {o.ship.data, o.ship.policy, o.ship.plan, o.ship.recording});
  for (const std::string* path : {&o.html, &o.report})
    if (!path->empty()) require_writable(*path);
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  const ShipResult r = ship(o.ship, {.stage =
                                         [&](const StageReport& stage) {
                                           if (!o.json) show(stage, terminal);
                                         },
                                     .note =
                                         [&](const std::string& note) {
                                           if (!o.json) fmt::print("{:<19}{}\n", "", visible(note));
                                           std::fflush(stdout);
                                         }});
  for (const auto& [to, from] : {std::pair(&o.html, "report.html"), std::pair(&o.report, "report.json")})
    if (const std::string made = join_path(r.work, from); !to->empty() && file_exists(made)) copy_file(made, *to);
  if (o.json) {
    print_json(json_of(r));
  } else if (!r.road.passed) {
    const std::string& stage = r.road.stages.back().name;
    fmt::print("\nStopped at {}. {} What was finished is kept and not done again.\n", stage, remedy(stage, r.name));
  } else if (o.ship.repository.empty()) {
    fmt::print("\nReady to publish; give --repository to take it to traffic. The report: {}\n",
               join_path(r.work, "report.html"));
  } else {
    fmt::print("\nIn traffic. The report: {}\n", join_path(r.work, "report.html"));
  }
  if (!o.json && r.server && r.server_started && !r.server_stopped)
    fmt::print("The server goes on: {}, dashboard {}/; stop it with: kill {}\n", r.server->http_url(),
               r.server->admin_url(), r.server->pid);
  return r.road.passed ? 0 : exit_status(ErrorCode::kVerificationFailed);
}

}  // namespace

void add_ship(Cli& cli) {
  auto o = std::make_shared<ShipFlags>();
  ShipOptions& s = o->ship;
  CLI::App* verb = add_verb(
      cli, "ship", "All of it: optimise, quantise, verify, simulate, publish, canary, promote",
      "  slipway ship model.onnx --data data.yaml --policy policy.yaml --repository models/\n"
      "The stages are optimize, quantize, verify, simulate, publish, canary and promote. It stops at the first that\n"
      "does not pass, with the reason and exit status 1. Run the same command again to go on: finished stages are not\n"
      "done twice, and changed inputs restart from the first stage that they affect.\n"
      "It quantises after training (PTQ) or with training (QAT) as the policy's `quantization` asks, and says why.\n\n"
      "  slipway ship model.onnx --data data.yaml                          verify and simulate only\n"
      "  slipway ship model.onnx --data data.yaml --repository models/ --skip-quantize\n"
      "  slipway ship model.onnx --candidate qat.onnx --data data.yaml --repository models/\n"
      "  slipway ship model.onnx --data data.yaml --repository models/ --from canary --traffic live",
      o->json);
  verb->add_option("model", s.model, "The original, ONNX")->required();
  verb->add_option("--data", s.data, "Data file (slipway data init): calibration and test split")->required();
  verb->add_option("--policy", s.policy, "Policy (slipway policy init); without it, the defaults");
  verb->add_option("--repository", s.repository, "Where `slipway serve` serves from; made when it is missing");
  verb->add_option("--name", s.name, "The model's name there (default: the file's, without .onnx)");
  verb->add_option("--candidate", s.candidate,
                   "Ship this ONNX file, made elsewhere from the model; nothing is optimised or quantised");
  verb->add_option("--strategy", o->strategy,
                   "ptq: quantise after training; qat: with training; auto: as the policy's `quantization` asks")
      ->capture_default_str();
  verb->add_flag("--skip-quantize", s.skip_quantize, "Ship the optimised model in the precision that it has");
  add_verify_extent(*verb, s.extent);
  verb->add_option("--report", o->html, "HTML report to write besides the one in the work folder");
  verb->add_option("--report-json", o->report, "JSON report to write besides the one in the work folder");
  verb->add_option("--threads", s.threads, "Threads of one inference (default: NAME/config.yaml's, else 1)")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("!--no-tune", s.tune, "Take the likely fastest kernels without timing them");
  verb->add_option("--recording", s.recording,
                   "Replay these recorded requests when simulating (slipway serve --record); else test samples");
  verb->add_option("--steps", s.plan, "The canary's steps and limits (slipway rollout init); else the server's");
  verb->add_option("--traffic", o->traffic, "Of the canary: replay sends test samples, live waits for real requests")
      ->check(CLI::IsMember({"replay", "live"}))
      ->capture_default_str();
  verb->add_option("--rate", s.rate, "Requests a second of the replay (default: 40 % of the simulated capacity)")
      ->check(CLI::Range(0.0, 1e6));
  verb->add_option("--from", s.from, "Do this stage again, and all after it");
  verb->add_option("--work", s.work,
                   "Folder of the stages' results and state (default: REPOSITORY/.slipway/ship/NAME, or MODEL.ship)");
  verb->add_option("--url", s.url, "HTTP address of the running server (default: found, or started)");
  verb->add_option("--admin", s.admin_url, "Its admin address");
  verb->add_option("--token", s.token, "Its admin token")->envname("SLIPWAY_ADMIN_TOKEN");
  add_tls_client(*verb, s.tls);
  verb->add_option("--http-port", s.http_port, "Of a server that is started here; 0: any")->capture_default_str();
  verb->add_option("--grpc-port", s.grpc_port, "The same for gRPC")->capture_default_str();
  verb->add_option("--admin-port", s.admin_port, "The same for administration, metrics and dashboard")
      ->capture_default_str();
  verb->add_flag("--stop-server", s.stop_server, "Stop the server at the end, if it was started here");
  verb->callback([=, &cli] { cli.exit_code = run_ship(*o); });
}

}  // namespace slipway
