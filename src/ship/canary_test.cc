#include "ship/canary.h"

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "data/test_folder.h"
#include "serve/admin/admin.h"

namespace slipway {
namespace {

using nlohmann::json;

json status(const std::string& state, int64_t stable, int64_t candidate, double share, const std::string& reason = "") {
  return {{"state", state},   {"stable", stable},          {"candidate", candidate}, {"share", share},
          {"reason", reason}, {"verdicts", json::array()}, {"rollback_us", nullptr}, {"history", json::array()}};
}

/// A server's admin port that says what a test wrote down: one status after the other, the last for ever.
struct Script {
  std::vector<json> before, after;  ///< statuses until and since the rollout was started
  int refuse_start = 200;
  std::atomic<int> asked{0}, started{0}, loaded{0};
  std::string start_body;
  AdminPlane admin{"127.0.0.1", 0, ""};

  CanaryResult run(std::vector<std::string>* progress = nullptr) {
    admin.handle("POST", "/v2/repository/models/", [&](const AdminRequest& request) {
      EXPECT_EQ(request.path, "/v2/repository/models/net/load");
      ++loaded;
      return AdminReply{.body = "{}"};
    });
    admin.handle("GET", "/api/rollouts/", [&](const AdminRequest& request) {
      EXPECT_EQ(request.path, "/api/rollouts/net");
      const std::vector<json>& list = started > 0 ? after : before;
      if (list.empty()) fail(ErrorCode::kNotFound, "There is no such model: net");
      return AdminReply{.body = list[std::min<size_t>(static_cast<size_t>(asked++), list.size() - 1)].dump()};
    });
    admin.handle("POST", "/api/rollouts/", [&](const AdminRequest& request) {
      EXPECT_EQ(request.path, "/api/rollouts/net/start");
      if (refuse_start != 200) return AdminReply{.status = refuse_start, .body = R"({"error": "There is no proof."})"};
      start_body = request.body;
      asked = 0;
      ++started;
      return AdminReply{.body = "{}"};
    });
    admin.start();
    const CanaryOptions options{.admin_url = fmt::format("http://127.0.0.1:{}", admin.port()),
                                .http_url = "",
                                .model = "net",
                                .version = 2,
                                .plan = "steps: []",
                                .patience_s = 1};
    CanaryResult result = run_canary(options, {}, [&](const std::string& line) {
      if (progress != nullptr) progress->push_back(line);
    });
    EXPECT_EQ(loaded, 1);
    return result;
  }
};

TEST(Canary, TheFirstVersionGoesLiveByItself) {
  Script script;
  script.before = {status("idle", 0, 0, 0), status("idle", 0, 0, 0), status("idle", 2, 0, 0)};
  const CanaryResult r = script.run();
  EXPECT_TRUE(r.promoted);
  EXPECT_TRUE(r.first);
  EXPECT_EQ(script.started, 0);
}

TEST(Canary, TheFirstVersionMayBeLiveBeforeAnyoneAsks) {
  Script script;
  script.before = {status("idle", 2, 0, 0)};
  script.before[0]["history"] = {{{"event", "live"}, {"sentence", "Version 2 went live."}}};
  EXPECT_TRUE(script.run().first);
}

TEST(Canary, ALiveVersionNeedsNoRollout) {
  Script script;
  script.before = {status("promoted", 2, 2, 1)};
  const CanaryResult r = script.run();
  EXPECT_TRUE(r.already);
  EXPECT_EQ(script.started, 0);
}

TEST(Canary, IsFollowedUntilPromoted) {
  Script script;
  script.before = {status("rolled_back", 1, 3, 0, "an older one")};
  json judged = status("running", 1, 2, 0.1);
  judged["verdicts"] = {{{"name", "errors"}, {"verdict", "pass"}}};
  script.after = {status("running", 1, 2, 0.01), judged, judged, status("promoted", 2, 2, 1, "All passed.")};
  std::vector<std::string> progress;
  const CanaryResult r = script.run(&progress);
  EXPECT_TRUE(r.promoted);
  EXPECT_FALSE(r.first);
  EXPECT_EQ(progress, (std::vector<std::string>{"1 %", "10 %: errors pass"}));
  EXPECT_EQ(json::parse(script.start_body)["version"], 2);
  EXPECT_EQ(json::parse(script.start_body)["plan"], "steps: []");
}

TEST(Canary, ARollbackComesWithItsReason) {
  Script script;
  script.before = {status("idle", 1, 0, 0)};
  json back = status("rolled_back", 1, 2, 0, "Confidence shifted by 0.4.");
  back["rollback_us"] = 1500;
  script.after = {status("running", 1, 2, 0.1), back};
  const CanaryResult r = script.run();
  EXPECT_FALSE(r.promoted);
  EXPECT_EQ(r.state, "rolled_back");
  EXPECT_EQ(r.reason, "Confidence shifted by 0.4.");
  EXPECT_EQ(r.live, 1);
  EXPECT_DOUBLE_EQ(r.rollback_us, 1500);
}

TEST(Canary, AHeldRolloutIsLeftToPeople) {
  Script script;
  script.before = {status("idle", 1, 0, 0)};
  script.after = {status("held", 1, 2, 0.1, "Too few requests.")};
  const CanaryResult r = script.run();
  EXPECT_FALSE(r.promoted);
  EXPECT_EQ(r.state, "held");
}

TEST(Canary, JoinsItsOwnRolloutAndLeavesAnothers) {
  Script joined;
  joined.before = {status("running", 1, 2, 0.5), status("promoted", 2, 2, 1)};
  EXPECT_TRUE(joined.run().promoted);
  EXPECT_EQ(joined.started, 0);
  Script other;
  other.before = {status("paused", 1, 7, 0.5)};
  EXPECT_NE(error_of([&] { other.run(); }).find("Another rollout"), std::string::npos);
}

TEST(Canary, RefusalsAreTheServersOwnWords) {
  Script script;
  script.before = {status("idle", 1, 0, 0)};
  script.refuse_start = http_status(ErrorCode::kVerificationFailed);
  try {
    script.run();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kVerificationFailed);
    EXPECT_NE(std::string(error.what()).find("There is no proof."), std::string::npos);
  }
}

TEST(Canary, AVersionThatMayNotGoLiveSaysWhy) {
  Script script;
  script.before = {status("idle", 0, 0, 0, "No version is verified.")};
  EXPECT_NE(error_of([&] { script.run(); }).find("No version is verified."), std::string::npos);
}

TEST(Canary, NoServerIsAnError) {
  const CanaryOptions options{.admin_url = "http://127.0.0.1:1", .model = "net", .version = 1};
  EXPECT_NE(error_of([&] { run_canary(options, {}, [](const std::string&) {}); }), "");
  EXPECT_NE(error_of([&] { live_version("http://127.0.0.1:1", "", {}, "net"); }), "");
}

}  // namespace
}  // namespace slipway
