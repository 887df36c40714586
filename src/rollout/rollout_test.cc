// Rollouts over a real server and a real journal; traffic and time are made up.
#include "rollout/rollout.h"

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "rollout/rollout_testing.h"
#include "rollout/rollouts_impl.h"
#include "serve/admin/admin.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

template <typename Body>
ErrorCode code_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

RolloutPlan test_plan() {
  RolloutPlan plan;
  for (RolloutStep& step : plan.steps) step.min_seconds = 1, step.min_requests = 300, step.max_seconds = 60;
  return plan;
}

std::shared_ptr<ModelVersion> version_of(int64_t number, Proof proof = Proof::kPassed, const std::string& sha = "",
                                         float scale = 1) {
  VersionSource source{.model = "m", .version = number, .graph = scaling_graph(scale)};
  source.proof = proof;
  source.sha256 = sha.empty() ? "sha" + std::to_string(number) : sha;
  source.proof_reason = proof == Proof::kPassed ? "its report passed" : "there is no report";
  return std::make_shared<ModelVersion>(std::move(source));
}

/// A server with m/1 and m/2 verified and m/3 not, its rollouts, and traffic as told.
struct Site {
  explicit Site(JournalOptions journal, bool allow_unverified = false,
                std::vector<std::shared_ptr<ModelVersion>> v = {version_of(1), version_of(2),
                                                                version_of(3, Proof::kMissing)}) {
    for (auto& version : v) server.add(std::move(version));
    open(std::move(journal), allow_unverified);
  }
  void open(JournalOptions journal, bool allow_unverified = false) {
    rollouts = std::make_unique<Rollouts>(
        server,
        [this](const std::string&, int64_t version, Variant variant) {
          if (!loaded_versions(server, "m").contains(version))
            fail(ErrorCode::kNotFound, "The version is not loaded: {}", version);
          const std::lock_guard lock(mutex);
          return seen[{version, variant}];
        },
        RolloutsOptions{.journal = std::move(journal),
                        .allow_unverified = allow_unverified,
                        .plan = test_plan(),
                        .clock = [this] { return now.load(); },
                        .memory_ratio = [] { return 0.2; }});
  }
  /// Seconds of traffic, 2000 requests each.
  void run(int seconds, const Behaviour& of_candidate = {}) {
    for (int i = 0; i < 4 * seconds; ++i) {
      const Routing r = server.routing("m");
      const int to_candidate = 500 * r.candidate_share / 10'000;
      {
        const std::lock_guard lock(mutex);
        answer(seen[{r.stable, Variant::kStable}], {}, random, 500 - to_candidate);
        answer(seen[{r.candidate, Variant::kCandidate}], of_candidate, random, to_candidate);
      }
      now += kSecond / 4;
      rollouts->tick();
    }
  }
  RolloutStatus status() { return rollouts->status("m"); }
  std::string events() {
    std::string names;
    const auto history = rollouts->history("m", 100);
    for (auto it = history.rbegin(); it != history.rend(); ++it) names += it->event + " ";
    return names;
  }

  std::mutex mutex;
  std::map<std::pair<int64_t, Variant>, Observation> seen;
  Random random{7};
  std::atomic<int64_t> now{kSecond};
  Server server{{}};
  std::unique_ptr<Rollouts> rollouts;
};

TEST(Rollouts, AFirstVersionGoesLiveByItsProof) {
  Site site({.path = ":memory:"});
  site.rollouts->adopt();
  EXPECT_EQ(site.server.routing("m").stable, 2) << "the highest that is verified";
  EXPECT_EQ(site.events(), "live ");

  Site unproven({.path = ":memory:"}, false, {version_of(1, Proof::kFailed)});
  unproven.rollouts->adopt();
  EXPECT_EQ(unproven.server.routing("m"), Routing());
  EXPECT_NE(unproven.status().reason.find("there is no report"), std::string::npos) << unproven.status().reason;
  unproven.server.add(version_of(2));
  for (int i = 0; i < 3; ++i) unproven.rollouts->tick();
  EXPECT_EQ(unproven.server.routing("m").stable, 2) << "what is loaded later is adopted";

  Site allowed({.path = ":memory:"}, true, {version_of(1, Proof::kFailed)});
  allowed.rollouts->adopt();
  EXPECT_EQ(allowed.server.routing("m").stable, 1);
  EXPECT_EQ(allowed.events(), "override ");
  EXPECT_NE(allowed.status().override_reason, "");
}

TEST(Rollouts, APromotedVersionIsTakenBack) {
  const TestJournal file;
  Site site({.path = file.path}, false, {version_of(1)});
  site.rollouts->adopt();
  const auto back = [&](int64_t version) { site.rollouts->back("m", version, "ann"); };
  EXPECT_EQ(code_of([&] { back(0); }), ErrorCode::kNotFound) << "nothing was live before";
  site.server.add(version_of(2));
  site.rollouts->start("m", 2, {});
  EXPECT_EQ(code_of([&] { back(0); }), ErrorCode::kInvalidArgument) << "a rollout runs";
  site.rollouts->command("m", RolloutCommand::kPromote, "");
  try {
    site.rollouts->command("m", RolloutCommand::kAbort, "");
    ADD_FAILURE() << "there is nothing to abort";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rollout back m"), std::string::npos) << error.what();
  }
  EXPECT_EQ(code_of([&] { back(2); }), ErrorCode::kInvalidArgument) << "it is live";
  EXPECT_EQ(code_of([&] { back(3); }), ErrorCode::kNotFound) << "it never was";
  back(0);
  EXPECT_EQ(site.server.routing("m"), (Routing{.stable = 1}));
  EXPECT_EQ(site.status().live, 1);
  EXPECT_EQ(site.rollouts->history("m", 1)[0].event, "taken_back");
  EXPECT_EQ(site.rollouts->history("m", 1)[0].who, "ann");
  site.run(1);
  EXPECT_EQ(site.server.routing("m").stable, 1) << "it stays";
  EXPECT_EQ(code_of([&] { back(0); }), ErrorCode::kNotFound) << "what was taken back does not come up without its name";
  EXPECT_EQ(site.server.routing("m").stable, 1);
  back(2);
  EXPECT_EQ(site.server.routing("m").stable, 2) << "and forth";
  site.server.add(version_of(3));
  site.rollouts->start("m", 3, {});
  site.rollouts->command("m", RolloutCommand::kPromote, "");
  for (const int64_t expected : {2, 1}) {
    back(0);
    EXPECT_EQ(site.server.routing("m").stable, expected) << "step by step down";
  }
  EXPECT_EQ(code_of([&] { back(0); }), ErrorCode::kNotFound);
  site.rollouts.reset();

  Site later({.path = file.path}, false, {version_of(1), version_of(2)});
  later.rollouts->adopt();
  EXPECT_EQ(later.server.routing("m").stable, 1) << "after a restart too";
  later.rollouts.reset();

  Site changed({.path = file.path}, false, {version_of(1), version_of(2, Proof::kPassed, "other bytes")});
  changed.rollouts->adopt();
  EXPECT_EQ(code_of([&] { changed.rollouts->back("m", 2, ""); }), ErrorCode::kNotFound) << "not what was live";
}

TEST(Rollouts, ARestartBringsBackWhatWasLive) {
  const TestJournal file;
  {
    Site site({.path = file.path}, false, {version_of(1)});
    site.rollouts->adopt();
  }
  Site same({.path = file.path});
  same.rollouts->adopt();
  EXPECT_EQ(same.server.routing("m").stable, 1) << "version 2 is verified, but only a rollout moves the traffic";
  same.rollouts->start("m", 2, {});
  same.rollouts->command("m", RolloutCommand::kPromote, "");
  EXPECT_EQ(same.server.routing("m").stable, 2);
  same.rollouts.reset();

  Site gone({.path = file.path}, false, {version_of(1), version_of(4)});
  gone.rollouts->adopt();
  EXPECT_EQ(gone.server.routing("m").stable, 1) << "live before it, and never version 4";
  gone.rollouts.reset();

  Site changed({.path = file.path}, false, {version_of(1, Proof::kMissing, "other bytes")});
  changed.rollouts->adopt();
  EXPECT_EQ(changed.server.routing("m").stable, 0);
  changed.server.add(version_of(1, Proof::kPassed, "other bytes, proven"));
  for (int i = 0; i < 3; ++i) changed.rollouts->tick();
  EXPECT_EQ(changed.server.routing("m").stable, 1);
}

TEST(Rollouts, AnUnloadedLiveVersionIsNotReplacedByGuess) {
  Site site({.path = ":memory:"});
  site.rollouts->adopt();
  site.server.unload("m", 2);
  for (int i = 0; i < 4; ++i) site.rollouts->tick();
  EXPECT_EQ(site.server.routing("m").stable, 0);
  site.server.add(version_of(2));
  for (int i = 0; i < 4; ++i) site.rollouts->tick();
  EXPECT_EQ(site.server.routing("m").stable, 2);
}

TEST(Rollouts, UnloadAndLoadBringBackWhatAStartWould) {
  Site site({.path = ":memory:"}, false, {version_of(1)});
  site.rollouts->adopt();
  site.server.add(version_of(2));
  for (int i = 0; i < 3; ++i) site.rollouts->tick();
  ASSERT_EQ(site.server.routing("m").stable, 1);
  site.server.unload("m");
  for (int i = 0; i < 3; ++i) site.rollouts->tick();
  for (int i = 0; i < 2; ++i) {
    site.server.add(version_of(1));
    site.server.add(version_of(2));
    for (int t = 0; t < 3; ++t) site.rollouts->tick();
    EXPECT_EQ(site.server.routing("m").stable, 1) << "live as the journal says, and version 2 is no candidate";
    site.server.unload("m");
  }
}

TEST(Rollouts, AReportThatComesLaterIsAsGoodAsOneAtTheStart) {
  Site site({.path = ":memory:"}, false, {version_of(1, Proof::kMissing)});
  site.rollouts->adopt();
  ASSERT_EQ(site.server.routing("m").stable, 0);
  for (int i = 0; i < 3; ++i) site.rollouts->tick();
  site.server.add(version_of(1));  // the same bytes, loaded again with their report
  for (int i = 0; i < 3; ++i) site.rollouts->tick();
  EXPECT_EQ(site.server.routing("m").stable, 1);
}

TEST(Rollouts, AGoodCandidateTakesOver) {
  Site site({.path = ":memory:"}, false, {version_of(1)});
  site.rollouts->adopt();
  site.server.add(version_of(2));
  site.rollouts->start("m", 2, {.who = "ana"});
  EXPECT_EQ(site.server.routing("m"), (Routing{1, 2, 100}));
  EXPECT_EQ(code_of([&] { site.rollouts->start("m", 2, {}); }), ErrorCode::kInvalidArgument);
  int highest = 0;
  for (int i = 0; i < 120 && is_active(site.status().phase); ++i) {
    site.run(1);
    EXPECT_GE(site.server.routing("m").candidate_share, is_active(site.status().phase) ? highest : 0);
    highest = std::max(highest, site.server.routing("m").candidate_share);
  }
  EXPECT_EQ(highest, 10'000);
  EXPECT_EQ(site.status().phase, RolloutPhase::kPromoted) << site.status().reason;
  EXPECT_EQ(site.server.routing("m"), (Routing{2, 0, 0}));
  EXPECT_EQ(site.events(), "live started raised raised raised promoted ");
  EXPECT_EQ(code_of([&] { site.rollouts->start("m", 2, {}); }), ErrorCode::kInvalidArgument) << "it is live";
}

TEST(Rollouts, ABadCandidateGoesBackByOneSwap) {
  Site site({.path = ":memory:"}, false, {version_of(1), version_of(2, Proof::kPassed, "", 2)});
  site.server.route("m", {.stable = 1});
  site.rollouts->start("m", 2, {});
  site.run(60, {.median_us = 30'000});
  EXPECT_EQ(site.status().phase, RolloutPhase::kRolledBack);
  EXPECT_EQ(site.server.routing("m"), (Routing{1, 0, 0}));
  EXPECT_TRUE(site.status().rollback_us.has_value());
  const JournalEvent last = site.rollouts->history("m", 1).at(0);
  EXPECT_NE(last.sentence.find("latency: median"), std::string::npos) << last.sentence;
  EXPECT_NE(last.sentence.find("Version 1 has all traffic again after"), std::string::npos) << last.sentence;
  EXPECT_NE(last.details.find("\"bound\""), std::string::npos);
  EXPECT_EQ(site.server.versions("m").size(), 2u) << "the candidate stays warm";
  site.rollouts->start("m", 2, {});
  EXPECT_EQ(site.server.routing("m").candidate_share, 100) << "it may be tried again";
}

TEST(Rollouts, TheJournalLeadsForwardAndFollowsBack) {
  Site* watched = nullptr;
  std::vector<Routing> at_commits;  // before and after each transaction
  Site site({.path = ":memory:",
             .at_commit =
                 [&] {
                   if (watched != nullptr) at_commits.push_back(watched->server.routing("m"));
                 }},
            false, {version_of(1)});
  site.rollouts->adopt();
  site.server.add(version_of(2));
  watched = &site;
  site.rollouts->start("m", 2, {});
  site.run(60);
  ASSERT_EQ(site.status().phase, RolloutPhase::kPromoted);
  std::vector<Routing> expected;
  for (const Routing& r : {Routing{1, 0, 0}, {1, 2, 100}, {1, 2, 1000}, {1, 2, 5000}, {1, 2, 10'000}})
    expected.insert(expected.end(), 2, r);
  EXPECT_EQ(at_commits, expected);
  site.rollouts->start("m", 1, {});
  at_commits.clear();
  site.run(60, {.error_rate = 0.7});
  EXPECT_EQ(at_commits, (std::vector<Routing>(2, {2, 0, 0}))) << "the traffic is back before the journal is asked";
}

TEST(Rollouts, WithoutProofOnlyItsNameOpensTheDoor) {
  Site site({.path = ":memory:"});
  site.rollouts->adopt();
  for (const char* name : {"", "m/2", "m", "3", "m/3 "})
    EXPECT_EQ(code_of([&] { site.rollouts->start("m", 3, {.override_unverified = name}); }),
              ErrorCode::kVerificationFailed);
  EXPECT_EQ(site.server.routing("m"), (Routing{2, 0, 0}));
  EXPECT_EQ(site.rollouts->history("m", 1).at(0).event, "refused");
  site.rollouts->start("m", 3, {.override_unverified = "m/3", .who = "ana"});
  EXPECT_EQ(site.server.routing("m").candidate, 3);
  const auto history = site.rollouts->history("m", 2);
  EXPECT_EQ(history[1].event, "override");
  EXPECT_EQ(history[1].who, "ana");
  EXPECT_EQ(code_of([&] { site.rollouts->start("m", 9, {}); }), ErrorCode::kNotFound);
  EXPECT_EQ(code_of([&] { site.rollouts->start("nope", 1, {}); }), ErrorCode::kNotFound);
}

TEST(Rollouts, AnUnloadedOrChangedCandidateGoesBack) {
  for (const bool unload : {true, false}) {
    Site site({.path = ":memory:"}, false, {version_of(1)});
    site.rollouts->adopt();
    site.server.add(version_of(2));
    site.rollouts->start("m", 2, {});
    unload ? site.server.unload("m", 2) : site.server.add(version_of(2, Proof::kMissing, "swapped"));
    site.rollouts->tick();
    EXPECT_EQ(site.status().phase, RolloutPhase::kRolledBack);
    EXPECT_EQ(site.server.routing("m"), (Routing{1, 0, 0}));
  }
}

TEST(Rollouts, AFirstVersionSentBackIsNotAdopted) {
  Site site({.path = ":memory:"}, false, {version_of(1, Proof::kMissing)});
  site.rollouts->adopt();
  site.rollouts->start("m", 1, {.override_unverified = "m/1"});
  EXPECT_EQ(site.server.routing("m"), (Routing{0, 1, 10'000}));
  site.run(20, {.error_rate = 0.2});
  EXPECT_EQ(site.status().phase, RolloutPhase::kRolledBack) << site.status().reason;
  EXPECT_EQ(site.server.routing("m"), Routing());
  site.server.add(version_of(2));
  for (int i = 0; i < 4; ++i) site.rollouts->tick();
  EXPECT_EQ(site.server.routing("m").stable, 2);
}

TEST(Rollouts, AFullDiskSendsTheCandidateBack) {
  const TestJournal file;
  {
    Site site({.path = file.path, .max_bytes = 100 << 10});
    site.server.route("m", {.stable = 1});
    const auto fill = [&] {
      for (int i = 0; i < 2000; ++i)
        if (code_of([&] { site.rollouts->start("m", 3, {.who = std::string(1000, 'w')}); }) == ErrorCode::kIo)
          return true;
      return false;
    };
    site.rollouts->start("m", 2, {});
    site.rollouts->command("m", RolloutCommand::kPause, "");
    site.rollouts->command("m", RolloutCommand::kAbort, "");
    ASSERT_TRUE(fill()) << "the disk never filled";
    EXPECT_EQ(code_of([&] { site.rollouts->start("m", 2, {.who = std::string(9000, 'w')}); }), ErrorCode::kIo);
    EXPECT_EQ(site.server.routing("m"), (Routing{1, 0, 0})) << "nothing starts that can't be journalled";
  }
  {
    Site site({.path = file.path});
    site.rollouts->adopt();
    site.server.route("m", {.stable = 1});
    site.rollouts->start("m", 2, {});
    site.rollouts.reset();
  }
  // The same with a rollout under way: its first verdict finds the disk full.
  const TestJournal other;
  Site site({.path = other.path, .max_bytes = 64 << 10});
  site.server.route("m", {.stable = 1});
  site.rollouts->start("m", 2, {});
  bool paused = false;
  for (int i = 0; i < 3000 && is_active(site.status().phase); ++i)
    site.rollouts->command("m", (paused = !paused) ? RolloutCommand::kPause : RolloutCommand::kResume,
                           std::string(1000, 'w'));
  EXPECT_EQ(site.status().phase, RolloutPhase::kRolledBack);
  EXPECT_EQ(site.server.routing("m"), (Routing{1, 0, 0}));
  EXPECT_NE(site.status().reason.find("free some space"), std::string::npos) << site.status().reason;
  // Refusals are journalled too: they take what room is left.
  for (int i = 0; i < 200; ++i) code_of([&] { site.rollouts->start("m", 3, {.who = std::string(4000, 'w')}); });
  for (int i = 0; i < 200; ++i) code_of([&] { site.rollouts->start("m", 3, {}); });
  site.run(2);
  EXPECT_EQ(code_of([&] { site.rollouts->start("m", 2, {}); }), ErrorCode::kIo);
  site.rollouts.reset();
  site.open({.path = other.path});
  EXPECT_EQ(site.status().phase, RolloutPhase::kRolledBack) << "as the restart reads it";
}

TEST(Rollouts, WithAFullDiskNothingGoesLiveUntilThereIsRoom) {
  const TestJournal file;
  Site site({.path = file.path, .max_bytes = 1});
  for (const size_t size : {1500, 300, 60, 10, 0})
    while (code_of([&] { site.rollouts->start("m", 3, {.who = std::string(size, 'w')}); }) != ErrorCode::kIo) {
    }
  site.rollouts->adopt();
  EXPECT_EQ(site.server.routing("m").stable, 0);
  EXPECT_NE(site.status().reason.find("could not go live"), std::string::npos) << site.status().reason;
  site.rollouts.reset();
  site.open({.path = file.path});
  for (int i = 0; i < 3; ++i) site.rollouts->tick();
  EXPECT_EQ(site.server.routing("m").stable, 2);
}

TEST(Rollouts, ADrillTimesTheWayBack) {
  Site site({.path = ":memory:"}, false, {version_of(1), version_of(3, Proof::kMissing)});
  site.rollouts->adopt();
  EXPECT_EQ(code_of([&] { site.rollouts->drill("m", 0, ""); }), ErrorCode::kNotFound) << "3 is not verified";
  site.server.add(version_of(2));
  const DrillResult r = site.rollouts->drill("m", 0, "ana");
  EXPECT_EQ(r.live, 1);
  EXPECT_EQ(r.candidate, 2);
  EXPECT_GT(r.routed_us, 0);
  EXPECT_GT(r.effective_us, r.routed_us);
  EXPECT_EQ(site.server.routing("m"), (Routing{1, 0, 0}));
  EXPECT_EQ(site.events(), "live drill drill ");
  EXPECT_EQ(site.server.versions("m")[1]->metrics().variants[1].requests, 1) << "a probe was the candidate's";
  std::printf("drill: routed in %.0f us, effective after %.0f us\n", r.routed_us, r.effective_us);
  site.rollouts->start("m", 2, {});
  EXPECT_EQ(code_of([&] { site.rollouts->drill("m", 0, ""); }), ErrorCode::kInvalidArgument);
}

TEST(Rollouts, ADrillHoldsNobodyUp) {
  Site site({.path = ":memory:"}, false, {version_of(1), version_of(2)});
  std::mutex mutex;
  std::condition_variable changed;
  bool held = false, open = false;
  site.server.observe([&](const Served&) {
    std::unique_lock lock(mutex);
    held = true;
    changed.notify_all();
    changed.wait(lock, [&] { return open; });
  });
  site.rollouts->adopt();
  const int64_t live = site.server.routing("m").stable, other = 3 - live;
  std::thread drill([&] { EXPECT_EQ(site.rollouts->drill("m", 0, "").candidate, other); });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return held; });
  }
  site.rollouts->tick();  // which would wait for the probe
  EXPECT_EQ(site.rollouts->status("m").live, live);
  EXPECT_EQ(code_of([&] { site.rollouts->start("m", other, {}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { site.rollouts->drill("m", 0, ""); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { site.rollouts->back("m", 0, ""); }), ErrorCode::kInvalidArgument);
  {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  drill.join();
  site.rollouts->start("m", other, {});
}

TEST(Rollouts, CommandsFromEverywhereLeaveOneTruth) {
  Site site({.path = ":memory:"}, false, {version_of(1)});
  site.rollouts->adopt();
  site.server.add(version_of(2));
  std::atomic<int> unexpected{0};
  std::vector<std::thread> people;
  for (uint64_t person = 0; person < 6; ++person)
    people.emplace_back([&, person] {
      Random random(person);
      for (int i = 0; i < 60; ++i) {
        try {
          switch (random.below(6)) {
            case 0:
              site.rollouts->start("m", site.server.routing("m").stable == 1 ? 2 : 1, {});
              break;
            case 1:
              site.rollouts->command("m", RolloutCommand::kPause, "");
              break;
            case 2:
              site.rollouts->command("m", RolloutCommand::kResume, "");
              break;
            case 3:
              site.rollouts->command("m", RolloutCommand::kAbort, "");
              break;
            case 4:
              site.run(1);
              break;
            default: {
              const RolloutStatus s = site.status();
              if (!is_active(s.phase) && s.share != 0 && s.share != 1) ++unexpected;
            }
          }
        } catch (const Error& error) {
          if (error.code() != ErrorCode::kInvalidArgument) ++unexpected;
        }
      }
    });
  for (auto& person : people) person.join();
  EXPECT_EQ(unexpected, 0);
  if (is_active(site.status().phase)) site.rollouts->command("m", RolloutCommand::kAbort, "");
  const Routing last = site.server.routing("m");
  EXPECT_EQ(last.candidate_share, 0);
  EXPECT_TRUE(last.stable == 1 || last.stable == 2);
}

TEST(Rollouts, TheAdminPortSpeaksJson) {
  Site site({.path = ":memory:"}, false, {version_of(1)});
  site.rollouts->adopt();
  site.server.add(version_of(2));
  site.server.add(version_of(3, Proof::kMissing));
  const auto ask = [&](const std::string& method, const std::string& path, const std::string& body = "") {
    return nlohmann::json::parse(site.rollouts->answer({.method = method, .path = path, .body = body}).body);
  };
  EXPECT_EQ(ask("GET", "/api/rollouts").at(0).at("state"), "idle");
  const auto started = ask("POST", "/api/rollouts/m/start", R"({"version": 2, "who": "ana", "plan": "alpha: 0.01"})");
  EXPECT_EQ(started.at("state"), "running");
  EXPECT_EQ(started.at("share"), 0.01);
  EXPECT_EQ(started.at("stable"), 1);
  EXPECT_EQ(started.at("candidate"), 2);
  EXPECT_EQ(started.at("steps"), nlohmann::json({0.01, 0.1, 0.5, 1.0}));
  EXPECT_EQ(started.at("history").at(0).at("event"), "started");
  EXPECT_EQ(ask("GET", "/api/history").at(0).at("event"), "started");
  EXPECT_EQ(ask("GET", "/api/history").at(0).at("model"), "m");
  EXPECT_EQ(ask("POST", "/api/rollouts/m/pause", "{}").at("state"), "paused");
  EXPECT_EQ(ask("POST", "/api/rollouts/m/resume").at("state"), "running");
  EXPECT_EQ(ask("POST", "/api/rollouts/m/abort").at("state"), "aborted");
  EXPECT_EQ(ask("GET", "/api/rollouts/m/history").size(), 5u);
  EXPECT_GT(ask("POST", "/api/rollouts/m/drill").at("effective_us"), 0);
  const std::pair<const char*, const char*> bad[] = {{"m/start", "{}"},
                                                     {"m/start", R"({"version": "2"})"},
                                                     {"m/start", R"({"version": 2, "plan": "alpha: 9"})"},
                                                     {"m/start", R"({"version": 2, "plan": 9})"},
                                                     {"m/start", "[["},
                                                     {"m/start", R"({"version": 3})"},
                                                     {"m/jump", "{}"},
                                                     {"nope/pause", "{}"},
                                                     {"m/promote", "{}"},
                                                     {"", "{}"}};
  for (const auto& [path, body] : bad) {
    const int status = http_status(code_of([&] { ask("POST", std::string("/api/rollouts/") + path, body); }));
    EXPECT_GE(status, 400) << path << body;
    EXPECT_LT(status, 500) << path << body;
  }
  EXPECT_EQ(code_of([&] { ask("GET", "/api/rollouts/m/nope"); }), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace slipway
