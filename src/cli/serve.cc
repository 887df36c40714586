// slipway serve: joins server, monitor and rollouts, puts HTTP, gRPC and the admin port in front, and takes them down
// again without losing a request.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/visible.h"
#include "cli/cli.h"
#include "monitor/monitor.h"
#include "rollout/rollout.h"
#include "serve/admin/admin.h"
#include "serve/admin/admin_repository.h"
#include "serve/grpc/grpc_plane.h"
#include "serve/http/http_plane.h"
#include "serve/prepare.h"
#include "serve/recording.h"
#include "serve/repository.h"
#include "serve/tls.h"

namespace slipway {
namespace {

constexpr int64_t kEndNs = 1'000'000'000;  ///< for threads to end, after the requests under way had their time

struct ServeFlags {
  std::string repository, cache_dir, journal, model_control = "none", token_file, alarms, record;
  HttpOptions http;
  GrpcOptions grpc;
  TlsFiles tls;
  std::string admin_host = "127.0.0.1";
  uint16_t admin_port = 8002;
  int64_t max_body_mib = 64, idle_timeout_s = 60, drain_timeout_s = 30, record_mib = 256;
  double record_share = 1;
  bool allow_unverified = false, allow_links = false, no_tune = false, json = false, config_template = false,
       alarms_template = false;
};

/// Beside the repository where that can be written, else in the cache.
std::string journal_path(const ServeFlags& o, const std::string& cache_dir) {
  if (!o.journal.empty()) return o.journal;
  const std::string folder = join_path(o.repository, ".slipway");
  try {
    make_folders(folder);
    require_writable(join_path(folder, "journal.db"));
    return join_path(folder, "journal.db");
  } catch (const Error&) {
    return join_path(cache_dir, "journals/" + sha256_hex(o.repository).substr(0, 16) + ".db");
  }
}

nlohmann::json models_json(const Server& server) {
  nlohmann::json models = nlohmann::json::array();
  for (const IndexEntry& entry : server.index()) {
    nlohmann::json m = {
        {"model", entry.model}, {"version", entry.version}, {"state", entry.state}, {"reason", entry.reason}};
    for (const auto& version : server.versions(entry.model))
      if (version->version() == entry.version) {
        m["proof"] = to_string(version->source().proof);
        m["live"] = server.routing(entry.model).stable == entry.version;
      }
    models.push_back(std::move(m));
  }
  return models;
}

void print_models(const Server& server) {
  const nlohmann::json models = models_json(server);
  Table table({"model", "version", "state", "proof", "traffic"});
  for (const nlohmann::json& m : models)
    table.add({m["model"], std::to_string(m["version"].get<int64_t>()), m["state"], m.value("proof", "-"),
               m.value("live", false) ? "live" : "-"});
  table.print();
  for (const nlohmann::json& m : models)
    if (const std::string why = m["reason"]; !why.empty())
      fmt::print("{}/{}: {}\n", visible(m["model"].get<std::string>()), m["version"].get<int64_t>(), visible(why));
}

/// A repository is served by one server at a time, as far as it can be written. The lock goes with the process.
class RepositoryClaim {
 public:
  explicit RepositoryClaim(const std::string& repository) : folder_(join_path(repository, ".slipway")) {
    try {
      make_folders(folder_);
    } catch (const Error&) {
      return;  // a read-only repository
    }
    fd_ = open(join_path(folder_, "server.lock").c_str(), O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      close(fd_);
      fail(ErrorCode::kOverloaded, "Another server serves this repository; stop it, or serve a copy: {}", repository);
    }
  }
  ~RepositoryClaim() {
    if (!told_.empty()) unlink(told_.c_str());
    if (fd_ >= 0) close(fd_);
  }
  RepositoryClaim(const RepositoryClaim&) = delete;
  RepositoryClaim& operator=(const RepositoryClaim&) = delete;

  /// Where `slipway ship` finds the server; gone with it.
  void tell(const nlohmann::json& about) {
    if (fd_ < 0) return;
    const std::string path = join_path(folder_, "server.json");
    unlink(path.c_str());  // whoever may write into a repository may not have us follow a link out of it
    try {
      write_file(path, std::string_view(about.dump()));
      told_ = path;
    } catch (const Error& error) {
      log_warning("`slipway ship` will not find this server: {}", error.what());
    }
  }
  /// Ends the process then, whatever still runs: a computation or a load can't be broken off.
  void leave_by(int64_t at_ns) const {
    std::thread([told = told_, at_ns] {
      std::this_thread::sleep_for(std::chrono::nanoseconds(at_ns - now_ns()));
      log_warning("Not everything ended in time; the process ends without it.");
      if (!told.empty()) unlink(told.c_str());
      std::_Exit(0);
    }).detach();
  }

 private:
  std::string folder_, told_;
  int fd_ = -1;
};

/// As many connections as the system lets a process have.
void allow_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void reload(TlsIdentity& tls) {
  try {
    tls.reload();
    log_info("The certificates were read again; new connections get them.");
  } catch (const Error& error) {
    log_error("The certificates stay as they were: {}", error.what());
  }
}

void serve(ServeFlags o) {
  if (!is_folder(o.repository))
    fail(ErrorCode::kNotFound, "There is no such folder; name the model repository (NAME/VERSION/model.onnx): {}",
         o.repository);
  restart_with_passive_threads();
  std::signal(SIGPIPE, SIG_IGN);  // whoever reads the log may go away
  allow_descriptors();
  RepositoryClaim claim(o.repository);
  const std::string cache_dir = o.cache_dir.empty() ? user_cache_folder() : o.cache_dir;
  const AlarmRules alarms = o.alarms.empty() ? AlarmRules() : load_alarm_rules(o.alarms);
  const std::string token = read_admin_token(o.token_file);
  const auto tls = o.tls.empty() ? nullptr : std::make_shared<TlsIdentity>(o.tls);
  if (tls) catch_hangups();
  o.http.admin_token = o.grpc.admin_token = token;
  o.http.max_body_bytes = o.grpc.max_message_bytes = static_cast<uint64_t>(o.max_body_mib) << 20;
  o.http.idle_timeout_ms = o.idle_timeout_s * 1000;
  o.grpc.host = o.http.host;
  o.http.tls = o.grpc.tls = tls;

  std::unique_ptr<Recorder> recorder;
  Server server({.repository = o.repository,
                 .program = "/proc/self/exe",
                 .cache_dir = cache_dir,
                 .explicit_control = o.model_control == "explicit",
                 .allow_unverified = o.allow_unverified,
                 .tune = !o.no_tune,
                 .allow_links = o.allow_links});
  Monitor monitor(server, {.alarms = alarms});
  Rollouts rollouts(server,
                    [&](const std::string& model, int64_t version, Variant variant) {
                      return monitor.observation(model, version, variant);
                    },
                    {.journal = {.path = journal_path(o, cache_dir)}, .allow_unverified = o.allow_unverified});
  server.observe([&](const Served& served) { monitor.observe(served); });
  if (!o.record.empty()) {
    recorder = std::make_unique<Recorder>(RecordingOptions{
        .path = o.record, .max_bytes = static_cast<uint64_t>(o.record_mib) << 20, .share = o.record_share});
    server.observe([&](const Served& served) { recorder->record(served); });
  }

  AdminPlane admin(o.admin_host, o.admin_port, token, tls);
  HttpPlane http(server, o.http);
  GrpcPlane grpc(server, o.grpc);
  monitor.serve_on(admin, [&] { return rollouts.status_json(); });
  rollouts.serve_on(admin);
  serve_repository(admin, server);
  admin.start();
  http.start();
  grpc.start();
  rollouts.run();  // what is loaded goes live while the rest still loads
  monitor.start();
  server.load_all();
  rollouts.adopt();
  if (!interrupted()) {
    nlohmann::json about = {{"pid", getpid()},          {"host", o.http.host},        {"http_port", http.port()},
                            {"grpc_port", grpc.port()}, {"admin_host", o.admin_host}, {"admin_port", admin.port()},
                            {"tls", tls != nullptr}};
    claim.tell(about);
    if (o.json) {
      about["models"] = models_json(server);
      print_json(about);
    } else {
      print_models(server);
      const std::string_view s = tls ? "s" : "";
      fmt::print("\nHTTP  http{}://{}:{}\ngRPC  grpc{}://{}:{}\nadmin http{}://{}:{}/ (dashboard, /metrics)\n{}", s,
                 o.http.host, http.port(), s, o.http.host, grpc.port(), s, o.admin_host, admin.port(),
                 "Ctrl-C ends it.\n");
      std::fflush(stdout);
    }
  }
  while (!interrupted()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (tls && hangup_came()) reload(*tls);
  }

  log_info("Shutting down: {} requests under way", server.in_flight());
  const int64_t until_ns = now_ns() + o.drain_timeout_s * 1'000'000'000;
  const auto left_ms = [&] { return std::max<int64_t>(until_ns - now_ns(), 0) / 1'000'000; };
  claim.leave_by(until_ns + kEndNs);
  http.drain();
  grpc.stop(left_ms());
  if (!http.finish(until_ns) || !server.drain(left_ms())) log_warning("Some requests were not answered in time.");
  http.stop();
  admin.stop();
  if (recorder) {
    log_info("{} requests recorded, {} dropped", recorder->recorded(), recorder->dropped());
    if (!recorder->fault().empty()) log_warning("The recording stopped: {}", recorder->fault());
  }
}

}  // namespace

void add_serve(Cli& cli) {
  auto o = std::make_shared<ServeFlags>();
  CLI::App* verb = add_verb(
      cli, "serve", "Serve a model repository over HTTP and gRPC",
      "  slipway serve repository/\n"
      "  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict\n\n"
      "A repository holds NAME/VERSION/model.onnx, and what `slipway ship` publishes beside it: report.json (the "
      "proof)\n"
      "and model.plan. NAME/config.yaml (see --config-template) is only needed where the defaults do not do.\n"
      "A version that is loaded is warm, not live: a model's first version goes live when its report passed, later\n"
      "ones by `slipway rollout`. The dashboard is on the admin port.",
      o->json);
  verb->add_option("repository", o->repository, "Folder of models");
  verb->add_option("--host", o->http.host, "Address of the HTTP and gRPC ports")->capture_default_str();
  verb->add_option("--http-port", o->http.port, "0 picks a free one")->capture_default_str();
  verb->add_option("--grpc-port", o->grpc.port, "0 picks a free one")->capture_default_str();
  verb->add_option("--admin-host", o->admin_host, "Address of the admin port; any but loopback needs a token")
      ->capture_default_str();
  verb->add_option("--admin-port", o->admin_port, "0 picks a free one")->capture_default_str();
  verb->add_option("--admin-token-file", o->token_file,
                   "File with the admin token; without it, SLIPWAY_ADMIN_TOKEN in the environment");
  verb->add_option("--tls-cert", o->tls.cert,
                   "TLS on all ports: the server's certificate and those between it and its authority (PEM); SIGHUP\n"
                   "reads the files again");
  verb->add_option("--tls-key", o->tls.key, "Its private key (PEM, without a password)");
  verb->add_option("--tls-client-ca", o->tls.ca, "Clients must show a certificate of these authorities (PEM)");
  verb->add_option("--model-control", o->model_control,
                   "explicit: whoever reaches the data ports may load and unload; none: only with the admin token")
      ->check(CLI::IsMember({"none", "explicit"}))
      ->capture_default_str();
  verb->add_flag("--allow-unverified", o->allow_unverified,
                 "A first version without a passing report goes live; journalled and shown");
  verb->add_flag("--allow-links", o->allow_links, "Symbolic links in the repository may lead out of it");
  verb->add_option("--cache-dir", o->cache_dir, "Plans built here; the user's cache folder without it");
  verb->add_option("--journal", o->journal, "Rollouts' journal; REPOSITORY/.slipway/journal.db without it");
  verb->add_option("--alarms", o->alarms, "Alarm rules (see --alarms-template)");
  verb->add_option("--record", o->record, "File for a sample of the live requests, for `slipway load --recording`");
  verb->add_option("--record-share", o->record_share, "Share of the requests to record")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--record-max-mib", o->record_mib, "Bound of that file")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--http-threads", o->http.threads, "Threads that read and write HTTP")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  verb->add_option("--grpc-threads", o->grpc.threads, "Threads that read and write gRPC")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  verb->add_option("--max-body-mib", o->max_body_mib, "Largest request, unpacked too")
      ->check(CLI::Range(1, 2047))
      ->capture_default_str();
  verb->add_option("--max-connections", o->http.max_connections, "HTTP connections at once")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--idle-timeout-s", o->idle_timeout_s, "An HTTP connection without a request is closed after")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  verb->add_option("--drain-timeout-s", o->drain_timeout_s,
                   "At the end, requests that have begun to arrive get so long, then the process ends without them")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  verb->add_flag("--no-tune", o->no_tune, "Build plans without timing candidates");
  verb->add_flag("--config-template", o->config_template, "Print a commented NAME/config.yaml and end");
  verb->add_flag("--alarms-template", o->alarms_template, "Print commented alarm rules and end");
  verb->callback([=] {
    if (o->config_template || o->alarms_template) {
      fmt::print("{}", o->config_template ? model_config_template() : alarm_rules_template());
      return;
    }
    if (o->repository.empty())
      fail(ErrorCode::kInvalidArgument, "A repository is missing; `slipway serve --help` shows how one looks.");
    serve(*o);
  });
}

void add_prepare(Cli& cli) {
  cli.app.add_subcommand("prepare", "Not for people: a server starts it to make a version ready")
      ->group("")
      ->callback([] { run_preparation(); });
}

}  // namespace slipway
