#include "rollout/journal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "rollout/rollout_testing.h"

namespace slipway {
namespace {

TEST(Journal, KeepsWhatWasWritten) {
  const TestJournal file;
  {
    Journal journal({.path = file.path});
    journal.write(
        {.model = "m", .live = LiveRecord{1, "aa", ""}, .events = {{.at_ms = 5, .event = "live", .sentence = "one"}}});
    journal.write(
        {.model = "m",
         .live = LiveRecord{2, "bb", "asked for"},
         .rollout = RolloutRecord{.phase = RolloutPhase::kHeld, .live = 1, .candidate = 2, .step = 3, .share = 100},
         .events = {{.at_ms = 6, .event = "started", .sentence = "two", .who = "me"}}});
    journal.write({.model = "m", .live = LiveRecord{1, "aa", ""}});
    journal.write({.model = "other", .events = {{.event = "x"}}});
  }
  const Journal journal({.path = file.path});
  const auto live = journal.live("m");
  ASSERT_EQ(live.size(), 2u);
  EXPECT_EQ(live[0].version, 1);
  EXPECT_EQ(live[1].version, 2);
  EXPECT_EQ(live[1].override_reason, "asked for");
  EXPECT_TRUE(journal.live("nope").empty());
  const RolloutRecord r = journal.rollouts().at("m");
  EXPECT_EQ(r.phase, RolloutPhase::kHeld);
  EXPECT_EQ(r.step, 3);
  const auto events = journal.history("m", 10);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].event, "started");
  EXPECT_EQ(events[0].who, "me");
  EXPECT_EQ(journal.history("", 10).size(), 3u);
  EXPECT_EQ(journal.history("m", 1).size(), 1u);
}

TEST(Journal, WhatWasTakenBackComesLast) {
  const TestJournal file;
  const auto order = [](const Journal& journal) {
    std::string text;
    for (const LiveRecord& r : journal.live("m")) text += fmt::format("{}{} ", r.version, r.taken_back ? "-" : "");
    return text;
  };
  {
    Journal journal({.path = file.path});
    for (const int64_t version : {1, 2, 3}) journal.write({.model = "m", .live = LiveRecord{version, "aa", ""}});
    journal.write({.model = "other", .live = LiveRecord{7, "aa", ""}});
    journal.write({.model = "m", .live = LiveRecord{2, "aa", ""}, .taken_back = true});
    EXPECT_EQ(order(journal), "2 1 3- ");
    journal.write({.model = "m", .live = LiveRecord{1, "aa", ""}, .taken_back = true});
    EXPECT_EQ(order(journal), "1 2- 3- ");
    journal.write({.model = "m", .live = LiveRecord{3, "aa", ""}, .taken_back = true});
    EXPECT_EQ(order(journal), "3 1 2- ") << "forth again, by name";
    EXPECT_FALSE(journal.live("other")[0].taken_back);
  }
  const TestJournal old;
  { Journal journal({.path = old.path}); }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(old.path.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db,
                         "ALTER TABLE live DROP COLUMN taken_back; PRAGMA user_version = 1;"
                         "INSERT INTO live (model, version, sha256, override_reason) VALUES ('m', 4, 'aa', '')",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  EXPECT_EQ(order(Journal({.path = old.path})), "4 ") << "a journal without the column goes on";
}

TEST(Journal, ASecondServerIsKeptOut) {
  const TestJournal file;
  const Journal first({.path = file.path});
  try {
    const Journal second({.path = file.path});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_NE(std::string(error.what()).find("another server"), std::string::npos) << error.what();
  }
}

TEST(Journal, WhatIsNoJournalIsRefused) {
  const TestJournal file;
  write_file(file.path, std::string(8192, 'x'));
  EXPECT_THROW(Journal({.path = file.path}), Error);
  EXPECT_THROW(Journal({.path = "/proc/nowhere/journal.sqlite"}), Error);
}

TEST(Journal, AFullDiskLeavesTheLastTransactionWhole) {
  const TestJournal file;
  int64_t written = 0;
  {
    Journal journal({.path = file.path, .max_bytes = 80 << 10});
    const std::string sentence(1000, 's');
    try {
      for (; written < 1000; ++written)
        journal.write({.model = "m", .live = LiveRecord{written + 1, "aa", ""}, .events = {{.sentence = sentence}}});
      FAIL() << "the limit was never reached";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
      EXPECT_NE(std::string(error.what()).find("free some space"), std::string::npos) << error.what();
    }
    EXPECT_EQ(static_cast<int64_t>(journal.history("m", 10'000).size()), written);
    EXPECT_THROW(journal.write({.model = "m", .events = {{.sentence = sentence}}}), Error) << "and it stays usable";
  }
  Journal journal({.path = file.path});
  EXPECT_EQ(journal.live("m").at(0).version, written);
  journal.write({.model = "m", .events = {{.sentence = "room again"}}});
  EXPECT_EQ(static_cast<int64_t>(journal.history("m", 10'000).size()), written + 1);
}

}  // namespace
}  // namespace slipway
