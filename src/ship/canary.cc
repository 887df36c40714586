// Driving a rollout from outside, over the admin port: the server decides, this loads, starts, sends traffic, watches
// and tells. The traffic is sent by a thread in loads of a second each, so that it ends soon after the rollout does.
#include "ship/canary.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/url.h"
#include "serve/admin/admin_client.h"

namespace slipway {
namespace {

using nlohmann::json;

constexpr int64_t kAskTimeoutMs = 10'000, kLoadTimeoutMs = 600'000;
constexpr auto kPoll = std::chrono::milliseconds(200);

ErrorCode code_of(int status) {
  for (const ErrorCode code : {ErrorCode::kNotFound, ErrorCode::kVerificationFailed, ErrorCode::kOverloaded,
                               ErrorCode::kInvalidArgument, ErrorCode::kDeadline})
    if (http_status(code) == status) return code;
  return status < 500 ? ErrorCode::kInvalidArgument : ErrorCode::kIo;
}

/// The admin port's answers as JSON; its refusals as Errors.
class Admin {
 public:
  Admin(std::string url, std::string token, TlsFiles tls)
      : url_(std::move(url)), token_(std::move(token)), tls_(std::move(tls)) {}

  json ask(const std::string& method, const std::string& path, const std::string& body, int64_t timeout_ms) const {
    const AdminReply reply = admin_call(url_, method, path, body, token_, timeout_ms, tls_);
    const json j = json::parse(reply.body, nullptr, false);
    if (reply.status == 200) return j;
    const bool says = j.is_object() && j.contains("error") && j["error"].is_string();
    fail(code_of(reply.status), "The server refuses: {} ({} {}: {})", says ? j["error"].get<std::string>() : reply.body,
         method, path, reply.status);
  }

 private:
  std::string url_, token_;
  TlsFiles tls_;
};

/// What a rollout's status says, as far as it matters here.
struct Status {
  std::string state, reason, verdicts, last_event;
  int64_t stable = 0, candidate = 0;
  double share = 0, rollback_us = 0;
  bool active() const { return state == "running" || state == "paused" || state == "held"; }
};

Status parse_status(const json& j) {
  try {
    Status s{.state = j.at("state").get<std::string>(),
             .reason = j.at("reason").get<std::string>(),
             .verdicts = "",
             .last_event = "",
             .stable = j.at("stable").get<int64_t>(),
             .candidate = j.at("candidate").get<int64_t>(),
             .share = j.at("share").get<double>()};
    if (const json& us = j.at("rollback_us"); us.is_number()) s.rollback_us = us.get<double>();
    if (const json& history = j.at("history"); !history.empty())
      s.last_event = history.front().at("event").get<std::string>();
    for (const json& v : j.at("verdicts"))
      s.verdicts += fmt::format("{}{} {}", s.verdicts.empty() ? "" : ", ", v.at("name").get<std::string>(),
                                v.at("verdict").get<std::string>());
    return s;
  } catch (const json::exception& error) {
    fail(ErrorCode::kIo, "The server's answer about its rollouts can't be read; is it of this version? {}",
         error.what());
  }
}

/// Replays the samples over and over until told to stop.
class Replay {
 public:
  Replay(const CanaryOptions& options, const std::vector<LoadSample>& samples) {
    if (samples.empty()) return;
    thread_ = std::thread([this, &options, &samples] { run(options, samples); });
  }
  ~Replay() { stop(); }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int64_t requests() const { return requests_; }
  int64_t errors() const { return errors_; }

 private:
  void run(const CanaryOptions& options, const std::vector<LoadSample>& samples) {
    LoadOptions o{.url = options.http_url,
                  .tls = options.tls,
                  .model = options.model,
                  .concurrency = 64,
                  .rate = options.rate,
                  .poisson = true,
                  .seconds = 1,
                  .warm_up_seconds = 0,
                  .quiet = true};
    std::vector<LoadSample> turned = samples;
    while (!stop_ && !interrupted()) {
      try {
        const LoadResult r = run_load(o, turned);
        requests_ += r.requests;
        errors_ += r.error_count();
        // Each second goes on where the last one ended, else a slow rate would send the same few samples for ever.
        const auto sent = static_cast<std::ptrdiff_t>(static_cast<size_t>(r.requests) % turned.size());
        std::rotate(turned.begin(), turned.begin() + sent, turned.end());
        ++o.seed;
      } catch (const Error&) {  // the server is away: whoever watches the rollout finds out too
        ++errors_;
        std::this_thread::sleep_for(kPoll);
      }
    }
  }

  std::atomic<bool> stop_{false};
  std::atomic<int64_t> requests_{0}, errors_{0};
  std::thread thread_;
};

class Canary {
 public:
  Canary(const CanaryOptions& options, const std::function<void(const std::string&)>& on_progress)
      : o_(options),
        admin_(options.admin_url, options.token, options.tls),
        path_("/api/rollouts/" + percent_encode(options.model)),
        on_progress_(on_progress) {}

  CanaryResult run(const std::vector<LoadSample>& samples) {
    const int64_t start = now_ns();
    admin_.ask("POST", "/v2/repository/models/" + percent_encode(o_.model) + "/load", "{}", kLoadTimeoutMs);
    Status status = first_status();
    CanaryResult result;
    if (status.stable == o_.version && !status.active()) {
      // One that the server made live before it was asked has nothing else in its history.
      (went_live_ || status.last_event == "live" ? result.first : result.already) = true;
    } else {
      start_rollout(status);
      Replay replay(o_, samples);
      status = follow();
      replay.stop();
      result.requests = replay.requests();
      result.errors = replay.errors();
    }
    result.state = status.state;
    result.reason = status.reason;
    result.live = status.stable;
    result.promoted = status.stable == o_.version && !status.active();
    result.rollback_us = status.rollback_us;
    result.seconds = static_cast<double>(now_ns() - start) * 1e-9;
    return result;
  }

 private:
  Status ask_status() const { return parse_status(admin_.ask("GET", path_, "", kAskTimeoutMs)); }

  // A model that was just loaded has no live version until the server looked at its proof.
  Status first_status() {
    const int64_t end = now_ns() + static_cast<int64_t>(o_.patience_s * 1e9);
    while (true) {
      Status status;
      try {
        status = ask_status();
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kNotFound) throw;
      }
      if (status.stable != 0 || status.active()) return status;
      went_live_ = true;
      if (now_ns() > end)
        fail(ErrorCode::kVerificationFailed, "No version of the model goes live: {}",
             status.reason.empty() ? "the server gives no reason; see its log" : status.reason);
      throw_if_interrupted();
      std::this_thread::sleep_for(kPoll);
    }
  }

  void start_rollout(const Status& status) {
    if (status.active() && status.candidate != o_.version)
      fail(ErrorCode::kInvalidArgument,
           "Another rollout of this model runs; end it with `slipway rollout abort` or wait: version {}",
           status.candidate);
    if (status.active()) {
      on_progress_(fmt::format("joining the rollout that is {} at {:g} %", status.state, 100 * status.share));
      return;
    }
    json body = {{"version", o_.version}, {"who", o_.who}};
    if (!o_.plan.empty()) body["plan"] = o_.plan;
    admin_.ask("POST", path_ + "/start", body.dump(), kAskTimeoutMs);
  }

  Status follow() {
    std::string last;
    int64_t heard_ns = now_ns();
    while (true) {
      if (interrupted()) abort();
      Status status;
      try {
        status = ask_status();
        heard_ns = now_ns();
      } catch (const Error& error) {
        const bool away = error.code() == ErrorCode::kIo || error.code() == ErrorCode::kDeadline;
        if (!away || static_cast<double>(now_ns() - heard_ns) * 1e-9 > o_.patience_s) throw;
      }
      const std::string line =
          fmt::format("{:g} %{}", 100 * status.share, status.verdicts.empty() ? "" : ": " + status.verdicts);
      if (status.active() && line != last) on_progress_(last = line);
      if (!status.state.empty() && (!status.active() || status.state == "held")) return status;
      std::this_thread::sleep_for(kPoll);
    }
  }

  [[noreturn]] void abort() {
    std::string outcome = "The rollout was aborted; all traffic is back with the version that was live.";
    try {
      admin_.ask("POST", path_ + "/abort", json{{"who", o_.who}}.dump(), kAskTimeoutMs);
    } catch (const Error& error) {
      outcome = fmt::format("The rollout could not be aborted, do it with `slipway rollout abort`: {}", error.what());
    }
    fail(ErrorCode::kInterrupted, "Interrupted. {} The same command goes on from here.", outcome);
  }

  const CanaryOptions& o_;
  Admin admin_;
  std::string path_;
  const std::function<void(const std::string&)>& on_progress_;
  bool went_live_ = false;
};

}  // namespace

CanaryResult run_canary(const CanaryOptions& options, const std::vector<LoadSample>& samples,
                        const std::function<void(const std::string&)>& on_progress) {
  return Canary(options, on_progress).run(samples);
}

int64_t live_version(const std::string& admin_url, const std::string& token, const TlsFiles& tls,
                     const std::string& model) {
  try {
    const Admin admin(admin_url, token, tls);
    return parse_status(admin.ask("GET", "/api/rollouts/" + percent_encode(model), "", kAskTimeoutMs)).stable;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound) return 0;
    throw;
  }
}

}  // namespace slipway
