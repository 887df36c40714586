// slipway rollout: brings a version of a model to live traffic in steps, over the server's admin port.
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/url.h"
#include "base/visible.h"
#include "cli/cli.h"
#include "rollout/rollout_plan.h"
#include "serve/admin/admin_client.h"
#include "serve/tls.h"

namespace slipway {
namespace {

using Json = nlohmann::json;
constexpr int64_t kTimeoutMs = 30'000, kStartTimeoutMs = 900'000;  ///< a start may have to make the version ready
constexpr auto kPoll = std::chrono::milliseconds(500);
constexpr auto kSilence = std::chrono::seconds(10);  ///< between lines where no terminal is

struct RolloutFlags {
  std::string model, url = "http://127.0.0.1:8002", token, steps, override_unverified, output;
  TlsFiles tls;
  int64_t version = 0, lines = 50;
  bool json = false, wait = false, force = false;
};

/// The server's answer, or its error as ours.
Json call(const RolloutFlags& o, const std::string& method, const std::string& target, const Json& body = {},
          int64_t timeout_ms = kTimeoutMs) {
  const char* token = std::getenv("SLIPWAY_ADMIN_TOKEN");
  const AdminReply reply = admin_call(o.url, method, target, body.is_null() ? "" : body.dump(),
                                      o.token.empty() && token != nullptr ? token : o.token, timeout_ms, o.tls);
  Json answer = Json::parse(reply.body, nullptr, false);
  if (reply.status < 300 && !answer.is_discarded()) return answer;
  const std::string said = answer.is_object() && answer.contains("error") && answer["error"].is_string()
                               ? answer["error"].get<std::string>()
                               : "";
  const ErrorCode code = reply.status == 404                         ? ErrorCode::kNotFound
                         : reply.status == 409                       ? ErrorCode::kVerificationFailed
                         : reply.status >= 400 && reply.status < 500 ? ErrorCode::kInvalidArgument
                                                                     : ErrorCode::kIo;
  if (said.empty())
    fail(code, "The server's answer can't be used; see that {} is the admin port of `slipway serve`: status {}", o.url,
         reply.status);
  throw Error(code, said);
}

std::string target_of(const RolloutFlags& o, const std::string& verb = "") {
  return "/api/rollouts/" + percent_encode(o.model) + (verb.empty() ? "" : "/" + verb);
}

Json body_of() {
  const passwd* user = getpwuid(getuid());
  return {{"who", user == nullptr ? fmt::format("user {}", getuid()) : std::string(user->pw_name)}};
}

std::string clock_time(int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

void print_event(const Json& e) {
  const std::string who = e.value("who", "");
  fmt::print("{} {:<12} {}{}\n", clock_time(e.value("at_ms", int64_t{0})), visible(e.value("event", "")),
             visible(e.value("sentence", "")), who.empty() ? "" : " [" + visible(who) + "]");
}

std::string headline(const Json& s) {
  const int64_t stable = s.value("stable", int64_t{0}), candidate = s.value("candidate", int64_t{0});
  const std::string state = s.value("state", "");
  const std::string live = stable == 0 ? "no version is live" : fmt::format("version {} is live", stable);
  if (state == "running" || state == "paused" || state == "held")
    return fmt::format("{}: {}, version {} has {:g} % (step {} of {}, {:.0f} s); {}", s.value("model", ""), state,
                       candidate, 100 * s.value("share", 0.0), s.value("step", int64_t{0}) + 1, s["steps"].size(),
                       s.value("step_seconds", 0.0), live);
  if (state == "idle") return fmt::format("{}: {}", s.value("model", ""), live);
  return fmt::format("{}: version {} was {}; {}", s.value("model", ""), candidate,
                     state == "rolled_back" ? "rolled back" : state, live);
}

void print_status(const Json& s) {
  fmt::print("{}\n", visible(headline(s)));
  const std::pair<const char*, const char*> lines[] = {
      {"", "reason"}, {"live without proof: ", "override"}, {"not journalled yet: ", "journal_fault"}};
  for (const auto& [before, key] : lines)
    if (const std::string said = s.value(key, ""); !said.empty()) fmt::print("  {}{}\n", before, visible(said));
  for (const Json& v : s["verdicts"])
    fmt::print("  {:<12} {}: {}\n", visible(v.value("verdict", "")), visible(v.value("name", "")),
               visible(v.value("sentence", "")));
}

void show(const RolloutFlags& o, const Json& s) { o.json ? print_json(s) : print_status(s); }

void status(const RolloutFlags& o) {
  const Json answer = call(o, "GET", o.model.empty() ? "/api/rollouts" : target_of(o));
  if (o.json) return print_json(answer);
  if (!answer.is_array()) return print_status(answer);
  if (answer.empty()) fmt::print("the server has no models\n");
  for (const Json& s : answer) print_status(s);
}

/// "running, version 3 has 5 % …; 120 requests judged, undecided: latency"
std::string progress_line(const Json& s) {
  const Json& verdicts = s["verdicts"];
  std::string undecided;
  for (const Json& v : verdicts)
    if (v.value("verdict", "") == "inconclusive")
      undecided += (undecided.empty() ? ", undecided: " : ", ") + v.value("name", "");
  return visible(fmt::format("{}; {} requests judged{}", headline(s),
                             verdicts.empty() ? 0 : verdicts[0].value("n", int64_t{0}), undecided));
}

/// Prints what happens until the rollout is over: 0 promoted, 1 sent back or aborted.
int follow(const RolloutFlags& o, Json s) {
  int64_t printed = 0;  // id; from what led to this start on
  for (const Json& e : s["history"]) {
    const std::string event = e.value("event", "");
    if (printed != 0 && event != "override" && event != "warning") break;
    if (event == "started" || printed != 0) printed = e.value("id", int64_t{0}) - 1;
  }
  const bool terminal = isatty(2) == 1 && !o.json;
  auto said = std::chrono::steady_clock::now();
  while (true) {
    const Json& history = s["history"];
    for (auto e = history.rbegin(); e != history.rend(); ++e) {
      const int64_t id = e->value("id", int64_t{0});
      if (id <= printed) continue;
      printed = id;
      said = std::chrono::steady_clock::now();
      if (terminal) std::fprintf(stderr, "\r\033[K");
      if (!o.json) print_event(*e);
    }
    std::fflush(stdout);
    const std::string state = s.value("state", "");
    if (state != "running" && state != "paused" && state != "held") {
      if (o.json) print_json(s);
      return state == "promoted" ? 0 : exit_status(ErrorCode::kVerificationFailed);
    }
    if (terminal) {
      std::fprintf(stderr, "\r\033[K%s", progress_line(s).c_str());
    } else if (const auto now = std::chrono::steady_clock::now(); !o.json && now - said >= kSilence) {
      said = now;
      std::fprintf(stderr, "%s\n", progress_line(s).c_str());
    }
    std::this_thread::sleep_for(kPoll);
    if (interrupted()) {
      std::fprintf(stderr, "%s", terminal ? "\n" : "");
      fail(ErrorCode::kInterrupted,
           "Nobody follows it now, but the rollout goes on; `slipway rollout abort {}` ends it.", o.model);
    }
    s = call(o, "GET", target_of(o));
  }
}

int start(const RolloutFlags& o) {
  Json body = body_of();
  body["version"] = o.version;
  if (!o.steps.empty()) {
    load_rollout_plan(o.steps);
    body["plan"] = read_text_file(o.steps, kMaxRolloutPlanBytes);
  }
  if (!o.override_unverified.empty()) body["override_unverified"] = o.override_unverified;
  const Json s = call(o, "POST", target_of(o, "start"), body, kStartTimeoutMs);
  if (o.wait) return follow(o, s);
  show(o, s);
  return 0;
}

void drill(const RolloutFlags& o) {
  Json body = body_of();
  if (o.version > 0) body["version"] = o.version;
  const Json r = call(o, "POST", target_of(o, "drill"), body);
  if (o.json) return print_json(r);
  fmt::print("{}: 1 % went to version {} and back to version {}: routed in {:.0f} µs, answered by it after {:.2f} ms\n",
             o.model, r.value("candidate", int64_t{0}), r.value("stable", int64_t{0}), r.value("routed_us", 0.0),
             r.value("effective_us", 0.0) / 1000);
}

void history(const RolloutFlags& o) {
  const Json events = call(o, "GET", o.model.empty() ? "/api/history" : target_of(o, "history"));  // newest first
  if (o.json) return print_json(events);
  const size_t shown = std::min(events.size(), static_cast<size_t>(std::max<int64_t>(o.lines, 0)));
  for (size_t i = shown; i-- > 0;) {
    if (o.model.empty()) fmt::print("{:<16} ", visible(events[i].value("model", "")));
    print_event(events[i]);
  }
}

void back(const RolloutFlags& o) {
  Json body = body_of();
  if (o.version > 0) body["version"] = o.version;
  show(o, call(o, "POST", target_of(o, "back"), body));
}

void init(const RolloutFlags& o) {
  if (o.output.empty()) {
    o.json ? print_json({{"text", rollout_plan_template()}}) : fmt::print("{}", rollout_plan_template());
    return;
  }
  if (file_exists(o.output) && !o.force)
    fail(ErrorCode::kInvalidArgument, "The file exists; give --force to overwrite it: {}", o.output);
  write_file(o.output, std::string_view(rollout_plan_template()));
  o.json ? print_json({{"output", o.output}})
         : fmt::print("wrote the default steps, every key explained: {}\n", o.output);
}

}  // namespace

void add_rollout(Cli& cli) {
  CLI::App* verb = cli.app.add_subcommand("rollout", "Bring a version to live traffic in steps, or back");
  verb->require_subcommand(1);
  Cli inner{*verb};
  auto o = std::make_shared<RolloutFlags>();
  const auto remote = [&](const std::string& name, const std::string& summary, const std::string& example) {
    CLI::App* app = add_verb(inner, name, summary, "  slipway rollout " + example, o->json);
    app->add_option("--url", o->url, "The server's admin port")->capture_default_str();
    add_tls_client(*app, o->tls);
    app->add_option("--token", o->token, "The admin token; or the environment's SLIPWAY_ADMIN_TOKEN");
    return app;
  };
  CLI::App* app = remote("start", "Raise a version's share step by step while it holds", "start resnet 2 --wait");
  app->add_option("model", o->model, "Model")->required();
  app->add_option("version", o->version, "Version; made ready first where it is new")
      ->required()
      ->check(CLI::Range(1, 1'000'000'000));
  app->add_option("--steps", o->steps, "File of the steps and limits (slipway rollout init)");
  app->add_flag("--wait", o->wait, "Follow it to its end: exit 0 promoted, 1 sent back");
  app->add_option("--override-unverified", o->override_unverified,
                  "MODEL/VERSION: go ahead without proof; the journal keeps it");
  app->callback([o, &cli] { cli.exit_code = start(*o); });

  app = remote("status", "Where rollouts stand, with the last verdicts", "status resnet");
  app->add_option("model", o->model, "Model; all without it");
  app->callback([=] { status(*o); });

  const std::pair<const char*, const char*> commands[] = {
      {"pause", "Raise it no further; it is judged and sent back as before"},
      {"resume", "Go on after a pause, or with more time after it was held"},
      {"promote", "Give it all of the traffic now, without waiting for the gates"},
      {"abort", "Send it back now"}};
  for (const auto& [name, summary] : commands) {
    app = remote(name, summary, std::string(name) + " resnet");
    app->add_option("model", o->model, "Model")->required();
    app->callback([o, command = std::string(name)] { show(*o, call(*o, "POST", target_of(*o, command), body_of())); });
  }
  app =
      remote("back", "All traffic back, at once, to a version that was live before; those stay loaded", "back resnet");
  app->add_option("model", o->model, "Model")->required();
  app->add_option("version", o->version, "Version; the one before the live one without it");
  app->callback([=] { back(*o); });

  app = remote("history", "What happened, with the numbers, oldest first", "history resnet");
  app->add_option("model", o->model, "Model; all without it");
  app->add_option("--lines", o->lines, "The newest so many")->capture_default_str();
  app->callback([=] { history(*o); });

  app = remote("drill", "Practise the rollback on live traffic and time it", "drill resnet");
  app->add_option("model", o->model, "Model")->required();
  app->add_option("version", o->version, "A verified version; the highest beside the live one without it");
  app->callback([=] { drill(*o); });

  app = add_verb(inner, "init", "The default steps and limits as a commented file",
                 "  slipway rollout init -o steps.yaml", o->json);
  app->add_option("-o,--output", o->output, "File to write; without it, standard output");
  app->add_flag("--force", o->force, "Overwrite the file");
  app->callback([=] { init(*o); });
}

}  // namespace slipway
