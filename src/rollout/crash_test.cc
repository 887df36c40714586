// kill -9 at every transaction of a rollout, before and after it. The child is this program, started again, that pulls
// the plug at the n-th point; n rises until it gets through. Also a disk that is really full: a limit on the file's
// size.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "rollout/rollout.h"
#include "rollout/rollout_testing.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

void add_versions(Server& server) {
  for (const int64_t number : {1, 2, 3}) {
    VersionSource source{.model = "m", .version = number, .graph = scaling_graph(1)};
    source.proof = number == 3 ? Proof::kMissing : Proof::kPassed;
    source.sha256 = "sha" + std::to_string(number);
    server.add(std::make_shared<ModelVersion>(std::move(source)));
  }
}

/// Version 1 is live; 2 climbs, is paused, held and promoted; 3, unverified, is sent back, then aborted.
int live_through(const JournalOptions& journal) {
  silence_log();
  Server server({});
  std::map<std::pair<int64_t, Variant>, Observation> seen;
  int64_t now = kSecond;
  RolloutPlan plan;
  for (RolloutStep& step : plan.steps) step.min_seconds = 1, step.min_requests = 300, step.max_seconds = 20;
  Rollouts rollouts(
      server,
      [&](const std::string&, int64_t version, Variant variant) {
        return seen[{version, variant}];
      },
      {.journal = journal, .plan = plan, .clock = [&] { return now; }, .memory_ratio = [] { return 0.2; }});
  add_versions(server);
  Random random(3);
  const auto run = [&](int seconds, int requests, const Behaviour& of_candidate) {
    for (int i = 0; i < 4 * seconds && is_active(rollouts.status("m").phase); ++i) {
      const Routing r = server.routing("m");
      const int to_candidate = requests * r.candidate_share / 10'000;
      answer(seen[{r.stable, Variant::kStable}], {}, random, requests - to_candidate);
      answer(seen[{r.candidate, Variant::kCandidate}], of_candidate, random, to_candidate);
      now += kSecond / 4;
      rollouts.tick();
    }
  };
  server.unload("m", 2);
  rollouts.adopt();
  add_versions(server);
  rollouts.start("m", 2, {});
  run(4, 2000, {});
  rollouts.command("m", RolloutCommand::kPause, "");
  rollouts.command("m", RolloutCommand::kResume, "");
  run(30, 0, {});
  if (rollouts.status("m").phase == RolloutPhase::kHeld) rollouts.command("m", RolloutCommand::kResume, "");
  run(60, 2000, {});
  if (rollouts.status("m").phase == RolloutPhase::kRolledBack) return 2;
  rollouts.start("m", 3, {.override_unverified = "m/3"});
  run(60, 2000, {.error_rate = 0.9});
  rollouts.start("m", 3, {.override_unverified = "m/3"});
  rollouts.command("m", RolloutCommand::kAbort, "");
  return server.routing("m") == Routing{2, 0, 0} ? 0 : 1;
}

TEST(RolloutChild, DISABLED_Lives) {
  const char* path = getenv("SLIPWAY_TEST_JOURNAL");
  ASSERT_NE(path, nullptr);
  int64_t points = atoll(getenv("SLIPWAY_TEST_KILL_AT"));
  const int64_t bytes = atoll(getenv("SLIPWAY_TEST_FILE_BYTES"));
  if (bytes > 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  int code = 9;
  try {
    code = live_through({.path = path, .at_commit = [&] {
                           if (--points == 0) kill(getpid(), SIGKILL);
                         }});
  } catch (const Error& error) {
    // Refused by the journal, or as there is no rollout any more to command.
    code = error.code() == ErrorCode::kIo || error.code() == ErrorCode::kInvalidArgument ? 3 : 4;
  }
  _exit(code);
}

/// Exit code, or minus the signal.
int live_in_a_child(const std::string& path, int64_t kill_at, int64_t file_bytes) {
  const std::string at = std::to_string(kill_at), bytes = std::to_string(file_bytes);
  setenv("SLIPWAY_TEST_JOURNAL", path.c_str(), 1);
  setenv("SLIPWAY_TEST_KILL_AT", at.c_str(), 1);
  setenv("SLIPWAY_TEST_FILE_BYTES", bytes.c_str(), 1);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (freopen("/dev/null", "w", stdout) == nullptr) _exit(8);
    execl("/proc/self/exe", "rollout_test", "--gtest_also_run_disabled_tests",
          "--gtest_filter=RolloutChild.DISABLED_Lives", static_cast<char*>(nullptr));
    _exit(8);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// What a server finds that starts on this journal.
struct Found {
  Routing routing;
  RolloutStatus status;
  std::vector<JournalEvent> history;
};
Found restart(const std::string& path) {
  Server server({});
  add_versions(server);
  Rollouts rollouts(server, [](const std::string&, int64_t, Variant) { return Observation(); },
                    {.journal = {.path = path}, .memory_ratio = [] { return 0.2; }});
  rollouts.adopt();
  return {server.routing("m"), rollouts.status("m"), rollouts.history("m", 100)};
}

TEST(RolloutCrash, KilledAnywhereItComesBackConsistent) {
  std::string seen_phases;
  int64_t point = 1;
  for (;; ++point) {
    const TestJournal file;
    const int code = live_in_a_child(file.path, point, 0);
    if (code == 0) break;
    ASSERT_EQ(code, -SIGKILL) << "at point " << point;
    const Found first = restart(file.path), second = restart(file.path);
    bool promoted = false, ended = true, was_live = false;
    for (auto e = first.history.rbegin(); e != first.history.rend(); ++e) {
      promoted = promoted || e->event == "promoted";
      was_live = was_live || e->event == "live";
      if (e->event == "started") ended = false;
      if (e->event == "rolled_back" || e->event == "aborted" || e->event == "promoted") ended = true;
    }
    EXPECT_TRUE(ended) << "a rollout has no end in the history; point " << point;
    EXPECT_TRUE(was_live);
    // Killed before anything was journalled, the restart decides anew: the highest verified.
    if (first.history.back().event == "live" && first.history.back().sentence.find("Version 2") != std::string::npos)
      EXPECT_EQ(first.routing, (Routing{2, 0, 0}));
    else
      EXPECT_EQ(first.routing, (Routing{promoted ? 2 : 1, 0, 0})) << "point " << point;
    EXPECT_FALSE(is_active(first.status.phase));
    EXPECT_EQ(second.routing, first.routing) << "and the same once more";
    EXPECT_EQ(second.history.size(), first.history.size());
    if (first.history.front().sentence.find("The server stopped") == 0) seen_phases += "interrupted ";
  }
  EXPECT_GT(point, 20);
  EXPECT_NE(seen_phases.find("interrupted interrupted interrupted"), std::string::npos);
  std::printf("killed at %lld points\n", static_cast<long long>(point - 1));
}

TEST(RolloutCrash, AFileThatCantGrowStopsTheRolloutNotTheServer) {
  int stopped = 0;
  for (const int64_t bytes : {60'000, 80'000, 100'000, 140'000}) {
    const TestJournal file;
    const int code = live_in_a_child(file.path, 0, bytes);
    EXPECT_TRUE(code == 0 || code == 2 || code == 3) << code << " with " << bytes;
    stopped += code != 0;
    const Found found = restart(file.path);
    EXPECT_TRUE(found.routing.stable == 1 || found.routing.stable == 2);
    EXPECT_EQ(found.routing.candidate_share, 0);
  }
  EXPECT_GT(stopped, 0) << "no limit was ever met";
}

}  // namespace
}  // namespace slipway
